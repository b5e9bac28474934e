"""Volumes as rows of patches, and back.

Letters: B batch, C channels, H W D the volume, h w d patches along each axis, N = h*w*d, p q r a patch's extent.
"""

from torch import Tensor

from medcontext.errors import InputError
from medcontext.method.masking import Shape3


def patchify(volume: Tensor, patch: Shape3) -> Tensor:
    """Patches in row-major order; within one, voxels in the order (p, q, r, C), as a perceptron embedding reads them.

    Args:
        volume: (B, C, H, W, D).
        patch: (p, q, r), dividing the volume.

    Returns:
        (B, N, p*q*r*C).

    Raises:
        InputError: if a patch does not divide the volume.

    Example:
        >>> import torch
        >>> patchify(torch.arange(8.0).view(1, 1, 4, 2, 1), (2, 1, 1)).tolist()
        [[[0.0, 2.0], [1.0, 3.0], [4.0, 6.0], [5.0, 7.0]]]
    """
    batch, channels, *extent = volume.shape
    if any(size % edge for size, edge in zip(extent, patch, strict=True)):
        raise InputError(f"Patches of {tuple(patch)} do not divide a volume of {tuple(extent)}.")
    (p, q, r), (h, w, d) = patch, (size // edge for size, edge in zip(extent, patch, strict=True))
    split = volume.reshape(batch, channels, h, p, w, q, d, r)
    # (B, C, h, p, w, q, d, r) -> (B, h, w, d, p, q, r, C) -> (B, N, p*q*r*C)
    return split.permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(batch, h * w * d, p * q * r * channels)


def unpatchify(patches: Tensor, patch: Shape3, shape: Shape3) -> Tensor:
    """The exact inverse of `patchify`: (B, N, p*q*r*C) to (B, C, H, W, D) of the given (H, W, D).

    Raises:
        InputError: if the patches do not make up such a volume.
    """
    (p, q, r), (h, w, d) = patch, (size // edge for size, edge in zip(shape, patch, strict=True))
    batch, count, length = patches.shape
    if (h * p, w * q, d * r) != tuple(shape) or count != h * w * d or length % (p * q * r):
        raise InputError(f"{count} patches of {tuple(patch)} with {length} values are no volume of {tuple(shape)}.")
    split = patches.reshape(batch, h, w, d, p, q, r, -1)
    # (B, h, w, d, p, q, r, C) -> (B, C, h, p, w, q, d, r) -> (B, C, H, W, D)
    return split.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(batch, -1, *shape)
