"""What the values in the label and prediction files are called."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medcontext.data.cases import Dataset
from medcontext.data.declarations import read_declared_map, read_declared_regions, read_ignored, read_labels
from medcontext.data.formats import MANIFEST
from medcontext.data.label_map import LabelMap, follow, names_left, read_label_map
from medcontext.data.regions import Regions, check_name
from medcontext.errors import InputError
from medcontext.evaluation.metrics import Boxes
from medcontext.files import read_json

Structures = dict[str, tuple[int, ...]]

MOST_UNNAMED = 255
"""More different values than this, and undeclared at that, are an image's and not a label's."""


def from_user(structures: Mapping[str, int | Sequence[int]]) -> Structures:
    """Names and values as the user gave them; a structure may be made of several values.

    Raises:
        InputError: if there are none, a value is not a whole number from 1, or one is called `mean`.

    >>> from_user({"whole tumour": [1, 2, 3], "oedema": 2})
    {'whole tumour': (1, 2, 3), 'oedema': (2,)}
    """
    if not structures:
        raise InputError('structures is empty; give names and values, such as {"liver": 1, "tumour": [2, 3]}.')
    named: Structures = {}
    for name, given in structures.items():
        check_name(str(name), "structures")
        values = tuple(given) if isinstance(given, Iterable) else (given,)
        if not values or not all(type(value) is int and value > 0 for value in values):
            raise InputError(
                f"structures: '{name}' has {given!r}; give a whole number from 1, or a list of them (0 is the "
                "background)."
            )
        named[str(name)] = tuple(dict.fromkeys(values))
    return named


def label_map_of(labels: Path, found: Dataset | Mapping[str, Path], predictions: Path) -> LabelMap:
    """What the values in the label files stand for: by their own "label_map", then by that of the training.

    The first is the data set's, or of a dataset.json where `declared` looks for one; the second is what `medcontext
    predict` noted beside its predictions of `--prepare.label_map`. Predictions hold the mapped values already.

    Raises:
        InputError: if one of them cannot be read.
    """
    if isinstance(found, Dataset):
        own = found.label_map
    else:
        file = _beside(labels)
        own = {} if file is None else read_declared_map(_object(file), file)
    record = predictions / MANIFEST
    said = _object(record).get("predicted_by") if record.is_file() else None
    learnt = said.get("label_map", {}) if isinstance(said, dict) else {}
    return follow(own, read_label_map(learnt, str(record)))


def ignored_by(labels: Path, found: Dataset | Mapping[str, Path], predictions: Path) -> int | None:
    """The value of label voxels that are not scored, nnU-Net's `ignore` label; None where all are.

    It is declared with the labels or, where nothing is, with the predictions.

    Raises:
        InputError: if a declaration cannot be read.
    """
    if isinstance(found, Dataset):
        return found.ignored
    file = _beside(labels) or predictions / MANIFEST
    return read_ignored(_object(file), file) if file.is_file() else None


def refuse_mapped(structures: Structures, label_map: LabelMap, ignored: int | None = None) -> None:
    """Refuse structures with a value that the labels no longer hold, or that says that nobody labelled a voxel.

    Raises:
        InputError: naming the first.
    """
    for name, values in structures.items():
        for value in values:
            if value == ignored:
                raise InputError(
                    f"structures: '{name}' is {value}, the 'ignore' label of voxels that are not scored. Leave it out."
                )
            if value in label_map and value not in label_map.values():
                raise InputError(
                    f"structures: '{name}' is {value}, which label_map sends to {label_map[value]}. Give values as "
                    "they are after it."
                )


def declared(
    labels: Path, found: Dataset | Mapping[str, Path], predictions: Path, label_map: LabelMap | None = None
) -> tuple[Structures | None, str]:
    """Names and values that come with the files.

    They are the data set's; or those of a dataset.json in the labels' folder, or in the folder above it; or those
    of a dataset.json in the predictions' folder. Where any of these declares regions, the regions are scored.

    Args:
        labels: as given by the user.
        found: what was found there.
        predictions: the folder of predictions.
        label_map: of `label_map_of`: a structure whose value it sends elsewhere is not scored.

    Returns:
        The structures, None if nothing declares them, and where they come from.

    Raises:
        InputError: if a declaration cannot be read, or if labels and predictions declare different things: a
            prediction's 1 would be scored against another structure's 1.
    """
    declarations: list[tuple[dict[str, int], Regions, str]] = []
    if isinstance(found, Dataset):
        declarations.append((found.structures, found.regions, f"the data set {labels}"))
    else:
        file = _beside(labels)
        declarations += [] if file is None else [(*_read(file), str(file))]
    declarations = [(names_left(names, label_map or {}), regions, by) for names, regions, by in declarations]
    own = predictions / MANIFEST
    if own.is_file():
        declarations.append((*_read(own), str(own)))
    if not declarations:
        return None, "nothing: each value is its own name"
    if len(declarations) == 2:
        _refuse_contradiction(*declarations)
    for _, regions, source in declarations:
        if regions:
            return dict(regions), source
    structures, _, source = declarations[0]
    return {name: (value,) for name, value in structures.items()}, source


def by_value(boxes: Sequence[Boxes], files: Sequence[Path]) -> Structures:
    """Each value that occurs, named by itself.

    Raises:
        InputError: if a file holds so many values that it cannot be a label.
    """
    for located, file in zip(boxes, files, strict=True):
        if len(located) > MOST_UNNAMED:
            raise InputError(
                f"{file} holds {len(located)} different values, as an image does. Give labels; or, if these are, "
                "declare the structures."
            )
    return {str(value): (value,) for value in sorted(set().union(*boxes))}


def refuse_undeclared(volume: np.ndarray, boxes: Boxes, structures: Structures, file: Path) -> None:
    """Refuse a file with values that no structure has.

    Raises:
        InputError: naming the file and the values, with their number of voxels.
    """
    known = sorted({0}.union(*structures.values()))
    unknown = sorted(set(boxes) - set(known))
    if unknown:
        shown = ", ".join(
            f"{value} ({np.count_nonzero(volume[boxes[value]] == value)} voxels)" for value in unknown[:5]
        )
        more = ", ..." if len(unknown) > 5 else ""
        raise InputError(
            f"{file} has values that are not declared: {shown}{more}. Declared are {known}. Declare these too, or "
            "correct the file; values are never dropped or remapped silently."
        )


def _beside(labels: Path) -> Path | None:
    """The dataset.json in a folder of labels, or in the folder above it."""
    folder = labels.resolve()
    return next((file for file in (folder / MANIFEST, folder.parent / MANIFEST) if file.is_file()), None)


def _object(file: Path) -> dict[str, Any]:
    manifest = read_json(file)
    if not isinstance(manifest, dict):
        raise InputError(f'{file} holds a {type(manifest).__name__}; an object with "labels" is expected.')
    return manifest


def _read(file: Path) -> tuple[dict[str, int], Regions]:
    manifest = _object(file)
    labels = read_labels(manifest, file, may_ignore=True)
    regions = read_declared_regions(manifest, file, labels)
    return {name: value for name, value in labels.items() if value != 0}, regions


def _refuse_contradiction(
    first: tuple[dict[str, int], Regions, str], second: tuple[dict[str, int], Regions, str]
) -> None:
    named = {name.casefold(): value for name, value in second[0].items()}
    called = {value: name for name, value in second[0].items()}
    for name, value in first[0].items():
        other = named.get(name.casefold(), value)
        if other != value:
            problem = f"'{name}' is {value} in the first and {other} in the second"
        elif called.get(value, name).casefold() != name.casefold():
            problem = f"{value} is '{name}' in the first and '{called[value]}' in the second"
        else:
            continue
        raise InputError(
            f"Labels and predictions mean different things by their values: {problem} ({first[-1]} and {second[-1]}). "
            "Correct the wrong one, or say with structures what holds for both."
        )
