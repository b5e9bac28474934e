"""What the training cases have in common: spacings, empty margins, the intensities of their structures."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from medcontext.data.cases import Case, Dataset
from medcontext.data.geometry import Spacing, ras_spacing
from medcontext.data.labelled import read_labelled
from medcontext.data.nifti import read_image
from medcontext.data.normalize import foreground_box
from medcontext.data.pool import in_processes
from medcontext.errors import InputError

SAMPLES = 10_000  # foreground voxels a case, so that a large scan counts no more than a small one


@dataclass(frozen=True)
class Intensity:
    """One channel over the labelled voxels of the training cases, in the files' units."""

    low: float  # 0.5th percentile
    high: float  # 99.5th percentile
    mean: float
    std: float


@dataclass(frozen=True)
class Fingerprint:
    """The training cases in numbers.

    Args:
        spacings: of each case along H, W, D, in mm.
        kept_by_crop: the part of each case's volume inside the box of its non-zero voxels, 0..1.
        foreground: the intensities of each channel; empty where there are no labels.
    """

    spacings: tuple[Spacing, ...]
    kept_by_crop: tuple[float, ...]
    foreground: tuple[Intensity, ...]


@dataclass(frozen=True)
class _CaseNumbers:
    spacing: Spacing
    kept_by_crop: float
    samples: np.ndarray  # (C, n) float32, foreground


def take_fingerprint(
    dataset: Dataset, cases: Sequence[Case], label_map: dict[int, int], workers: int = 1
) -> Fingerprint:
    """Read the training cases, each wholly but one at a time (in each process), and sum them up.

    Raises:
        InputError: if there is no case, if one cannot be used, or if no case has a labelled voxel.
    """
    if not cases:
        raise InputError(f"No training case to plan from in {dataset.root}; name at least one.")
    bare = replace(dataset, cases=(), unlabelled=())  # sent to the processes with every case
    measure = partial(_measure, dataset=bare, label_map=label_map)
    found = dict(in_processes(measure, cases, workers, "reading the training cases"))
    numbers = [found[index] for index in range(len(cases))]
    pooled = np.concatenate([case.samples for case in numbers], axis=1)  # (C, all)
    if not pooled.size:
        raise InputError(
            f"None of the {len(cases)} training cases of {dataset.name} has a labelled voxel: there is nothing to "
            "learn. Check the labels, or choose other training cases."
        )
    return Fingerprint(
        tuple(case.spacing for case in numbers),
        tuple(case.kept_by_crop for case in numbers),
        tuple(_intensity(values) for values in pooled),
    )


def look_at_scans(dataset: Dataset, cases: Sequence[Case], workers: int = 1) -> Fingerprint:
    """As `take_fingerprint`, of scans whose labels are not read; those that cannot be read are passed over.

    Raises:
        InputError: if none can be read.
    """
    bare = replace(dataset, cases=(), unlabelled=())
    found = dict(in_processes(partial(_look, dataset=bare), cases, workers, "reading the scans"))
    numbers = [each for index in range(len(cases)) if not isinstance(each := found[index], str)]
    if not numbers:
        raise InputError(f"None of {len(cases)} scans can be read. {next(iter(found.values()), '')}")
    return Fingerprint(tuple(each[0] for each in numbers), tuple(each[1] for each in numbers), ())


def _look(case: Case, dataset: Dataset) -> tuple[Spacing, float] | str:
    """A scan's spacing, and what is kept of it by the crop to what is not zero; or what is wrong with it."""
    try:
        image, affine = read_image(case, dataset.channels)
    except InputError as error:
        return str(error)
    return ras_spacing(affine), _kept_by_crop(image)


def _kept_by_crop(image: np.ndarray) -> float:
    box = foreground_box(torch.from_numpy(np.ascontiguousarray(image)))
    return float(np.prod([stop - start for start, stop in box]) / image[0].size)


def _measure(case: Case, dataset: Dataset, label_map: dict[int, int]) -> _CaseNumbers:
    image, label, affine = read_labelled(case, dataset, label_map)
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    where = np.flatnonzero(label)
    if len(where) > SAMPLES:
        where = where[rng.integers(len(where), size=SAMPLES)]
    return _CaseNumbers(ras_spacing(affine), _kept_by_crop(image), image.reshape(len(image), -1)[:, where])


def _intensity(values: np.ndarray) -> Intensity:
    low, high = np.percentile(values, (0.5, 99.5))
    return Intensity(float(low), float(high), float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64)))
