"""A path to a DICOM series in; its array, its affine and what is doubtful out. `data/nifti.py` hands over to this."""

from itertools import pairwise
from pathlib import Path

import numpy as np

from medcontext.data.dicom.series import Series, one_series
from medcontext.data.dicom.stack import Stack, stack
from medcontext.data.dicom.voxels import read_voxels
from medcontext.data.placement import Doubt, plausible
from medcontext.errors import counted


def stack_of(path: Path) -> Stack:
    """The slices that a path means, in order: of a folder's only series, or of the series of a file.

    Raises:
        InputError: if there is not one series, or it is not one volume.
    """
    return stack(one_series(path).planes, path)


def read_volume(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The voxels (X, Y, Z), float32, and the affine (4, 4), RAS+.

    Raises:
        InputError: as `stack_of`, and if a file is damaged.
    """
    found = stack_of(path)
    return read_voxels(found.planes), found.affine


def doubts_of(path: Path) -> tuple[Doubt, ...]:
    """What a person should look at, of a series that can be read.

    Raises:
        InputError: as `stack_of`.
    """
    series = one_series(path)
    found = stack(series.planes, path)
    return (*plausible(found.affine), *_left_out(series), *_inverse(found), *_ends(found))


def _left_out(series: Series) -> list[Doubt]:
    what = f"{counted(series.scouts, 'image')} of {len(series.planes) + series.scouts}"
    return [Doubt("localizers inside the DICOM series are left out", what)] if series.scouts else []


def _inverse(found: Stack) -> list[Doubt]:
    message = "DICOM images whose low values are shown white (MONOCHROME1): the values are taken as they are stored"
    number = sum(plane.inverse for plane in found.planes)
    return [Doubt(message, counted(number, "slice"))] if number else []


def _ends(found: Stack) -> list[Doubt]:
    """Slices missing at an end leave no gap, but images that are numbered from slice to slice begin with another."""
    numbers = [plane.number for plane in found.planes]
    if None in numbers or len(set(numbers)) < len(numbers):
        return []
    known = [number for number in numbers if number is not None]
    lowest, steps = min(known), {two - one for one, two in pairwise(known)}
    if lowest <= 1 or steps not in ({1}, {-1}):
        return []
    return [Doubt("the numbers of DICOM images do not begin with 1: are slices missing at an end?", f"from {lowest}")]
