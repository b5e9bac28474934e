"""Results of earlier studies, CSV files: their rows, and the evaluations that they were made of."""

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from medcontext.evaluation.metrics import Score, Status
from medcontext.evaluation.summary import Scores, make_rows, summarise

Rows = list[dict[str, str]]
"""One per arm, seed, case and structure."""

KEYS = ("arm", "seed", "turn", "case", "structure")
"""What a row is of."""

READERS: dict[Any, Callable[[str], Any]] = {str: str, Status: str, float: float, int: int}


def read_rows(results: list[Path]) -> Rows:
    """Of earlier results, CSV files; of a training that several have, what the first has, which must be the same."""
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for path in results:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                before = rows.setdefault(tuple(row.get(key, "") for key in KEYS), row)
                if before["dsc"] != row["dsc"]:
                    sys.exit(
                        f"{path} has another training of '{row['arm']}' with seed {row['seed']} than one before it."
                    )
    return list(rows.values())


def by_training(rows: Rows) -> dict[tuple[str, int], Rows]:
    """Rows of results by arm and seed."""
    groups: dict[tuple[str, int], Rows] = {}
    for row in rows:
        groups.setdefault((row["arm"], int(row["seed"])), []).append(row)
    return groups


def restore(rows: Rows, folder: Path, alike: Path | None) -> None:
    """Write an evaluation again, from its rows in an earlier result.

    Args:
        rows: of one training.
        folder: where to.
        alike: the summary of an evaluation of the same labels by the same protocol.
    """
    if alike is None:
        sys.exit("Nothing is made here that earlier results could be compared with; leave --earlier out.")
    cases: dict[str, list[Score]] = {}
    for row in rows:
        score = Score(**{each.name: READERS[each.type](row[each.name]) for each in fields(Score)})
        cases.setdefault(row["case"], []).append(score)
    folder.mkdir(parents=True, exist_ok=True)
    Scores(folder, {**json.loads(alike.read_text()), **summarise(cases)}, make_rows(cases)).write()
