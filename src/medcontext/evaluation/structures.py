"""What the values in the label and prediction files are called."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from medcontext.data.cases import Dataset
from medcontext.data.declarations import read_declared_regions, read_labels
from medcontext.data.formats import MANIFEST
from medcontext.data.regions import Regions
from medcontext.errors import InputError
from medcontext.evaluation.metrics import Boxes
from medcontext.files import read_json

Structures = dict[str, tuple[int, ...]]

MOST_UNNAMED = 255
"""More different values than this, and undeclared at that, are an image's and not a label's."""


def from_user(structures: Mapping[str, int | Sequence[int]]) -> Structures:
    """Names and values as the user gave them; a structure may be made of several values.

    Raises:
        InputError: if there are none, or a value is not a whole number from 1.

    >>> from_user({"whole tumour": [1, 2, 3], "oedema": 2})
    {'whole tumour': (1, 2, 3), 'oedema': (2,)}
    """
    if not structures:
        raise InputError('structures is empty; give names and values, such as {"liver": 1, "tumour": [2, 3]}.')
    named: Structures = {}
    for name, given in structures.items():
        values = (given,) if isinstance(given, int) else tuple(given)
        if not values or not all(type(value) is int and value > 0 for value in values):
            raise InputError(
                f"structures: '{name}' has {given!r}; give a whole number from 1, or a list of them (0 is the "
                "background)."
            )
        named[str(name)] = tuple(dict.fromkeys(values))
    return named


def declared(labels: Path, found: Dataset | Mapping[str, Path], predictions: Path) -> tuple[Structures | None, str]:
    """Names and values that come with the files.

    They are the data set's; or those of a dataset.json in the labels' folder, or in the folder above it; or those
    of a dataset.json in the predictions' folder. Where any of these declares regions, the regions are scored.

    Args:
        labels: as given by the user.
        found: what was found there.
        predictions: the folder of predictions.

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
        folder = labels.resolve()
        files = (folder / MANIFEST, folder.parent / MANIFEST)
        declarations += [(*_read(file), str(file)) for file in files if file.is_file()][:1]
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


def _read(file: Path) -> tuple[dict[str, int], Regions]:
    manifest = read_json(file)
    if not isinstance(manifest, dict):
        raise InputError(f'{file} holds a {type(manifest).__name__}; an object with "labels" is expected.')
    labels = read_labels(manifest, file)
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
