"""Runs whose networks answer what is known beforehand, so that nothing needs to be trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from torch import nn

from medcontext.data.plan import Normalization, Plan
from medcontext.data.splits import Split
from medcontext.method import MedContext
from medcontext.run import Facts, Run, make_network, write_checkpoint
from medcontext.settings import Settings

LABELS = {"kidney": 500, "liver": 200, "spleen": 600}  # with gaps, and not sorted
LEVELS = (0.0, 100.0, 200.0, 300.0)  # the intensity of each class: background, 200, 500, 600

Shape3 = tuple[int, int, int]


def make_run(
    folder: Path,
    *,
    channels: tuple[str, ...] = ("MR",),
    labels: dict[str, int] | None = None,
    crop_size: Shape3 = (8, 8, 8),
    spacing: tuple[float, float, float] | None = None,
    normalization: Normalization = Normalization("none"),  # noqa: B008 (frozen)
    crop_foreground: bool = False,
    network: str = "torch.nn.Conv3d",
    network_args: dict[str, Any] | None = None,
    split: Split = Split((), (), ()),  # noqa: B008 (frozen)
) -> Run:
    """A run without checkpoints; by default one convolution of one voxel."""
    plan = Plan(
        channels, LABELS if labels is None else labels, {}, spacing, (normalization,) * len(channels), crop_foreground
    )
    settings = Settings(network=network, network_args={"kernel_size": 1} if network_args is None else network_args)
    run = Run(folder, settings, plan, split, Facts("Fake", crop_size))
    folder.mkdir(parents=True)
    run.write()
    return run


def save_networks(
    run: Run, student: nn.Module, teacher: nn.Module | None = None, name: str = "last", step: int = 0
) -> Path:
    """A checkpoint of a student, and of a teacher that is the same unless given."""
    learner = MedContext(student, total_steps=1, mask=None)
    learner.set_extra_state({**learner.get_extra_state(), "step": step})
    if teacher is not None:
        learner.teacher.network.load_state_dict(teacher.state_dict())
    path = run.checkpoint(name)
    write_checkpoint(path, {"network": run.network_description(), "learner": learner.state_dict()})
    return path


def nearest_level(run: Run, levels: Sequence[float] = LEVELS, scale: float = 1.0) -> nn.Module:
    """The run's network, set to give each voxel the class whose intensity is nearest to its last channel's.

    2 t x - t^2 is largest for the t nearest to x.
    """
    network = make_network(run)
    assert isinstance(network, nn.Conv3d)
    values = torch.tensor(levels[: network.out_channels])
    network.weight.data[:] = 0
    network.weight.data[:, -1] = (2 * values * scale).reshape(-1, 1, 1, 1)
    network.bias.data[:] = -(values**2) * scale  # type: ignore[union-attr]
    return network.eval()


def level_run(folder: Path, **facts: Any) -> Run:
    """A run that segments by intensity, see `nearest_level`."""
    run = make_run(folder, **facts)
    save_networks(run, nearest_level(run))
    return run


def random_run(folder: Path, seed: int = 0, **facts: Any) -> Run:
    """A run with a random convolution that sees its neighbours, and so has a left and a right."""
    run = make_run(folder, network_args={"kernel_size": 3, "padding": 1}, **facts)
    torch.manual_seed(seed)
    save_networks(run, make_network(run), make_network(run))
    return run


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def read(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


def levels_image(shape: Shape3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An image of random classes with noise, and the label values it must be given."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, len(LEVELS), shape)
    image = np.take(LEVELS, classes) + rng.uniform(-40, 40, shape)
    return image.astype(np.float32), np.take([0, 200, 500, 600], classes)
