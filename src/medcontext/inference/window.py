"""Predicting a whole volume by a sliding window (MONAI's), with optional mirroring."""

from itertools import chain, combinations

import torch
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from medcontext.data.geometry import Shape3
from medcontext.method.losses import heads
from medcontext.settings import WindowSettings


@torch.no_grad()
def predict_volume(
    network: nn.Module,
    image: Tensor,
    crop_size: Shape3,
    settings: WindowSettings,
    background: tuple[float, ...],
    regions: bool = False,
) -> Tensor:
    """Probabilities of every class, or region, in a volume of any size.

    The logits of overlapping windows are blended with Gaussian weights, then comes the softmax, then the mean over
    the mirrored views. A volume smaller than the window is padded on both sides, as in training.

    Args:
        network: in evaluation mode, from (B, C, *crop_size) to logits (B, K, *crop_size).
        image: (C, H, W, D), prepared, on the network's device.
        crop_size: of the training.
        settings: overlap, mirroring, windows at once.
        background: the value to pad each channel with.
        regions: whether the outputs are overlapping regions, each with a sigmoid of its own.

    Returns:
        (K, H, W, D), float32 on the CPU; classes sum to one over K, regions do not. At most one more tensor of this
        size exists meanwhile, with mirroring.
    """
    padded, inside = pad(image, crop_size, background)

    def view(axes: tuple[int, ...]) -> Tensor:
        logits = sliding_window_inference(
            padded.flip(axes)[None],
            crop_size,
            settings.batch_size,
            lambda windows: heads(network(windows))[0].float(),
            overlap=settings.overlap,
            mode="gaussian",
            device=torch.device("cpu"),
        )
        return logits[0].sigmoid_() if regions else softmax_(logits[0])

    total = view(())
    if settings.mirror:
        for axes in mirrorings():
            add_mirrored_(total, view(axes), axes)
        total /= len(mirrorings()) + 1
    return total[inside]


def pad(image: Tensor, size: Shape3, values: tuple[float, ...]) -> tuple[Tensor, tuple[slice, ...]]:
    """Centre an image (C, H, W, D) in at least `size`, each channel filled with its value; and where it lies there.

    >>> padded, inside = pad(torch.ones(1, 1, 2, 5), (4, 2, 4), (-3.0,))
    >>> padded.shape, padded[0, :, 0, 0].tolist(), padded[inside].shape
    (torch.Size([1, 4, 2, 5]), [-3.0, 1.0, -3.0, -3.0], torch.Size([1, 1, 2, 5]))
    """
    shape = image.shape[1:]
    starts = [max(0, window - extent) // 2 for window, extent in zip(size, shape, strict=True)]
    inside = (slice(None), *(slice(start, start + extent) for start, extent in zip(starts, shape, strict=True)))
    larger = [max(pair) for pair in zip(size, shape, strict=True)]
    if larger == list(shape):
        return image, inside
    padded = image.new_empty(len(image), *larger)
    padded[:] = image.new_tensor(values)[:, None, None, None]
    padded[inside] = image
    return padded, inside


def softmax_(logits: Tensor) -> Tensor:
    """Softmax over the classes of (K, H, W, D), in place: logits of a whole scan take gigabytes."""
    logits -= logits.amax(0)
    logits.exp_()
    logits /= logits.sum(0)
    return logits


def add_mirrored_(total: Tensor, view: Tensor, axes: tuple[int, ...]) -> None:
    """Mirror a view (K, H, W, D) back and add it to the total, class by class to save memory."""
    for own, scores in zip(total, view, strict=True):
        own += scores.flip([axis - 1 for axis in axes])


def mirrorings() -> list[tuple[int, ...]]:
    """The axes of (C, H, W, D) to flip for each of the seven mirrored views.

    >>> mirrorings()
    [(1,), (2,), (3,), (1, 2), (1, 3), (2, 3), (1, 2, 3)]
    """
    return list(chain.from_iterable(combinations((1, 2, 3), count) for count in (1, 2, 3)))
