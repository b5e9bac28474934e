"""From the scores of all cases to means, files and a table."""

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from medcontext.data.folders import listed
from medcontext.errors import counted
from medcontext.evaluation.metrics import Score
from medcontext.evaluation.protocols import Protocol
from medcontext.files import atomic_path, write_json, write_text

METRICS = ("dsc", "hd95_pooled", "hd95_max")

OUT_OF_FOLD = "out of fold"
"""The part of a case that was predicted by the network of a cross-validation that was not trained on it."""

Cases = Mapping[str, Sequence[Score]]
"""The scores of each case by its name, every case with the same structures in the same order."""


def make_rows(cases: Cases) -> list[dict[str, Any]]:
    """One row per case and structure; a score that does not count is NaN, `dsc` is a fraction from 0 to 1."""
    return [{"case": name, **asdict(score)} for name, scores in cases.items() for score in scores]


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as text, with the columns that any of them has."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@dataclass(frozen=True)
class Scores:
    """What an evaluation found; a path, too: its folder.

    Args:
        folder: of `metrics.csv` and `summary.json`.
        summary: means over the cases, and what they are means of.
        rows: see `make_rows`; `pandas.DataFrame(scores.rows)` takes them.
    """

    folder: Path
    summary: dict[str, Any]
    rows: list[dict[str, Any]]

    def __fspath__(self) -> str:
        return str(self.folder)

    def write(self) -> None:
        """Write `metrics.csv` and `summary.json`, both or neither."""
        table, report = self.folder / "metrics.csv", self.folder / "summary.json"
        with atomic_path(table) as rows, atomic_path(report) as summary:
            write_text(rows, to_csv(self.rows))
            write_json(summary, self.summary)


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


def seen_in_training(parts: Mapping[str, str]) -> str:
    """What to say loudly where cases are scored that the network was trained on, or chosen by; else nothing.

    >>> seen_in_training({"a": "training", "b": "test", "c": "validation"})
    '1 of 3 scored cases was trained on (a), 1 was validated on (c): such scores say little about new patients.'
    """
    found: list[str] = []
    for part, what in (("training", "trained on"), ("validation", "validated on")):
        names = [name for name, its in parts.items() if its == part]
        if names:
            of = f" of {len(parts)} scored cases" * (not found)
            verb = "was" if len(names) == 1 else "were"
            found.append(f"{len(names)}{of} {verb} {what} ({listed(names)})")
    return f"{', '.join(found)}: such scores say little about new patients." if found else ""


def held_out(parts: Mapping[str, str]) -> str:
    """What to say of cases that are scored out of fold; else nothing.

    >>> held_out({"a": "out of fold", "b": "test"})
    '1 of 2 scored cases is out of fold: predicted by a network of a cross-validation that was not trained on it.'
    """
    count = sum(part == OUT_OF_FOLD for part in parts.values())
    verb = f"is {OUT_OF_FOLD}:" if count == 1 else f"are {OUT_OF_FOLD}: each"
    text = f"{verb} predicted by a network of a cross-validation that was not trained on it."
    return f"{count} of {len(parts)} scored cases {text}" if count else ""


def make_table(summary: Mapping[str, Any], protocol: Protocol, cases: int) -> Table:
    """The summary as a person reads it: DSC in per cent, and the counts beside every mean.

    It fits 80 columns. Cases that have a structure in neither label nor prediction are those that its n lacks.
    """
    overall = summary["mean"]
    shown = {"n": "n", "missed": "missed", "spurious": "false\nalarms"}
    table = Table(
        title=f"{counted(cases, 'case')}, {protocol.name} protocol", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
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
    caption = "± standard deviation over cases; last row: mean of the structures' means"
    table.caption = caption + "\nn: cases that have the structure, in label or prediction" * bool(overall["absent"])
    return table


def _structure(scores: Sequence[Score]) -> dict[str, Any]:
    counting = [score for score in scores if score.counts]
    entry: dict[str, Any] = {"n": len(counting)}
    for status in ("missed", "spurious", "absent"):
        entry[status] = sum(score.status == status for score in scores)
    for metric in METRICS:
        values = [getattr(score, metric) for score in counting]
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
