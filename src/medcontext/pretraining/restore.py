"""PCRLv2's objective (Zhou et al., arXiv 2301.00772), as the public code RL4M/PCRLv2 has it for three dimensions.

A view is restored from a distorted copy, at one coarser scale too, and features of views agree at one scale, as in
SimSiam. The decoder has no skips, so that all goes through the deepest features; it is thrown away afterwards.

Letters: B batch, C image channels, c channels of a scale, H W D a view.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from medcontext.errors import InputError
from medcontext.method.masking import Shape3
from medcontext.networks.pcrlv2 import double_convolution
from medcontext.pretraining.distort import Distortion, draw_distortion, move, spoil
from medcontext.pretraining.hidden import exact
from medcontext.pretraining.objective import Losses, Objective
from medcontext.pretraining.settings import PCRLv2Settings
from medcontext.pretraining.views import Box, Views, cut, draw_views

SCALES = 3
TOLERANCE = 0.01  # beyond 0 and 1, of interpolated intensities


@dataclass(frozen=True)
class Choices:
    """For a batch of B scans.

    Args:
        views: of each scan.
        first: the distortions of their first views.
        second: of their second ones.
        local: of their local ones, all first ones before all second ones.
        scales: where features are compared, 0 the coarsest: of both global views, then of each local view with the
            first and with the second.
    """

    views: tuple[Views, ...]
    first: Distortion
    second: Distortion
    local: Distortion
    scales: tuple[int, ...]


@dataclass(frozen=True)
class Features:
    """Of views at a scale: q (B, c), which is agreed with, p (B, c), which predicts it, and the map (B, c, h, w, d)."""

    q: Tensor
    p: Tensor
    map: Tensor


class PCRLv2Objective(Objective):
    """Restore a distorted view, and agree between views of a scan.

    Published beside it: SGD 1e-3, momentum 0.9, weight decay 1e-4, cosine to 0, batch 32, 240 epochs.

    Intensities are restored from 0 to 1. Crops that have others, such as of MR, are scaled to it, each by its own
    lowest and highest; the network does not see it, for each distorted view is given mean 0 and deviation 1 anyway.

    Which parameters get a gradient changes from step to step with the scales that are drawn: `DistributedDataParallel`
    must look for them (`find_unused_parameters`).

    Args:
        network: our `PCRLv2`, of which `encoder` is trained.
        settings: views and distortions.

    Raises:
        InputError: for another network.
    """

    title = "pcrlv2"
    fits = ("encoder",)
    decoder: Any

    def __init__(self, network: nn.Module, settings: PCRLv2Settings | None = None) -> None:
        super().__init__(network)
        self.settings = settings or PCRLv2Settings()
        deep, channels = self.part.features, self.part.channels
        self.decoder = nn.ModuleList(Scale(deep // 2**level, channels) for level in range(1, SCALES + 1))
        self.output = nn.Conv3d(deep // 2**SCALES, channels, 1)

    def draw(self, images: Tensor, generator: Generator) -> Choices:
        self.part.check_channels(images)
        if len(images) < 2 and self.training:
            raise InputError("PCRLv2's batch norms need a batch of at least 2, got 1.")
        h, w, d = images.shape[2:]
        settings, batch = self.settings, len(images)

        def distortion(views: int, shape: Shape3, swap: bool = False) -> Distortion:
            return draw_distortion(views, shape, settings, generator, swap)

        views = tuple(draw_views((h, w, d), settings, generator) for _ in range(batch))
        first, second = (distortion(batch, settings.global_size, swap=True) for _ in range(2))
        local = distortion(batch * settings.local_views, settings.local_size)
        scales = torch.randint(SCALES, (1 + 2 * settings.local_views,), generator=generator).tolist()
        return Choices(views, first, second, local, tuple(scales))

    def forward(self, images: Tensor, drawn: Choices, progress: float = 0.0) -> Losses:
        settings, images = self.settings, unit_range(images)
        target, first = self.view(images, [scan.first for scan in drawn.views], settings.global_size, drawn.first)
        _, second = self.view(images, [scan.second for scan in drawn.views], settings.global_size, drawn.second)
        boxes = [scan.local[index] for index in range(settings.local_views) for scan in drawn.views]
        _, local = self.view([*images] * settings.local_views, boxes, settings.local_size, drawn.local)

        scale, *local_scales = drawn.scales
        one, two, small = (self.features(view) for view in (first, second, local))
        restored = self.restore(one)
        side = self.decoder[scale].side(one[scale].map)
        with torch.autocast(images.device.type, enabled=False):
            restoring = F.mse_loss(exact(restored), target)
            both = agreement(one[scale], two[scale])
            coarse = F.mse_loss(F.interpolate(exact(side), target.shape[2:], mode="trilinear"), target)
            pairs = ((view, index) for index in range(settings.local_views) for view in (one, two))
            near = torch.stack(
                [
                    agreement(view[at], part(small[at], index, settings.local_views))
                    for (view, index), at in zip(pairs, local_scales, strict=True)
                ]
            ).mean()
            loss = restoring + both + side_weight(progress) * coarse + near
        guess = target.var((2, 3, 4), correction=0).mean()
        parts = {"restored": restoring, "side": coarse, "agreement": both, "local": near, "guess": guess}
        return Losses(loss, {name: value.detach() for name, value in parts.items()})

    def view(
        self, images: Sequence[Tensor] | Tensor, boxes: list[Box], size: Shape3, distortion: Distortion
    ) -> tuple[Tensor, Tensor]:
        """What is to be restored, and the distorted view, each (B, C, *size), of each image's box."""
        with torch.no_grad(), torch.autocast(images[0].device.type, enabled=False):
            cuts = torch.stack([cut(exact(image), box, size) for image, box in zip(images, boxes, strict=True)])
            target = move(cuts, distortion)
            return target, spoil(target, distortion, self.settings)

    def features(self, view: Tensor) -> list[Features]:
        """Of views (B, C, H, W, D), at the three scales, the coarsest first."""
        found, features = [], self.encoder(view)[-1]
        for scale in self.decoder:
            found.append(scale(features))
            features = found[-1].map
        return found

    def restore(self, features: list[Features]) -> Tensor:
        """The view (B, C, H, W, D), from 0 to 1, that features were made of."""
        return self.output(features[-1].map).sigmoid()

    def show(self, images: Tensor, drawn: Choices) -> dict[str, Tensor]:
        boxes = [scan.first for scan in drawn.views]
        target, distorted = self.view(unit_range(images), boxes, self.settings.global_size, drawn.first)
        restored = self.restore(self.features(distorted))
        mean, deviation = target.mean((1, 2, 3, 4), keepdim=True), target.std((1, 2, 3, 4), keepdim=True)
        return {"original": target, "masked": distorted * deviation + mean, "restored": restored}  # in its greys


class Scale(nn.Module):
    """One step of the decoder, to twice the resolution and half the channels, and what is made of its features.

    Args:
        channels: c, of what it gives; it is given 2c.
        restored: C.
    """

    def __init__(self, channels: int, restored: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(2 * channels, 2 * channels, 2, 2)
        self.convolutions = double_convolution(2 * channels, channels, channels)
        self.norm = nn.BatchNorm1d(channels)
        self.predictor = nn.Sequential(
            nn.Linear(channels, 2 * channels),
            nn.BatchNorm1d(2 * channels),
            nn.ReLU(inplace=True),
            nn.Linear(2 * channels, channels),
        )
        self.side = nn.Sequential(nn.Conv3d(channels, restored, 3, padding=1), nn.BatchNorm3d(restored), nn.Sigmoid())

    def forward(self, features: Tensor) -> Features:
        features = self.convolutions(self.up(features))  # (B, 2c, h, w, d) -> (B, c, 2h, 2w, 2d)
        q = self.norm(features.mean((2, 3, 4)))
        return Features(q, self.predictor(q), features)


def agreement(one: Features, other: Features) -> Tensor:
    """C = -1/2 [cos(p_1, q_2) + cos(p_2, q_1)], mean over the batch, without a gradient through q; from -1 to 1."""
    forth = F.cosine_similarity(exact(one.p), exact(other.q).detach())
    back = F.cosine_similarity(exact(other.p), exact(one.q).detach())
    return -(forth.mean() + back.mean()) / 2


def part(features: Features, index: int, parts: int) -> Features:
    """The features of one of several views of the batch that went through together."""
    return Features(features.q.chunk(parts)[index], features.p.chunk(parts)[index], features.map.chunk(parts)[index])


def unit_range(images: Tensor) -> Tensor:
    """Images (B, C, H, W, D) with intensities from 0 to 1: as they are where they have that already.

    >>> unit_range(torch.tensor([0.2, 0.7, -1.0, 1.0]).view(2, 1, 1, 1, 2)).flatten().tolist()
    [0.2..., 0.69..., 0.0, 1.0]
    """
    low, high = images.amin((2, 3, 4), keepdim=True), images.amax((2, 3, 4), keepdim=True)
    within = (low >= -TOLERANCE) & (high <= 1 + TOLERANCE)
    return torch.where(within, images, (images - low) / (high - low).clamp_min(1e-6))


def side_weight(progress: float) -> float:
    """Of the coarser restoration: from 1 to 0 over the training, along half a cosine.

    >>> [round(side_weight(progress), 3) for progress in (0, 0.25, 0.5, 1)]
    [1.0, 0.854, 0.5, 0.0]
    """
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
