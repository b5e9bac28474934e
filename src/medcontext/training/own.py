"""What a user brings by its import path: a loss, and a transform of training crops."""

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from monai.utils import convert_to_tensor
from torch import Tensor, nn

from medcontext.data.geometry import Shape3
from medcontext.errors import InputError, first_line
from medcontext.networks import find_own


class OwnLoss(nn.Module):
    """A loss of the user's, in 32-bit floating point whatever the autocast, as ours are.

    Args:
        loss: from logits (B, K, H, W, D) and labels (B, 1, H, W, D) to a scalar.
    """

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            return self.loss(logits if logits.dtype == torch.float64 else logits.float(), label.long())


def make_loss(name: str, args: dict[str, Any], outputs: int, classes: int) -> nn.Module | None:
    """The supervised loss that the settings name; None for equation 3.

    Args:
        name: of the settings.
        args: of its constructor.
        outputs: of the network.
        classes: that a label may have; the outputs unless these are regions.

    Raises:
        InputError: if it cannot be made, or does not answer two small volumes with a number that has a gradient.
    """
    if name == "dice_ce":
        return None
    logits = torch.linspace(-1, 1, 2 * outputs * 4**3).reshape(2, outputs, 4, 4, 4).requires_grad_()
    label = torch.arange(2 * 4**3).reshape(2, 1, 4, 4, 4) % classes
    try:
        loss = OwnLoss(find_own("Loss", name)(**args))
        value = loss(logits, label)
        value.backward()
    except InputError:
        raise
    except Exception as error:  # a user's loss may raise anything
        raise InputError(
            f"Loss '{name}' with --loss_args {args} cannot be used: {first_line(error)}. It is made of its arguments, "
            f"and then called with logits (B, {outputs}, H, W, D) and labels (B, 1, H, W, D) of 0 to {classes - 1}; "
            "it must give one number that has a gradient."
        ) from error
    if not value.isfinite() or logits.grad is None:
        raise InputError(f"Loss '{name}' gives {value.item()} with{'out' * (logits.grad is None)} a gradient.")
    return loss


class OwnTransform:
    """A transform of the user's, of one crop; the same seed gives the same result, whatever it draws from.

    A transform with MONAI's `set_random_state` gets the seed that way; any other may draw from the random states of
    torch, numpy and Python, which are seeded for it and then put back.

    Args:
        name: for errors.
        transform: from a dictionary with `image` (C, H, W, D) and `label` (1, H, W, D) to one, as MONAI's are.
        classes: that a label may have.
    """

    def __init__(self, name: str, transform: Callable[[dict[str, Tensor]], Any], classes: int) -> None:
        self.name, self.transform, self.classes = name, transform, classes

    def __call__(self, image: Tensor, label: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """A new image and label, of the same shapes and types.

        Raises:
            InputError: if it gives something else.
        """
        with isolate_rng(include_cuda=image.is_cuda):
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002 (others' transforms draw from it)
            torch.manual_seed(seed)
            if hasattr(self.transform, "set_random_state"):
                self.transform.set_random_state(seed=seed)
            given = self.transform({"image": image.clone(), "label": label.clone()})
        if not isinstance(given, Mapping) or not {"image", "label"} <= given.keys():
            raise self._problem(f"gives {type(given).__name__}, not a dictionary with image and label")
        changed, labels = convert_to_tensor(given["image"]), convert_to_tensor(given["label"])
        for key, before, after in (("image", image, changed), ("label", label, labels)):
            if after.shape != before.shape:
                raise self._problem(f"changes the {key}'s shape, {tuple(before.shape)} to {tuple(after.shape)}")
        if not (labels == labels.round()).all() or labels.min() < 0 or labels.max() >= self.classes:
            raise self._problem(
                f"gives labels from {labels.min().item():g} to {labels.max().item():g} that are not all classes, whole "
                f"numbers from 0 to {self.classes - 1}; a label is interpolated by its nearest voxel"
            )
        return changed.to(image), labels.to(label)

    def _problem(self, text: str) -> InputError:
        return InputError(f"Transform '{self.name}' {text}.")


def make_transform(
    name: str, args: dict[str, Any], channels: int, crop_size: Shape3, classes: int
) -> OwnTransform | None:
    """The transform that the settings name; None for none.

    Args:
        name: of the settings.
        args: of its constructor.
        channels: of the image.
        crop_size: (H, W, D).
        classes: that a label may have.

    Raises:
        InputError: if it cannot be made, or does not vary a crop and its label as it must.
    """
    if not name:
        return None
    image = torch.linspace(-1, 1, channels * crop_size[0] * crop_size[1] * crop_size[2]).reshape(channels, *crop_size)
    label = (torch.arange(image[0].numel()) % classes).reshape(1, *crop_size)
    try:
        transform = OwnTransform(name, find_own("Transform", name)(**args), classes)
        transform(image, label, seed=0)
    except InputError:
        raise
    except Exception as error:  # a user's transform may raise anything
        raise InputError(
            f"Transform '{name}' with --augment.transform_args {args} cannot be used: {first_line(error)}. It is made "
            f"of its arguments, and then called with a dictionary: image {tuple(image.shape)} and label "
            f"{tuple(label.shape)} of classes 0 to {classes - 1}; it must give one with the same shapes."
        ) from error
    return transform
