"""From the scores of all cases to means, files and a table."""

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from medcontext.evaluation.metrics import Score
from medcontext.evaluation.protocols import Protocol

METRICS = ("dsc", "hd95_pooled", "hd95_max")

Cases = Mapping[str, Sequence[Score]]
"""The scores of each case by its name, every case with the same structures in the same order."""


def to_csv(cases: Cases) -> str:
    """One row per case and structure; a score that does not count is `nan`, `dsc` is a fraction from 0 to 1."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", *(field.name for field in fields(Score))])
    for name, scores in cases.items():
        writer.writerows([name, *asdict(score).values()] for score in scores)
    return text.getvalue()


def summarise(cases: Cases) -> dict[str, Any]:
    """Means over the cases for each structure, and the mean over these.

    Returns:
        `structures`: for each its `n` (the cases that count), the numbers of cases `missed`, `spurious` and
        `absent`, and for each metric `mean`, `median` and `std` (the sample's, dividing by n - 1).
        `mean`: for each metric the mean over the structures' means, so that every structure weighs the same
        however many cases have it; over how many `structures`, and the counts summed up. What cannot be
        computed is None.
    """
    structures = {}
    for scores in zip(*cases.values(), strict=True):
        structures[scores[0].structure] = _structure(scores)
    counted = [entry for entry in structures.values() if entry["n"]]
    overall: dict[str, Any] = {
        metric: statistics.fmean(entry[metric]["mean"] for entry in counted) if counted else None for metric in METRICS
    }
    overall["structures"] = len(counted)
    for count in ("n", "missed", "spurious", "absent"):
        overall[count] = sum(entry[count] for entry in structures.values())
    return {"structures": structures, "mean": overall}


def make_table(summary: Mapping[str, Any], protocol: Protocol, cases: int) -> Table:
    """The summary as a person reads it: DSC in per cent, and the counts beside every mean.

    It fits 80 columns; where a structure is absent from some cases, it takes one column more.
    """
    overall = summary["mean"]
    shown = {"n": "n", "missed": "missed", "spurious": "false\nalarms"}
    if overall["absent"]:
        shown["absent"] = "absent"
    table = Table(
        title=f"{cases} case{'s' * (cases != 1)}, {protocol.name} protocol", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column("structure", overflow="fold")
    unit = protocol.hd95_unit
    for heading in (*shown.values(), "DSC\n%", f"HD95 pooled\n{unit}", f"HD95 max\n{unit}"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, entry in summary["structures"].items():
        scores = (_mean_and_std(entry[metric], metric) for metric in METRICS)
        table.add_row(Text(name), *(str(entry[count]) for count in shown), *scores)
    table.add_section()
    means = (_number(overall[metric], metric) for metric in METRICS)
    table.add_row("mean", *(str(overall[count]) for count in shown), *means, style="bold")
    table.caption = "± standard deviation over cases; last row: mean of the structures' means"
    return table


def _structure(scores: Sequence[Score]) -> dict[str, Any]:
    counted = [score for score in scores if score.counts]
    entry: dict[str, Any] = {"n": len(counted)}
    for status in ("missed", "spurious", "absent"):
        entry[status] = sum(score.status == status for score in scores)
    for metric in METRICS:
        values = [getattr(score, metric) for score in counted]
        entry[metric] = {
            "mean": statistics.fmean(values) if values else None,
            "std": statistics.stdev(values) if len(values) > 1 else None,
            "median": statistics.median(values) if values else None,
        }
    return entry


def _mean_and_std(values: Mapping[str, float | None], metric: str) -> str:
    if values["std"] is None:
        return _number(values["mean"], metric)
    return f"{_number(values['mean'], metric)} ± {_number(values['std'], metric, digits=1)}"


def _number(value: float | None, metric: str, digits: int = 2) -> str:
    if value is None:
        return "-"
    return f"{100 * value if metric == 'dsc' else value:.{digits}f}"
