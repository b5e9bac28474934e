"""What the teacher finds in scans without labels, and what becomes of its answers."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from medcontext.method.targets import Target

MOMENTUM = 0.99  # of the running shares
ENOUGH = 0.7  # of the expected share, from which a class counts as found: scans differ


class Found:
    """How much of each class the teacher finds, beside what the labels lead one to expect.

    A young teacher is sure that thin structures are background. Its answer would teach them away for good; so the
    share of each class among its answers is followed, and a class that it finds too rarely stays open.

    Args:
        expected: (K,), the share of each class among the voxels of a labelled scan; None to learn it from the
            labelled crops, which show more of the structures than scans do where crops are centred on them.
        background: whether class 0 is the background, which always counts as found.
    """

    def __init__(self, expected: Tensor | None = None, background: bool = True) -> None:
        self.expected = expected
        self.background = background
        self.seen: dict[str, Tensor] = {}
        self.updates = 0

    def update(self, teacher: Tensor, labels: Tensor) -> Tensor:
        """Count a step's answers, and say what is known: (K,), 0 for a class not found to 1 for one found enough.

        Args:
            teacher: (K,), the share of each class in the teacher's answers.
            labels: (K,), the same in the step's labels; not used where `expected` was given.
        """
        self.updates += 1
        for key, share in (("teacher", teacher), ("labels", labels)):
            before = self.seen.get(key, torch.zeros_like(share)).to(share)
            self.seen[key] = MOMENTUM * before + (1 - MOMENTUM) * share
        return self.known()

    def known(self) -> Tensor:
        """(K,), from the answers counted so far."""
        found = self.seen["teacher"] / (1 - MOMENTUM**self.updates)
        expected = self.seen["labels"] / (1 - MOMENTUM**self.updates)
        if self.expected is not None:
            expected = self.expected.to(found)
        known = (found / (ENOUGH * expected).clamp_min(1e-12)).clamp(0, 1)
        if self.background:
            known[0] = 1
        return known

    @property
    def mean(self) -> float:
        """How much of the structures is known, on average, 0 to 1."""
        return float(structures_mean(self.known(), self.background)) if self.updates else 0.0

    def state(self) -> dict[str, Any]:
        """What a resumed training needs."""
        return {"updates": self.updates, **{key: share.cpu() for key, share in self.seen.items()}}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        self.updates = state["updates"]
        self.seen = {key: state[key] for key in ("teacher", "labels") if key in state}


class Trust(NamedTuple):
    """What became of the teacher's answers in one step; for curves.

    Args:
        share: of the unlabelled voxels, those that count.
        sure: (K,), of the voxels that the teacher gives a class (or region), those that count; NaN of none.
        agreement: (K,), of those that count, where the student says the same; NaN of none.
        known: (K,), how much of each class the teacher finds.
    """

    share: Tensor
    sure: Tensor
    agreement: Tensor
    known: Tensor

    @classmethod
    def of(cls, logits: Tensor, target: Target, theirs: Tensor, regions: bool, known: Tensor) -> "Trust":
        """Compare the student's logits (M, K, H, W, D) with the target on the scan's voxels, (M, 1, H, W, D)."""
        said = (target.share > 0.5) & theirs  # (M, K, H, W, D)
        sure = said & (target.weight > 0)
        if regions:
            same = logits > 0
        else:
            same = logits.max(1, keepdim=True).indices == target.share.max(1, keepdim=True).indices
        volume = (0, *range(2, logits.dim()))
        return cls(
            share=((target.weight > 0) & theirs).float().sum() / (target.weight.shape[1] * theirs.sum().clamp_min(1)),
            sure=sure.sum(volume) / said.sum(volume),
            agreement=(sure & same).sum(volume) / sure.sum(volume),
            known=known,
        )


def structures_mean(values: Tensor, background: bool) -> Tensor:
    """The mean of (K,) over the structures that have one: without class 0, where that is the background."""
    return values[int(background) :].nanmean()
