"""The rule by which scans without labels join the training. Beyond the paper; sources beside each choice.

Apart from what carries it out, so that reading settings does not import torch.
"""

import math
from dataclasses import dataclass
from typing import Literal

from medcontext.errors import InputError


@dataclass(frozen=True)
class Unlabelled:
    """The views of scans without labels, and what the teacher's answer on them is worth.

    Args:
        view: `filled`: parts of a labelled scan in an unlabelled one, or the reverse (equation 1 with another scan in
            the place of the token; as bidirectional copy-paste, Bai et al., CVPR 2023). `masked`: parts hidden by
            the token, the paper's view. `whole`: nothing hidden, a plain mean teacher. `none`: they cannot be used.
        share: how many unlabelled crops belong beside a batch of labelled ones, as a fraction of these, above 0 to 1.
        place: where `medcontext train` cuts their crops: at about the `same` place of the scan, by its size, as the
            labelled crop that they are filled with, so that organs stay among their neighbours; or `any`where.
        clean: of filled views, whether `all` labelled crops are also seen as they are, or only the `rest` that none is
            made of, which spares their cost.
        both: fill both ways, two views; otherwise one way or the other, drawn for each sample.
        target: the teacher's class where it is sure (`hard`), its probabilities there (`soft`), or equation 2 on all
            voxels (`consistency`; not of filled views).
        threshold: the teacher's probability from which it is sure, 0 to 1. A half takes in the borders, which a teacher
            is less sure of than of what lies inside: of a thin structure, that is most of it. Where there is but one
            structure, and of regions, it takes in every voxel.
        weight: of the teacher's voxels beside 1 for labelled ones (filled), or of the whole term (masked and whole).
        start: fraction of the steps, 0 to below 1, on labels alone: the teacher must first be worth asking.
        ramp_up: fraction of the steps over which the weight then rises along `exp(-5 (1 - t)^2)`.
        keep_open: a structure that the teacher does not find yet is not taught away, see `Found`.

    Raises:
        InputError: if a value is outside its range, or filled views are to agree by equation 2.
    """

    view: Literal["filled", "masked", "whole", "none"] = "filled"
    share: float = 0.5
    place: Literal["same", "any"] = "same"
    clean: Literal["all", "rest"] = "rest"
    both: bool = False
    target: Literal["hard", "soft", "consistency"] = "hard"
    threshold: float = 0.5
    weight: float = 0.5
    start: float = 0.25
    ramp_up: float = 0.0
    keep_open: bool = True

    def __post_init__(self) -> None:
        for name in ("threshold", "ramp_up"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"unlabelled.{name} must lie between 0 and 1, got {getattr(self, name)}.")
        if not 0 < self.share <= 1:
            raise InputError(f"unlabelled.share is a fraction of the batch, above 0 to 1; got {self.share}.")
        if not 0 <= self.start < 1:
            raise InputError(f"unlabelled.start is a fraction of the steps, 0 to below 1; got {self.start}.")
        if self.weight < 0:
            raise InputError(f"unlabelled.weight must be at least 0, got {self.weight}.")
        if self.view == "filled" and self.target == "consistency":
            raise InputError(
                "unlabelled.target consistency compares one scan's logits: it needs the view masked or whole; "
                "filled views take hard or soft."
            )

    def first_step(self, total: int) -> int:
        """The first of so many steps, counted from 1, in which they take part.

        >>> Unlabelled(start=0.25).first_step(100), Unlabelled(start=0).first_step(100)
        (26, 1)
        """
        return math.ceil(self.start * total) + 1
