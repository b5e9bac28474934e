"""The terms of a step's loss."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Losses(NamedTuple):
    """The terms of a step, each a scalar; a term that is switched off is zero.

    `loss` is their weighted sum. Equation 4 has the first three that follow; `unlabelled` is that of the views with
    scans without labels, filled ones with the labelled voxels in them.
    """

    loss: Tensor
    whole: Tensor
    masked: Tensor
    consistency: Tensor
    unlabelled: Tensor

    def detach(self) -> "Losses":
        return Losses(*(term.detach() for term in self))

    @classmethod
    def of(cls, loss: Tensor, **terms: Tensor) -> "Losses":
        """One view's terms; those that are not named are zero."""
        zero = torch.zeros_like(loss.detach())
        return cls(loss, *(terms.get(name, zero) for name in cls._fields[1:]))

    @classmethod
    def sum(cls, views: "Sequence[Losses]") -> "Losses":
        """The terms of several views together."""
        return cls(*(functools.reduce(torch.add, terms) for terms in zip(*views, strict=True)))
