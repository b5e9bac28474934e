"""The report's figures: for the page, and as SVG and PNG files for a paper."""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from medcontext.comparison.compare import Comparison
from medcontext.comparison.study import ALL, Study
from medcontext.errors import counted
from medcontext.pictures.panel import FAINT, INK
from medcontext.pictures.save import save_figure
from medcontext.reporting.drawing import (
    MARKERS,
    MODEL_COLOURS,
    STYLES,
    WIDTH,
    add_legend,
    in_lines,
    link_points,
    marker,
    name_rows,
    new_figure,
    scatter_row,
)
from medcontext.reporting.shown import Curve, Shown

DPI = 200

CURVES = {
    "train/loss": "loss",
    "train/nnunet_loss": "nnU-Net's loss, training crops",
    "val/nnunet_loss": "nnU-Net's loss, validation crops",
    "val/nnunet_dice": "nnU-Net's pseudo Dice, validation crops",
    "train/whole": "Dice-CE, whole view",
    "train/masked": "Dice-CE, masked or filled view",
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
    figure, axes = new_figure(0.3 * len(rows) + 1.1)
    first, second = rows[0].first, rows[0].second
    axes.axvline(0, color=FAINT, linewidth=0.8)
    for line, row in enumerate(rows):
        d = row.difference
        low, mean, high = (100 * value for value in (d.low, d.mean, d.high))
        axes.plot([low, high], [line, line], color=MODEL_COLOURS[0], linewidth=2.2 if row.structure == ALL else 1.4)
        face = MODEL_COLOURS[0] if row.significant else "none"
        axes.plot(mean, line, MARKERS[0], color=MODEL_COLOURS[0], markerfacecolor=face, markersize=6)
    name_rows(axes, [row.structure for row in rows])
    axes.set_xlabel(in_lines(f"DSC points, {second} less {first}; 95 % interval", 60))
    better = in_lines(f"{second} better →", 26), in_lines(f"← {first} better", 26)
    axes.set_title(better[0] if axes.get_xlim()[1] > 0 else "", loc="right", fontsize=8, color=FAINT)
    axes.set_title(better[1] if axes.get_xlim()[0] < 0 else "", loc="left", fontsize=8, color=FAINT)
    return figure


def scatter(study: Study, other: int) -> Figure:
    """One model against another, a point for each case: its mean DSC."""
    scores = study.paired[ALL, "dsc"].case_means
    figure, axes = new_figure(WIDTH * 0.92)
    pairs = np.array([[values[0], values[other]] for values in scores.values()]) * 100
    axes.plot([0, 100], [0, 100], color=FAINT, linewidth=0.8)
    x, y = pairs.T
    points = axes.scatter(x, y, s=34, color=MODEL_COLOURS[other % 6], marker=marker(other), alpha=0.75, clip_on=False)
    link_points(points, scores)
    axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    axes.grid(axis="y", color=FAINT, alpha=0.18, linewidth=0.6)
    first, second = study.names[0], study.names[other]
    axes.set_xlabel(in_lines(f"{first}: mean DSC of a case, %", 50))
    axes.set_ylabel(in_lines(f"{second}: mean DSC, %", 50))
    better = int((pairs[:, 1] > pairs[:, 0]).sum())
    axes.set_title(in_lines(f"{second} ahead in {better} of {counted(len(pairs), 'case')}", 50), fontsize=9, color=INK)
    return figure


def distributions(study: Study, metric: str, label: str) -> Figure:
    """The scores of every structure, each case a point; the bar is from quartile to quartile, the tick the median.

    The HD95 of a structure that was missed, or seen where it is not, is no distance: such cases stand apart at the
    right edge, worse than all others.
    """
    structures, models = study.structures, len(study.models)
    step = 1.0 + 0.35 * (models - 1)
    figure, axes = new_figure(0.24 * step * len(structures) + 1.0 + 0.2 * models)
    rng = np.random.default_rng(0)
    places = _places(axes, study, metric)
    for line, structure in enumerate(structures):
        for index, values in enumerate(places[structure]):
            if not values:
                continue
            scatter_row(axes, line, values, index, models, rng)
    name_rows(axes, structures)
    axes.set_xlabel(label)
    add_legend(figure, study.names, lines=False)
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
        figure, axes = new_figure(2.9)
        for model, curve in curves:
            _draw_curve(axes, curve, model, quantity)
        share = bool(PERCENT.match(quantity))
        if share:
            axes.set_ylim(0, 100)
        axes.set_title(f"{title}, %" if share else title, fontsize=10, color=INK, loc="left")
        axes.set_xlabel("step")
        axes.grid(axis="y", color=FAINT, alpha=0.18, linewidth=0.6)
        add_legend(figure, names, lines=True)
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


def _file_name(text: str) -> str:
    """
    >>> _file_name("train/loss, at 7/3")
    'train_loss_at_7_3'
    """
    return re.sub(r"\W+", "_", text).strip("_")
