"""Weights for a network that starts where another training ended."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from medcontext.data.folders import listed
from medcontext.errors import InputError, counted
from medcontext.files import AnyPath
from medcontext.run.checkpoint import Weights, open_checkpoint, weights_in
from medcontext.run.folder import Run, read_run


@dataclass(frozen=True)
class KeyReport:
    """What `load_weights` did with the network's parameters and buffers.

    Args:
        file: the checkpoint.
        step: of the training that wrote it.
        network: what the file says of its network, see `Run.network_description`.
        taken: names of those that are now the file's.
        anew: names of those of the last layer that are as they were, because the file's are for other labels.
    """

    file: Path
    step: int
    network: Mapping[str, Any]
    taken: tuple[str, ...]
    anew: tuple[str, ...]


def load_weights(network: nn.Module, file: AnyPath, weights: Weights = "student") -> KeyReport:
    """Give a network the weights of a run's checkpoint; where that is for other labels, not those of the last layer.

    Nothing but tensors and plain values is unpickled.

    Args:
        network: built as the run's, but perhaps with another number of outputs.
        file: a run, of which `last.ckpt` is taken, or a checkpoint.
        weights: the `student`'s or the EMA `teacher`'s.

    Raises:
        InputError: if the file is not a whole checkpoint, or anything but the last layer does not fit. The network is
            then as it was.
    """
    path = Path(file)
    if path.is_dir():
        path = read_run(path).checkpoint("last")
    values = open_checkpoint(path)
    state, own, outputs = weights_in(values, weights), network.state_dict(), values["network"].get("out_channels")
    other = [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    pairs = {pair for name in other for pair in _differences(own[name], state[name])}
    last_layer = len(pairs) <= 1 and all(there == outputs for _, there in pairs)
    wrong = sorted(own.keys() ^ state.keys()) + ([] if last_layer else sorted(other))
    if wrong:
        raise InputError(_misfit(path, values["network"], wrong, own, state))
    network.load_state_dict({name: own[name] if name in other else state[name] for name in own})
    return KeyReport(
        path,
        values["learner"].get("_extra_state", {}).get("step", 0),
        values["network"],
        taken=tuple(name for name in own if name not in other),
        anew=tuple(name for name in own if name in other),
    )


def initial_remarks(report: KeyReport, run: Run) -> list[str]:
    """What a person should know of the weights that a run starts from, a sentence each.

    Args:
        report: of `load_weights`.
        run: that starts.
    """
    said = [f"Starts from the weights of {report.file}, step {report.step}: {len(report.taken)} tensors"]
    before, now = report.network, run.network_description()
    if report.anew:
        said.append(f"The last layer is anew, for its labels are others: {listed(report.anew)}")
    elif any(before.get(key) != now[key] for key in ("labels", "regions")):
        said.append(f"Its outputs were {_outputs(before)}, now {_outputs(now)}: as many, so the last layer stays")
    if before.get("plan") != now["plan"]:
        said.append("Its scans were prepared by another plan (spacing, intensities or labels, see plan.json)")
    return said


def _outputs(network: Mapping[str, Any]) -> str:
    return ", ".join(network.get("regions") or network.get("labels") or ["unknown"])


def _differences(own: Tensor, there: Tensor) -> set[tuple[int, int]]:
    """Sizes that differ; (0, 0) where the tensors have not even the same number of axes."""
    if own.dim() != there.dim():
        return {(0, 0)}
    return {pair for pair in zip(own.shape, there.shape, strict=True) if pair[0] != pair[1]}


def _misfit(
    path: Path,
    network: Mapping[str, Any],
    wrong: list[str],
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
) -> str:
    def shape(tensors: Mapping[str, Tensor], name: str) -> str:
        return " x ".join(map(str, tensors[name].shape)) if name in tensors else "nothing"

    shown = "; ".join(f"{name} is {shape(state, name)} there, {shape(own, name)} here" for name in wrong[:3])
    crop = ",".join(map(str, network.get("crop_size", [])))
    return (
        f"The weights of {path} do not fit: {len(wrong)} tensors differ, and not in the number of labels alone "
        f"({shown}). They are of --network {network.get('name')} --network_args '{network.get('args')}' --crop_size "
        f"[{crop}], for {counted(network.get('in_channels') or 0, 'channel')}. Train that network, or start from "
        "nothing."
    )
