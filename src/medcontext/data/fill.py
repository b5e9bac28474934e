"""Values that fill a scan where nothing was measured, such as -32768 around a reconstructed field of view.

One of them among the intensities leaves a z-score no contrast between all others.
"""

from typing import NamedTuple

import numpy as np

FAR = 6
"""How far a fill value lies from the nearest other one, in ranges of all others (1st to 99th percentile)."""

FEWEST, SMALLEST = 10, 1000.0  # voxels that hold it, as a hot spot does not; and how far from 0 it is at least
_SAMPLE = 100_000  # voxels that tell of nearly every scan that it has none


class Fill(NamedTuple):
    """A fill value and how many voxels hold it."""

    value: float
    voxels: int


def find_fill(volume: np.ndarray) -> Fill | None:
    """The value that a channel (X, Y, Z) is filled with, if there is one: its lowest or highest, far from all others.

    >>> scan = np.arange(-1000.0, 1000.0)
    >>> find_fill(scan), find_fill(np.append(scan, [-32768.0] * 50))
    (None, Fill(value=-32768.0, voxels=50))
    """
    voxels = volume.ravel(order="K")  # in memory's order: no copy
    sample = voxels[:: max(1, voxels.size // _SAMPLE)]
    for value in (float(voxels.min()), float(voxels.max())):
        if abs(value) < SMALLEST or not _is_far(value, sample):  # the sample's nearest is never nearer
            continue
        others = voxels[voxels != value]
        if voxels.size - others.size >= FEWEST and _is_far(value, others):
            return Fill(value, voxels.size - others.size)
    return None


def _is_far(value: float, voxels: np.ndarray) -> bool:
    others = voxels[voxels != value].astype(np.float64)
    if not others.size:
        return False
    low, high = np.percentile(others, (1, 99))
    return bool(high > low and np.abs(others - value).min() >= FAR * (high - low))
