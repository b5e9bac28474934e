"""The table of results as the page shows it: a row a structure, a column a model."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from medcontext.comparison.compare import ALL, Cases, Comparison, mean_over_structures, patient_means
from medcontext.comparison.text import NAMES, p_value
from medcontext.evaluation.scores import Model, count, paired_values
from medcontext.evaluation.summary import METRICS


class Difference(NamedTuple):
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
    differences: list[Difference]
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


def result_tables(
    models: Sequence[Model], comparisons: Sequence[Comparison], units: Mapping[str, str]
) -> list[ResultTable]:
    """One table for each metric.

    Args:
        models: one or more.
        comparisons: of the first with every other, from `compare_models`; empty for one model.
        units: of the metrics.
    """
    structures = list(dict.fromkeys(name for _, name in models[0].evaluations[0].rows))
    tables = []
    for metric in METRICS:
        found = {(row.second, row.structure): row for row in comparisons if row.metric == metric}
        by_structure = {name: paired_values(models, name, metric) for name in structures}
        by_structure[ALL] = mean_over_structures(by_structure)
        rows = [
            Row(
                name,
                name == ALL,
                _means(models, name, metric, cases, found),
                [_difference(found[model.name, name]) for model in models[1:] if cases],
                _counts(models, name, "missed"),
                _counts(models, name, "spurious"),
            )
            for name, cases in by_structure.items()
        ]
        unit = "%" if metric == "dsc" else units[metric]
        caption = f"{NAMES[metric]}, {unit}; {len(by_structure[ALL])} cases"
        tables.append(ResultTable(metric, NAMES[metric], caption, rows))
    return tables


def _means(
    models: Sequence[Model],
    structure: str,
    metric: str,
    cases: Cases,
    found: Mapping[tuple[str, str], Comparison],
) -> list[tuple[str, bool]]:
    if not cases:
        return []
    if found:
        rows = [found[model.name, structure] for model in models[1:]]
        means = [rows[0].means[0], *(row.means[1] for row in rows)]
    else:
        means = [statistics.fmean(patient_means(cases, 0, models[0].owners))]
    texts = [f"{100 * mean if metric == 'dsc' else mean:.1f}" for mean in means]
    best = texts[means.index(max(means) if metric == "dsc" else min(means))]
    return [(text, text == best and len(set(texts)) > 1) for text in texts]


def _difference(row: Comparison) -> Difference:
    d, scale = row.difference, 100 if row.metric == "dsc" else 1
    interval = "–" if math.isnan(d.low) else f"{scale * d.low:+.1f} to {scale * d.high:+.1f}"
    return Difference(f"{scale * d.mean:+.1f}", interval, p_value(row.p_holm), row.significant)


def _counts(models: Sequence[Model], structure: str, status: str) -> str:
    numbers = []
    for model in models:
        names = model.evaluations[0].summary["structures"] if structure == ALL else [structure]
        numbers.append(sum(count(model, name, status) for name in names))
    return " / ".join(f"{number:.3g}" for number in numbers) if any(numbers) else ""
