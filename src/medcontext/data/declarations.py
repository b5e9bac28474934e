"""What a data set's JSON file declares its channels and labels to be."""

import re
from pathlib import Path
from typing import Any

from medcontext.data.label_map import LabelMap, check_targets, names_left, read_label_map
from medcontext.data.regions import Regions, check_name, read_regions, written_values
from medcontext.errors import InputError

BACKGROUND, IGNORE = "background", "ignore"

_CHANNEL_KEYS = ("channels", "channel_names", "modality")  # ours, nnU-Net v2's, the Decathlon's


def read_channels(manifest: dict[str, Any], file: Path) -> tuple[str, ...]:
    """The channels' names in order, from a list, or from a mapping of index to name.

    >>> read_channels({"modality": {"0": "FLAIR", "1": "T1w"}}, Path("dataset.json"))
    ('FLAIR', 'T1w')

    Raises:
        InputError: if none are declared, or the indices are not 0, 1, 2, ...
    """
    key = next((key for key in _CHANNEL_KEYS if key in manifest), None)
    if key is None:
        raise InputError(
            f'{file} does not say what the image channels are; add "channels", for example ["CT"] or '
            '["FLAIR", "T1"]. The names decide how intensities are normalised.'
        )
    declared = manifest[key]
    if isinstance(declared, dict):
        expected = [str(index) for index in range(len(declared))]
        if sorted(declared, key=lambda k: (len(k), k)) != expected:
            raise InputError(
                f'{file}, "{key}": the channel indices are {", ".join(declared)}; they must be {", ".join(expected)}.'
            )
        declared = [declared[index] for index in expected]
    if isinstance(declared, str):
        declared = [declared]
    if not isinstance(declared, list) or not declared or not all(isinstance(name, str) for name in declared):
        raise InputError(f'{file}, "{key}": got {declared!r}; give the name of each channel, such as ["CT"].')
    return tuple(declared)


def read_labels(manifest: dict[str, Any], file: Path, may_ignore: bool = False) -> dict[str, int]:
    """The declared labels as name to value, whichever way round the file has them, background first.

    Where nnU-Net's regions are declared, the values have no names of their own: they are called `label 1` and so on.
    What "label_map" sends elsewhere is not among them, nor is nnU-Net's `ignore` label.

    Args:
        manifest: what the file holds.
        file: for messages.
        may_ignore: whether there may be an `ignore` label, see `read_ignored`.

    >>> read_labels({"labels": {"0": "background", "500": "spleen", "200": "liver"}}, Path("dataset.json"))
    {'background': 0, 'liver': 200, 'spleen': 500}

    Raises:
        InputError: if there are none; if a value is not a whole number from 0, or a name or value occurs
            twice; if 0 is not the background; for an `ignore` label that may not be; if "label_map" cannot be used.
    """
    declared, ignored = manifest.get("labels"), read_ignored(manifest, file)
    if not isinstance(declared, dict) or not declared:
        raise InputError(
            f'{file} declares no labels; add "labels" with the value of each structure, for example '
            '{"background": 0, "liver": 1}.'
        )
    if ignored is not None and not may_ignore:
        raise InputError(
            f"{file}, \"labels\": the label 'ignore' ({ignored}) is not supported: every voxel must be labelled. Give "
            "those voxels a structure or the background, and remove 'ignore'."
        )
    declared = _without_ignored(declared)
    if _nnunet_regions(declared):
        parts = [value for key, value in declared.items() if key != BACKGROUND]
        found = [number for value in parts for number in (value if isinstance(value, list) else [value])]
        _refuse_odd_values(found, file)
        declared = {BACKGROUND: 0, **{f"label {value}": value for value in sorted(set(found))}}
    pairs = [_name_and_value(key, value, file) for key, value in declared.items()]
    names, values = [name for name, _ in pairs], [value for _, value in pairs]
    if ignored in values:
        raise InputError(
            f"{file}, \"labels\": 'ignore' and '{names[values.index(ignored)]}' have one value, {ignored}."
        )
    twice = [(n, v) for n, v in pairs if names.count(n) > 1 or values.count(v) > 1]
    if twice:
        those = ", ".join(f"'{name}' = {value}" for name, value in twice)
        raise InputError(f'{file}, "labels": declared twice: {those}. Each structure needs its own name and value.')
    _check_background(pairs, file)
    label_map = read_declared_map(manifest, file)
    check_targets(dict(pairs), label_map, f"{file}: ")
    structures = names_left(dict(pairs), label_map)
    if not structures:
        left = f'"label_map" {label_map} leaves nothing but' if label_map else '"labels" has only'
        raise InputError(f"{file}, {left} the background; declare at least one structure.")
    return {BACKGROUND: 0, **structures}


def read_ignored(manifest: dict[str, Any], file: Path) -> int | None:
    """The value of nnU-Net's `ignore` label, of voxels that nobody labelled; None where there is none.

    >>> read_ignored({"labels": {"background": 0, "liver": 1, "ignore": 2}}, Path("dataset.json"))
    2

    Raises:
        InputError: if it is not a whole number from 1.
    """
    declared = manifest.get("labels")
    for name, value in (_either_way(*pair) for pair in (declared.items() if isinstance(declared, dict) else ())):
        if name.lower() == IGNORE:
            if isinstance(value, bool) or not _is_number(str(value)) or int(value) == 0:
                raise InputError(f"{file}, \"labels\": 'ignore' is {value!r}; give a whole number from 1.")
            return int(value)
    return None


def read_declared_map(manifest: dict[str, Any], file: Path) -> LabelMap:
    """What "label_map" says that values in the label files stand for; nothing where there is none.

    >>> read_declared_map({"label_map": {"255": 0}}, Path("dataset.json"))
    {255: 0}

    Raises:
        InputError: if it cannot be used.
    """
    return read_label_map(manifest.get("label_map", {}), str(file))


def read_declared_regions(manifest: dict[str, Any], file: Path, labels: dict[str, int]) -> Regions:
    """The overlapping regions that a file declares, under "regions" or, as nnU-Net v2 does, as lists in "labels".

    >>> labels = {"background": 0, "whole": [1, 2], "core": 2}
    >>> read_declared_regions({"labels": labels}, Path("dataset.json"), {"background": 0, "label 1": 1, "label 2": 2})
    {'whole': (1, 2), 'core': (2,)}

    Raises:
        InputError: if they cannot be used (see `read_regions`), or if "regions_class_order" asks for other values
            than those that predictions are written in.
    """
    found, declared = manifest.get("regions", {}), _without_ignored(manifest["labels"])
    if _nnunet_regions(declared):
        found = {name: value for name, value in declared.items() if name != BACKGROUND}
    regions = read_regions(found, tuple(labels.values()), str(file))
    order = manifest.get("regions_class_order")
    if order is not None and regions and order != list(written_values(regions)):
        raise InputError(
            f'{file}, "regions_class_order" is {order}; medcontext writes each region as the value that no later '
            f"region has, {list(written_values(regions))}. Order the regions from large to small."
        )
    return regions


def _nnunet_regions(declared: dict[str, Any]) -> bool:
    return any(isinstance(value, list) for value in declared.values())


def _refuse_odd_values(values: list[Any], file: Path) -> None:
    odd = [value for value in values if type(value) is not int]
    if odd:
        raise InputError(f'{file}, "labels": a region has the value {odd[0]!r}; give whole numbers from 1.')


def _name_and_value(key: str, value: Any, file: Path) -> tuple[str, int]:
    where = f'{file}, "labels"'
    name, number = _either_way(key, value)
    if isinstance(number, bool) or not _is_number(str(number)) or _is_number(name):
        raise InputError(
            f"{where}: got {key!r}: {value!r}; give a name and a whole number from 0, such as "
            '"liver": 1 or "1": "liver".'
        )
    check_name(name, where)
    return name, int(number)


def _either_way(key: str, value: Any) -> tuple[str, Any]:
    """Name and value, of {"liver": 1} and of {"1": "liver"}."""
    return (value, key) if isinstance(value, str) and not _is_number(value) else (key, value)


def _without_ignored(declared: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in declared.items() if _either_way(key, value)[0].lower() != IGNORE}


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\d+", text) is not None


def _check_background(pairs: list[tuple[str, int]], file: Path) -> None:
    for name, value in pairs:
        if (value == 0) != (name.lower() == BACKGROUND):
            raise InputError(
                f"{file}, \"labels\": '{name}' has the value {value}. The value 0 is the background in every label "
                "file, and only the background: give structures values from 1 and call 0 'background'."
            )
