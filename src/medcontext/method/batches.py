"""Batches taken apart and put together: which crops get which view, labels and outputs that may be lists.

Letters: B batch, C channels, K classes, H W D volume, of images H W.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from medcontext.errors import InputError
from medcontext.method.losses import heads, resize_label
from medcontext.method.targets import Target

Label = Tensor | Sequence[Tensor]
"""(B, 1, H, W, D), integers 0 to K-1; or whatever the supervised loss takes, a tensor for each output, finest first."""


def clean_crops(batch: int, second: int, clean: str, share: float) -> int:
    """How many of a batch's crops are seen as they are, the first ones, where so many get a second view.

    A batch too small to be shared is seen whole: with a share below 1 some labelled crop is always seen as it is.

    >>> clean_crops(4, 2, "rest", 0.5), clean_crops(1, 1, "rest", 0.5), clean_crops(4, 4, "rest", 1.0)
    (2, 1, 0)
    """
    rest = batch - second
    return rest if clean == "rest" and (rest or share == 1) else batch


def first_head(outputs: Any, image: Tensor) -> Tensor:
    """The full-resolution output of a network for a volume (B, C, H, W, D) or an image (B, C, H, W).

    Raises:
        InputError: if it has not the image's size.
    """
    finest = heads(outputs, axes=image.dim() - 2)[0]
    if finest.shape[2:] != image.shape[2:]:
        raise InputError(
            f"The network's (first) output must have the image's size {tuple(image.shape[2:])}, got "
            f"{tuple(finest.shape[2:])}."
        )
    return finest


def plain(tensor: Any) -> Any:
    """A tensor without what its kind adds, such as MONAI's MetaTensor, and so would every loss and gradient."""
    return tensor.as_subclass(Tensor) if isinstance(tensor, Tensor) else tensor


def crops(label: Label, which: slice) -> Label:
    """The labels of some of a batch's crops."""
    return label[which] if isinstance(label, Tensor) else [each[which] for each in label]


def finest(label: Label) -> Tensor:
    """The label at full resolution."""
    return label if isinstance(label, Tensor) else label[0]


def parted(outputs: Any, first: int) -> tuple[Any, Any]:
    """A network's outputs, of any number of heads, for the first crops of a batch and for the others."""
    if isinstance(outputs, Tensor):
        return outputs[:first], outputs[first:]
    parts = [parted(each, first) for each in outputs]
    return [clean for clean, _ in parts], [other for _, other in parts]


def some(batch: int, share: float) -> int:
    """How many crops a share of a batch is, at least one."""
    return max(1, round(share * batch))


def reach(batch: int, filled: int) -> int:
    """How many crops before a filled one lies the one that it is filled with; before the first one comes the last.

    Each of the last crops is filled with one that is seen as it is, where there are as many of those.

    >>> reach(2, 1), reach(8, 4), reach(3, 2), reach(3, 3)
    (1, 4, 1, 1)
    """
    return filled if 2 * filled <= batch else 1


def before(crops: Tensor, mask: Tensor) -> Tensor:
    """A batch's last crops, each with a crop before it in its tubes, see `reach`.

    Args:
        crops: (B, ...).
        mask: (N, 1, H, W, D) booleans, N at most B: where the crop before shows.

    >>> before(torch.tensor([[1, 1], [2, 2], [3, 3]]), torch.tensor([[True, False]]))
    tensor([[2, 3]])
    """
    number = len(mask)
    return torch.where(mask, crops.roll(reach(len(crops), number), 0)[-number:], crops[-number:])


def labels_before(label: Label, mask: Tensor) -> Label:
    """The same of labels; of a coarser one the voxels that nearest neighbours, as nnU-Net takes them, make it of."""
    if isinstance(label, Tensor):
        return before(label, mask)
    return [before(each, resize_label(mask, each.shape[2:])) for each in label]


def shares_of(target: Target) -> Tensor:
    """(K,): the share of each class (or region) among the voxels that a target knows."""
    weight = target.weight.expand_as(target.share)
    volume = (0, *range(2, weight.dim()))
    return (weight * target.share).sum(volume) / weight.sum(volume).clamp_min(1)
