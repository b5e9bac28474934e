"""From the folders that `medcontext evaluate` wrote to a study of their models."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from medcontext.comparison.study import Model, Study
from medcontext.data.folders import shortened
from medcontext.errors import InputError, counted
from medcontext.evaluation.scores import Evaluation, read_evaluation
from medcontext.files import AnyPath

Named = Mapping[str, AnyPath | Sequence[AnyPath]]
"""The evaluations of each model by its name."""

Given = Named | Sequence[str]
"""Models by name, or as on the command line, each `[NAME=]FOLDER[,FOLDER...]`."""


def read_study(models: Given, least: int = 2) -> Study:
    """The evaluations of models, the folders of one model being its seeds.

    A folder that exists is taken as it is called, with the "=" and "," in its name.

    Args:
        models: by name, or as on the command line.
        least: so many must be given.

    Raises:
        InputError: if there are fewer than `least`, or two of one name; if a folder is not an evaluation; if they do
            not have the same protocol, structures and cases (each missing case is named).
    """
    if isinstance(models, str):
        raise InputError(f"models is '{models}'; give several, in a list or by name in a dictionary.")
    if len(models) < least:
        raise InputError(f"{len(models)} evaluation is given; a comparison needs at least two.")
    listed = _named(models) if isinstance(models, Mapping) else _listed(models)
    names = [name for name, _ in listed]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"Two models are called '{twice[0]}'; name them: A={listed[0][1][0]} B={listed[1][1][0]}.")
    read = tuple(Model(name, tuple(map(read_evaluation, folders))) for name, folders in listed)
    _check_alike(read)
    return Study(read)


def _named(models: Named) -> list[tuple[str, list[Path]]]:
    """Names and folders of models given by name."""
    several = {name: [one] if isinstance(one, str | os.PathLike) else one for name, one in models.items()}
    return [(name, [Path(folder) for folder in folders]) for name, folders in several.items()]


def _listed(arguments: Sequence[str]) -> list[tuple[str, list[Path]]]:
    """Names and folders of models as on the command line; those without a name are called by their folders."""
    parts = [_name_and_folders(os.fspath(argument)) for argument in arguments]
    if all(name for name, _ in parts):
        return parts
    short = _names([folders[0] for _, folders in parts])
    return [(name or other, folders) for (name, folders), other in zip(parts, short, strict=True)]


def _name_and_folders(argument: str) -> tuple[str, list[Path]]:
    """The parts of `[NAME=]FOLDER[,FOLDER...]`: the first reading whose folders exist."""
    ends = [index for index, letter in enumerate(argument) if letter == "="]
    readings = [("", argument), *((argument[:end], argument[end + 1 :]) for end in ends)]
    for name, listed in readings:
        for folders in ([listed], listed.split(",")):
            if all(os.path.isdir(folder) for folder in folders):  # False, not an error, for a name too long
                return name, [Path(folder) for folder in folders]
    name, listed = readings[min(1, len(ends))]
    return name, [Path(folder) for folder in listed.split(",")]


def _names(folders: Sequence[Path]) -> list[str]:
    """The first part of the paths in which they all differ, from their ends; `scores` alone says nothing."""
    parts = [folder.resolve().parts[::-1] for folder in folders]
    if len(parts) == 1 and parts[0][0].lower() == "scores":
        return [parts[0][1]]
    for names in zip(*parts, strict=False):
        if len(set(names)) == len(names):
            return list(names)
    return [str(folder) for folder in folders]


def _check_alike(models: Sequence[Model]) -> None:
    """Seeds may be tested on different cases, as those of a split; then each model must have the same seeds."""
    one_by_one = len({len(model.evaluations) for model in models}) == 1
    for model in models:
        for seed, other in enumerate(model.evaluations):
            first = models[0].evaluations[seed if one_by_one else 0]
            for key in ("protocol", "units", "ignored"):
                its, firsts = other.summary.get(key), first.summary.get(key)
                if its != firsts:
                    raise InputError(
                        f"{other.folder} has {key} {its}, {first.folder} has {firsts}; evaluate both alike."
                    )
            _refuse_difference(first, other, "case")
            _refuse_difference(first, other, "structure")
            _check_labels(first, other)


def _refuse_difference(first: Evaluation, other: Evaluation, what: Literal["case", "structure"]) -> None:
    for one, two in ((first, other), (other, first)):
        has, lacks = (each.cases if what == "case" else each.structures for each in (one, two))
        if missing := sorted(set(has) - set(lacks)):
            raise InputError(
                f"{two.folder} lacks {counted(len(missing), what)} of {one.folder}: "
                f"{shortened(missing).replace(';', ',')}. Predict and evaluate the same cases with every model."
            )


def _check_labels(first: Evaluation, other: Evaluation) -> None:
    if other.rows.keys() != first.rows.keys():
        raise InputError(f"{other.folder} and {first.folder} do not score the same structures in every case.")
    for key, row in first.rows.items():
        if other.rows[key].get("label_voxels") != row.get("label_voxels"):
            raise InputError(
                f"{other.folder} and {first.folder} were scored against different labels: in case '{key[0]}', "
                f"'{key[1]}' has {other.rows[key].get('label_voxels')} and {row.get('label_voxels')} voxels."
            )
