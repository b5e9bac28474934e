"""The folder of one training run: what it holds, and networks loaded from it.

```
RUN/settings.yaml         every setting, resolved
RUN/plan.json             how images are prepared
RUN/split.json            which case was used for what
RUN/run.json              the facts: data, network, versions; of the last checkpoint its step, time and hardware
RUN/checkpoints/last.ckpt, best.ckpt
RUN/csv, RUN/tensorboard  curves, and pictures of the watched cases
RUN/watch                 the watched cases' volumes, see `medcontext.training.watch`
```
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from medcontext.data.plan import Plan
from medcontext.data.regions import Regions
from medcontext.data.splits import Split
from medcontext.errors import InputError, first_line, lacks_memory
from medcontext.files import atomic_path, read_json, write_json, writing
from medcontext.networks import build_network
from medcontext.settings import Settings

FILES = ("settings.yaml", "plan.json", "split.json", "run.json")  # of a run, beside its checkpoints

Shape3 = tuple[int, int, int]
Weights = Literal["student", "teacher"]


@dataclass(frozen=True)
class Run:
    """What was trained, on what, how; a path, too: its folder.

    Args:
        folder: the run's.
        settings: resolved.
        plan: how images are prepared.
        split: which case was used for what.
        facts: `run.json`.
    """

    folder: Path
    settings: Settings
    plan: Plan
    split: Split
    facts: dict[str, Any]

    def __fspath__(self) -> str:
        return str(self.folder)

    @property
    def crop_size(self) -> Shape3:
        h, w, d = self.facts["crop_size"]
        return h, w, d

    @property
    def regions(self) -> Regions:
        """The overlapping regions that the network segments; empty if it segments structures."""
        return {name: tuple(values) for name, values in self.facts.get("regions", {}).items()}

    def checkpoint(self, name: str) -> Path:
        """The path of the checkpoint `last` or `best`, or of another file."""
        if name not in ("last", "best"):
            return Path(name)
        return self.folder / "checkpoints" / f"{name}.ckpt"

    def write(self) -> None:
        """Write all but the checkpoints."""
        self.settings.write(self.folder / "settings.yaml")
        write_json(self.folder / "plan.json", self.plan.to_dict())
        write_json(self.folder / "split.json", self.split.to_dict())
        self.write_facts()

    def write_facts(self) -> None:
        """Write `run.json` alone.

        Raises:
            InputError: if it cannot be written, as on a full disk; the one before stays.
        """
        with writing(self.folder / "run.json"):
            write_json(self.folder / "run.json", self.facts)

    def network_description(self) -> dict[str, Any]:
        """What the network's weights mean, and for which images; a checkpoint must have the same."""
        return {
            "name": self.settings.network,
            "args": self.settings.network_args,
            "in_channels": len(self.plan.channels),
            "out_channels": len(self.regions or self.plan.values),
            "crop_size": list(self.crop_size),
            "labels": self.plan.labels,
            "regions": self.facts.get("regions", {}),
            "plan": self.plan.hash,
        }


def read_run(folder: Path) -> Run:
    """The run in a folder.

    Raises:
        InputError: if the folder is not one that `medcontext train` wrote, or one of its files is damaged.
    """
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        found = f"there is no {', '.join(missing)}" if folder.is_dir() else "there is no such folder"
        raise InputError(f"{folder} is not a folder that `medcontext train` wrote: {found}.")
    settings = Settings.read(folder / "settings.yaml")
    plan, split, facts = (read_json(folder / name) for name in ("plan.json", "split.json", "run.json"))
    try:
        parts = (tuple(split[part]) for part in ("train", "validation", "test"))
        run = Run(folder, settings, Plan.from_dict(plan), Split(*parts), facts)
        _ = run.crop_size, facts["dataset"]
    except InputError as error:
        raise InputError(f"{folder / 'plan.json'}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{folder} is not a whole run: a field of its plan.json, split.json or run.json is missing or damaged "
            f"({type(error).__name__}: {error}). Copy it again, or train again."
        ) from error
    return run


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
    prefix = "network." if weights == "student" else "teacher.network."
    state = {key.removeprefix(prefix): value for key, value in values["learner"].items() if key.startswith(prefix)}
    network = make_network(run)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(
            f"{run.checkpoint(checkpoint)} does not fit the network '{run.settings.network}' as it is built now; has "
            f"its code changed, or its library? The run had {run.facts.get('versions')}. {first_line(error)}"
        ) from error
    return network.eval()


def read_checkpoint(path: Path, run: Run) -> dict[str, Any]:
    """A checkpoint's content; nothing but tensors and plain values is unpickled.

    Raises:
        InputError: if it is missing, damaged, or of another network than the run's.
    """
    if not path.is_file():
        raise InputError(f"Checkpoint not found: {path}. Train first, or give --checkpoint last, best or a file.")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch does not look at the checksums that it writes
        values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle may raise anything
        if lacks_memory(error):
            raise
        raise InputError(f"{path} is not a whole MedContext checkpoint: {first_line(error)}.") from error
    if damaged:
        raise InputError(f"{path} is not a whole MedContext checkpoint: {damaged} in it was altered. Copy it again.")
    if not isinstance(values, dict) or not {"network", "learner"} <= set(values):
        raise InputError(f"{path} is not a checkpoint that `medcontext train` wrote.")
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
        raise InputError(f"Cannot write {path}: {why}. Free some space, then go on with --resume; {before}.") from error
