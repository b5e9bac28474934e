"""Intensities: where an image's foreground is, and how its values are scaled.

C: channels; H, W, D: space.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from medcontext.data.geometry import Box
from medcontext.data.plan import Normalization


def foreground_box(image: Tensor) -> Box:
    """The smallest box with every voxel that is not 0 in some channel of (C, H, W, D).

    The whole volume where all voxels are 0.

    >>> image = torch.zeros(1, 4, 5, 6)
    >>> image[0, 1, 2:4, 5] = -3
    >>> foreground_box(image)
    ((1, 2), (2, 4), (5, 6))
    """
    inside = (image != 0).any(0)  # (H, W, D)
    if not inside.any():
        inside = torch.ones_like(inside)
    planes = inside.any(2)
    h, w, d = (torch.nonzero(line).flatten() for line in (planes.any(1), planes.any(0), inside.any(0).any(0)))
    return (
        (int(h[0]), int(h[-1]) + 1),
        (int(w[0]), int(w[-1]) + 1),
        (int(d[0]), int(d[-1]) + 1),
    )


def normalize(image: Tensor, channels: Sequence[Normalization]) -> Tensor:
    """Scale each channel of (C, H, W, D) as the plan says; a new float32 tensor."""
    inside = (image != 0).any(0) if any(channel.inside for channel in channels) else None
    return torch.stack([_normalize(*pair, inside) for pair in zip(image.float(), channels, strict=True)])


def background(image: Tensor, channels: Sequence[Normalization]) -> tuple[float, ...]:
    """The value of each channel that stands for nothing, to pad a normalised image (C, H, W, D) with.

    0 where only the inside was normalised, because the outside is 0 there; else the channel's lowest value.
    """
    return tuple(
        0.0 if channel.inside else float(volume.min()) for volume, channel in zip(image, channels, strict=True)
    )


def _normalize(volume: Tensor, channel: Normalization, inside: Tensor | None) -> Tensor:
    if channel.kind == "ct":
        return (volume.clamp(channel.lower, channel.upper) - channel.mean) / channel.std
    if channel.kind == "range":
        return (volume.clamp(channel.lower, channel.upper) - channel.lower) / (channel.upper - channel.lower)
    if channel.kind == "none":
        return volume
    if channel.kind == "zscore_nonzero":
        inside = volume != 0
    elif not channel.inside or inside is None:
        return (volume - volume.mean()) / _deviation(volume)
    voxels = volume[inside]
    if not len(voxels):
        return volume
    return torch.where(inside, (volume - voxels.mean()) / _deviation(voxels), 0)


def _deviation(voxels: Tensor) -> Tensor:
    """The standard deviation; 1 for voxels that are all the same."""
    deviation = voxels.std(unbiased=False)
    return torch.where(deviation > 1e-8, deviation, 1.0)
