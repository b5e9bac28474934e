"""Pieces of structures, of which the teacher's answers far from the largest one are not believed."""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

WHOLE = 0.95  # of a structure that its largest piece has at least, where it is one piece


def stray(share: Tensor, single: Tensor) -> Tensor:
    """Where a class that should be one piece lies outside its largest one, crop by crop.

    Pieces touch by faces, edges and corners. They are found on the CPU, in the smallest box that holds a class.

    Args:
        share: (B, K, H, W, D), above 0.5 where a voxel is of a class; of images without D.
        single: (K,) booleans: the classes that should be one piece.

    Returns:
        (B, K, H, W, D) booleans.

    Example:
        >>> said = torch.tensor([[[1, 1, 0, 1, 0]]]).view(1, 1, 5, 1, 1)
        >>> stray(said, torch.tensor([True])).flatten().tolist()
        [False, False, False, True, False]
    """
    said = (share > 0.5).cpu().numpy()
    found = np.zeros_like(said)
    for each, theirs in zip(said, found, strict=True):
        for index in single.nonzero().flatten().tolist():
            box = _box(each[index])
            if box is not None:
                pieces, sizes = _pieces(each[index][box])
                theirs[index][box] = (pieces > 0) & (pieces != 1 + sizes.argmax())
    return torch.from_numpy(found).to(share.device)


def is_one(mask: np.ndarray) -> bool:
    """Whether a structure, (H, W, D) booleans, is one piece but for crumbs; one that is not there is.

    >>> is_one(np.array([1, 1, 0, 1], bool)), is_one(np.array([0, 1, 1, 0], bool))
    (False, True)
    """
    box = _box(mask)
    if box is None:
        return True
    _, sizes = _pieces(mask[box])
    return bool(sizes.max() >= WHOLE * sizes.sum())


def _pieces(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pieces, numbered from 1 (0 is none), and their sizes in voxels."""
    pieces, _ = ndimage.label(mask, np.ones((3,) * mask.ndim, bool))
    return pieces, np.bincount(pieces.ravel())[1:]


def _box(mask: np.ndarray) -> tuple[slice, ...] | None:
    """The smallest box that holds a mask; None of an empty one."""
    others = [tuple(a for a in range(mask.ndim) if a != axis) for axis in range(mask.ndim)]
    axes = [np.flatnonzero(mask.any(axes)) for axes in others]
    return tuple(slice(axis[0], axis[-1] + 1) for axis in axes) if len(axes[0]) else None
