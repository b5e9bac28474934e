"""The arms of `study.py`: ways to spend the same hours."""

import re
from dataclasses import dataclass, field, replace
from typing import Any

from medcontext.pretrain_settings import OBJECTIVES
from medcontext.settings import STRONG


@dataclass(frozen=True)
class Arm:
    """One way to spend the hours.

    Args:
        method: a name, as `--method` takes it.
        changes: settings that differ from the method's, and from those of all arms.
        unlabelled: whether the scans without labels take part.
        more: parts of the study, `Parts.development` or `Parts.report`, whose images take part, too, without labels.
        cost: in units of the baseline's.
        all_labels: the scans without labels have theirs after all: the ceiling of what they can bring at this cost.
        retrain: half of the cost trains on the labels, the other half anew on these and on the first network's
            predictions of the scans without labels.
        pretrain: the objective by which half of the cost pretrains the encoder, on the images of all training cases;
            the other half starts from that.
        on_top: the pretraining costs nothing: as many steps follow it as an arm without it has.
        one_piece_of: the arm whose trainings predict here once more, and of structures that are one piece in all of
            their labels drop what lies far from the largest component.
    """

    method: str = "none"
    changes: dict[str, Any] = field(default_factory=dict)
    unlabelled: bool = False
    more: tuple[str, ...] = ()
    cost: float = 1.0
    retrain: bool = False
    all_labels: bool = False
    pretrain: str = ""
    on_top: bool = False
    one_piece_of: str = ""

    @property
    def labels_alone(self) -> bool:
        """Whether no other scan takes part, in whatever way."""
        return not (self.unlabelled or self.more or self.all_labels or self.retrain or self.pretrain)


def without_length(name: str) -> str:
    """An arm's name without its length.

    >>> without_length("baseline four times"), without_length("simmim on top")
    ('baseline', 'simmim on top')
    """
    return re.sub(",? (twice|four times)$", "", name)


def ours(**changes: Any) -> Arm:
    """The default with scans without labels, where settings of these differ."""
    return Arm("medcontext", {f"method.unlabelled.{name}": value for name, value in changes.items()}, unlabelled=True)


def shaped(shape: str, **changes: Any) -> Arm:
    """The same, where what is filled has another shape; patches of 8 voxels divide every study's crop."""
    values = {f"method.mask.{name}": value for name, value in {"shape": shape, "patch_size": 8, **changes}.items()}
    return Arm("medcontext", values, unlabelled=True)


def pretrained(objective: str, on_top: bool = False) -> dict[str, Arm]:
    """A plain training, and MedContext, that start from a pretraining; they share it."""
    name = f"{objective} on top" if on_top else objective
    return {
        name: Arm(pretrain=objective, on_top=on_top),
        f"{name}, medcontext": Arm("medcontext", unlabelled=True, pretrain=objective, on_top=on_top),
    }


SURE = ours(threshold=0.8)
BEFORE = {  # with the threshold that was the default until 27 November 2026
    "threshold 0.8": SURE,
    "threshold 0.8 four times": replace(SURE, cost=4.0),
    "threshold 0.8, more scans, four times": replace(SURE, more=("development",), cost=4.0),
    "threshold 0.8, test scans too": replace(SURE, more=("report",)),
    "threshold 0.8, test scans too, four times": replace(SURE, more=("report",), cost=4.0),
    "threshold 0.8, any place": ours(threshold=0.8, place="any"),
    "threshold 0.8, any place, twice": replace(ours(threshold=0.8, place="any"), cost=2.0),
}
RECIPES = {  # ways to make the baseline stronger at its cost, for cases to choose settings on
    "rate 3e-3": Arm(changes={"optimizer.lr": 3e-3}),
    "rate 3e-4": Arm(changes={"optimizer.lr": 3e-4}),
    "batch 4": Arm(changes={"batch_size": 4}),
    "foreground 0.9": Arm(changes={"foreground": 0.9}),
    "strong intensities": Arm(
        changes={
            f"augment.{name}{end}": getattr(STRONG, name + end)  # as a student sees scans without labels
            for name in ("brightness", "contrast", "gamma")
            for end in ("_probability", "")
        }
    ),
    "wider": Arm(changes={"network_args.channels": (24, 48, 96, 192)}),
    "dice of the batch": Arm(
        changes={
            "loss": "monai.losses.DiceCELoss",
            "loss_args": {
                **dict.fromkeys(("to_onehot_y", "softmax", "squared_pred", "batch"), True),
                "smooth_nr": 0.0,
                "smooth_dr": 1e-6,
            },
        }
    ),
}
HALF = {"method.share": 0.5, "method.clean": "rest", "method.fill": "token", "method.consistency": "paper"}
MIXED = {**HALF, "method.fill": "labelled", "method.consistency": "none"}
ARMS = {
    "baseline": Arm(),
    "baseline twice": Arm(cost=2.0),
    "baseline four times": Arm(cost=4.0),
    **RECIPES,
    "equation 4": Arm("paper", {"method.teacher.warmup": True}),
    "equation 4, half": Arm("medcontext", HALF),
    "labelled in labelled": Arm("medcontext", {**HALF, "method.fill": "labelled"}),
    "masked half": Arm("medcontext", {**HALF, "method.consistency": "none"}),
    "labelled in labelled, no teacher": Arm("medcontext", MIXED),  # the default without scans without labels
    "labelled in labelled, any place": Arm("medcontext", {**MIXED, "method.place": "any"}),
    "retrain": Arm(retrain=True),
    "retrain four times": Arm(retrain=True, cost=4.0),
    "all labels": Arm(all_labels=True),
    "mean teacher": Arm("mean_teacher", unlabelled=True),
    "masked": ours(view="masked"),
    "masked, equation 2": ours(view="masked", target="consistency"),
    "medcontext": ours(),
    "medcontext twice": Arm("medcontext", unlabelled=True, cost=2.0),
    "medcontext four times": Arm("medcontext", unlabelled=True, cost=4.0),
    "medcontext, more scans": Arm("medcontext", unlabelled=True, more=("development",)),
    "medcontext, more scans, four times": Arm("medcontext", unlabelled=True, more=("development",), cost=4.0),
    "medcontext, test scans too": Arm("medcontext", unlabelled=True, more=("report",)),
    "medcontext, test scans too, four times": Arm("medcontext", unlabelled=True, more=("report",), cost=4.0),
    "any place": ours(place="any"),
    "not kept open": ours(keep_open=False),
    "no start": ours(start=0),
    "clean pass": ours(clean="all"),
    "every crop filled": ours(share=1),
    "every crop filled, both ways": ours(share=1, both=True),
    **BEFORE,
    "threshold 0.95": ours(threshold=0.95),
    "weight 1": ours(weight=1),
    "weight 1 four times": replace(ours(weight=1), cost=4.0),
    "soft": ours(target="soft"),
    "cubes": shaped("cube"),
    "tubes of 8": shaped("tube"),
    "box": shaped("box", ratio=0.3),  # two thirds of each axis
    "box, 0.44": shaped("box", ratio=0.44),  # of a crop that is as thin as a patch
    "ratio 0.2": shaped("tube", patch_size=16, ratio=0.2),
    "ratio 0.5": shaped("tube", patch_size=16, ratio=0.5),
    "threshold 0.6": ours(threshold=0.6),
    "momentum 0.999": Arm(
        "medcontext", {"method.teacher.momentum": 0.999, "method.teacher.momentum_end": 0.999}, unlabelled=True
    ),
    **{
        name: arm
        for on_top in (False, True)
        for objective in OBJECTIVES
        for name, arm in pretrained(objective, on_top).items()
    },
}

ARMS |= {
    f"{name}, one piece": replace(ARMS[name], one_piece_of=name)
    for name in ("baseline", "medcontext", "labelled in labelled, no teacher")
}
PEERS = {f"nnunet {configuration}": f"stock nnU-Net v2, {configuration}" for configuration in ("2d", "3d_fullres")}
"""Trained by `benchmarks/nnunet_peer.py`, and shown here."""
