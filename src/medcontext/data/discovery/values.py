"""A look into each case: which label values there are, with which volumes, and how many channels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medcontext.data.cases import Case
from medcontext.data.check import voxel_counts, voxel_volume
from medcontext.data.nifti import read_header, read_image, read_label
from medcontext.data.pool import in_processes
from medcontext.errors import InputError

MOST_VALUES = 255
"""More different values than this are an image's."""
AIR = -500
"""Scans of which every one reaches below are in Hounsfield units: nothing else has air at -1000."""


class Look(NamedTuple):
    """What is in one case's files.

    Args:
        volumes: of each label value but 0, in millilitres.
        channels: of the image, where it is a single file.
        problem: what is wrong with a file, in words; or nothing.
    """

    volumes: dict[int, float]
    channels: int = 1
    problem: str = ""


@dataclass(frozen=True)
class Value:
    """A label value over all cases: how many have it, and its mean volume in those, in millilitres."""

    cases: int
    volume: float


def look_at(cases: Sequence[Case], workers: int) -> list[Look]:
    """Look into every case, behind a progress bar."""
    looks: list[Look] = [Look({})] * len(cases)
    for index, found in in_processes(look, cases, workers, "looking into the labels"):
        looks[index] = found
    return looks


def look(case: Case) -> Look:
    """Read a case's headers and its label; a problem never raises."""
    channels, problem, volumes = 1, "", {}
    try:
        for image in case.images:
            shape = read_header(image).shape
            channels = shape[3] if len(shape) > 3 else 1
        if case.label is not None:
            volumes = _volumes(case.label)
    except InputError as error:
        problem = str(error)
    return Look(volumes, channels, problem)


def sum_up(looks: Sequence[Look]) -> dict[int, Value]:
    """Every value that occurs, sorted.

    >>> sum_up([Look({1: 2.0}), Look({1: 4.0, 7: 1.0})])
    {1: Value(cases=2, volume=3.0), 7: Value(cases=1, volume=1.0)}
    """
    found = {value for each in looks for value in each.volumes}
    volumes = {value: [each.volumes[value] for each in looks if value in each.volumes] for value in sorted(found)}
    return {value: Value(len(each), float(np.mean(each))) for value, each in volumes.items()}


def is_hounsfield(cases: Sequence[Case], few: int = 3) -> bool:
    """Whether the first few images with one channel that can be read all reach far below 0."""
    lowest = []
    for case in cases:
        try:
            lowest.append(float(read_image(case, [""])[0].min()))
        except InputError:
            continue
        if len(lowest) == few:
            break
    return bool(lowest) and max(lowest) < AIR


def name_values(given: Mapping[str, int] | Sequence[str], values: Sequence[int]) -> dict[str, int]:
    """Names of label values: as given, else `value_1` and so on; the background first.

    Args:
        given: names to values, or texts such as `liver=1`, or names for the values in order.
        values: that occur.

    >>> name_values(["liver=1"], [1, 2]), name_values(["liver", "spleen"], [4, 9])
    ({'background': 0, 'liver': 1, 'value_2': 2}, {'background': 0, 'liver': 4, 'spleen': 9})

    Raises:
        InputError: if these cannot be meant: a name or a value twice, no whole number, more or fewer names than values.
    """
    form = "Give --labels liver=1 tumour=2, or a name for each value in order"
    if isinstance(given, str):
        raise InputError(f"labels is '{given}'; {form[0].lower()}{form[1:]}, in a list or a dictionary.")
    pairs = list(given.items()) if isinstance(given, Mapping) else [_pair(text, form) for text in given]
    if pairs and all(value is None for _, value in pairs):
        if len(pairs) != len(values):
            raise InputError(
                f"--labels has {len(pairs)} names ({', '.join(name for name, _ in pairs)}), the labels have "
                f"{len(values)} values: {', '.join(map(str, values))}. {form}."
            )
        pairs = [(name, value) for (name, _), value in zip(pairs, values, strict=True)]
    known: dict[str, int] = {}
    for name, value in pairs:
        if type(value) is not int or value < 0 or (value == 0) != (name.lower() == "background") or not name:
            raise InputError(f"--labels has '{name}' = {value}; a structure has a whole number from 1. {form}.")
        if name in known or value in known.values():
            raise InputError(f"--labels has the name '{name}' or the value {value} twice. {form}.")
        known[name] = value
    rest = {f"value_{value}": value for value in values if value not in known.values()}
    named = {name: value for name, value in (known | rest).items() if value}
    return {"background": 0, **dict(sorted(named.items(), key=lambda item: item[1]))}


def _pair(text: str, form: str) -> tuple[str, int | None]:
    name, equals, value = text.rpartition("=")
    if not equals:
        return text, None
    if not value.strip().isdecimal():
        raise InputError(f"--labels has '{text}'. {form}.")
    return name.strip(), int(value)


def _volumes(path: Path) -> dict[int, float]:
    label, affine = read_label(path)
    counts = voxel_counts(label)
    if len(counts) > MOST_VALUES:
        raise InputError(f"{path} holds {len(counts)} different values, as an image does, not a label.")
    return {value: count * voxel_volume(affine) for value, count in counts.items() if value}
