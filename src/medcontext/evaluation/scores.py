"""Reading what `medcontext evaluate` wrote, and pairing several of it case by case."""

import csv
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medcontext.data.cases import patient
from medcontext.data.folders import shortened
from medcontext.errors import InputError
from medcontext.evaluation.summary import METRICS, seen_in_training
from medcontext.files import AnyPath, read_json

Key = tuple[str, str]
"""Case and structure."""

Seeds = dict[int, float]
"""A score by the number of its seed, in the order given."""


@dataclass(frozen=True)
class Evaluation:
    """One evaluated run.

    Args:
        folder: that `medcontext evaluate` wrote.
        summary: its `summary.json`.
        rows: its `metrics.csv` by case and structure, as text.
    """

    folder: Path
    summary: dict[str, Any]
    rows: dict[Key, dict[str, str]]

    @property
    def owners(self) -> dict[str, str]:
        """Whose scan each case is."""
        said = {case["name"]: case.get("patient", "") for case in self.summary.get("cases", [])}
        return {case: said.get(case) or patient(case) for case in dict.fromkeys(case for case, _ in self.rows)}

    @property
    def parts(self) -> dict[str, str]:
        """Which part each case had in the training: training, validation, test or unknown."""
        said = {case["name"]: case.get("part", "unknown") for case in self.summary.get("cases", [])}
        return {case: said.get(case, "unknown") for case in dict.fromkeys(case for case, _ in self.rows)}

    def value(self, key: Key, metric: str) -> float:
        """A score; NaN where it does not count."""
        return float(self.rows[key][metric])


@dataclass(frozen=True)
class Model:
    """One model, trained with one or several seeds.

    Args:
        name: in tables.
        evaluations: one for each seed.
    """

    name: str
    evaluations: tuple[Evaluation, ...]

    @property
    def remark(self) -> str:
        """What to say loudly where cases are scored that the model was trained on; else nothing."""
        said = [seen_in_training(run.parts) for run in self.evaluations]
        return next((f"{self.name}: {text}" for text in said if text), "")

    @property
    def owners(self) -> dict[str, str]:
        """Whose scan each case of any seed is."""
        return {case: owner for run in self.evaluations for case, owner in run.owners.items()}


Named = Mapping[str, AnyPath | Sequence[AnyPath]]
"""The evaluations of each model by its name."""


def read_models(models: Named | Sequence[str], least: int = 2) -> list[Model]:
    """The evaluations of models, the folders of one model being its seeds.

    A folder that exists is taken as it is called, with the "=" and "," in its name.

    Args:
        models: by name, or as on the command line, each `[NAME=]FOLDER[,FOLDER...]`.
        least: so many must be given.

    Raises:
        InputError: if there are fewer than `least`, or two of one name; if a folder is not an evaluation; if they do
            not have the same protocol, structures and cases (each missing case is named).
    """
    if isinstance(models, str):
        raise InputError(f"models is '{models}'; give several, in a list or by name in a dictionary.")
    if len(models) < least:
        raise InputError(f"{len(models)} evaluation is given; a comparison needs at least two.")
    names, folders = _named(models) if isinstance(models, Mapping) else _listed(models)
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"Two models are called '{twice[0]}'; name them: A={folders[0][0]} B={folders[1][0]}.")
    read = [
        Model(name, tuple(read_evaluation(folder) for folder in listed))
        for name, listed in zip(names, folders, strict=True)
    ]
    _check_alike(read)
    return read


def _named(models: Named) -> tuple[list[str], list[list[Path]]]:
    """Names and folders of models given by name."""
    alone = (str, os.PathLike)
    return list(models), [
        [Path(folder) for folder in ([listed] if isinstance(listed, alone) else listed)] for listed in models.values()
    ]


def _listed(arguments: Sequence[str]) -> tuple[list[str], list[list[Path]]]:
    """Names and folders of models as on the command line; those without a name are called by their folders."""
    parts = [_name_and_folders(os.fspath(argument)) for argument in arguments]
    names, folders = [name for name, _ in parts], [listed for _, listed in parts]
    if not all(names):
        short = _names([listed[0] for listed in folders])
        names = [name or other for name, other in zip(names, short, strict=True)]
    return names, folders


def read_evaluation(folder: Path) -> Evaluation:
    """What an evaluation wrote.

    Raises:
        InputError: if the folder is not one that `medcontext evaluate` wrote, or is damaged.
    """
    table, report = folder / "metrics.csv", folder / "summary.json"
    missing = [file.name for file in (table, report) if not file.is_file()]
    if missing:
        raise InputError(f"{folder} is not a folder that `medcontext evaluate` wrote: there is no {missing[0]}.")
    summary = _read_summary(report)
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = {(row["case"], row["structure"]): row for row in csv.DictReader(file)}
        for row in rows.values():
            for metric in METRICS:
                float(row[metric])
            _ = row["status"]
    except KeyError as error:
        raise InputError(f"{table} is damaged or of another version: no column {error}; evaluate again.") from None
    except (OSError, TypeError, ValueError, csv.Error) as error:
        raise InputError(f"{table} is damaged: {error}; evaluate again.") from error
    if not rows:
        raise InputError(f"{table} has no cases; evaluate again.")
    return Evaluation(folder, summary, rows)


def paired_values(models: Sequence[Model], structure: str, metric: str) -> dict[str, list[Seeds]]:
    """For every case that counts: for every model, its score with each seed that the case was scored with.

    A structure that the label does not have and that some run predicts has the worst score there. Runs that rightly
    predict nothing then have the best one, DSC 1 and HD95 0; else false alarms would leave the comparison together
    with the case. Where no run predicts anything, the case does not count.
    """
    best = 1.0 if metric == "dsc" else 0.0
    cases = dict.fromkeys(case for run in models[0].evaluations for case, _ in run.rows)
    found = {}
    for case in cases:
        values = [
            {
                seed: run.value((case, structure), metric)
                for seed, run in enumerate(model.evaluations)
                if (case, structure) in run.rows
            }
            for model in models
        ]
        if not all(math.isnan(value) for scores in values for value in scores.values()):
            found[case] = [
                {seed: best if math.isnan(value) else value for seed, value in scores.items()} for scores in values
            ]
    return found


def count(model: Model, structure: str, status: str) -> float:
    """Cases of a status, such as `missed`, on average over the seeds."""
    hits = [
        sum(row["status"] == status for (_, name), row in run.rows.items() if name == structure)
        for run in model.evaluations
    ]
    return sum(hits) / len(hits)


def _read_summary(path: Path) -> dict[str, Any]:
    """A summary whose fields are what comparisons and reports take them for."""
    summary = read_json(path)
    if not isinstance(summary, dict):
        raise InputError(f"{path} is damaged: it holds no fields; evaluate again.")
    for field, (expected, fits) in FIELDS.items():
        if field not in summary and field in OPTIONAL:
            continue
        if field not in summary or not fits(summary[field]):
            found = "is damaged" if field in summary else "is missing"
            raise InputError(f"{path}: {field} {found}; it must be {expected}. Evaluate again.")
    return summary


def _is_case(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and all(isinstance(entry.get(key), str) for key in ("name", "label", "prediction"))
        and all(isinstance(entry.get(key, ""), str) for key in ("patient", "part"))
        and _is_list(entry.get("images", []), str)
    )


def _is_list(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(type(each) is kind for each in value)


FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "protocol": ("a name", lambda value: isinstance(value, str)),
    "units": ("the unit of each metric", lambda value: isinstance(value, dict) and set(METRICS) <= set(value)),
    "structures": ("an entry for each structure", lambda value: isinstance(value, dict)),
    "values": (
        "a list of whole numbers for each structure",
        lambda value: isinstance(value, dict) and all(_is_list(each, int) for each in value.values()),
    ),
    "cases": (
        "a list of cases, each with its name, label, prediction and images",
        lambda value: isinstance(value, list) and all(map(_is_case, value)),
    ),
    "conventions": ("texts by their names", lambda value: isinstance(value, dict)),
    "predictions": ("a folder", lambda value: isinstance(value, str)),
}
OPTIONAL = ("values", "cases", "conventions", "predictions")  # which other tools' evaluations may lack


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
    """The first part of the paths in which they all differ, from their ends."""
    parts = [folder.resolve().parts[::-1] for folder in folders]
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
            for key in ("protocol", "units"):
                if other.summary[key] != first.summary[key]:
                    raise InputError(
                        f"{other.folder} has {key} {other.summary[key]}, {first.folder} has {first.summary[key]}; "
                        "evaluate both alike."
                    )
            _refuse_difference(first, other, "case", 0)
            _refuse_difference(first, other, "structure", 1)
            _check_labels(first, other)


def _refuse_difference(first: Evaluation, other: Evaluation, what: str, position: int) -> None:
    for one, two in ((first, other), (other, first)):
        missing = sorted({key[position] for key in one.rows} - {key[position] for key in two.rows})
        if missing:
            raise InputError(
                f"{two.folder} lacks {len(missing)} {what}{'s' * (len(missing) > 1)} of {one.folder}: "
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
