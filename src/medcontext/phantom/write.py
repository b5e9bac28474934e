"""Writing a generated data set to disk, in the layouts that real ones come in."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from medcontext.console import track
from medcontext.data.known import KNOWN
from medcontext.data.nifti_write import write_image, write_label
from medcontext.errors import InputError, unknown_name
from medcontext.files import output_folder, write_json
from medcontext.phantom.layouts import LAYOUTS, MANIFEST, NAME, Contents
from medcontext.phantom.official import DRAWINGS, draw_official, drawn_settings, official_names, official_split
from medcontext.phantom.orientation import Orientation
from medcontext.phantom.parts import STRUCTURES
from medcontext.phantom.render import draw
from medcontext.phantom.settings import Phantom


def write_phantom(
    output: Path,
    *,
    cases: int,
    test_cases: int = 0,
    size: tuple[int, int, int] | None = None,
    spacing: tuple[float, float, float] | None = None,
    seed: int = 0,
    layout: str = "decathlon",
    channels: int | None = None,
    orientation: str = "LPS",
    values: Literal["dense"] | Mapping[str, int] = "dense",
    settings: Phantom | None = None,
) -> Path:
    """Write a generated data set. Its JSON file comes last, so that a part of a data set is never taken for all of it.

    The layouts "btcv", "acdc", "brats17" and "brats21" are those data sets as they are distributed, with their file
    names, channels and label values. The cases have the names of real ones, the first of the packaged split's, so that
    few-shot training and test find theirs. All are labelled, as the real ones are. A packaged split names cases that
    so small a data set has not: instead, `split.json` in its folder names those that are there. It comes last.

    Args:
        output: folder, new or empty.
        cases: how many labelled cases; they are `draw(seed, 0)`, `draw(seed, 1)`, ...
        test_cases: how many cases more to write to `imagesTs`; their labels, which the data set does not mention, go
            to `labelsTs`.
        size: voxels (H, W, D) to the right, front and head, whatever the orientation of the files; None for
            (64, 64, 48), of "acdc" (64, 64, 9). Only "acdc" may have fewer than 16 slices.
        spacing: millimetres of a voxel along H, W, D; None for 5, between the slices of "acdc" 25.
        seed: 0 or above.
        layout: "decathlon" (several channels in one 4D file), "nnunet" (v2 raw, a file per channel, in the folder
            Dataset999_Phantom of `output`), "list" (a JSON list of paths, a file per channel), or a data set's.
        channels: 1 for CT, 2 to 4 for MR-like contrasts; None for 1, or for the data set's.
        orientation: where the three axes of the files point to, such as "RAS", "LPS" or "PIR".
        values: "dense" for those of `STRUCTURES`, or the value in the files of each structure that is to be labelled;
            structures left out become background.
        settings: further settings of the scans; size, spacing and channels are those given here.

    Returns:
        What `read_dataset` takes: the data set's folder.

    Raises:
        InputError: for counts below 1 case or 0 test cases; an unknown layout, orientation or structure; values that
            are not whole numbers from 1 or occur twice; sizes that `Phantom` refuses; an output folder that is not
            empty or not writable; channels or values for the layout of a data set, or more cases than its split has.
    """
    if layout not in LAYOUTS and layout not in KNOWN:
        raise unknown_name("phantom layout", layout, [*LAYOUTS, *KNOWN])
    if cases < 1 or test_cases < 0:
        raise InputError(f"cases is {cases} and test_cases {test_cases}; at least 1 and at least 0 are needed.")
    if layout in KNOWN:
        if channels is not None or values != "dense":
            raise InputError(f"The layout {layout} has its own channels and values; leave these out.")
        size, spacing = size or DRAWINGS[layout].size, spacing or DRAWINGS[layout].spacing
        names = official_names(layout, cases, test_cases)
        return _write_official(output, layout, names, size, spacing, seed, orientation, settings)
    size, spacing, channels = size or (64, 64, 48), spacing or (5.0, 5.0, 5.0), 1 if channels is None else channels
    settings = replace(settings or Phantom(), size=size, spacing=spacing, channels=channels)
    rules, labels, turn = LAYOUTS[layout], _labels(values), Orientation(orientation, size, spacing)
    values_in_files = _lookup(labels)
    numbered = tuple(f"{NAME}_{number:03d}" for number in range(cases + test_cases))
    root = output_folder(output) / rules.root
    for index, name in enumerate(track(numbered, "Writing generated scans")):
        training = index < cases
        image, label = draw(seed, index, settings)
        files = [root / (rules.images if training else "imagesTs") / file for file in rules.files(name, channels)]
        _write_images(files, image, turn)
        label_file = root / (rules.labels if training else "labelsTs") / f"{name}.nii.gz"
        turn.write(write_label, label_file, values_in_files[label])
    contents = Contents(settings.channel_names, labels, numbered[:cases], numbered[cases:])
    write_json(root / MANIFEST, rules.manifest(contents))
    return root


def _write_official(
    root: Path,
    layout: str,
    names: tuple[list[str], list[str]],
    size: tuple[int, int, int],
    spacing: tuple[float, float, float],
    seed: int,
    orientation: str,
    settings: Phantom | None,
) -> Path:
    known, manifest, every = KNOWN[layout], DRAWINGS[layout].manifest, [*names[0], *names[1]]
    finer, thin = drawn_settings(layout, size, spacing, settings)
    turn = Orientation(orientation, size, spacing)
    output_folder(root)
    for index, name in enumerate(track(every, "Writing generated scans")):
        image, label = draw_official(layout, seed, every, index, finer, thin)
        _write_images([root / file for file in known.images(name)], image, turn)
        turn.write(write_label, root / known.label(name), label)
    if manifest:
        write_json(root / MANIFEST, manifest(sorted(every)))
    write_json(root / "split.json", official_split(layout, *names))
    return root


def _write_images(files: list[Path], image: np.ndarray, turn: Orientation) -> None:
    """One file for all channels of (C, H, W, D), or one each."""
    for file, volume in zip(files, [image] if len(files) == 1 else image, strict=True):
        turn.write(write_image, file, volume)


def _labels(values: Literal["dense"] | Mapping[str, int]) -> dict[str, int]:
    """Name to the value in the files, background included, in the order of the values."""
    if isinstance(values, str):
        if values != "dense":
            raise InputError(f"values is '{values}'; 'dense' or a value for each structure is allowed.")
        values = STRUCTURES
    for name, value in values.items():
        if name not in STRUCTURES:
            raise unknown_name("phantom structure", name, STRUCTURES)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
            raise InputError(f"The value of '{name}' is {value!r}; a whole number from 1 to 2147483647 is allowed.")
    if not values or len(set(values.values())) < len(values):
        raise InputError(f"values is {dict(values)}; give at least one structure, and each its own value.")
    return {"background": 0, **dict(sorted(values.items(), key=lambda item: item[1]))}


def _lookup(labels: dict[str, int]) -> np.ndarray:
    """The value in the files at the index of each value of `STRUCTURES`."""
    lookup = np.zeros(max(STRUCTURES.values()) + 1, dtype=np.int32)
    for name, value in labels.items():
        lookup[STRUCTURES.get(name, 0)] = value
    return lookup
