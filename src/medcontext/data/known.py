"""What is known of the official data sets, each fact once: scanners, splits, phantom and experiments take it from here.

Run presets state splits and regions too, for those who read them; `tests/data/test_known.py` holds that they agree.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Known:
    """An official data set.

    Args:
        name: of its `Dataset`.
        channels: their names, in order.
        labels: structure to the value in its label files, background included.
        training: cases of its packaged split that train.
        test: cases of that split that test.
        images: the image files of a case, by its name, below the data set's folder; a single one has all channels.
        label: its label file, likewise.
        regions: overlapping regions that are segmented and scored, larger ones first: name to values.
        tables: what the paper's tables score; empty for all regions, or all structures where there are none.
        twins: patients with the same images as another, voxel for voxel, segmented twice.
    """

    name: str
    channels: tuple[str, ...]
    labels: Mapping[str, int]
    training: int
    test: int
    images: Callable[[str], list[str]]
    label: Callable[[str], str]
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    tables: tuple[str, ...] = ()
    twins: Mapping[str, str] = field(default_factory=dict)

    @property
    def scored(self) -> tuple[str, ...]:
        """The structures or regions whose mean is a number of the paper's tables, but for Table 5."""
        return self.tables or tuple(self.regions) or self.structures

    @property
    def structures(self) -> tuple[str, ...]:
        """All, without the background."""
        return tuple(name for name, value in self.labels.items() if value)


BTCV = Known(
    name="BTCV",
    channels=("CT",),
    labels={
        "background": 0,
        "spleen": 1,
        "right_kidney": 2,
        "left_kidney": 3,
        "gallbladder": 4,
        "esophagus": 5,
        "liver": 6,
        "stomach": 7,
        "aorta": 8,
        "inferior_vena_cava": 9,
        "portal_and_splenic_veins": 10,
        "pancreas": 11,
        "right_adrenal_gland": 12,
        "left_adrenal_gland": 13,
    },
    training=18,
    test=12,
    images=lambda name: [f"imagesTr/{name}.nii.gz"],
    label=lambda name: f"labelsTr/{name.replace('img', 'label')}.nii.gz",
    tables=("spleen", "right_kidney", "left_kidney", "gallbladder", "liver", "stomach", "aorta", "pancreas"),
)
ACDC = Known(
    name="ACDC",
    channels=("MR cine",),
    labels={"background": 0, "right_ventricle": 1, "myocardium": 2, "left_ventricle": 3},
    training=160,  # two frames each of 80 and 20 patients
    test=40,
    images=lambda name: [f"training/{name.partition('_')[0]}/{name}.nii.gz"],
    label=lambda name: f"training/{name.partition('_')[0]}/{name}_gt.nii.gz",
    twins={"patient076": "patient074"},  # seen in the one copy that was compared
)
BRATS17 = Known(  # as the Decathlon's Task01, which declares no regions
    name="BRATS",
    channels=("FLAIR", "T1w", "t1gd", "T2w"),
    labels={"background": 0, "edema": 1, "non-enhancing tumor": 2, "enhancing tumour": 3},
    training=387,
    test=73,
    images=lambda name: [f"imagesTr/{name}.nii.gz"],
    label=lambda name: f"labelsTr/{name}.nii.gz",
    regions={"WT": (1, 2, 3), "TC": (2, 3), "ET": (3,)},
)
BRATS21 = Known(
    name="BraTS21",
    channels=("FLAIR", "T1", "T1ce", "T2"),
    labels={"background": 0, "necrotic_core": 1, "edema": 2, "enhancing_tumor": 4},
    training=1000,
    test=251,
    images=lambda name: [f"{name}/{name}_{ending}.nii.gz" for ending in ("flair", "t1", "t1ce", "t2")],
    label=lambda name: f"{name}/{name}_seg.nii.gz",
    regions={"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)},
)

KNOWN = {"btcv": BTCV, "acdc": ACDC, "brats17": BRATS17, "brats21": BRATS21}
"""By the names that splits, presets, tables and generated data sets go by."""

SPLITS = {**{name: name for name in KNOWN}, "btcv_24_6": "btcv"}
"""The splits that come with the package, and whose each is: one of the data set's own name, and others."""
