"""Generated data sets laid out and named as BTCV, ACDC and both BraTS are distributed, for their presets and splits.

BTCV's 13 organs are all there, though at few voxels the adrenal glands can be missing. For ACDC's hearts see
`heart.py`, for the tumours of both BraTS `recast.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from medcontext.data.cases import patient
from medcontext.data.known import BRATS17, BRATS21
from medcontext.data.split_files import find_split
from medcontext.errors import InputError
from medcontext.files import read_json
from medcontext.phantom.anatomy import draw_abdomen
from medcontext.phantom.heart import frame
from medcontext.phantom.layouts import by_index
from medcontext.phantom.parts import Drawer
from medcontext.phantom.recast import Scan, thirteen_organs, tumour
from medcontext.phantom.render import draw
from medcontext.phantom.settings import SMALLEST, Phantom

FEWEST_SLICES = 4


@dataclass(frozen=True)
class Drawing:
    """How a data set's scans are drawn; all else is in `medcontext.data.known`.

    Args:
        channels: that are drawn.
        change: what becomes of a drawn scan; None for nothing.
        drawer: what draws a patient, from the name of the case.
        details: whether small organs are drawn too.
        size: voxels, where none are asked for.
        spacing: millimetres, likewise.
        slices: whether there may be fewer slices than the phantom can be drawn with.
        manifest: the content of the JSON file, from the names of the cases; None where the data set has none.
    """

    channels: int
    change: Callable[[Scan], Scan] | None = None
    drawer: Callable[[str], Drawer] = lambda _: draw_abdomen
    details: bool = False
    size: tuple[int, int, int] = (64, 64, 48)
    spacing: tuple[float, float, float] = (5.0, 5.0, 5.0)
    slices: bool = False
    manifest: Callable[[list[str]], dict[str, Any]] | None = None


def official_names(layout: str, cases: int, test_cases: int) -> tuple[list[str], list[str]]:
    """Training and test cases' names: the first of the packaged split's, those for few-shot training before all.

    Raises:
        InputError: if there are not so many.
    """
    split = read_json(find_split(layout))
    if "seeded" in split:  # BraTS 2021's, for want of a list
        names = [f"BraTS2021_{number:05d}" for number in range(cases + test_cases)]
        return names[:cases], names[cases:]
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
        layout: a key of `DRAWINGS`.
        seed: of the data set.
        names: of all its cases; frames of one patient are of one anatomy, which moves; one heart contracts.
        index: of the case.
        settings: of what is drawn.
        thin: how many slices are drawn for each that is kept.
    """
    patients = [patient(name) for name in names]
    first = patients.index(patients[index])
    if index != first:
        settings = replace(settings, pose=0.85 * settings.pose, deformation=0.85 * settings.deformation)
    rules = DRAWINGS[layout]
    image, label = draw(seed, first, settings, rules.drawer(names[index]))
    scan = image[..., thin // 2 :: thin], label[..., thin // 2 :: thin]
    return rules.change(scan) if rules.change else scan


def drawn_settings(
    layout: str, size: tuple[int, int, int], spacing: tuple[float, float, float], settings: Phantom | None
) -> tuple[Phantom, int]:
    """What is to be drawn for scans of that size: these settings, and how many thin slices for each that is kept.

    Raises:
        InputError: if the size or the spacing cannot be drawn.
    """
    rules, (h, w, d), (x, y, z) = DRAWINGS[layout], size, spacing
    if rules.slices and d < FEWEST_SLICES:
        raise InputError(f"size is {size}; give at least {FEWEST_SLICES} slices.")
    thin = -(-SMALLEST // d) if rules.slices else 1
    finer = replace(settings or Phantom(), size=(h, w, d * thin), spacing=(x, y, z / thin), channels=rules.channels)
    return replace(finer, details=rules.details), thin


def _task01(names: list[str]) -> dict[str, Any]:
    return {
        "name": BRATS17.name,
        "description": "Generated scans, laid out as the Medical Segmentation Decathlon's brain tumours",
        "tensorImageSize": "4D",
        "modality": by_index(BRATS17.channels),
        "labels": {str(value): name for name, value in BRATS17.labels.items()},
        "numTraining": len(names),
        "numTest": 0,
        "training": [{"image": f"./{BRATS17.images(name)[0]}", "label": f"./{BRATS17.label(name)}"} for name in names],
        "test": [],
    }


DRAWINGS = {
    "btcv": Drawing(channels=1, change=thirteen_organs, details=True),
    "acdc": Drawing(
        channels=1,
        drawer=frame,
        size=(64, 64, 9),
        spacing=(5.0, 5.0, 25.0),
        slices=True,
    ),
    "brats17": Drawing(
        channels=4,
        change=tumour(*(BRATS17.labels[name] for name in ("edema", "non-enhancing tumor", "enhancing tumour"))),
        manifest=_task01,
    ),
    "brats21": Drawing(
        channels=4,
        change=tumour(*(BRATS21.labels[name] for name in ("edema", "necrotic_core", "enhancing_tumor"))),
    ),
}
"""By the names of `medcontext.data.known.KNOWN`."""
