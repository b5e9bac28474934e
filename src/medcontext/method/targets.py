"""What a view is to be segmented as: by labels, by the teacher's answer, or by both, mixed by a mask.

Beyond the paper. The teacher's answer counts where it is sure (threshold), as in pseudo-labelling; it is mixed with
labels as in bidirectional copy-paste (Bai et al., CVPR 2023). What the teacher does not find yet is not taught away:
where it says nothing of a structure, that structure stays open, as in training on partially labelled scans (marginal
loss; Fang and Yan, IEEE TMI 2020).

Letters: B batch, K classes (or regions, which may overlap), H W D volume, of images H W.
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
        open: (B, K, H, W, D), 0 to 1: 1 where a voxel's target does not exclude the class; None where all do.
    """

    share: Tensor
    weight: Tensor
    open: Tensor | None = None

    def kept_open(self, known: Tensor) -> "Target":
        """The same, but a class is excluded by other classes' voxels only as far as it is known, (K,), 0 to 1."""
        if bool((known >= 1).all()):
            return self
        unknown = (1 - known).to(self.share).view(1, -1, *(1,) * (self.share.dim() - 2))
        return self._replace(open=(1 - self.share) * unknown)

    def filled(self, mask: Tensor, other: "Target") -> "Target":
        """This target, and within the mask (B, 1, H, W, D) the other's: the target of two scans mixed by it."""
        share, weight = torch.where(mask, other.share, self.share), torch.where(mask, other.weight, self.weight)
        if self.open is None and other.open is None:
            return Target(share, weight)
        none = share.new_zeros(())
        ours, theirs = (none if each is None else each for each in (self.open, other.open))
        return Target(share, weight, torch.where(mask, theirs, ours))

    def resized(self, shape: torch.Size) -> "Target":
        """At another resolution (H', W', D'), by nearest neighbour."""
        if self.share.shape[2:] == shape:
            return self

        def nearest(part: Tensor) -> Tensor:
            return F.interpolate(part, size=tuple(shape), mode="nearest-exact")

        return Target(nearest(self.share), nearest(self.weight), None if self.open is None else nearest(self.open))


def label_target(label: Tensor, classes: int, membership: Tensor | None = None, ignore: int | None = None) -> Target:
    """The target of labelled voxels: nothing is open, all counts alike.

    Args:
        label: (B, 1, H, W, D), integers 0 to K-1.
        classes: K.
        membership: (R, K) booleans, which class belongs to which region, where regions are segmented.
        ignore: the value of voxels of which nothing is known.

    Example:
        >>> label_target(torch.tensor([[[[[0, 2]]]]]), 3).share.flatten(2).tolist()
        [[[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]]
    """
    label = label.long()
    weight = torch.ones_like(label, dtype=torch.float32)
    if ignore is not None:
        weight, label = (label != ignore).float(), label.masked_fill(label == ignore, 0)
    if membership is None:
        share = _one_hot(label, classes)
    else:
        share = membership[:, label[:, 0]].movedim(0, 1).float()  # (R, B, H, W, D) -> (B, R, H, W, D)
    return Target(share, weight)


def region_target(label: Tensor, regions: int) -> Target:
    """The target of voxels that are labelled by a map for each region.

    Args:
        label: (B, R, H, W, D), 0 and 1 or booleans; one map more where the last one says of which voxels nothing is
            known, as nnU-Net's ignore label.
        regions: R.
    """
    share = label[:, :regions].float()
    unknown = label[:, regions:].float() if label.shape[1] > regions else torch.zeros_like(share[:, :1])
    return Target(share, 1 - unknown)


def teacher_target(logits: Tensor, *, threshold: float, soft: bool = False, regions: bool = False) -> Target:
    """The target of voxels that only the teacher has judged: weight 1 where it is sure, else 0.

    Args:
        logits: (B, K, H, W, D), the teacher's.
        threshold: voxels count where the teacher's class has at least this probability; of a region, where its
            presence or its absence has.
        soft: the teacher's probabilities instead of its class.
        regions: the outputs are regions, each with a sigmoid.

    Example:
        >>> logits = torch.tensor([[[[[4.0, 0.1]]], [[[0.0, 0.0]]]]])  # sure of class 0; undecided
        >>> target = teacher_target(logits, threshold=0.8)
        >>> target.weight.flatten().tolist()
        [1.0, 0.0]
        >>> target.kept_open(torch.tensor([1.0, 0.0])).open[0, :, 0, 0, 0].tolist()
        [0.0, 1.0]
    """
    logits = logits.detach().float()
    if regions:
        probability = logits.sigmoid()
        sure = torch.maximum(probability, 1 - probability) >= threshold  # (B, R, H, W, D)
        return Target(probability if soft else (probability > 0.5).float(), sure.float())
    probability = logits.softmax(1)
    best, index = probability.max(1, keepdim=True)  # (B, 1, H, W, D)
    return Target(probability if soft else _one_hot(index, logits.shape[1]), (best >= threshold).float())


def _one_hot(index: Tensor, classes: int) -> Tensor:
    """Class indices (B, 1, H, W, D) as (B, K, H, W, D)."""
    shape = (len(index), classes, *index.shape[2:])
    return torch.zeros(shape, device=index.device).scatter_(1, index, 1.0)
