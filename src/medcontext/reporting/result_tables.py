"""The table of results as the page shows it: a row a structure, a column a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from medcontext.comparison.compare import Comparison
from medcontext.comparison.study import ALL, Study
from medcontext.comparison.text import METRIC_NAMES, interval_text, p_value
from medcontext.evaluation.summary import METRICS


class ShownDifference(NamedTuple):
    """Of another model from the first, as text."""

    mean: str
    interval: str
    p: str
    significant: bool


class Row(NamedTuple):
    """A structure, or the mean over them (`overall`).

    Args:
        structure: its name.
        overall: whether it is the mean.
        means: of each model, as text, and whether it is the best; empty where the structure never counts.
        differences: of each model but the first.
        missed: cases in which each model missed it, as text; empty if none did.
        spurious: likewise, false alarms.
    """

    structure: str
    overall: bool
    means: list[tuple[str, bool]]
    differences: list[ShownDifference]
    missed: str
    spurious: str


@dataclass(frozen=True)
class ResultTable:
    """All structures with one metric."""

    metric: str
    name: str
    caption: str
    rows: list[Row]

    @property
    def counts(self) -> list[tuple[str, str]]:
        """Headings and fields of the counts that are not all zero."""
        shown = (("missed", "missed"), ("false alarms", "spurious"))
        return [(heading, name) for heading, name in shown if any(getattr(row, name) for row in self.rows)]


def result_tables(study: Study, comparisons: Sequence[Comparison]) -> list[ResultTable]:
    """One table for each metric.

    Args:
        study: of one model or more.
        comparisons: of the first with every other, from `compare_models`; empty for one model.
    """
    tables = []
    for metric in METRICS:
        found = {(row.second, row.structure): row for row in comparisons if row.metric == metric}
        rows = [
            Row(
                name,
                name == ALL,
                _means(study.paired[name, metric].means, metric),
                [_difference(found[other, name]) for other in study.names[1:] if study.paired[name, metric].scores],
                _counts(study.count(name, "missed")),
                _counts(study.count(name, "spurious")),
            )
            for name in (*study.structures, ALL)
        ]
        unit = "%" if metric == "dsc" else study.units[metric]
        caption = f"{METRIC_NAMES[metric]}, {unit}; {len(study.paired[ALL, metric].scores)} cases"
        tables.append(ResultTable(metric, METRIC_NAMES[metric], caption, rows))
    return tables


def _means(means: Sequence[float], metric: str) -> list[tuple[str, bool]]:
    if not means:
        return []
    texts = [f"{100 * mean if metric == 'dsc' else mean:.1f}" for mean in means]
    best = texts[means.index(max(means) if metric == "dsc" else min(means))]
    return [(text, text == best and len(set(texts)) > 1) for text in texts]


def _difference(row: Comparison) -> ShownDifference:
    d, scale = row.difference, 100 if row.metric == "dsc" else 1
    return ShownDifference(f"{scale * d.mean:+.1f}", interval_text(d, scale, 1), p_value(row.p_holm), row.significant)


def _counts(numbers: Sequence[float]) -> str:
    return " / ".join(f"{number:.3g}" for number in numbers) if any(numbers) else ""
