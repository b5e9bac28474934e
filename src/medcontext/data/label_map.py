"""Values in label files that stand for others: a data set's "label_map", and that of a training on top of it."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from medcontext.errors import InputError

LabelMap = dict[int, int]
"""From values in label files to declared values, or 0."""


def read_label_map(declared: Any, source: str) -> LabelMap:
    """A map as a JSON file has it.

    >>> read_label_map({"8": 2, "255": 0}, "dataset.json")
    {8: 2, 255: 0}

    Raises:
        InputError: if it is not one from whole numbers to whole numbers, or changes 0.
    """
    example = 'give such as {"255": 0, "8": 2}: 255 is background, 8 is what 2 is'
    if not isinstance(declared, dict):
        raise InputError(f'{source}, "label_map" is {declared!r}; {example}.')
    for value, target in declared.items():
        if not str(value).isdecimal() or type(target) is not int or target < 0:
            raise InputError(f'{source}, "label_map" has {value!r}: {target!r}; {example}.')
    found = {int(value): target for value, target in declared.items()}
    if 0 in found:
        raise InputError(f'{source}, "label_map" changes 0; the background is always 0. Leave it out.')
    return found


def check_targets(labels: dict[str, int], label_map: LabelMap, source: str = "") -> None:
    """Refuse a map to values that are not declared.

    Raises:
        InputError: naming the first, and what is declared.
    """
    declared = {0, *labels.values()}
    for value, target in label_map.items():
        if target not in declared:
            raise InputError(
                f"{source}label_map sends {value} to {target}, which is not declared; declared are {sorted(declared)}."
            )


def names_left(labels: dict[str, int], label_map: LabelMap) -> dict[str, int]:
    """The structures and their values when a map has been applied, by value, without the background.

    >>> names_left({"background": 0, "liver": 1, "cyst": 2}, {2: 1, 7: 0})
    {'liver': 1}
    """
    values = {label_map.get(value, value) for value in labels.values()} | set(label_map.values())
    left = ((name, value) for name, value in labels.items() if value != 0 and value in values)
    return dict(sorted(left, key=lambda item: item[1]))


def follow(first: LabelMap, then: LabelMap) -> LabelMap:
    """One map that does what two do, one after the other.

    >>> follow({8: 2, 7: 0}, {2: 1})
    {8: 1, 7: 0, 2: 1}
    """
    return {**{value: then.get(target, target) for value, target in first.items()}, **_without(then, first)}


def follow_in_training(declared: LabelMap, given: LabelMap) -> LabelMap:
    """The map of a data set, then that of a training's settings.

    Raises:
        InputError: if both change a value of the files, each to something else.
    """
    for value in declared.keys() & given.keys():
        if declared[value] != given[value]:
            raise InputError(
                f'label_map sends {value} to {given[value]}, and the data set\'s own "label_map" sends it to '
                f"{declared[value]}. Keep one of them."
            )
    return follow(declared, given)


def apply_map(values: np.ndarray, label_map: LabelMap) -> np.ndarray:
    """Label values (X, Y, Z) with a map applied, all at once; the same array where it changes nothing.

    >>> apply_map(np.array([0, 1, 2, 7]), {1: 2, 2: 1, 7: 0})
    array([0, 2, 1, 0])
    """
    if not label_map:
        return values
    dtype = np.result_type(values.dtype, *(np.min_scalar_type(target) for target in label_map.values()))
    mapped = values.astype(dtype)
    for value, target in label_map.items():
        mapped[values == value] = target
    return mapped


def map_counts(counts: Mapping[int, int], label_map: LabelMap) -> dict[int, int]:
    """How many voxels have each value when a map has been applied.

    >>> map_counts({0: 5, 2: 3, 8: 1}, {8: 2})
    {0: 5, 2: 4}
    """
    mapped: dict[int, int] = {}
    for value, count in counts.items():
        target = label_map.get(value, value)
        mapped[target] = mapped.get(target, 0) + count
    return mapped


def map_text(label_map: Mapping[Any, int]) -> str:
    """A map in words.

    >>> map_text({8: 2, 255: 0})
    '8 to 2, 255 to 0'
    """
    return ", ".join(f"{value} to {target}" for value, target in label_map.items())


def values_text(values: Iterable[int]) -> str:
    """Whole numbers, neighbours together.

    >>> values_text([5, 8, 9, 10, 13, 14])
    '5, 8 to 10, 13, 14'
    """
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    parts = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return ", ".join(parts)


def _without(label_map: LabelMap, other: LabelMap) -> LabelMap:
    return {value: target for value, target in label_map.items() if value not in other}
