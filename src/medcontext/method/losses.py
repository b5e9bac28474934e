"""The losses (Gani et al., MICCAI 2024, equations 2 and 3), in 32-bit floating point whatever the autocast.

Letters: B batch, K classes, H W D volume, of images H W.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medcontext.errors import InputError
from medcontext.method.targets import Target

Logits = Tensor | Sequence[Tensor]


class Supervised(nn.Module):
    """A loss that looks at the labels before it takes them."""

    looked = False  # at the values of a label

    def check(self, logits: Tensor, label: Tensor, classes: int) -> None:
        """Refuse labels without a channel of their own, or with a value that is no class.

        On a GPU, where to look makes the processor wait, only the first call looks at values.
        """
        if label.dim() != logits.dim() or label.shape[1] != 1:
            raise InputError(f"Labels are (B, 1, H, W, D), integers 0 to K-1; got {tuple(label.shape)}.")
        if label.device.type == "cpu" or not self.looked:
            self.looked = True
            check_values(label, classes)


class DiceCE(Supervised):
    """Equation 3: soft Dice with squared denominator, on softmax probabilities, plus cross-entropy.

    MONAI's `DiceCELoss` with the settings of UNETR's published training. Sums run in float32: in half precision
    the Dice denominators of a 96^3 crop overflow.

    Args:
        include_background: whether the background counts as a structure in the Dice term.
    """

    def __init__(self, include_background: bool = True) -> None:
        from monai.losses import DiceCELoss

        super().__init__()
        self.loss = DiceCELoss(
            to_onehot_y=True,
            softmax=True,
            squared_pred=True,
            include_background=include_background,
            smooth_nr=0.0,
            smooth_dr=1e-6,
        )

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Loss of logits (B, K, H, W, D) against labels (B, 1, H, W, D) with values 0 to K-1; a scalar.

        Raises:
            InputError: if the labels have no channel, or a value that is no class; on a GPU only the first call looks
                at values, and later ones end in CUDA's assertion.
        """
        self.check(logits, label, logits.shape[1])
        with full_precision(logits.device):
            return self.loss(logits if logits.dtype == torch.float64 else logits.float(), label)


def check_values(label: Tensor, classes: int) -> None:
    """Refuse labels (integers, or such as floats) with other values than 0 to K-1.

    >>> check_values(torch.tensor([[0, 1, 4]]), 3)
    Traceback (most recent call last):
    medcontext.errors.InputError: The label has the values 0 to 4, and there are 3 classes, 0 to 2. ...
    """
    low, high = (int(value) for value in label.aminmax())
    if low < 0 or high >= classes:
        raise InputError(
            f"The label has the values {low} to {high}, and there are {classes} classes, 0 to {classes - 1}. "
            "Number the labels so, or build the network with as many outputs."
        )


class RegionDiceCE(Supervised):
    """Equation 3 for overlapping regions, each with a sigmoid of its own: soft Dice plus binary cross-entropy.

    Args:
        membership: (R, K) booleans, which class of the label belongs to which region.
    """

    membership: Tensor

    def __init__(self, membership: Tensor) -> None:
        from monai.losses import DiceLoss

        super().__init__()
        self.register_buffer("membership", membership, persistent=False)
        self.dice = DiceLoss(sigmoid=True, squared_pred=True, smooth_nr=0.0, smooth_dr=1e-6)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Loss of logits (B, R, H, W, D) against class labels (B, 1, H, W, D) with values 0 to K-1; a scalar.

        Raises:
            InputError: as `DiceCE`; -1 would count as the last class otherwise.
        """
        self.check(logits, label, self.membership.shape[1])
        with full_precision(logits.device):
            logits = logits if logits.dtype == torch.float64 else logits.float()
            inside = self.membership[:, label[:, 0].long()].movedim(0, 1).to(logits.dtype)  # (R, B, ...) -> (B, R, ...)
            return self.dice(logits, inside) + F.binary_cross_entropy_with_logits(logits, inside)


class TargetDiceCE(nn.Module):
    """Equation 3 for a `Target`: every voxel counts by its weight, and what is open is not taught away.

    Cross-entropy is the mean over the summed weights. A class that stays open at a voxel is not told from the
    voxel's target: both terms see `p_target + sum over the open of p` (the marginal loss) in the target's place, and
    nothing in the open class's. With labels alone it is equation 3.

    Args:
        regions: the outputs are regions, each with a sigmoid, instead of classes with a softmax.
    """

    def __init__(self, regions: bool = False) -> None:
        super().__init__()
        self.regions = regions

    def forward(self, logits: Tensor, target: Target) -> Tensor:
        """Loss of logits (B, K, H, W, D); a scalar, 0 where no voxel counts."""
        with full_precision(logits.device):
            logits = logits if logits.dtype == torch.float64 else logits.float()
            share, weight = target.share.to(logits.dtype), target.weight.to(logits.dtype)
            left = None if target.open is None else target.open.to(logits.dtype)
            if self.regions:
                probability = logits.sigmoid()
                entropy = F.binary_cross_entropy_with_logits(logits, share, reduction="none")
                counted = weight = weight if left is None else weight * (1 - left)  # (B, R, H, W, D)
            else:
                probability, logarithm = logits.softmax(1), logits.log_softmax(1)
                counted = weight  # (B, 1, H, W, D)
                if left is not None:
                    # The target's probability together with that of the classes left open there, (B, K, H, W, D).
                    others = (left * probability).sum(1, keepdim=True) - left * probability
                    logarithm = torch.where(others > 0, (probability + others).clamp_min(1e-12).log(), logarithm)
                    probability = probability + share * others
                    counted = weight * (1 - left)
                entropy = -(share * logarithm).sum(1, keepdim=True)
            weight = weight.expand_as(entropy)
            entropy = (weight * entropy).sum() / weight.sum().clamp_min(1e-6)
            overlap = (counted * probability * share).flatten(2).sum(2)  # (B, K)
            size = (counted * (probability.square() + share.square())).flatten(2).sum(2)
            dice = 1 - 2 * overlap / (size + 1e-6)
            return entropy + (dice * (size > 0)).mean()


class DeepSupervision(nn.Module):
    """Apply a loss to every output of a network, each against the label at that output's resolution.

    Weights halve from output to output and sum to one (nnU-Net, Isensee et al. 2021). A network with one output
    gets the loss unchanged. A list of labels is for a loss that does all this itself, such as nnU-Net's own.

    Args:
        loss: takes logits (B, K, ...) and labels (B, 1, ...), or a `Target`.
        weights: of the outputs, finest first; 0 spares one. Halving where nothing is said.
    """

    def __init__(self, loss: nn.Module, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.loss = loss
        self.weights = weights

    def forward(self, outputs: Any, label: Tensor | Target | Sequence[Tensor]) -> Tensor:
        if not isinstance(label, Tensor | Target):
            return self.loss(outputs, label)
        outputs = heads(outputs, axes=(label.share if isinstance(label, Target) else label).dim() - 2)
        weights = [0.5**level for level in range(len(outputs))] if self.weights is None else self.weights
        resize = Target.resized if isinstance(label, Target) else resize_label
        terms = [
            weight * self.loss(logits, resize(label, logits.shape[2:]))  # type: ignore[arg-type]
            for weight, logits in zip(weights, outputs, strict=True)
            if weight
        ]
        return torch.stack(terms).sum() / sum(weights)


def heads(outputs: Any, axes: int = 3) -> list[Tensor]:
    """A network's outputs as a list, the full-resolution one first.

    Networks with deep supervision return a list or tuple of (B, K, H_i, W_i, D_i), or, as MONAI's DynUNet does,
    one tensor (B, n, K, H, W, D).

    Args:
        outputs: of a network.
        axes: 3 for volumes, 2 for images.
    """
    if isinstance(outputs, Tensor):
        return list(outputs.unbind(1)) if outputs.dim() == axes + 3 else [outputs]
    return list(outputs)


def resize_label(label: Tensor, shape: Sequence[int]) -> Tensor:
    """Labels (B, 1, H, W, D) at another resolution, by nearest neighbour: no value is invented."""
    if tuple(label.shape[2:]) == tuple(shape):
        return label
    return F.interpolate(label.float(), size=tuple(shape), mode="nearest-exact").to(label.dtype)


def consistency(student: Tensor, teacher: Tensor, kind: Literal["paper", "reference"] = "paper") -> Tensor:
    """Agreement of the student's logits on the masked view with the teacher's on the whole one.

    Args:
        student: (B, K, H, W, D) logits.
        teacher: logits of the same shape; no gradient flows into them.
        kind: `paper` is equation 2, `||F_s - F_t||^2 / ||F_t||^2`, each sample normalised by itself, then
            averaged over samples. `reference` is what the official code computes: the mean squared error over
            the batch divided by the (not squared) norm of the whole batch's teacher logits.

    Example:
        >>> t = torch.tensor([[[3.0, 4.0]]])
        >>> consistency(torch.zeros_like(t), t).item(), consistency(torch.zeros_like(t), t, "reference").item()
        (1.0, 2.5)
    """
    with full_precision(student.device):
        if student.dtype != torch.float64:
            student, teacher = student.float(), teacher.float()
        teacher = teacher.detach()
        if kind == "reference":
            return F.mse_loss(student, teacher) / torch.linalg.vector_norm(teacher)
        difference = (student - teacher).flatten(1).square().sum(1)  # (B, K*H*W*D) -> (B,)
        size = teacher.flatten(1).square().sum(1).clamp_min(torch.finfo(teacher.dtype).tiny)
        return (difference / size).mean()


def full_precision(device: torch.device) -> AbstractContextManager:
    """No autocast; not asked for where a device knows none, for which torch refuses even to switch it off."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else nullcontext()
