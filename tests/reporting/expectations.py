"""Evaluations whose predictions came with an `expected.csv`."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from medcontext.evaluation.scores import read_evaluation
from medcontext.inference.judge import Judged, sort_expected, write_expected

SIGNS = (0.7, 0.8, 0.3)


def foreseen(scores: Path, folder: Path, off: float = 0.1, *, leave_out: Sequence[str] = ()) -> Path:
    """A copy of an evaluation of which each DSC was expected, but for so much; what was missed was not found."""
    shutil.copytree(scores, folder / "scores")
    predictions = folder / "predictions"
    predictions.mkdir()
    summary = json.loads((scores / "summary.json").read_text())
    (folder / "scores/summary.json").write_text(json.dumps(summary | {"predictions": str(predictions)}))
    evaluation, rows = read_evaluation(scores), []
    for case in evaluation.cases:
        own = [_judged(case, name, evaluation.value((case, name), "dsc"), off) for name in evaluation.structures]
        values = [row.expected[0] for row in own if row.expected]
        mean = sum(values) / len(values)
        remarks = "likely bad; left: 3 ml, 10 to 12 ml in the labelled scans" if case == "ball_5" else ""
        rows += [Judged(case, "mean", (mean, mean - 0.2, min(1.0, mean + 0.2)), SIGNS, remarks), *own]
    write_expected(predictions, [row for row in rows if row.case not in leave_out and row.structure not in leave_out])
    sort_expected(predictions)
    return folder / "scores"


def _judged(case: str, structure: str, dsc: float, off: float) -> Judged:
    if not dsc:
        return Judged(case, structure, (0.0, 0.0, 0.0), None, "not found")
    value = max(0.0, dsc - off)
    return Judged(case, structure, (value, max(0.0, value - 0.2), min(1.0, value + 0.2)), SIGNS)
