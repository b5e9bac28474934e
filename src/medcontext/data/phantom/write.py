"""Writing a generated data set to disk, in the layouts that real ones come in."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff

from medcontext.console import track
from medcontext.data.nifti import write_image, write_label
from medcontext.data.phantom.layouts import LAYOUTS, MANIFEST, NAME, Contents
from medcontext.data.phantom.parts import STRUCTURES
from medcontext.data.phantom.render import draw
from medcontext.data.phantom.settings import Phantom
from medcontext.errors import InputError, unknown_name
from medcontext.files import output_folder, write_json


def write_phantom(
    output: Path,
    *,
    cases: int,
    test_cases: int = 0,
    size: tuple[int, int, int] = (64, 64, 48),
    spacing: tuple[float, float, float] = (5.0, 5.0, 5.0),
    seed: int = 0,
    layout: Literal["decathlon", "nnunet", "list"] = "decathlon",
    channels: int = 1,
    orientation: str = "LPS",
    values: Literal["dense"] | Mapping[str, int] = "dense",
    settings: Phantom | None = None,
) -> Path:
    """Write a generated data set. Its JSON file comes last, so that a part of a data set is never taken for all of it.

    Args:
        output: folder, new or empty.
        cases: how many labelled cases; they are `draw(seed, 0)`, `draw(seed, 1)`, ...
        test_cases: how many cases more to write to `imagesTs`; their labels, which the data set does not mention, go
            to `labelsTs`.
        size: voxels (H, W, D) to the right, front and head, whatever the orientation of the files.
        spacing: millimetres of a voxel along H, W, D.
        seed: 0 or above.
        layout: "decathlon" (several channels in one 4D file), "nnunet" (v2 raw, a file per channel, in the folder
            Dataset999_Phantom of `output`) or "list" (a JSON list of paths, a file per channel).
        channels: 1 for CT, 2 to 4 for MR-like contrasts.
        orientation: where the three axes of the files point to, such as "RAS", "LPS" or "PIR".
        values: "dense" for those of `STRUCTURES`, or the value in the files of each structure that is to be labelled;
            structures left out become background.
        settings: further settings of the scans; size, spacing and channels are those given here.

    Returns:
        What `read_dataset` takes: the data set's folder.

    Raises:
        InputError: for counts below 1 case or 0 test cases; an unknown layout, orientation or structure; values that
            are not whole numbers from 1 or occur twice; sizes that `Phantom` refuses; an output folder that is not
            empty or not writable.
    """
    if layout not in LAYOUTS:
        raise unknown_name("phantom layout", layout, LAYOUTS)
    if cases < 1 or test_cases < 0:
        raise InputError(f"cases is {cases} and test_cases {test_cases}; at least 1 and at least 0 are needed.")
    settings = replace(settings or Phantom(), size=size, spacing=spacing, channels=channels)
    rules, labels, turn = LAYOUTS[layout], _labels(values), _Orientation(orientation, settings)
    values_in_files = _lookup(labels)
    names = tuple(f"{NAME}_{number:03d}" for number in range(cases + test_cases))
    root = output_folder(output) / rules.root
    for index, name in enumerate(track(names, "Writing generated scans")):
        training = index < cases
        image, label = draw(seed, index, settings)
        files = rules.files(name, channels)
        for file, volume in zip(files, [image] if len(files) == 1 else image, strict=True):
            turn.write(write_image, root / (rules.images if training else "imagesTs") / file, volume)
        label_file = root / (rules.labels if training else "labelsTs") / f"{name}.nii.gz"
        turn.write(write_label, label_file, values_in_files[label])
    contents = Contents(settings.channel_names, labels, names[:cases], names[cases:])
    write_json(root / MANIFEST, rules.manifest(contents))
    return root


class _Orientation:
    """Turns RAS volumes so that their axes point to the given codes."""

    def __init__(self, codes: str, settings: Phantom) -> None:
        pairs = ("LR", "PA", "IS")
        if len(codes) != 3 or any(sum(code in pair for code in codes) != 1 for pair in pairs):
            raise InputError(
                f"orientation is '{codes}'; give where the three axes point to, one of L and R, one of P and A and one "
                "of I and S, in any order, such as LPS."
            )
        ras, wanted = nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes)
        self.transform = nib.orientations.ornt_transform(ras, wanted)
        affine = np.diag([*settings.spacing, 1.0])
        affine[:3, 3] = -0.5 * (np.array(settings.size) - 1) * settings.spacing  # the origin in the middle
        self.affine = affine @ inv_ornt_aff(self.transform, settings.size)

    def write(self, writer: Callable[[Path, np.ndarray, np.ndarray], None], path: Path, volume: np.ndarray) -> None:
        """Write a RAS volume, (H, W, D) or (C, H, W, D)."""
        if volume.ndim == 4:
            turned = np.stack([apply_orientation(channel, self.transform) for channel in volume])
        else:
            turned = apply_orientation(volume, self.transform)
        path.parent.mkdir(parents=True, exist_ok=True)
        writer(path, turned, self.affine)


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
