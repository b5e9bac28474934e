"""The data sets of `study.py`: which cases are labelled, not, and reported; the sizes of their trainings."""

import random
import sys
from dataclasses import dataclass, field, replace
from typing import Any

from medcontext.data.cases import patient
from medcontext.data.known import KNOWN

TWINS = KNOWN["acdc"].twins
FIVE_FRAMES = (
    "patient001_frame12",
    "patient004_frame15",
    "patient005_frame01",
    "patient013_frame14",
    "patient043_frame07",
)


@dataclass(frozen=True)
class Parts:
    """Names of cases: with labels, without, to choose settings on, and to report."""

    train: list[str]
    rest: list[str]
    development: list[str]
    report: list[str]


@dataclass(frozen=True)
class Study:
    """One data set.

    Args:
        title: of the report.
        steps: of the baseline.
        common: settings of all arms.
        masked: settings of the arms that hide something.
        train: the labelled cases; None for the first five patients.
        counts: patients without labels, and to choose settings on; all others are reported.
        mixed: whether patients are shuffled before they are counted, where their order means something.
        tested: by turns, where there are several, the patients reported in each, of all that have no labels; the first
            of the others take part in training, as many as `counts` has, or all where it has none.
        development: the cases to choose settings on, where all others have no labels and none is reported.
        reported: whether those that are left after the counts are tested, too.
        pretraining: settings of the arms that pretrain.
    """

    title: str
    steps: int
    common: dict[str, Any]
    masked: dict[str, Any]
    train: tuple[str, ...] | None = None
    counts: tuple[int, int] = (0, 0)
    mixed: bool = False
    tested: tuple[slice, ...] = ()
    development: tuple[str, ...] = ()
    reported: bool = True
    pretraining: dict[str, Any] = field(default_factory=dict)

    @property
    def turns(self) -> int:
        return len(self.tested) or 1

    def parts(self, names: list[str], turn: int) -> Parts:
        """Which case does what, by patient."""
        chosen = set(self.train or sorted(names)[:5])
        if gone := sorted(chosen - set(names)):
            sys.exit(f"The study's labelled cases {', '.join(gone)} are not in the data set.")
        seen = {patient(name) for name in chosen}
        others = sorted({patient(name) for name in names} - seen)
        if self.mixed:
            random.Random(0).shuffle(others)
        if self.development:
            groups = [[p for p in others if p not in self.development], list(self.development), []]
        elif self.tested:
            reported = others[self.tested[turn]]
            left = [p for p in others if p not in reported]
            groups = [left[: self.counts[0] or None], [], reported]
        else:
            rest, development = self.counts
            tested = others[rest + development :] if self.reported else []
            groups = [others[:rest], others[rest : rest + development], tested]
        held = {*groups[1], *groups[2]}
        groups[0] = [p for p in groups[0] if TWINS.get(p) not in held]
        return Parts(sorted(chosen), *([name for name in names if patient(name) in set(group)] for group in groups))


PLAIN = {"network_args.num_res_units": 0}  # half the cost of a step; thin organs need the residual units
TURNED = {  # in the plane alone, where slices are thick, and more than the default does
    "augment.rotation": (0, 0, 30),
    "augment.scale": (0.7, 1.4),
    "augment.affine_probability": 0.8,
}
EACH_ONCE = (slice(1, None, 2), slice(0, None, 2))
PAPER_FIVE = ("img0006", "img0007", "img0009", "img0010", "img0021")
ABDOMEN: dict[str, Any] = {
    "prepare.spacing": (4, 4, 4),
    "prepare.intensity_range": (-175, 250),
    "crop_size": (48, 48, 48),
}
ACDC = Study(
    "Cardiac cine MRI, the training part of ACDC at half its in-plane resolution, 3 structures (the spacing is "
    "unknown: HD95 is in units of the header)",
    4000,
    {**PLAIN, **TURNED, "prepare.spacing": (2, 2, 1), "crop_size": (96, 96, 8)},
    {"method.mask.patch_size": 16},
    train=FIVE_FRAMES,
    counts=(25, 20),
)
STUDIES = {
    "acdc": ACDC,
    "acdc_development": replace(ACDC, title=f"{ACDC.title}: to choose settings on", reported=False),
    "acdc_mixed": replace(ACDC, title=f"{ACDC.title}, patients of all diagnoses in each part, by chance", mixed=True),
    "acdc_three": replace(ACDC, train=FIVE_FRAMES[:3], counts=(27, 20)),  # the same patients are reported
    "acdc_seven": replace(ACDC, train=(*FIVE_FRAMES, "patient006_frame01", "patient007_frame07"), counts=(23, 20)),
    "btcv": Study(
        "Abdominal CT, the training part of BTCV at 4 mm, 13 organs",
        2500,
        ABDOMEN,
        {"method.mask.patch_size": 8},
        train=PAPER_FIVE,
        tested=EACH_ONCE,
    ),
    "btcv_development": Study(
        "Abdominal CT, the training part of BTCV at 4 mm, 13 organs: to choose settings on",
        2500,
        ABDOMEN,
        {"method.mask.patch_size": 8},
        train=("img0005", "img0023", "img0026", "img0028", "img0031"),
        development=PAPER_FIVE,
    ),
    "hippocampus": Study(
        "Hippocampus MRI, Medical Segmentation Decathlon Task04, 2 structures",
        1000,
        {**PLAIN, "crop_size": (40, 56, 40)},
        {"method.mask.patch_size": 8},
        counts=(110, 25),
    ),
}


def unetr(features: int, hidden: int, heads: int) -> dict[str, Any]:
    values = {"feature_size": features, "hidden_size": hidden, "num_heads": heads, "mlp_dim": 4 * hidden}
    return {"network": "unetr", **{f"network_args.{name}": value for name, value in values.items()}}


SMALL_UNETR, LARGER_UNETR = unetr(4, 96, 4), unetr(8, 192, 6)  # on the abdomen the small one finds the liver alone
DECODER = {f"mae.decoder_{name}": value for name, value in (("width", 96), ("depth", 2), ("heads", 4), ("mlp", 384))}
VIEWS: dict[str, Any] = {
    "pcrlv2.global_size": (32, 32, 32),
    "pcrlv2.local_size": (16, 16, 16),
    "pcrlv2.local_boxes": ((16, 16, 16), (8, 8, 8)),
    "pcrlv2.local_views": 4,
    "pcrlv2.swap_patch": (4, 4, 4),
}
SMALL_CNN = {"network": "pcrlv2", "network_args.width": 8}
ABDOMEN_ONCE = replace(STUDIES["btcv"], tested=(), counts=(6, 0))
HIPPOCAMPUS_150 = replace(STUDIES["hippocampus"], counts=(150, 0))
STUDIES |= {
    "hippocampus_150": HIPPOCAMPUS_150,  # reported: the last 45 of the 60 there
    "hippocampus_150_turns": replace(  # these, the other 15 of the 60, and the 110 that have no labels there
        HIPPOCAMPUS_150,
        tested=(slice(150, None), slice(135, 150), slice(0, 37), slice(37, 74), slice(74, 110)),
    ),
    "hippocampus_unetr": replace(
        STUDIES["hippocampus"],
        steps=1500,
        common={**SMALL_UNETR, "crop_size": (32, 48, 32)},
        pretraining={**DECODER, "batch_size": 4},
    ),
    "hippocampus_pcrlv2": replace(
        STUDIES["hippocampus"],
        common={**SMALL_CNN, "crop_size": (32, 48, 32)},
        pretraining={**VIEWS, "pcrlv2.global_boxes": ((32, 48, 32), (32, 40, 24), (24, 40, 32)), "batch_size": 4},
    ),
    "btcv_unetr": replace(
        ABDOMEN_ONCE,
        common={**ABDOMEN, **LARGER_UNETR, "precision": "bf16"},
        pretraining={**DECODER, "batch_size": 4},
    ),
    "btcv_pcrlv2": replace(
        ABDOMEN_ONCE,
        common={**ABDOMEN, **SMALL_CNN, "precision": "bf16"},
        pretraining={**VIEWS, "pcrlv2.global_boxes": ((48, 48, 48), (48, 48, 32), (32, 32, 48)), "batch_size": 4},
    ),
}
COMMON = {"batch_size": 2, "validation_cases": 0, "watch_cases": 0, "workers": 0}
DEVICES = {"cpu": {"accelerator": "cpu"}, "gpu": {"accelerator": "gpu", "precision": "32"}}
