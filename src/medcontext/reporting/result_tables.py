"""The table of results as the page shows it: a row a structure, a column a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from medcontext.comparison.compare import Comparison
from medcontext.comparison.study import ALL, Study
from medcontext.comparison.text import METRIC_NAMES, interval_text, p_value
from medcontext.errors import counted
from medcontext.evaluation.summary import METRICS


class ShownDifference(NamedTuple):
    """Of another model from the first, as text.

    Args:
        mean: of the patients' differences.
        interval: about it.
        p: corrected for all structures.
        significant: by that.
        alone: p as it is without the correction, where that is what contradicts the interval; else empty.
    """

    mean: str
    interval: str
    p: str
    significant: bool
    alone: str


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
    """All structures with one metric.

    Args:
        metric: its key.
        name: for a person.
        caption: with its unit, and how many cases count.
        rows: of structures that some model finds, and of the mean over all.
        unfound: the other structures.
    """

    metric: str
    name: str
    caption: str
    rows: list[Row]
    unfound: list[str]

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
            if name not in study.unfound
        ]
        unit = "%" if metric == "dsc" else study.units[metric]
        caption = f"{METRIC_NAMES[metric]}, {unit}; {counted(len(study.paired[ALL, metric].scores), 'case')}"
        tables.append(ResultTable(metric, METRIC_NAMES[metric], caption, rows, study.unfound))
    return tables


def _means(means: Sequence[float], metric: str) -> list[tuple[str, bool]]:
    if not means:
        return []
    texts = [f"{100 * mean if metric == 'dsc' else mean:.1f}" for mean in means]
    best = texts[means.index(max(means) if metric == "dsc" else min(means))]
    return [(text, text == best and len(set(texts)) > 1) for text in texts]


def _difference(row: Comparison) -> ShownDifference:
    d, scale = row.difference, 100 if row.metric == "dsc" else 1
    excludes_none = d.low > 0 or d.high < 0  # neither, where there is no interval
    alone = p_value(d.p) if excludes_none and not row.significant and row.p_holm > d.p else ""
    mean, interval = f"{scale * d.mean:+.1f}", interval_text(d, scale, 1)
    return ShownDifference(mean, interval, p_value(row.p_holm, d.n), row.significant, alone)


def _counts(numbers: Sequence[float]) -> str:
    return " / ".join(f"{number:.3g}" for number in numbers) if any(numbers) else ""
