"""Distances between the surfaces of two masks, and the two definitions of HD95 that are in use."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree


class SurfaceDistances(NamedTuple):
    """How far each surface voxel of one mask lies from the nearest surface voxel of the other.

    Args:
        forth: from the first mask's surface to the second's, (number of surface voxels,), float64.
        back: from the second's to the first's.
    """

    forth: np.ndarray
    back: np.ndarray


def surface_distances(first: np.ndarray, second: np.ndarray, spacing: Sequence[float]) -> SurfaceDistances:
    """The distances between the surfaces of two masks, exact, in both directions.

    A surface voxel is one with a face on the background; all that lies outside of the array is background
    (medpy's and MONAI's convention). So the masks may be given cropped to any box that holds both.

    The cost grows with the surfaces and not with the box around them: a stray voxel far away costs nothing.

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
    boxes = ndimage.find_objects((first | second).view(np.uint8))
    if not boxes or not (first.any() and second.any()):
        raise ValueError("a mask is empty")
    surfaces = surface(first[boxes[0]]), surface(second[boxes[0]])
    shared = surfaces[0] & surfaces[1]  # their distance is 0, without asking the tree
    return SurfaceDistances(_distances(*surfaces, shared, spacing), _distances(*surfaces[::-1], shared, spacing))


def surface(mask: np.ndarray) -> np.ndarray:
    """The voxels of a mask that share a face with the background or lie at the array's border.

    Args:
        mask: boolean, any number of axes.

    >>> surface(np.ones(4, dtype=bool)).astype(int)
    array([1, 0, 0, 1])
    """
    padded = np.pad(mask, 1)
    centre = (slice(1, -1),) * mask.ndim
    interior = mask.copy()
    for axis in range(mask.ndim):
        for neighbour in (slice(None, -2), slice(2, None)):
            interior &= padded[(*centre[:axis], neighbour, *centre[axis + 1 :])]
    return mask & ~interior


def hd95_pooled(distances: SurfaceDistances) -> float:
    """The 95th percentile of both directions pooled: medpy's `hd95`, and so nnFormer's and the paper's."""
    return float(np.percentile(np.concatenate(distances), 95))


def hd95_max(distances: SurfaceDistances) -> float:
    """The larger of the two directed 95th percentiles: MONAI's `compute_hausdorff_distance`."""
    return float(max(np.percentile(directed, 95) for directed in distances))


def _distances(origin: np.ndarray, target: np.ndarray, shared: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """From each voxel of the surface `origin` to the surface `target`; those on both come first, as zeros."""
    scale = np.asarray(spacing, dtype=np.float64)
    queries = np.argwhere(origin & ~shared)
    zeros = np.zeros(np.count_nonzero(shared))
    if not len(queries):
        return zeros
    # The points lie on a grid, evenly enough for a tree whose nodes need not be balanced, which is built faster.
    tree = KDTree(np.argwhere(target) * scale, leafsize=32, balanced_tree=False, compact_nodes=False)
    return np.concatenate([zeros, tree.query(queries * scale)[0]])
