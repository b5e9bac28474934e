"""How PCRLv2 distorts a view: places first, which gives what is to be restored, then intensities and order.

Steps and ranges are those of TorchIO's `RandomFlip`, `RandomAffine`, `RandomBlur`, `RandomNoise`, `RandomGamma`,
`RandomSwap` and `ZNormalization`, whose defaults the public code takes; here a batch at a time, each view by itself.

Letters: N views, C channels, H W D their extent, S swaps.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from medcontext.method.masking import Shape3
from medcontext.pretraining.settings import PCRLv2Settings


@dataclass(frozen=True)
class Distortion:
    """What is done to N views.

    Args:
        turn: (N, 3, 3), from places in the result to places in the view, in voxels from its centre.
        sigma: (N, 3) standard deviations of the blur along H, W and D, in voxels.
        noise: (N,) standard deviations of the noise.
        gamma: (N,) exponents.
        seed: of the noise, which is drawn where the views are.
        swaps: (S, 2, N, 3) first corners of the patches that change places; none for local views.
    """

    turn: Tensor
    sigma: Tensor
    noise: Tensor
    gamma: Tensor
    seed: int
    swaps: Tensor


def draw_distortion(
    views: int, shape: Shape3, settings: PCRLv2Settings, generator: Generator, swap: bool
) -> Distortion:
    """For so many views of `shape` (H, W, D); `swap` is for global ones."""

    def uniform(low: float, high: float, *size: int) -> Tensor:
        return low + (high - low) * torch.rand(views, *size, generator=generator)

    angles = math.radians(settings.degrees) * uniform(-1, 1, 3)
    factors = uniform(1 - settings.scale, 1 + settings.scale, 3)
    factors[:, 0] *= torch.where(torch.rand(views, generator=generator) < settings.flip, -1.0, 1.0)
    return Distortion(
        turn=factors[:, :, None] * rotation(angles),
        sigma=uniform(0, settings.blur, 3),
        noise=uniform(0, settings.noise),
        gamma=uniform(-settings.gamma, settings.gamma).exp(),
        seed=int(torch.randint(2**31, (), generator=generator)),
        swaps=_draw_swaps(views, shape, settings, generator) if swap else torch.empty(0, 2, views, 3, dtype=torch.long),
    )


def _draw_swaps(views: int, shape: Shape3, settings: PCRLv2Settings, generator: Generator) -> Tensor:
    """Pairs of patches that share no voxel."""
    patch = torch.tensor(settings.swap_patch)
    corners = torch.empty(settings.swaps, 2, views, 3, dtype=torch.long)
    meet = torch.ones(settings.swaps, views, dtype=torch.bool)
    while meet.any():
        drawn = torch.rand(corners.shape, generator=generator, dtype=torch.float64) * (torch.tensor(shape) - patch + 1)
        corners = torch.where(meet[:, None, :, None], drawn.long(), corners)
        meet = ((corners[:, 0] - corners[:, 1]).abs() < patch).all(-1)
    return corners


def move(views: Tensor, distortion: Distortion) -> Tensor:
    """Views (N, C, H, W, D) mirrored, turned and stretched: the target. Beyond their border is their lowest value."""
    half = torch.tensor(views.shape[2:], device=views.device, dtype=views.dtype) / 2
    turn = distortion.turn.to(views)
    # grid_sample counts from -1 to 1 along each axis, the last axis first.
    theta = F.pad((turn * half / half[:, None]).flip(1, 2), (0, 1))  # (N, 3, 3) -> (N, 3, 4), no shift
    grid = F.affine_grid(theta, list(views.shape), align_corners=False)
    lowest = views.amin((1, 2, 3, 4), keepdim=True)
    return F.grid_sample(views - lowest, grid, padding_mode="zeros", align_corners=False) + lowest


def spoil(views: Tensor, distortion: Distortion, settings: PCRLv2Settings) -> Tensor:
    """Moved views (N, C, H, W, D) with blur, noise, gamma and swapped patches, each with mean 0 and deviation 1."""
    generator = torch.Generator(views.device).manual_seed(distortion.seed)
    noise = torch.randn(views.shape, generator=generator, device=views.device, dtype=views.dtype)
    spoilt = blur(views, distortion.sigma.to(views)) + noise * _each(distortion.noise.to(views))
    spoilt = spoilt.sign() * spoilt.abs() ** _each(distortion.gamma.to(views))
    spoilt = swap(spoilt, distortion.swaps.to(views.device), settings.swap_patch)
    mean, deviation = spoilt.mean((1, 2, 3, 4), keepdim=True), spoilt.std((1, 2, 3, 4), keepdim=True)
    return (spoilt - mean) / deviation.clamp_min(1e-6)


def _each(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1, 1)


def rotation(angles: Tensor) -> Tensor:
    """Rotations (N, 3, 3) by angles (N, 3) in radians about the axes H, W and D, one after the other."""
    turned = torch.eye(3, dtype=angles.dtype).expand(len(angles), 3, 3)
    for axis in range(3):
        i, j = [other for other in range(3) if other != axis]
        sine, cosine = angles[:, axis].sin(), angles[:, axis].cos()
        step = torch.eye(3, dtype=angles.dtype).repeat(len(angles), 1, 1)
        step[:, i, i], step[:, i, j], step[:, j, i], step[:, j, j] = cosine, -sine, sine, cosine
        turned = step @ turned
    return turned


def blur(views: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of views (N, C, H, W, D), each by its own standard deviations (N, 3); borders are repeated."""
    count, channels = views.shape[:2]
    radius = max(1, math.ceil(4 * float(sigma.max()))) if sigma.numel() else 1
    offsets = torch.arange(-radius, radius + 1, device=views.device, dtype=views.dtype)
    blurred = views.flatten(0, 1)[None]  # (N, C, H, W, D) -> (1, N*C, H, W, D), one group each
    for axis in range(3):
        weight = torch.exp(-0.5 * (offsets / sigma[:, axis, None].clamp_min(1e-3)) ** 2)  # (N, 2*radius + 1)
        weight = (weight / weight.sum(1, keepdim=True)).repeat_interleave(channels, 0)
        kernel = weight.view(-1, 1, *(len(offsets) if axis == other else 1 for other in range(3)))
        ends = [radius * (axis == other) for other in (2, 2, 1, 1, 0, 0)]
        blurred = F.conv3d(F.pad(blurred, ends, mode="replicate"), kernel, groups=count * channels)
    return blurred.view_as(views)


def swap(views: Tensor, corners: Tensor, patch: Shape3) -> Tensor:
    """Patches of views (N, C, H, W, D) change places, one pair after the other: corners (S, 2, N, 3)."""
    _, width, depth = views.shape[2:]
    strides = torch.tensor([width * depth, depth, 1], device=views.device)
    steps = torch.cartesian_prod(*(torch.arange(edge, device=views.device) for edge in patch))  # (p*q*r, 3)
    flat = views.flatten(2).clone()  # (N, C, H*W*D)
    # (S, 2, N, 1, 3) + (p*q*r, 3) -> (S, 2, N, 1, p*q*r), places in a flat view
    places = ((corners[:, :, :, None] + steps) * strides).sum(-1)[:, :, :, None].expand(-1, -1, -1, flat.shape[1], -1)
    for first, second in places:
        kept = flat.gather(2, first)
        flat.scatter_(2, first, flat.gather(2, second)).scatter_(2, second, kept)
    return flat.view_as(views)
