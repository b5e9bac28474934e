"""A picture of one case at one moment of a training: image, truth and each prediction, their errors outlined.

Unlike the mosaic, it does not depend on the predictions what part of the scan is shown, so that pictures of one case
at different steps lie exactly over each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from medcontext.errors import InputError
from medcontext.pictures.colours import NamedValues, colours_of
from medcontext.pictures.mosaic import MosaicCase
from medcontext.pictures.panel import ERROR_TEXT, FAINT, INK, caption, draw_panel, mean
from medcontext.pictures.save import literal, pixels
from medcontext.pictures.slices import choose_slices, frame, overlaps, window_of

DPI = 100
WIDTH = 14.6  # inches of the picture; with the DPI, 1460 pixels, which a browser shows without shrinking
LEFT, GAP, TOP, LINE = 0.3, 0.06, 0.68, 0.22  # inches; a line is one of the legend
TALLEST = 4.0  # inches of a panel
AROUND = 0.3  # shown around the structures, as a share of their extent: room for errors
SLICES = 2


@dataclass(frozen=True)
class Panel:
    """One column of the picture.

    Args:
        heading: above it, before its DSC.
        image: (H, W, D), what lies behind.
        label: (H, W, D), what lies over it, or None.
        scored: whether the label is a prediction: its mean DSC is in the heading, its errors are outlined.
    """

    heading: str
    image: np.ndarray
    label: np.ndarray | None = None
    scored: bool = True


def draw_overlay(
    case: MosaicCase, structures: NamedValues, title: str, behind: Mapping[str, np.ndarray] | None = None
) -> np.ndarray:
    """Draw image, truth and every prediction of a case, in one or two axial slices that the truth decides.

    Outlined in red is every voxel where a prediction has a structure that the truth has not, or the other way round.
    A panel's number is the mean DSC of the whole scan, in per cent; a structure that neither has is left out.

    Args:
        case: the predictions' names become headings.
        structures: name to label values, without the background; up to 14 have a colour of their own.
        title: above everything.
        behind: for a prediction, by name, the image that it was made of, (H, W, D), where it is not the case's.

    Returns:
        (rows, columns, 3), uint8, RGB; the same size for a case whatever the predictions.

    Raises:
        InputError: without structures.
    """
    behind = behind or {}
    panels = [Panel("Image", case.image), Panel("Truth", case.image, case.truth, scored=False)]
    panels += [Panel(name, behind.get(name, case.image), label) for name, label in case.predictions.items()]
    return _draw(case, panels, structures, title, "DSC", "prediction and truth differ")


def draw_unlabelled(case: MosaicCase, sure: np.ndarray, structures: NamedValues, title: str) -> np.ndarray:
    """Draw a scan without a label: the teacher's answer, the part of it that counts as a target, and the student's.

    Args:
        case: its `truth` is the teacher's answer.
        sure: (H, W, D) booleans, where the teacher's answer counts; the rest of that panel is dark.
        structures: as for `draw_overlay`.
        title: above everything.

    Returns:
        (rows, columns, 3), uint8, RGB.
    """
    dark = np.where(sure, case.image, window_of(case.image, case.truth)[0])
    panels = [
        Panel("Image", case.image),
        Panel("Teacher", case.image, case.truth, scored=False),
        Panel(f"Target: {100 * sure.mean():.0f} % of voxels", dark, np.where(sure, case.truth, 0), scored=False),
        *(Panel(name, case.image, label) for name, label in case.predictions.items()),
    ]
    return _draw(
        case, panels, structures, title, "DSC with the teacher", "student and teacher differ.  Black: no target"
    )


def _draw(
    case: MosaicCase, panels: Sequence[Panel], structures: NamedValues, title: str, score: str, compared: str
) -> np.ndarray:
    if not structures:
        raise InputError("A picture needs at least one structure.")
    slices = choose_slices(case.truth, SLICES)
    sheet = _Sheet.of(case, structures, len(panels), len(slices), compared)
    sheet.figure.text(
        LEFT / WIDTH, 1 - 0.12 / sheet.height, literal(title), fontsize=13, fontweight="bold", color=INK, va="top"
    )
    window = window_of(case.image, case.truth)
    box = frame(case.truth, AROUND)
    for column, panel in enumerate(panels):
        for row, z in enumerate(slices):
            axes, shown = sheet.axes(row, column), (slice(*box[0]), slice(*box[1]), z)
            label = None if panel.label is None else panel.label[shown]
            truth = case.truth[shown] if panel.scored else None
            draw_panel(axes, panel.image[shown], structures, window, case.aspect, label, truth)
            if row == 0:
                axes.set_title(
                    _heading(panel, case, structures, score), fontsize=11, fontweight="bold", color=INK, pad=5
                )
            if column == 0:
                caption(axes, f"slice {z + 1} of {case.truth.shape[2]}")
    return pixels(sheet.figure)


def _heading(panel: Panel, case: MosaicCase, structures: NamedValues, score: str) -> str:
    if panel.label is None or not panel.scored:
        return panel.heading
    value = mean(overlaps(case.truth, panel.label, structures.values()))
    return f"{panel.heading}   " + ("no structure" if np.isnan(value) else f"{score} {100 * value:.1f}")


@dataclass(frozen=True)
class _Sheet:
    """An empty figure and where its panels go; in inches from the top left."""

    figure: Figure
    height: float
    panel: tuple[float, float]  # width and height
    pitch: float  # from one column to the next

    @classmethod
    def of(cls, case: MosaicCase, structures: NamedValues, columns: int, rows: int, compared: str) -> "_Sheet":
        (left, right), (back, front) = frame(case.truth, AROUND)
        shape = (front - back) * case.spacing[1] / ((right - left) * case.spacing[0])
        pitch = (WIDTH - LEFT) / columns
        width = min(pitch - GAP, TALLEST / shape)
        size = (width, width * shape)
        bottom = TOP + rows * (size[1] + GAP)
        lines = _legend_lines(structures)
        height = bottom + 0.12 + LINE * (len(lines) + 1) + 0.05
        sheet = cls(Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white"), height, size, pitch)
        sheet.legend(lines, bottom + 0.12, compared)
        return sheet

    def axes(self, row: int, column: int) -> Axes:
        width, height = self.panel
        x, y = LEFT + column * self.pitch + (self.pitch - GAP - width) / 2, TOP + row * (height + GAP)
        return self.figure.add_axes((x / WIDTH, 1 - (y + height) / self.height, width / WIDTH, height / self.height))

    def legend(self, lines: Sequence[Sequence[tuple[float, str, str]]], top: float, compared: str) -> None:
        for row, line in enumerate(lines):
            y = 1 - (top + row * LINE + LINE / 2) / self.height
            for x, colour, name in line:
                square = (x / WIDTH, y - 0.065 / self.height)
                self.figure.add_artist(
                    Rectangle(
                        square,
                        0.13 / WIDTH,
                        0.13 / self.height,
                        facecolor=colour,
                        edgecolor=FAINT,
                        linewidth=0.5,
                    )
                )
                self.figure.text((x + 0.2) / WIDTH, y, literal(name), fontsize=9, color=INK, va="center")
        y = 1 - (top + len(lines) * LINE + LINE / 2) / self.height
        note = "DSC of the whole scan on the prepared grid.  Patient's right on the left, anterior up.  "
        self.figure.text(LEFT / WIDTH, y, note, fontsize=8.5, color=FAINT, va="center")
        outlined = f"Outlined in red: voxels where {compared}."
        self.figure.text((LEFT + 5.2) / WIDTH, y, outlined, fontsize=8.5, color=ERROR_TEXT, va="center")


def _legend_lines(structures: NamedValues) -> list[list[tuple[float, str, str]]]:
    """Where each structure's name goes: lines of x in inches, colour, name."""
    lines: list[list[tuple[float, str, str]]] = [[]]
    x = LEFT
    for structure, colour in colours_of(structures).items():
        name = structure.replace("_", " ")
        length = 0.45 + 0.085 * len(name)
        if lines[-1] and x + length > WIDTH:
            lines.append([])
            x = LEFT
        lines[-1].append((x, colour, name))
        x += length
    return lines
