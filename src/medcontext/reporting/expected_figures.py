"""Figures of the DSC that is expected of segmentations."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from medcontext.data.regions import MEAN
from medcontext.inference.judge import Judged
from medcontext.pictures.panel import FAINT, INK
from medcontext.reporting.drawing import (
    MODEL_COLOURS,
    WIDTH,
    in_lines,
    link_points,
    marker,
    name_rows,
    new_figure,
    scatter_row,
)
from medcontext.reporting.expected import Foreseen


def against_true(foreseen: Foreseen, title: str = "") -> Figure:
    """The expected against the true DSC, a point for each case: the mean over the structures that were found."""
    figure, axes = new_figure(WIDTH * 0.92)
    axes.plot([0, 100], [0, 100], color=FAINT, linewidth=0.8)
    x, y = 100 * np.array([(pair.expected, pair.true) for pair in foreseen.pairs.values()]).T
    colour, shape = MODEL_COLOURS[foreseen.index % 6], marker(foreseen.index)
    points = axes.scatter(x, y, s=34, color=colour, marker=shape, alpha=0.75, clip_on=False)
    link_points(points, foreseen.pairs)
    axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    axes.grid(axis="y", color=FAINT, alpha=0.18, linewidth=0.6)
    axes.set_xlabel("expected DSC of a case, %")
    axes.set_ylabel("true DSC, %")
    axes.set_title(in_lines(title, 56), fontsize=9, color=INK)
    return figure


def by_structure(rows: Sequence[Judged]) -> Figure:
    """The DSC that is expected of every structure in every case, and of the cases' means, each a point."""
    values: Mapping[str, dict[str, float]] = {row.structure: {} for row in rows if row.structure != MEAN} | {MEAN: {}}
    for row in rows:
        if row.expected:
            values[row.structure][row.case] = 100 * row.expected[0]
    shown = {name: cases for name, cases in values.items() if cases}
    figure, axes = new_figure(0.34 * len(shown) + 1.0)
    rng = np.random.default_rng(0)
    for line, cases in enumerate(shown.values()):
        scatter_row(axes, line, cases, 0, 1, rng)
    name_rows(axes, list(shown))
    axes.set_xlim(0, 100)
    axes.set_xlabel("expected DSC, %")
    return figure
