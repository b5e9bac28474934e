"""The settings of the method: what is hidden, how the teacher follows, and what the student learns from."""

from dataclasses import dataclass, field, fields
from typing import Literal

from medcontext.errors import InputError
from medcontext.method import BoxMask, CubeMask, Momentum, TubeMask, Unlabelled


@dataclass(frozen=True)
class MaskSettings(TubeMask):
    """What is hidden from the student.

    The fields of a mask are `TubeMask`'s; here are those that say which mask, where, and what these mean to a training.
    What hides is the mask that it makes, see `made`.

    Args:
        patch_size: edge of a hidden patch in voxels of the prepared grid, one number or three (H, W, D).
        axis: the axis along which tubes run, 0 to 2 for H, W, D of the RAS-oriented volume.
        shape: `tube` hides the same patches in all slices along `axis`; `cube` draws in all three dimensions; `box`
            hides one box of patches.
        space: hide `voxels` of the input (any network) or `tokens` of its patch embedding (unetr, swin_unetr,
            nnformer).
        initial: start of the learnable embedding, `zeros` or `normal`.
    """

    shape: Literal["tube", "cube", "box"] = "tube"
    space: Literal["voxels", "tokens"] = "voxels"
    initial: Literal["zeros", "normal"] = "zeros"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.made()  # which refuses what it cannot have

    def made(self) -> CubeMask:
        """The mask, with all of its fields that are here."""
        kind = {"tube": TubeMask, "cube": CubeMask, "box": BoxMask}[self.shape]
        return kind(**{field.name: getattr(self, field.name) for field in fields(kind)})


@dataclass(frozen=True)
class TeacherSettings(Momentum):
    """How the teacher follows the student.

    The fields of a momentum are `Momentum`'s, with the default of a teacher that is to be asked; here are the others.

    Args:
        schedule: `cosine` is the paper's, `reference` what the official code does.
        update: after every optimizer `step`, or once per `epoch` as the official UNETR code does.
        crops_per_case: crops of each training case that make an epoch. The official UNETR code's step is one volume, of
            which it takes four crops: its epoch of 18 volumes is 18 steps.
        buffers: `copy` the student's batch norm statistics or `average` them.
    """

    momentum: float = 0.99
    momentum_end: float = 0.99
    schedule: Literal["cosine", "reference"] = "cosine"
    update: Literal["step", "epoch"] = "step"
    crops_per_case: int = 1
    buffers: Literal["copy", "average"] = "copy"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crops_per_case < 1:
            raise InputError(f"method.teacher.crops_per_case must be at least 1, got {self.crops_per_case}.")


@dataclass(frozen=True)
class MethodSettings:
    """MedContext itself; `--method paper|medcontext|reference|mean_teacher|none` sets all of these by name.

    Those from `masked_loss` to `clean` are the views of labelled scans alone, where no others take part.

    Args:
        name: what the run is called in tables.
        masking: whether there is a masked view at all; without it this is the plain baseline.
        masked_loss: whether the student also segments the masked view.
        consistency: equation 2 (`paper`), the official code's variant (`reference`), or `none`.
        target: the masked view must agree with the `teacher`, or with the `student`'s own whole view.
        beta: weight of the consistency.
        ramp_up: fraction of the steps over which beta rises to its value.
        fill: what fills the hidden tubes: the learnable `token`, or the `labelled` crop before it in the batch, with
            its labels; a batch of one is then seen as it is.
        place: where a labelled crop is cut that another is filled with, and that one: at about the `same` place of
            their scans, mirrored alike, so that organs stay among their neighbours; or `any`where.
        share: fraction of a batch's crops that get the masked view.
        clean: whether `all` crops are also seen as they are, or the `rest` that get no masked view.
        mask: what is hidden.
        teacher: how the teacher follows.
        unlabelled: how scans without labels join, where --unlabelled names some.
    """

    name: str = "medcontext"
    masking: bool = True
    masked_loss: bool = True
    consistency: Literal["paper", "reference", "none"] = "none"
    target: Literal["teacher", "student"] = "teacher"
    beta: float = 0.5
    ramp_up: float = 0.0
    fill: Literal["token", "labelled"] = "labelled"
    place: Literal["same", "any"] = "same"
    share: float = 0.5
    clean: Literal["all", "rest"] = "rest"
    mask: MaskSettings = field(default_factory=MaskSettings)
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    unlabelled: Unlabelled = field(default_factory=Unlabelled)

    @property
    def same_place(self) -> bool:
        """Whether labelled crops lie where those lie that they are filled with, if no other scans take part."""
        return self.masking and self.fill == "labelled" and self.place == "same"

    def told(self, with_scans: bool = False) -> str:
        """What becomes of labelled scans, or of these and scans without labels, in words.

        >>> MethodSettings().told()
        'tubes of 16 voxels, ratio 0.4, filled with other labelled crops, no consistency'
        """
        if with_scans:
            return self.told_with_scans()
        if not self.masking:
            return "no masked view, no consistency"
        momentum = f"{self.teacher.momentum:g} to {self.teacher.momentum_end:g}"
        teacher = f"teacher's momentum {momentum}" if self.target == "teacher" else "no teacher"
        beta = "no consistency" if self.consistency == "none" else f"beta {self.beta:g}, {teacher}"
        filled = ", filled with other labelled crops" if self.fill == "labelled" else ""
        return f"{self.mask.made().told()}{filled}, {beta}"

    def told_with_scans(self, mask: CubeMask | None = None) -> str:
        """What becomes of scans without labels, in words; with a mask that was fitted, where it was.

        >>> MethodSettings(unlabelled=Unlabelled(view="whole", start=0)).told_with_scans()
        "unlabelled scans as they are, target the teacher's answer (hard) from 0.5, weight 0.5, from 0% of the steps on"
        """
        rule, told = self.unlabelled, (mask or self.mask.made()).told()
        kinds = {
            "filled": f"labelled and unlabelled scans filled into one another, {told}",
            "masked": f"unlabelled scans masked, {told}",
            "whole": "unlabelled scans as they are",
        }
        aim = f"the teacher's answer ({rule.target}) from {rule.threshold:g}"
        aim = "equation 2" if rule.target == "consistency" else aim
        start = f"weight {rule.weight:g}, from {rule.start:.0%} of the steps on"
        return f"{kinds[rule.view]}, target {aim}, {start}"

    @property
    def step_cost(self) -> float:
        """Of a step without unlabelled scans, in plain steps: a backward pass counts as two forward ones.

        >>> from dataclasses import replace
        >>> paper = MethodSettings(fill="token", share=1, clean="all", consistency="paper")
        >>> paper.step_cost == 7 / 3, replace(paper, share=0.5, clean="rest").step_cost == 7 / 6
        (True, True)
        >>> replace(paper, consistency="none").step_cost, MethodSettings().step_cost
        (2.0, 1.0)
        """
        if not self.masking:
            return 1.0
        teacher = self.consistency != "none" and self.target == "teacher"  # sees whole what is masked
        whole = 1 - self.share * (self.clean == "rest")
        return (3 * whole + (3 + teacher) * self.share) / 3
