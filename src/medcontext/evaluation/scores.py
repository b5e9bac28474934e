"""Reading what `medcontext evaluate` wrote."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medcontext.data.cases import patient
from medcontext.errors import InputError
from medcontext.evaluation.summary import METRICS
from medcontext.files import read_json

Key = tuple[str, str]
"""Case and structure."""


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
    def cases(self) -> list[str]:
        return list(dict.fromkeys(case for case, _ in self.rows))

    @property
    def structures(self) -> list[str]:
        return list(dict.fromkeys(structure for _, structure in self.rows))

    @property
    def owners(self) -> dict[str, str]:
        """Whose scan each case is."""
        said = {case["name"]: case.get("patient", "") for case in self.summary.get("cases", [])}
        return {case: said.get(case) or patient(case) for case in self.cases}

    @property
    def parts(self) -> dict[str, str]:
        """Which part each case had in the training: training, validation, test, out of fold or unknown."""
        said = {case["name"]: case.get("part", "unknown") for case in self.summary.get("cases", [])}
        return {case: said.get(case, "unknown") for case in self.cases}

    def value(self, key: Key, metric: str) -> float:
        """A score; NaN where it does not count."""
        return float(self.rows[key][metric])


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


def _read_summary(path: Path) -> dict[str, Any]:
    """A summary whose fields are what comparisons and reports take them for."""
    summary = read_json(path)
    if not isinstance(summary, dict):
        raise InputError(f"{path} is damaged: it holds no fields; evaluate again.")
    for field, (expected, fits) in FIELDS.items():
        if field not in summary and field in MAY_LACK:
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


def _is_nnunet(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("trainer"), str | None)
        and isinstance(entry.get("folds"), dict)
        and all(isinstance(each, str | None) for each in entry["folds"].values())
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
    "nnunet": ("a training's folder, and the checksums of its folds", _is_nnunet),
    "ignored": ("a whole number", lambda value: value is None or type(value) is int),
    "label_map": (
        "whole numbers by whole numbers",
        lambda value: isinstance(value, dict) and all(key.isdecimal() and type(value[key]) is int for key in value),
    ),
}
MAY_LACK = ("values", "cases", "conventions", "predictions", "nnunet", "ignored", "label_map")  # those of other tools
