"""A trained network as one file for other programs, checked against torch before it is written.

Whether it takes other sizes than its crop is found out by trying, never by the network's name.
"""

import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from medcontext.data.geometry import Shape3
from medcontext.errors import CannotWrite, InputError, first_line, lacks_memory
from medcontext.files import atomic_path
from medcontext.method.losses import heads
from medcontext.networks.registry import size_problem

KEY = "medcontext"
"""Of the metadata in a file, JSON: in ONNX's `metadata_props`, in torch.export's `extra_files`."""

TOLERANCE = 1e-3
"""The largest difference from torch, as a fraction of the largest logit (of 1 where all are smaller)."""

PATIENCE = 180.0
"""Seconds of the processor to find out how to leave the size open."""

AXES = {0: "batch", 2: "height", 3: "width", 4: "depth"}
"""Of an image (B, C, H, W, D), those that an export may leave open."""


class Exported(Protocol):
    """A network in another form: it answers images (B, C, H, W, D) by logits (B, K, H, W, D), and can be written."""

    def __init__(self, program: ExportedProgram) -> None: ...

    def __call__(self, image: Tensor) -> Tensor: ...

    def save(self, path: Path, metadata: str) -> None: ...


class Finest(nn.Module):
    """A network's output at full resolution, whatever heads it has beside that."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return heads(self.network(image))[0]


@dataclass(frozen=True)
class Agreement:
    """How near an exported network's answers are to torch's.

    Args:
        max_difference: of two logits.
        scale: the largest logit of torch's.
        same: share of the voxels, of regions that of all their voxels, that are given the same class.
    """

    max_difference: float
    scale: float
    same: float

    @property
    def good(self) -> bool:
        return self.max_difference <= TOLERANCE * max(1.0, self.scale)  # never if it is not a number

    def __str__(self) -> str:
        differ = f"logits of up to {self.scale:.3g} differ by at most {self.max_difference:.2g}"
        return f"{differ}, {self.same:.4%} of the voxels have the same class"


@dataclass(frozen=True)
class Outcome:
    """What was found of an export.

    Args:
        exported: the network in its other form.
        agreement: with torch, on the crop.
        sizes: others than the crop's, on which it agrees with torch, too; none where its size is fixed.
        fixed: why its size is fixed; empty where it is not.
    """

    exported: Exported
    agreement: Agreement
    sizes: tuple[Shape3, ...]
    fixed: str = ""

    def facts(self, crop: str) -> dict[str, Any]:
        """Of the check, for the file; `crop` says on what."""
        return {
            "on": crop,
            "tolerance": TOLERANCE,
            **asdict(self.agreement),
            "other_sizes": [list(size) for size in self.sizes],
        }


def export_network(
    kind: Callable[[ExportedProgram], Exported], network: nn.Module, crop: Tensor, regions: bool
) -> Outcome:
    """A network in another form, for any batch, and for any size if it can.

    Args:
        kind: makes the form.
        network: in evaluation mode, on the CPU.
        crop: (1, C, H, W, D), to compare on.
        regions: whether the outputs are overlapping regions.

    Raises:
        InputError: if it cannot be exported, or gives other answers than torch.
    """
    network = Finest(network).eval().requires_grad_(False)
    sizes = other_sizes(network, crop)
    fixed = "" if sizes else "the network takes no other"
    if sizes:
        try:
            with patience():
                exported = kind(traced(network, crop, AXES))
            found = [agreement(exported, network, each, regions) for each in probes(crop, sizes)]
            if all(each.good for each in found):
                return Outcome(exported, found[0], sizes)
            fixed = "at others the exported network gives other answers than torch"
        except OutOfPatience:
            fixed = f"torch.export has not found out within {PATIENCE:g} s what to leave open"
        except Exception as error:  # many kinds, of torch's exporters and of runtimes
            if lacks_memory(error):
                raise
            fixed = f"torch.export cannot leave it open ({root(error)})"
    try:
        exported = kind(traced(network, crop, {0: AXES[0]}))
        found = [agreement(exported, network, each, regions) for each in probes(crop, ())]
    except Exception as error:
        if lacks_memory(error) or isinstance(error, InputError):
            raise
        raise InputError(f"This network cannot be exported: {root(error)}.") from error
    for each in found:
        if not each.good:
            raise InputError(
                f"The exported network gives other answers than torch: {each}; allowed are {TOLERANCE:g} of the "
                "largest logit. Nothing is written. Other versions of torch or ONNX may do better."
            )
    return Outcome(exported, found[0], (), fixed)


def traced(network: nn.Module, crop: Tensor, axes: dict[int, str]) -> ExportedProgram:
    """The network's graph for images like the crop, with some axes left open."""
    if not hasattr(Dim, "DYNAMIC"):
        raise InputError(f"Exporting needs torch 2.6 or later, here is {torch.__version__}: pip install -U torch")
    several = crop.expand(2, *crop.shape[1:])  # a batch of one would be taken for always one
    with quiet(), torch.no_grad():
        return torch.export.export(network, (several,), dynamic_shapes=(dict.fromkeys(axes, Dim.DYNAMIC),))


def other_sizes(network: nn.Module, crop: Tensor) -> tuple[Shape3, ...]:
    """The next larger size that the network takes along all axes, and the next smaller one, where there are such."""
    _, channels, h, w, d = crop.shape
    classes = len(network(crop)[0])
    found = []
    for way in (1, -1):
        steps = (way * 2**power for power in range(8))
        sizes = ((h + step, w + step, d + step) for step in steps)
        possible = (size for size in sizes if min(size) > 0 and not size_problem(network, channels, classes, size))
        found.append(next(possible, None))
    larger, smaller = found
    return tuple(size for size in (larger, smaller) if size and larger)


def probes(crop: Tensor, sizes: Sequence[Shape3]) -> Iterator[Tensor]:
    """The crop; two of them, one mirrored; and noise of other sizes."""
    yield crop
    yield torch.cat([crop.flip(-1), crop])
    generator = torch.Generator().manual_seed(0)
    for size in sizes:
        yield torch.randn(1, crop.shape[1], *size, generator=generator)


@torch.no_grad()
def agreement(exported: Exported, network: nn.Module, image: Tensor, regions: bool) -> Agreement:
    """How near the answers to an image (B, C, H, W, D) are to torch's."""
    expected, found = network(image), exported(image)
    if found.shape != expected.shape:
        raise InputError(f"The exported network gives {tuple(found.shape)}, torch {tuple(expected.shape)}.")
    same = (expected > 0) == (found > 0) if regions else expected.argmax(1) == found.argmax(1)
    difference = (expected - found).abs().max()
    return Agreement(float(difference), float(expected.abs().max()), float(same.double().mean()))


def write(path: Path, exported: Exported, metadata: str) -> None:
    """Write an exported network, whole or not at all.

    Raises:
        CannotWrite: if the file cannot be written, as on a full disk.
    """
    try:
        with atomic_path(path) as temporary, quiet():
            exported.save(temporary, metadata)
    except OSError as error:
        raise CannotWrite(
            f"Cannot write {path}: {error.strerror or error}. Free some space, or choose another."
        ) from error


def root(error: BaseException) -> str:
    """What lies under an exporter's error, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error).rstrip(".")


class OutOfPatience(BaseException):
    """No Exception, which somebody below might take for one of their own."""


@contextmanager
def patience() -> Iterator[None]:
    """Give up after `PATIENCE`: of windows and paddings at open sizes torch's algebra may think for hours.

    Where there are no such signals, on Windows and outside of the main thread, it is awaited.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise OutOfPatience

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of torch's exporters, which tell their authors of their own code."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
