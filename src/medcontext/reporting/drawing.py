"""What the figures of the report share: colours and markers of models, axes, legends, points that lead to their cases.

A model has its colour and its marker everywhere, so that colours need not be told apart. A case's point links to
`#case=NAME`, which the page's viewer answers by showing it.
"""

from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap
from typing import Any
from urllib.parse import quote

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from medcontext.pictures.panel import FAINT, INK
from medcontext.pictures.save import literal

# Of Okabe and Ito's colours those that stand out on black and on white.
MODEL_COLOURS = ("#0E6BAA", "#D55E00", "#1FA886", "#CC79A7", "#B8860B", "#8A63D2")
MARKERS = ("o", "^", "s", "D", "v", "P")
STYLES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MOST_LINKED = 200  # points of a structure
WIDTH = 5.2  # inches


def case_link(name: str) -> str:
    """
    >>> case_link("img 1&2")
    '#case=img%201%262'
    """
    return f"#case={quote(name, safe='')}"


def scatter_row(
    axes: Axes, line: int, values: Mapping[str, float], model: int, models: int, rng: np.random.Generator
) -> None:
    """The values of cases as points of a row; the bar is from quartile to quartile, the tick the median.

    Args:
        axes: with rows from `name_rows`.
        line: the row.
        values: of each case.
        model: which one's, of so many `models` that share the row.
        rng: spreads the points upwards and downwards.
    """
    y = line + (model - (models - 1) / 2) * 0.8 / models
    spread = y + rng.uniform(-0.24, 0.24, len(values)) / models
    x = list(values.values())
    colour = MODEL_COLOURS[model % 6]
    points = axes.scatter(x, spread, s=20, color=colour, marker=marker(model), alpha=0.5, clip_on=False)
    link_points(points, values)
    low, median, high = np.percentile(x, (25, 50, 75))
    axes.plot([low, high], [y, y], color=colour, linewidth=2.4, solid_capstyle="butt")
    axes.plot([median, median], [y - 0.36 / models, y + 0.36 / models], color=INK, linewidth=1.4)


def new_figure(height: float) -> tuple[Figure, Axes]:
    """Empty axes, `height` in inches, in the page's ink."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=FAINT, labelcolor=INK, labelsize=8.5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(color=INK, fontsize=9)
    axes.grid(axis="x", color=FAINT, alpha=0.18, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def marker(index: int) -> str:
    """Another one also where the colours begin again."""
    return MARKERS[(index + index // len(MARKERS)) % len(MARKERS)]


def link_points(points: PathCollection, cases: Iterable[str]) -> None:
    """Let each point lead to its case; so many that nobody could find one become a picture."""
    links = [case_link(name) for name in cases]
    if len(links) > MOST_LINKED:
        points.set(linewidths=0, rasterized=True)
    else:
        points.set(linewidths=0, urls=links)


def name_rows(axes: Axes, structures: Sequence[str]) -> None:
    axes.set_yticks(range(len(structures)), [literal(name.replace("_", " ")) for name in structures])
    axes.set_ylim(len(structures) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def add_legend(figure: Figure, names: Sequence[str], lines: bool) -> None:
    """Above the axes; a single model needs none."""
    if len(names) < 2:
        return
    handles = []
    for i, name in enumerate(names):
        style: dict[str, Any] = {"linestyle": STYLES[i % 6]} if lines else {"linestyle": "", "marker": marker(i)}
        handles.append(Line2D([], [], color=MODEL_COLOURS[i % 6], label=in_lines(name, 60), **style))
    columns = max(1, min(3, 60 // (8 + max(map(len, names)))))
    options: dict[str, Any] = {"frameon": False, "fontsize": 8.5, "labelcolor": INK, "handlelength": 3}
    figure.legend(handles=handles, loc="outside upper right", ncols=columns, **options)


def in_lines(text: str, width: int) -> str:
    """A text with names in it, as lines of so many characters at most."""
    return literal("\n".join(wrap(text, width)))
