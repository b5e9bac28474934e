"""A picture of segmentations that nobody has checked: of each scan a row, a slice as it is and some with structures.

Arrays are (H, W, D) = patient's right, anterior, superior (RAS+).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from medcontext.pictures.colours import NamedValues, colours_of
from medcontext.pictures.panel import FAINT, INK, OPACITY, draw_panel
from medcontext.pictures.save import literal, save_figure
from medcontext.pictures.slices import choose_slices, frame, window_of

DPI = 110
PANEL, TEXT, GAP, TOP, BOTTOM = 2.3, 2.6, 0.06, 0.5, 0.6  # inches
SLICES = 3
AROUND = 0.4  # shown around the structures, as a share of their extent


class Unchecked(NamedTuple):
    """A scan: its name, what is to be said of it, one channel, the segmentation, and the size of a voxel in mm."""

    name: str
    text: str
    image: np.ndarray
    label: np.ndarray
    spacing: tuple[float, float, float]


def draw_unchecked(scans: Sequence[Unchecked], structures: NamedValues, path: Path, title: str) -> Path:
    """Draw scans below each other, as PNG or SVG.

    Args:
        scans: one or more.
        structures: name to value or values, without the background.
        path: of the picture, written whole or not at all.
        title: above everything.
    """
    boxes = [frame(scan.label, AROUND) for scan in scans]
    heights = [
        PANEL * (back - front) * scan.spacing[1] / ((right - left) * scan.spacing[0])
        for scan, ((left, right), (front, back)) in zip(scans, boxes, strict=True)
    ]
    width = TEXT + (1 + SLICES) * (PANEL + GAP)
    total = TOP + sum(heights) + GAP * len(scans) + BOTTOM
    figure = Figure(figsize=(width, total), dpi=DPI)

    def write(below: float, text: str, size: float, **style: Any) -> None:
        style = {"color": INK, "va": "top", **style}
        figure.text(0.1 / width, 1 - below / total, literal(text), fontsize=size, **style)

    write(0.12, title, 13, fontweight="bold")
    top = TOP
    for scan, box, height in zip(scans, boxes, heights, strict=True):
        write(top + 0.05, scan.name, 10, fontweight="bold")
        write(top + 0.3, scan.text, 8.5)
        slices = choose_slices(scan.label, SLICES)
        window = window_of(scan.image, scan.label)
        for column, z in enumerate([slices[len(slices) // 2], *slices]):
            left = TEXT + column * (PANEL + GAP)
            axes = figure.add_axes((left / width, 1 - (top + height) / total, PANEL / width, height / total))
            plane = (slice(*box[0]), slice(*box[1]), z)
            label = scan.label[plane] if column else None
            draw_panel(axes, scan.image[plane], structures, window, scan.spacing[1] / scan.spacing[0], label)
        top += height + GAP
    colours = colours_of(structures)
    patches = [Patch(color=colour, alpha=OPACITY, label=literal(name)) for name, colour in colours.items()]
    figure.legend(handles=patches, loc="lower right", ncols=min(7, len(patches)), fontsize=8, frameon=False)
    write(total - 0.12, "Patient's right on the left, anterior up.", 8, color=FAINT, va="bottom")
    return save_figure(figure, path, DPI)
