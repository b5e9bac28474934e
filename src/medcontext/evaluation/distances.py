"""Distances between the surfaces of two masks, and the two definitions of HD95 that are in use."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import edt
import numpy as np
from scipy.spatial import KDTree

LARGE_SURFACE = 200_000
"""From so many surface voxels on, twice a liver's, a distance transform takes over from the search tree."""


class SurfaceDistances(NamedTuple):
    """How far each surface voxel of one mask lies from the nearest surface voxel of the other.

    Args:
        forth: from the first mask's surface to the second's, (number of surface voxels,), float64.
        back: from the second's to the first's.
    """

    forth: np.ndarray
    back: np.ndarray


def surface_distances(first: np.ndarray, second: np.ndarray, spacing: Sequence[float]) -> SurfaceDistances:
    """The Euclidean distances between the surfaces of two masks, in both directions.

    A surface voxel is one with a face on the background; all that lies outside of the array is background
    (medpy's and MONAI's convention). So the masks may be given cropped to any box that holds both.

    A search tree holds the surface, where a distance transform fills the box around it: faster for an organ, and a
    stray voxel far away, which makes the box large, costs next to nothing. A prediction that is mostly noise has
    its distances from the transform, in single precision; there the tree can take minutes.

    Args:
        first: boolean, not empty.
        second: boolean, of the same shape, not empty.
        spacing: the distance between neighbouring voxels along each axis; in millimetres for millimetres.

    Raises:
        ValueError: if a mask is empty (there is no distance to nothing) or the shapes differ.

    >>> line = np.zeros((5, 1, 1), dtype=bool)
    >>> first, second = line.copy(), line.copy()
    >>> first[0] = second[3] = second[4] = True
    >>> surface_distances(first, second, (2.0, 1.0, 1.0))
    SurfaceDistances(forth=array([6.]), back=array([6., 8.]))
    """
    if first.shape != second.shape:
        raise ValueError(f"masks of different shapes: {first.shape} and {second.shape}")
    surfaces = surface(first), surface(second)
    if not all(map(len, surfaces)):
        raise ValueError("a mask is empty")
    forth, back = (_distances(*pair, first.shape, spacing) for pair in (surfaces, surfaces[::-1]))
    return SurfaceDistances(forth, back)


def surface(mask: np.ndarray) -> np.ndarray:
    """The voxels of a mask that share a face with the background or lie at the array's border.

    Args:
        mask: boolean, any number of axes.

    Returns:
        Their positions in the flattened array (C order), ascending.

    >>> surface(np.ones(4, dtype=bool))
    array([0, 3])
    """
    padded = np.pad(mask, 1)
    flat = padded.ravel()
    inside = np.flatnonzero(flat)  # looking around these voxels alone is faster than shifting the whole volume
    interior = np.ones(len(inside), dtype=bool)
    for axis in range(mask.ndim):
        step = math.prod(padded.shape[axis + 1 :])
        interior &= flat[inside - step]
        interior &= flat[inside + step]
    index = np.unravel_index(inside[~interior], padded.shape)
    return np.ravel_multi_index(tuple(position - 1 for position in index), mask.shape)


def hd95_pooled(distances: SurfaceDistances) -> float:
    """The 95th percentile of both directions pooled: medpy's `hd95`, and so nnFormer's and the paper's."""
    return float(np.percentile(np.concatenate(distances), 95))


def hd95_max(distances: SurfaceDistances) -> float:
    """The larger of the two directed 95th percentiles: MONAI's `compute_hausdorff_distance`."""
    return float(max(np.percentile(directed, 95) for directed in distances))


def _distances(origin: np.ndarray, target: np.ndarray, shape: Sequence[int], spacing: Sequence[float]) -> np.ndarray:
    """From each voxel of the surface `origin` to the surface `target`, both as positions in the flattened array."""
    off_target = np.ones(math.prod(shape), dtype=bool)
    off_target[target] = False
    apart = off_target[origin]  # the distance of all others is 0
    asked = origin[apart]
    distances = np.zeros(len(origin))
    if len(asked) > LARGE_SURFACE:
        transform = edt.edt(off_target.reshape(shape), anisotropy=tuple(map(float, spacing)))
        distances[apart] = transform.ravel()[asked]
    elif len(asked):
        # Voxels fill space evenly enough for a tree whose nodes are not balanced, which is built faster.
        tree = KDTree(_points(target, shape, spacing), leafsize=32, balanced_tree=False, compact_nodes=False)
        distances[apart] = tree.query(_points(asked, shape, spacing))[0]
    return distances


def _points(positions: np.ndarray, shape: Sequence[int], spacing: Sequence[float]) -> np.ndarray:
    """(N,) -> (N, axes), in the spacing's unit."""
    return np.stack(np.unravel_index(positions, tuple(shape)), axis=1) * np.asarray(spacing, dtype=np.float64)
