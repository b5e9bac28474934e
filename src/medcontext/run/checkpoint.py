"""The networks of a run: built, loaded, written."""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medcontext.errors import InputError, Unfinished, first_line, lacks_memory
from medcontext.files import atomic_path
from medcontext.networks import build_network
from medcontext.networks.weight_files import AlteredError, unpickled
from medcontext.run.folder import Run, Training

Weights = Literal["student", "teacher"]


def make_network(run: Run) -> nn.Module:
    """The run's network, untrained."""
    description = run.network_description()
    h, w, d = description["crop_size"]
    return build_network(
        description["name"],
        in_channels=description["in_channels"],
        out_channels=description["out_channels"],
        crop_size=(h, w, d),
        args=description["args"],
    )


def load_network(run: Run, checkpoint: str = "last", weights: Weights = "student") -> nn.Module:
    """The run's trained network, in evaluation mode.

    Args:
        run: where from.
        checkpoint: `last`, `best`, or the path of a checkpoint of the same network.
        weights: the `student`'s, as in the paper, or the EMA `teacher`'s.

    Raises:
        InputError: if the checkpoint is missing, damaged, or of another network.
    """
    values = read_checkpoint(run.checkpoint(checkpoint), run)
    network = make_network(run)
    try:
        network.load_state_dict(weights_in(values, weights))
    except RuntimeError as error:
        raise InputError(
            f"{run.checkpoint(checkpoint)} does not fit the network '{run.settings.network}' as it is built now; has "
            f"its code changed, or its library? The run had {run.facts.versions}. {first_line(error)}"
        ) from error
    return network.eval()


def steps_of(checkpoint: Path, run: Run) -> int:
    """How many steps a checkpoint's network was trained for, which `best` was for fewer than the run.

    Raises:
        InputError: see `read_checkpoint`.
    """
    return int(read_checkpoint(checkpoint, run)["learner"].get("_extra_state", {}).get("step", run.facts.step))


def weights_in(values: dict[str, Any], weights: Weights) -> dict[str, Tensor]:
    """The network's tensors by name, of a checkpoint's content."""
    prefix = "network." if weights == "student" else "teacher.network."
    return {key.removeprefix(prefix): value for key, value in values["learner"].items() if key.startswith(prefix)}


def open_checkpoint(path: Path, kind: type[Training] = Run) -> dict[str, Any]:
    """A checkpoint's content; nothing but tensors and plain values is unpickled.

    Args:
        path: of the file.
        kind: of training that wrote it.

    Raises:
        InputError: if it is missing, damaged, or another kind's.
    """
    if not path.is_file():
        raise InputError(f"Checkpoint not found: {path}. Train first, or give --checkpoint last, best or a file.")
    try:
        values = unpickled(path)
    except AlteredError as error:
        raise InputError(
            f"{path} is not a whole MedContext checkpoint: {error} in it was altered. Copy it again."
        ) from None
    except Exception as error:  # a damaged pickle may raise anything
        if lacks_memory(error):
            raise
        raise InputError(f"{path} is not a whole MedContext checkpoint: {first_line(error)}.") from error
    if not isinstance(values, dict) or not set(kind.holds) <= set(values):
        raise InputError(f"{path} is not a checkpoint that `medcontext {kind.command}` wrote.")
    return values


def read_checkpoint(path: Path, run: Training) -> dict[str, Any]:
    """The content of a checkpoint of a training's network, see `open_checkpoint`.

    Raises:
        InputError: if it is missing, damaged, or of another network than the run's.
    """
    values = open_checkpoint(path, type(run))
    found, expected = values["network"], run.network_description()
    different = [key for key in expected if found.get(key) != expected[key]]
    if different:
        facts = "; ".join(f"{key} is {found.get(key)}, the run has {expected[key]}" for key in different)
        raise InputError(f"{path} is a checkpoint of another network: {facts}. Give a checkpoint of this run.")
    return values


def write_checkpoint(path: Path, values: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        InputError: if it cannot be written, as on a full disk; the one before stays.
    """
    try:
        path.parent.mkdir(exist_ok=True)
        with atomic_path(path) as temporary:
            torch.save(values, temporary)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        if lacks_memory(error):
            raise
        why = first_line(error) if isinstance(error, OSError) else f"the disk is full ({first_line(error)})"
        before = "the checkpoint before is intact" if path.is_file() else "nothing half written is left"
        raise Unfinished(f"Cannot write {path}: {why}. Free some space, then go on with --resume; {before}.") from error
