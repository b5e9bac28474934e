"""A picture of a few axial slices: image, truth and predictions side by side, their errors outlined.

Arrays are (H, W, D) = patient's right, anterior, superior (RAS+). Slices are shown as radiologists see them: the
patient's right on the viewer's left, anterior up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from medcontext.errors import InputError
from medcontext.pictures.colours import NamedValues, colours_of
from medcontext.pictures.panel import ERROR_TEXT, FAINT, INK, caption, draw_panel, mean
from medcontext.pictures.save import literal, save_figure
from medcontext.pictures.slices import choose_slices, frame, overlaps, window_of

DPI = 150
PANEL = 2.55  # inches a panel is wide


@dataclass(frozen=True)
class MosaicCase:
    """A scan to show.

    Args:
        name: its title.
        image: (H, W, D), one channel.
        truth: (H, W, D), whole numbers.
        predictions: name to (H, W, D); the same names, in the same order, for all cases.
        spacing: millimetres of a voxel along H, W, D.
    """

    name: str
    image: np.ndarray
    truth: np.ndarray
    predictions: Mapping[str, np.ndarray]
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        for what, array in {"truth": self.truth, **self.predictions}.items():
            if self.image.ndim != 3 or array.shape != self.image.shape:
                raise InputError(
                    f"Case '{self.name}': the image is {self.image.shape}, {what} is {array.shape}; a picture needs "
                    "3D arrays of one shape."
                )

    @property
    def aspect(self) -> float:
        """The size of a voxel along W over that along H."""
        return self.spacing[1] / self.spacing[0]

    @property
    def labelled(self) -> np.ndarray:
        """Where truth or a prediction has a structure, (H, W, D): what is shown must hold all errors."""
        return np.any([label != 0 for label in (self.truth, *self.predictions.values())], axis=0)


def draw_mosaic(
    cases: Sequence[MosaicCase],
    structures: NamedValues,
    path: Path,
    *,
    slices: int = 3,
    window: tuple[float, float] | None = None,
    title: str = "",
) -> Path:
    """Draw image, truth and every prediction for a few slices of each case, as PNG or SVG.

    Shown are the slices in which most structures are present, some way apart. Every voxel that a prediction and the
    truth do not give to the same structures lies inside a red outline. The number in a panel is the mean DSC of its
    slice, in per cent; the table beside has the DSC of whole scans, averaged over the cases, a structure missed
    counting 0 and one absent from truth and prediction left out.

    Args:
        cases: one or more.
        structures: name to value or values, without the background; they may overlap, then the later one's colour
            shows; up to 14 have a colour of their own.
        path: of the picture, `.png` or `.svg`, written whole or not at all.
        slices: how many of each case.
        window: the intensities shown black and white; None fits it to each scan's structures.
        title: above everything.

    Raises:
        InputError: without cases or structures; if cases have different predictions; if the shapes of a case differ.
    """
    if not cases or not structures or slices < 1:
        raise InputError("A picture needs at least one case, one structure and one slice.")
    names = list(cases[0].predictions)
    if any(list(case.predictions) != names for case in cases):
        raise InputError(f"Every case in a picture needs the same predictions; the first has: {', '.join(names)}.")
    rows = [(case, z) for case in cases for z in choose_slices(case.truth, slices)]
    columns = [0.2 + max(0.55, 0.085 * len(name)) for name in names]
    figure, panels, side = _sheet([_shape_of(case) for case, _ in rows], 2 + len(names), 1.6 + sum(columns), title)
    for axes, heading in zip(panels[0], ["Image", "Truth", *names], strict=True):
        axes.set_title(literal(heading), fontsize=11, fontweight="bold", color=INK, pad=6)
    for row, (case, z) in zip(panels, rows, strict=True):
        _draw_row(row, case, z, structures, window)
    _draw_table(side, cases, structures, dict(zip(names, columns, strict=True)))
    return save_figure(figure, path, DPI)


def _shape_of(case: MosaicCase) -> float:
    """Height over width of a panel."""
    (left, right), (back, front) = frame(case.labelled)
    return (front - back) * case.spacing[1] / ((right - left) * case.spacing[0])


def _sheet(shapes: Sequence[float], columns: int, side: float, title: str) -> tuple[Figure, list[list[Axes]], Axes]:
    """An empty figure with its panels, a row for each shape, and the axes of the table; in inches."""
    gap, left, top, bottom = 0.06, 0.48, 0.75 if title else 0.4, 0.42
    heights = [PANEL * shape for shape in shapes]
    tops = [top + sum(heights[:row]) + row * gap for row in range(len(heights))]
    width = left + columns * (PANEL + gap) + side
    total = tops[-1] + heights[-1] + gap + bottom
    figure = Figure(figsize=(width, total), dpi=DPI)
    FigureCanvasAgg(figure)
    if title:
        figure.text(left / width, 1 - 0.14 / total, title, fontsize=14, fontweight="bold", color=INK, va="top")

    def axes(x: float, y: float, w: float, h: float) -> Axes:
        return figure.add_axes((x / width, 1 - (y + h) / total, w / width, h / total))

    panels = [
        [axes(left + column * (PANEL + gap), y, PANEL, height) for column in range(columns)]
        for y, height in zip(tops, heights, strict=True)
    ]
    note = "Patient's right on the left, anterior up.  "
    figure.text(left / width, 0.15 / total, note, fontsize=8.5, color=FAINT)
    figure.text(
        (left + 2.45) / width,
        0.15 / total,
        "Outlined in red: voxels where prediction and truth differ, missed or spurious.",
        fontsize=8.5,
        color=ERROR_TEXT,
    )
    return figure, panels, axes(left + columns * (PANEL + gap) + 0.15, top, side - 0.3, tops[-1] + heights[-1] - top)


def _draw_row(
    row: Sequence[Axes], case: MosaicCase, z: int, structures: NamedValues, window: tuple[float, float] | None
) -> None:
    """Image, truth and predictions of one slice."""
    box = frame(case.labelled)
    shown = (slice(*box[0]), slice(*box[1]), z)
    image, truth = case.image[shown], case.truth[shown]
    window = window or window_of(case.image, case.truth)
    draw_panel(row[0], image, structures, window, case.aspect)
    draw_panel(row[1], image, structures, window, case.aspect, truth)
    for axes, whole in zip(row[2:], case.predictions.values(), strict=True):
        prediction = whole[shown]
        draw_panel(axes, image, structures, window, case.aspect, prediction, truth)
        score = mean(overlaps(truth, prediction, structures.values()))
        corner(axes, "no structure here" if np.isnan(score) else f"slice DSC {100 * score:.1f}")
    caption(row[0], f"{literal(case.name)}\nslice {z + 1} of {case.truth.shape[2]}")


def corner(axes: Axes, text: str) -> None:
    axes.text(
        0.02,
        0.03,
        text,
        transform=axes.transAxes,
        fontsize=9,
        fontweight="bold",
        color="white",
        bbox={"facecolor": "black", "alpha": 0.65, "edgecolor": "none", "pad": 2.5},
    )


def _draw_table(axes: Axes, cases: Sequence[MosaicCase], structures: NamedValues, columns: Mapping[str, float]) -> None:
    """The legend, with the DSC of whole scans; the best of each row in bold."""
    axes.set_axis_off()
    box = axes.get_window_extent()
    width, height = box.width / DPI, box.height / DPI
    axes.set(xlim=(0, width), ylim=(height, 0))  # inches, downwards
    step = min(0.27, height / (len(structures) + 3))
    names = list(columns)
    scores = {name: _scores(cases, structures, name) for name in names}
    right = {name: width - sum(list(columns.values())[index + 1 :]) for index, name in enumerate(names)}
    scans = "whole scan" if len(cases) == 1 else f"mean of {len(cases)} scans"
    axes.text(0, step * 0.5, f"DSC, {scans}" if names else "", fontsize=8.5, color=FAINT, va="center")
    for name in names:
        axes.text(
            right[name], step * 1.4, literal(name), fontsize=8.5, color=INK, ha="right", va="center", fontweight="bold"
        )
    colours = colours_of(structures)
    for line, structure in enumerate([*structures, "mean"]):
        y = step * (line + 2.5) + (0.08 if structure == "mean" else 0)
        if structure != "mean":
            square = Rectangle((0, y - 0.07), 0.2, 0.14, facecolor=colours[structure], edgecolor=FAINT, linewidth=0.5)
            axes.add_patch(square)
        axes.text(0.3, y, literal(structure.replace("_", " ")), fontsize=9.5, color=INK, va="center")
        found = {name: scores[name][line] for name in names}
        known = [score for score in found.values() if not np.isnan(score)]
        for name, score in found.items():
            weight = "bold" if score == max(known, default=None) else "normal"
            text = "–" if np.isnan(score) else f"{100 * score:.1f}"
            axes.text(right[name], y, text, fontsize=9.5, color=INK, ha="right", va="center", fontweight=weight)
    axes.plot([0, width], [step * (len(structures) + 2.15)] * 2, color=FAINT, linewidth=0.6)


def _scores(cases: Sequence[MosaicCase], structures: NamedValues, name: str) -> list[float]:
    """The DSC of each structure over the cases that have it, then their mean."""
    table = np.array([overlaps(case.truth, case.predictions[name], structures.values()) for case in cases])
    means = [mean(column) for column in table.T]
    return [*means, mean(np.array(means))]
