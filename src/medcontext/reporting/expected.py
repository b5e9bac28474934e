"""What was expected of evaluated predictions, as `medcontext predict` wrote it beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medcontext.comparison.study import Model, Study
from medcontext.data.folders import listed
from medcontext.errors import InputError, counted
from medcontext.evaluation.scores import Evaluation
from medcontext.inference.judge import FILE, Judged, all_by_need, by_need, read_expected


class Pair(NamedTuple):
    """Of the structures that were found in a case the means: the expected DSC, its interval, and the true DSC."""

    expected: float
    low: float
    high: float
    true: float


@dataclass(frozen=True)
class Foreseen:
    """What was expected of a model's predictions.

    Args:
        model: its name.
        index: its position among the models.
        rows: of each case's mean and structures, the cases in the order of their need of a look.
        pairs: of the cases in which a DSC is expected of a structure.
    """

    model: str
    index: int
    rows: Sequence[Judged]
    pairs: dict[str, Pair]

    @property
    def cases(self) -> list[Judged]:
        """The row of each case's mean."""
        return by_need(self.rows)


def read_foreseen(study: Study) -> tuple[list[Foreseen], list[str]]:
    """What was expected of each model whose predictions have an `expected.csv`, and a sentence on each that is unfit.

    Of several seeds that of the first which has the case, as everywhere where cases are shown.
    """
    found, unfit = [], []
    for index, model in enumerate(study.models):
        try:
            foreseen = _of_model(model, index)
        except InputError as error:
            unfit.append(f"{model.name}: {error}")
            continue
        found += [foreseen] if foreseen.rows else []
    return found, unfit


def _of_model(model: Model, index: int) -> Foreseen:
    rows: dict[str, list[Judged]] = {}
    pairs: dict[str, Pair] = {}
    for evaluation in model.evaluations:
        for case, judged in _of_evaluation(evaluation).items():
            if case not in rows:
                rows[case] = judged
                pairs |= _pair(case, judged, evaluation)
    return Foreseen(model.name, index, all_by_need([row for judged in rows.values() for row in judged]), pairs)


def _of_evaluation(evaluation: Evaluation) -> dict[str, list[Judged]]:
    """The rows of each case that was scored; none where nothing was expected.

    Raises:
        InputError: if the file is damaged, or lacks a case or a structure: it is then of other predictions.
    """
    folder = evaluation.summary.get("predictions")
    rows = read_expected(Path(folder)) if folder else []
    if not rows:
        return {}
    found: dict[str, list[Judged]] = {case: [] for case in evaluation.cases}
    for row in rows:
        if row.case in found:
            found[row.case].append(row)
    lacking = [case for case, judged in found.items() if not judged]
    what, all_of = "case", evaluation.cases
    if not lacking:
        lacking = [name for name in evaluation.structures if name not in {row.structure for row in rows}]
        what, all_of = "structure", evaluation.structures
    if lacking:
        raise InputError(
            f"{Path(folder or '') / FILE} is not of these predictions: it lacks {len(lacking)} of "
            f"{counted(len(all_of), what)}, {listed(lacking)}. What was expected is not shown; predict again."
        )
    return found


def _pair(case: str, judged: Sequence[Judged], evaluation: Evaluation) -> dict[str, Pair]:
    """The pair of a case, if there is one."""
    rows = []
    for row in judged:
        scored = (case, row.structure) in evaluation.rows
        if scored and row.signs and row.expected and not isnan(true := evaluation.value((case, row.structure), "dsc")):
            rows.append((*row.expected, true))
    return {case: Pair(*np.mean(rows, axis=0).tolist())} if rows else {}
