"""One image through one or several trained networks: arrays in, arrays out.

What is averaged where: the logits of overlapping windows within a volume; then, after the softmax, the
probabilities of mirrored views and of networks, each network with the same weight.

C: channels, K: classes; X, Y, Z: the file's axes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from medcontext.data.geometry import Geometry
from medcontext.data.normalize import background
from medcontext.data.prepare import prepare_image
from medcontext.data.regions import classes_of
from medcontext.errors import InputError, enough_memory
from medcontext.files import file_hash
from medcontext.inference.signs import Noticed
from medcontext.inference.window import predict_volume
from medcontext.run import Run, Weights, load_network
from medcontext.settings import WindowSettings

Device = Literal["auto", "cpu", "gpu"]


@dataclass(frozen=True)
class Member:
    """One trained network of an ensemble.

    Args:
        run: where it comes from.
        checkpoint: the file with its weights.
        network: in evaluation mode, on its device.
        window: overlap and mirroring.
    """

    run: Run
    checkpoint: Path
    network: nn.Module
    window: WindowSettings

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the checkpoint, read once."""
        return file_hash(self.checkpoint)


def load_members(
    runs: Sequence[Run],
    checkpoints: Sequence[str] = ("last",),
    weights: Weights = "student",
    *,
    device: Device = "auto",
    overlap: float | None = None,
    mirror: bool | None = None,
) -> list[Member]:
    """Load every checkpoint of every run.

    Args:
        runs: of the same channels and labels.
        checkpoints: `last` and `best` of every run, or files if there is one run.
        weights: the student's or the teacher's.
        device: `auto` is a GPU where there is one.
        overlap: of neighbouring windows, 0 to below 1; each run's own setting if None.
        mirror: average over the eight mirrored views; each run's own setting if None.

    Raises:
        InputError: if the runs do not segment the same structures in the same channels, a network is given
            twice, a checkpoint cannot be used, the overlap is out of range, or there is no such device.
    """
    if device == "gpu" and not torch.cuda.is_available():
        raise InputError("No GPU found; use --device cpu.")
    place = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    check_alike(runs)
    chosen = [(run, run.checkpoint(name)) for run in runs for name in checkpoints]
    check_distinct(runs, checkpoints, [path for _, path in chosen])
    members = []
    for run, path in chosen:
        with enough_memory(f"the network of {path}", "Give fewer networks at once (--run, --checkpoint)."):
            network = load_network(run, str(path), weights).to(place)
        members.append(Member(run, path, network, own_window(run, overlap, mirror)))
    return members


def own_window(run: Run, overlap: float | None, mirror: bool | None) -> WindowSettings:
    """A run's window settings, but for what is given."""
    own = run.settings.window
    return replace(
        own,
        overlap=own.overlap if overlap is None else overlap,
        mirror=own.mirror if mirror is None else mirror,
    )


def check_alike(runs: Sequence[Run]) -> None:
    """Refuse runs that do not have the same channels and labels."""
    if not runs:
        raise InputError("No run given; name at least one.")
    first = runs[0]
    for run in runs[1:]:
        if outputs(run) != outputs(first):
            raise InputError(
                f"{run.folder} and {first.folder} cannot be averaged: their channels, labels or regions differ "
                f"({outputs(run)} and {outputs(first)})."
            )


def outputs(run: Run) -> tuple[Any, ...]:
    """What goes in and what comes out, which the runs of an ensemble must share; the order of regions counts."""
    return run.plan.channels, run.plan.labels, tuple(run.regions.items())


def check_distinct(runs: Sequence[Run], names: Sequence[str], paths: Sequence[Path]) -> None:
    """Refuse checkpoints that would count twice, and files of which nobody can tell whose they are."""
    files = [name for name in names if name not in ("last", "best")]
    if files and len(runs) > 1:
        raise InputError(
            f"Checkpoint file {files[0]} is given with {len(runs)} runs; of several runs use last or best."
        )
    seen: set[Path] = set()
    for path in (path.resolve() for path in paths):
        if path in seen:
            raise InputError(f"{path} is given twice and would count twice in the average; name it once.")
        seen.add(path)


def segment(
    image: np.ndarray,
    affine: np.ndarray,
    members: Sequence[Member],
    probabilities: bool = False,
    noticed: Noticed | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Class indices, and if asked for the probabilities of classes or regions, of one image.

    Networks whose images are prepared alike are averaged on the prepared grid, others on the file's.

    Args:
        image: (C, X, Y, Z), as read from the file.
        affine: the file's.
        members: the ensemble.
        probabilities: whether to return them.
        noticed: what is to be told of the image, and of how sure the networks are.

    Returns:
        Class indices (X, Y, Z), and float32 (K, X, Y, Z), for regions (R, X, Y, Z), or None.

    Raises:
        InputError: if the image cannot be prepared, or a network's output is not finite.
    """
    groups: dict[str, list[Member]] = {}
    for member in members:
        groups.setdefault(member.run.plan.hash, []).append(member)
    plan, regions = members[0].run.plan, members[0].run.regions
    if len(groups) == 1 and not probabilities and not regions:
        scores, geometry = average(image, affine, members, noticed)
        return geometry.to_original(scores), None
    total: Tensor | None = None
    for group in groups.values():
        total = _add(total, _average_on_file(image, affine, group, noticed).mul_(len(group) / len(members)))
    assert total is not None
    # max: the first of equals, as `to_original`
    classes = classes_of(total, regions, plan.values) if regions else total.max(0).indices
    return classes, total if probabilities else None


def average(
    image: np.ndarray, affine: np.ndarray, members: Sequence[Member], noticed: Noticed | None = None
) -> tuple[Tensor, Geometry]:
    """The mean probabilities (K, H, W, D) of networks with the same plan, on their prepared grid."""
    plan = members[0].run.plan
    prepared, geometry = prepare_image(image, affine, plan)
    padding = background(prepared, plan.normalization)
    if noticed:
        noticed.scan(prepared, geometry)
    total: Tensor | None = None
    for member in members:
        scores = _probabilities(member, prepared, padding)
        if noticed:
            noticed.segmentation(member.run, scores)
        total = _add(total, scores)
    assert total is not None
    return total.div_(len(members)), geometry


def _average_on_file(
    image: np.ndarray, affine: np.ndarray, members: Sequence[Member], noticed: Noticed | None
) -> Tensor:
    scores, geometry = average(image, affine, members, noticed)
    return geometry.probabilities_to_original(scores, background=None if members[0].run.regions else 0)


def _probabilities(member: Member, prepared: Tensor, padding: tuple[float, ...]) -> Tensor:
    device = next((parameter.device for parameter in member.network.parameters()), prepared.device)
    image, crop, regions = prepared.to(device), member.run.crop_size, bool(member.run.regions)
    scores = predict_volume(member.network, image, crop, member.window, padding, regions)
    if not scores.sum().isfinite():
        raise InputError(
            f"The network of {member.checkpoint} gives values that are not finite; its training has diverged, or the "
            "image's intensities are far from those it was trained on. Use another checkpoint, or check the image."
        )
    return scores


def _add(total: Tensor | None, scores: Tensor) -> Tensor:
    return scores if total is None else total.add_(scores)
