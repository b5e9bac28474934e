"""The report's figures: for the page, and as SVG and PNG files for a paper.

A model has its colour and its marker everywhere, so that colours need not be told apart. A case's point links to
`#case=NAME`, which the page's viewer answers by showing it.
"""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any
from urllib.parse import quote

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from medcontext.comparison.compare import Comparison
from medcontext.comparison.study import ALL, Study
from medcontext.errors import counted
from medcontext.pictures.panel import FAINT, INK
from medcontext.pictures.save import literal, save_figure
from medcontext.reporting.shown import Curve, Shown

# Of Okabe and Ito's colours those that stand out on black and on white.
MODEL_COLOURS = ("#0E6BAA", "#D55E00", "#1FA886", "#CC79A7", "#B8860B", "#8A63D2")
MARKERS = ("o", "^", "s", "D", "v", "P")
STYLES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MOST_LINKED = 200  # points of a structure
WIDTH = 5.2  # inches
DPI = 200

CURVES = {
    "train/loss": "loss",
    "train/nnunet_loss": "nnU-Net's loss, training crops",
    "val/nnunet_loss": "nnU-Net's loss, validation crops",
    "val/nnunet_dice": "nnU-Net's pseudo Dice, validation crops",
    "train/whole": "Dice-CE, whole view",
    "train/masked": "Dice-CE, masked view",
    "train/consistency": "consistency with the teacher",
    "train/unlabelled": "Dice-CE, views with unlabelled scans",
    "unlabelled/trusted": "unlabelled voxels on which the teacher is sure",
    "unlabelled/agreement": "student agrees with the teacher there, mean of the structures",
    "unlabelled/known": "how much the teacher finds of each structure, mean",
    "val/loss": "validation loss, whole view",
    "val/dice_student": "validation Dice, student",
    "val/dice_teacher": "validation Dice, teacher",
    "teacher/momentum": "teacher's momentum",
    "beta": "beta, weight of the consistency",
    "lr": "learning rate",
}
PERCENT = re.compile(r"val/(dice|nnunet_dice)|unlabelled/(trusted|agreement|known)")  # shares, drawn from 0 to 100


def difference_figures(comparisons: Sequence[Comparison]) -> dict[str, Figure]:
    """The differences in DSC of every model from the first, by file name."""
    others = list(dict.fromkeys(row.second for row in comparisons))
    return {
        _name("differences", other, others): differences(
            [row for row in comparisons if row.second == other and row.metric == "dsc"]
        )
        for other in others
    }


def score_figures(study: Study) -> dict[str, Figure]:
    """Figures of the scores, by file name."""
    others = study.names[1:]
    figures = {_name("cases", other, others): scatter(study, index) for index, other in enumerate(others, start=1)}
    figures["dsc"] = distributions(study, "dsc", "DSC, %")
    figures["hd95_pooled"] = distributions(study, "hd95_pooled", f"HD95 pooled, {study.units['hd95_pooled']}")
    return figures


def _name(figure: str, other: str, others: Sequence[str]) -> str:
    return figure if len(others) == 1 else f"{figure}_{others.index(other) + 2}_{_file_name(other)[:40]}"


def differences(rows: Sequence[Comparison]) -> Figure:
    """The paired difference of every structure in DSC points, with its interval; filled where it is significant."""
    figure, axes = _figure(0.3 * len(rows) + 1.1)
    first, second = rows[0].first, rows[0].second
    axes.axvline(0, color=FAINT, linewidth=0.8)
    for line, row in enumerate(rows):
        d = row.difference
        low, mean, high = (100 * value for value in (d.low, d.mean, d.high))
        axes.plot([low, high], [line, line], color=MODEL_COLOURS[0], linewidth=2.2 if row.structure == ALL else 1.4)
        face = MODEL_COLOURS[0] if row.significant else "none"
        axes.plot(mean, line, MARKERS[0], color=MODEL_COLOURS[0], markerfacecolor=face, markersize=6)
    _name_rows(axes, [row.structure for row in rows])
    axes.set_xlabel(_lines(f"DSC points, {second} less {first}; 95 % interval", 60))
    better = _lines(f"{second} better →", 26), _lines(f"← {first} better", 26)
    axes.set_title(better[0] if axes.get_xlim()[1] > 0 else "", loc="right", fontsize=8, color=FAINT)
    axes.set_title(better[1] if axes.get_xlim()[0] < 0 else "", loc="left", fontsize=8, color=FAINT)
    return figure


def scatter(study: Study, other: int) -> Figure:
    """One model against another, a point for each case: its mean DSC."""
    scores = study.paired[ALL, "dsc"].case_means
    figure, axes = _figure(WIDTH * 0.92)
    pairs = np.array([[values[0], values[other]] for values in scores.values()]) * 100
    axes.plot([0, 100], [0, 100], color=FAINT, linewidth=0.8)
    x, y = pairs.T
    points = axes.scatter(x, y, s=34, color=MODEL_COLOURS[other % 6], marker=_marker(other), alpha=0.75, clip_on=False)
    _link(points, scores)
    axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    axes.grid(axis="y", color=FAINT, alpha=0.18, linewidth=0.6)
    first, second = study.names[0], study.names[other]
    axes.set_xlabel(_lines(f"{first}: mean DSC of a case, %", 50))
    axes.set_ylabel(_lines(f"{second}: mean DSC, %", 50))
    better = int((pairs[:, 1] > pairs[:, 0]).sum())
    axes.set_title(_lines(f"{second} ahead in {better} of {counted(len(pairs), 'case')}", 50), fontsize=9, color=INK)
    return figure


def distributions(study: Study, metric: str, label: str) -> Figure:
    """The scores of every structure, each case a point; the bar is from quartile to quartile, the tick the median.

    The HD95 of a structure that was missed, or seen where it is not, is no distance: such cases stand apart at the
    right edge, worse than all others.
    """
    structures, models = study.structures, len(study.models)
    step = 1.0 + 0.35 * (models - 1)
    figure, axes = _figure(0.24 * step * len(structures) + 1.0 + 0.2 * models)
    rng = np.random.default_rng(0)
    places = _places(axes, study, metric)
    for line, structure in enumerate(structures):
        for index, values in enumerate(places[structure]):
            if not values:
                continue
            y = line + (index - (models - 1) / 2) * 0.8 / models
            spread = y + rng.uniform(-0.24, 0.24, len(values)) / models
            x = list(values.values())
            colour = MODEL_COLOURS[index % 6]
            points = axes.scatter(x, spread, s=20, color=colour, marker=_marker(index), alpha=0.5, clip_on=False)
            _link(points, values)
            low, median, high = np.percentile(x, (25, 50, 75))
            axes.plot([low, high], [y, y], color=colour, linewidth=2.4, solid_capstyle="butt")
            axes.plot([median, median], [y - 0.36 / models, y + 0.36 / models], color=INK, linewidth=1.4)
    _name_rows(axes, structures)
    axes.set_xlabel(label)
    _legend(figure, study.names, lines=False)
    return figure


def _places(axes: Axes, study: Study, metric: str) -> dict[str, list[dict[str, float]]]:
    """Where each case's point lies, by structure and model, on axes that are made to hold all of them."""
    means, models = {name: study.paired[name, metric].case_means for name in study.structures}, range(len(study.models))
    if metric == "dsc":
        axes.set_xlim(0, 100)
        return {name: [{c: 100 * x[i] for c, x in cases.items()} for i in models] for name, cases in means.items()}
    lost = {name: study.lost(name) for name in study.structures}
    triples = [(name, case, i) for name, cases in means.items() for case in cases for i in models]
    top = max((means[n][case][i] for n, case, i in triples if not lost[n][case][i]), default=0.0) or 1.0
    edge = 1.15 * top
    some = any(lost[name][case][i] for name, case, i in triples)
    if some:
        ticks = [tick for tick in MaxNLocator(5).tick_values(0, top) if 0 <= tick <= top]
        axes.set_xticks([*ticks, edge], [*(f"{tick:g}" for tick in ticks), "missed or\nfalse alarm"])
        axes.axvline(1.06 * top, color=FAINT, linewidth=0.8, linestyle=":")
    axes.set_xlim(0, 1.03 * (edge if some else top))
    return {
        name: [{case: edge if lost[name][case][i] else x[i] for case, x in cases.items()} for i in models]
        for name, cases in means.items()
    }


def training_figures(trainings: Sequence[Shown]) -> dict[str, Figure]:
    """What was logged while training, a figure a quantity."""
    names = list(dict.fromkeys(training.model for training in trainings))
    figures = {}
    for quantity, title in CURVES.items():
        curves = [(names.index(each.model), each.drawn[quantity]) for each in trainings if quantity in each.drawn]
        if not any(value for _, curve in curves for _, value in curve):
            continue  # no training has that part
        figure, axes = _figure(2.9)
        for model, curve in curves:
            _draw_curve(axes, curve, model, quantity)
        share = bool(PERCENT.match(quantity))
        if share:
            axes.set_ylim(0, 100)
        axes.set_title(f"{title}, %" if share else title, fontsize=10, color=INK, loc="left")
        axes.set_xlabel("step")
        axes.grid(axis="y", color=FAINT, alpha=0.18, linewidth=0.6)
        _legend(figure, names, lines=True)
        figures[f"curve_{_file_name(quantity)}"] = figure
    return figures


def _draw_curve(axes: Axes, curve: Curve, model: int, quantity: str) -> None:
    """What was logged; what is of crops faint, and over it the mean of the points about each point."""
    steps, values = np.array(curve).T
    values = 100 * values if PERCENT.match(quantity) else values
    reach = len(values) // 40
    colour, style = MODEL_COLOURS[model % 6], STYLES[model % 6]
    if quantity.startswith(("train/", "unlabelled/", "val/nnunet")) and reach:
        axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.25)
        # The window gets narrower towards both ends, so that it is about its point everywhere.
        sums = np.concatenate([[0.0], np.cumsum(values)])
        here = np.arange(len(values))
        half = np.minimum(reach, np.minimum(here, here[::-1]))
        values = (sums[here + half + 1] - sums[here - half]) / (2 * half + 1)
    axes.plot(steps, values, color=colour, linestyle=style, linewidth=1.5, marker="." if len(values) < 30 else "")


def to_svg(figure: Figure, name: str) -> str:
    """A figure to stand in the page: in its font, its ink and its theme.

    Names inside are made the figure's own, for several figures stand in one page.
    """
    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    changes = (
        (r'\bid="', rf'id="{name}-'),
        (r"url\(#", f"url(#{name}-"),
        (r'(<use [^>]*href=")#', rf"\1#{name}-"),
        (r'<svg [^>]*viewBox="([^"]*)"[^>]*>', rf'<svg viewBox="\1" role="img" aria-label="{name.replace("_", " ")}">'),
        (r"(?s)<metadata>.*?</metadata>", ""),
        (r"(font: [^;\"]*?px) [^;\"]*", r"\1 var(--font)"),
    )
    for old, new in changes:
        svg = re.sub(old, new, svg)
    return svg.replace(INK.lower(), "currentColor").replace(FAINT.lower(), "var(--faint)")


def save_figures(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Each figure as SVG and as PNG."""
    paths = [folder / f"{name}.{suffix}" for name in figures for suffix in ("svg", "png")]
    return [save_figure(figures[path.stem], path, DPI) for path in paths]


def case_link(name: str) -> str:
    """
    >>> case_link("img 1&2")
    '#case=img%201%262'
    """
    return f"#case={quote(name, safe='')}"


def _figure(height: float) -> tuple[Figure, Axes]:
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


def _marker(index: int) -> str:
    """Another one also where the colours begin again."""
    return MARKERS[(index + index // len(MARKERS)) % len(MARKERS)]


def _link(points: PathCollection, cases: Iterable[str]) -> None:
    """Let each point lead to its case; so many that nobody could find one become a picture."""
    links = [case_link(name) for name in cases]
    if len(links) > MOST_LINKED:
        points.set(linewidths=0, rasterized=True)
    else:
        points.set(linewidths=0, urls=links)


def _name_rows(axes: Axes, structures: Sequence[str]) -> None:
    axes.set_yticks(range(len(structures)), [literal(name.replace("_", " ")) for name in structures])
    axes.set_ylim(len(structures) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def _legend(figure: Figure, names: Sequence[str], lines: bool) -> None:
    """Above the axes; a single model needs none."""
    if len(names) < 2:
        return
    handles = []
    for i, name in enumerate(names):
        style: dict[str, Any] = {"linestyle": STYLES[i % 6]} if lines else {"linestyle": "", "marker": _marker(i)}
        handles.append(Line2D([], [], color=MODEL_COLOURS[i % 6], label=_lines(name, 60), **style))
    columns = max(1, min(3, 60 // (8 + max(map(len, names)))))
    options: dict[str, Any] = {"frameon": False, "fontsize": 8.5, "labelcolor": INK, "handlelength": 3}
    figure.legend(handles=handles, loc="outside upper right", ncols=columns, **options)


def _lines(text: str, width: int) -> str:
    """A text with names in it, as lines of so many characters at most."""
    return literal("\n".join(wrap(text, width)))


def _file_name(text: str) -> str:
    """
    >>> _file_name("train/loss, at 7/3")
    'train_loss_at_7_3'
    """
    return re.sub(r"\W+", "_", text).strip("_")
