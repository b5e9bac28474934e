"""The views of one scan that PCRLv2 compares: two global boxes that overlap, and local ones near them.

Letters: C channels, H W D the scan.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from medcontext.errors import InputError
from medcontext.method.masking import Shape3
from medcontext.pretraining.settings import PCRLv2Settings

TRIES, ROUNDS = 1024, 1000  # pairs of boxes drawn at a time, and how often before it is given up


@dataclass(frozen=True)
class Box:
    """Voxels of a scan: from `start`, `size` of them along H, W and D."""

    start: Shape3
    size: Shape3


@dataclass(frozen=True)
class Views:
    """Of one scan."""

    first: Box
    second: Box
    local: tuple[Box, ...]


def draw_views(shape: Shape3, settings: PCRLv2Settings, generator: Generator) -> Views:
    """Boxes within a scan of `shape`; of pairs of global ones, all that overlap enough are equally likely.

    Raises:
        InputError: if the scan is smaller than a box, or boxes hardly ever overlap as much as they must.
    """
    for name, boxes in (("global_boxes", settings.global_boxes), ("local_boxes", settings.local_boxes)):
        largest = tuple(max(edges) for edges in zip(*boxes, strict=True))
        if any(edge > extent for edge, extent in zip(largest, shape, strict=True)):
            raise InputError(
                f"PCRLv2's views are cut from crops that hold each of its {name}: at least {largest}, got "
                f"{tuple(shape)}. Take larger crops or smaller boxes."
            )
    extent = torch.tensor(shape)
    first, second = _draw_pair(extent, settings, generator)
    low = torch.minimum(torch.tensor(first.start), torch.tensor(second.start)) - settings.margin
    high = torch.maximum(*(torch.tensor(box.start) + torch.tensor(box.size) for box in (first, second)))
    local = []
    for choice in torch.randint(len(settings.local_boxes), (settings.local_views,), generator=generator).tolist():
        size = torch.tensor(settings.local_boxes[choice])
        last = torch.minimum(high + settings.margin, extent - size)
        local.append(Box(_place(low.clamp(min=0).minimum(last), last, generator), settings.local_boxes[choice]))
    return Views(first, second, tuple(local))


def _draw_pair(extent: Tensor, settings: PCRLv2Settings, generator: Generator) -> tuple[Box, Box]:
    boxes = torch.tensor(settings.global_boxes)
    for _ in range(ROUNDS):
        size = boxes[torch.randint(len(boxes), (2, TRIES), generator=generator)]  # (2, TRIES, 3)
        room = extent - size + 1
        start = (torch.rand(size.shape, generator=generator, dtype=torch.float64) * room).long()
        good = (overlap(start, size) > settings.overlap).nonzero()
        if len(good):
            first, second = (
                Box(tuple(where[good[0, 0]].tolist()), tuple(edges[good[0, 0]].tolist()))
                for where, edges in zip(start, size, strict=True)
            )
            return first, second
    raise InputError(
        f"PCRLv2's global_boxes hardly ever overlap by more than pcrlv2.overlap, {settings.overlap:g}, in crops of "
        f"{tuple(extent.tolist())}. Give a smaller overlap, or smaller crops."
    )


def _place(low: Tensor, high: Tensor, generator: Generator) -> Shape3:
    """Whole numbers from `low` to `high`, both of which may be drawn."""
    drawn = torch.rand(3, generator=generator, dtype=torch.float64)
    h, w, d = (low + (drawn * (high - low + 1)).long()).tolist()
    return h, w, d


def overlap(start: Tensor, size: Tensor) -> Tensor:
    """Intersection over union of pairs of boxes, (2, n, 3) each, as (n,).

    Example:
        >>> overlap(torch.tensor([[[0, 0, 0]], [[2, 0, 0]]]), torch.tensor([[[4, 2, 2]], [[4, 2, 2]]]))
        tensor([0.3333])
    """
    end = start + size
    both = (end.amin(0) - start.amax(0)).clamp(min=0).prod(-1)
    return both / (size.prod(-1).sum(0) - both)


def cut(image: Tensor, box: Box, size: Shape3) -> Tensor:
    """A box of an image (C, H, W, D), resized to (C, *size) by linear interpolation."""
    inside = tuple(slice(start, start + edge) for start, edge in zip(box.start, box.size, strict=True))
    return F.interpolate(image[(slice(None), *inside)][None], size=size, mode="trilinear")[0]
