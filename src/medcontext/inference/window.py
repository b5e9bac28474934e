"""Predicting a whole volume by a sliding window (MONAI's), with optional mirroring."""

from itertools import chain, combinations

import torch
import torch.nn.functional as F
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from medcontext.method.losses import heads
from medcontext.settings import WindowSettings

Shape3 = tuple[int, int, int]


@torch.no_grad()
def predict_volume(
    network: nn.Module, image: Tensor, crop_size: Shape3, settings: WindowSettings, background: tuple[float, ...]
) -> Tensor:
    """Probabilities of every class in a volume of any size.

    Windows are blended with Gaussian weights. A volume smaller than the window is padded as in training.

    Args:
        network: in evaluation mode, from (B, C, *crop_size) to logits (B, K, *crop_size).
        image: (C, H, W, D), prepared, on the network's device.
        crop_size: of the training.
        settings: overlap, mirroring, windows at once.
        background: the value to pad each channel with.

    Returns:
        (K, H, W, D), float32 on the CPU, summing to one over K.
    """
    size = image.shape[1:]
    missing = [max(0, window - extent) for window, extent in zip(crop_size, size, strict=True)]
    before = [extra // 2 for extra in missing]
    pads = [pad for extra, first in zip(missing, before, strict=True) for pad in (extra - first, first)][::-1]
    if any(pads):
        image = torch.stack([F.pad(channel, pads, value=v) for channel, v in zip(image, background, strict=True)])
    flips = mirrorings() if settings.mirror else [()]
    total = torch.zeros(())
    for axes in flips:
        logits = sliding_window_inference(
            image[None].flip(axes),
            crop_size,
            settings.batch_size,
            lambda windows: heads(network(windows))[0].float(),
            overlap=settings.overlap,
            mode="gaussian",
            device=torch.device("cpu"),
        )
        total = total + logits.softmax(1).flip(axes)[0]  # type: ignore[union-attr]
    inside = tuple(slice(first, first + extent) for first, extent in zip(before, size, strict=True))
    return total[(slice(None), *inside)] / len(flips)


def mirrorings() -> list[tuple[int, ...]]:
    """The axes of (B, C, H, W, D) to flip for each of the eight mirrored views, the plain one first.

    >>> len(mirrorings()), mirrorings()[:3]
    (8, [(), (2,), (3,)])
    """
    return list(chain.from_iterable(combinations((2, 3, 4), count) for count in range(4)))
