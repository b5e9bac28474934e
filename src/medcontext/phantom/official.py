"""Generated data sets laid out and named as BTCV, ACDC and both BraTS are distributed, for their presets and splits.

BTCV's 13 organs are all there, though at few voxels the adrenal glands can be missing; for the others see `recast.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from medcontext.data.official import BRATS21, BRATS21_FILES
from medcontext.data.split_files import find_split
from medcontext.errors import InputError
from medcontext.files import read_json
from medcontext.phantom.layouts import by_index
from medcontext.phantom.recast import Scan, heart, thirteen_organs, tumour
from medcontext.phantom.render import draw
from medcontext.phantom.settings import SMALLEST, Phantom

FEWEST_SLICES = 4

BRATS17_LABELS = {"background": 0, "edema": 1, "non-enhancing tumor": 2, "enhancing tumour": 3}
BRATS17_CHANNELS = ("FLAIR", "T1w", "t1gd", "T2w")


@dataclass(frozen=True)
class OfficialLayout:
    """One data set's way.

    Args:
        channels: that are drawn.
        images: a case's image files, below the data set's folder; a single one takes all channels.
        label: its label file.
        change: what becomes of a drawn scan.
        size: voxels, where none are asked for.
        spacing: millimetres, likewise.
        slices: whether there may be fewer slices than the phantom can be drawn with.
        manifest: the content of the JSON file, from the names of the cases; None where the data set has none.
    """

    channels: int
    images: Callable[[str], list[str]]
    label: Callable[[str], str]
    change: Callable[[Scan], Scan]
    size: tuple[int, int, int] = (64, 64, 48)
    spacing: tuple[float, float, float] = (5.0, 5.0, 5.0)
    slices: bool = False
    manifest: Callable[[list[str]], dict[str, Any]] | None = None


def official_names(layout: str, cases: int, test_cases: int) -> tuple[list[str], list[str]]:
    """Training and test cases' names: the first of the packaged split's, those for few-shot training before all.

    Raises:
        InputError: if there are not so many.
    """
    if layout == "brats21":  # whose split has no list
        names = [f"BraTS2021_{number:05d}" for number in range(cases + test_cases)]
        return names[:cases], names[cases:]
    split = read_json(find_split(layout))
    first = split.get("few_shot", {}).get("5", [])
    training = first + [name for name in split["train"] if name not in first]
    if cases > len(training) or test_cases > len(split["test"]):
        raise InputError(
            f"cases is {cases} and test_cases {test_cases}; the split {layout} has {len(training)} training and "
            f"{len(split['test'])} test cases."
        )
    return training[:cases], split["test"][:test_cases]


def official_split(layout: str, training: list[str], test: list[str]) -> dict[str, Any]:
    """The content of a split file for these cases, with the few-shot choice of the packaged split where it is there."""
    choices = read_json(find_split(layout)).get("few_shot", {})
    kept = {number: names for number, names in choices.items() if set(names) <= set(training)}
    return {"train": training, "validation": [], "test": test, "few_shot": kept}


def draw_official(layout: str, seed: int, names: list[str], index: int, settings: Phantom, thin: int) -> Scan:
    """One scan, as the data set has them.

    Args:
        layout: a key of `OFFICIAL`.
        seed: of the data set.
        names: of all its cases; frames of one patient are of one anatomy, which moves a little.
        index: of the case.
        settings: of what is drawn.
        thin: how many slices are drawn for each that is kept.
    """
    patients = [name.partition("_frame")[0] for name in names]
    first = patients.index(patients[index])
    if index != first:
        settings = replace(settings, pose=0.85 * settings.pose, deformation=0.85 * settings.deformation)
    image, label = draw(seed, first, settings)
    return OFFICIAL[layout].change((image[..., thin // 2 :: thin], label[..., thin // 2 :: thin]))


def drawn_settings(
    layout: str, size: tuple[int, int, int], spacing: tuple[float, float, float], settings: Phantom | None
) -> tuple[Phantom, int]:
    """What is to be drawn for scans of that size: these settings, and how many thin slices for each that is kept.

    Raises:
        InputError: if the size or the spacing cannot be drawn.
    """
    rules, (h, w, d), (x, y, z) = OFFICIAL[layout], size, spacing
    if rules.slices and d < FEWEST_SLICES:
        raise InputError(f"size is {size}; give at least {FEWEST_SLICES} slices.")
    thin = -(-SMALLEST // d) if rules.slices else 1
    finer = replace(settings or Phantom(), size=(h, w, d * thin), spacing=(x, y, z / thin), channels=rules.channels)
    return replace(finer, details=layout == "btcv"), thin


def _task01(names: list[str]) -> dict[str, Any]:
    return {
        "name": "BRATS",
        "description": "Generated scans, laid out as the Medical Segmentation Decathlon's brain tumours",
        "tensorImageSize": "4D",
        "modality": by_index(BRATS17_CHANNELS),
        "labels": {str(value): name for name, value in BRATS17_LABELS.items()},
        "numTraining": len(names),
        "numTest": 0,
        "training": [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in names],
        "test": [],
    }


def _acdc_stem(name: str) -> str:
    return f"training/{name.partition('_')[0]}/{name}"


OFFICIAL = {
    "btcv": OfficialLayout(
        channels=1,
        images=lambda name: [f"imagesTr/{name}.nii.gz"],
        label=lambda name: f"labelsTr/{name.replace('img', 'label')}.nii.gz",
        change=thirteen_organs,
    ),
    "acdc": OfficialLayout(
        channels=2,  # an MR contrast: one channel would be a CT
        images=lambda name: [f"{_acdc_stem(name)}.nii.gz"],
        label=lambda name: f"{_acdc_stem(name)}_gt.nii.gz",
        change=heart,
        size=(64, 64, 9),
        spacing=(5.0, 5.0, 25.0),
        slices=True,
    ),
    "brats17": OfficialLayout(
        channels=4,
        images=lambda name: [f"imagesTr/{name}.nii.gz"],
        label=lambda name: f"labelsTr/{name}.nii.gz",
        change=tumour(1, 2, 3),
        manifest=_task01,
    ),
    "brats21": OfficialLayout(
        channels=4,
        images=lambda name: [f"{name}/{name}_{ending}.nii.gz" for ending in BRATS21_FILES],
        label=lambda name: f"{name}/{name}_seg.nii.gz",
        change=tumour(*(BRATS21.labels[name] for name in ("edema", "necrotic_core", "enhancing_tumor"))),
    ),
}
