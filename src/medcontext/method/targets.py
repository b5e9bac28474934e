"""What a view is to be segmented as: by labels, by the teacher's answer, or by both, mixed by a mask.

Beyond the paper. The teacher's answer counts where it is sure (threshold), as in pseudo-labelling; it is mixed with
labels as in bidirectional copy-paste (Bai et al., CVPR 2023). What the teacher does not find yet is not taught away:
where it says nothing of a structure, that structure stays open, as in training on partially labelled scans (marginal
loss; Fang and Yan, IEEE TMI 2020).

Letters: B batch, K classes (or regions, which may overlap), H W D volume.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Target(NamedTuple):
    """What every voxel is, how much that counts, and which classes are left open.

    Args:
        share: (B, K, H, W, D), 0 to 1: how much of a class a voxel is; of a hard target 0 or 1.
        weight: (B, K or 1, H, W, D), 0 or above; 0 where nothing is known.
        open: (B, K, H, W, D), 0 to 1: 1 where a voxel's target does not exclude the class.
    """

    share: Tensor
    weight: Tensor
    open: Tensor

    def filled(self, mask: Tensor, other: "Target") -> "Target":
        """This target, and within the mask (B, 1, H, W, D) the other's: the target of two scans mixed by it."""
        return Target(*(torch.where(mask, theirs, ours) for ours, theirs in zip(self, other, strict=True)))

    def resized(self, shape: torch.Size) -> "Target":
        """At another resolution (H', W', D'), by nearest neighbour."""
        if self.share.shape[2:] == shape:
            return self
        return Target(*(F.interpolate(part, size=tuple(shape), mode="nearest-exact") for part in self))


def label_target(label: Tensor, classes: int, membership: Tensor | None = None) -> Target:
    """The target of labelled voxels: nothing is open, all counts alike.

    Args:
        label: (B, 1, H, W, D), integers 0 to K-1.
        classes: K.
        membership: (R, K) booleans, which class belongs to which region, where regions are segmented.

    Example:
        >>> label_target(torch.tensor([[[[[0, 2]]]]]), 3).share.flatten(2).tolist()
        [[[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]]
    """
    label = label[:, 0].long()
    if membership is None:
        share = F.one_hot(label, classes).movedim(-1, 1).float()  # (B, H, W, D) -> (B, K, H, W, D)
    else:
        share = membership[:, label].movedim(0, 1).float()  # (R, B, H, W, D) -> (B, R, H, W, D)
    return Target(share, torch.ones_like(share[:, :1]), torch.zeros_like(share))


def teacher_target(
    logits: Tensor, *, threshold: float, weight: float, known: Tensor, soft: bool = False, regions: bool = False
) -> Target:
    """The target of voxels that only the teacher has judged.

    Args:
        logits: (B, K, H, W, D), the teacher's.
        threshold: voxels count where the teacher's class has at least this probability; of a region, where its
            presence or its absence has.
        weight: of those that count, beside 1 for a labelled voxel.
        known: (K,), 0 to 1: how much of each class the teacher finds, see `Found.known`. At 0 the class stays open.
        soft: the teacher's probabilities instead of its class.
        regions: the outputs are regions, each with a sigmoid.

    Example:
        >>> logits = torch.tensor([[[[[4.0, 0.1]]], [[[0.0, 0.0]]]]])  # sure of class 0; undecided
        >>> target = teacher_target(logits, threshold=0.8, weight=0.5, known=torch.tensor([1.0, 0.0]))
        >>> target.weight.flatten().tolist(), target.open[0, :, 0, 0, 0].tolist()
        ([0.5, 0.0], [0.0, 1.0])
    """
    logits = logits.detach().float()
    unknown = (1 - known).to(logits).view(1, -1, 1, 1, 1)
    if regions:
        probability = logits.sigmoid()
        share = (probability > 0.5).float()
        sure = torch.maximum(probability, 1 - probability) >= threshold  # (B, R, H, W, D)
    else:
        probability = logits.softmax(1)
        best, index = probability.max(1, keepdim=True)
        share = torch.zeros_like(probability).scatter_(1, index, 1.0)
        sure = best >= threshold  # (B, 1, H, W, D)
    return Target(probability if soft else share, weight * sure.float(), (1 - share) * unknown)
