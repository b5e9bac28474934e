"""One slice of a scan with its labels in colour, as every picture of the project shows it."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb

from medcontext.pictures.colours import ERRORS, NamedValues, colours_of
from medcontext.pictures.slices import display, outlines

ERROR, ERROR_TEXT = ERRORS["missed"], "#C00000"
INK, FAINT = "#1A1A1A", "#6B6B6B"
OPACITY = 0.55


def draw_panel(
    axes: Axes,
    image: np.ndarray,
    structures: NamedValues,
    window: tuple[float, float],
    aspect: float,
    label: np.ndarray | None = None,
    truth: np.ndarray | None = None,
) -> None:
    """Draw a slice; all planes are (H, W), of a RAS volume.

    Args:
        axes: where.
        image: what lies behind.
        structures: name to value or values.
        window: the intensities shown black and white.
        aspect: the size of a voxel along W over that along H.
        label: what lies over it in colour.
        truth: every voxel that it and the label do not give to the same structures is outlined in red.
    """
    low, high = window
    grey = np.clip((image.astype(np.float64) - low) / (high - low), 0, 1)
    axes.set_axis_off()
    axes.imshow(display(grey), cmap="gray", vmin=0, vmax=1, interpolation="bilinear", aspect=aspect)
    if label is None:
        return
    axes.imshow(display(coloured(label, structures)), interpolation="nearest", aspect=aspect)
    if truth is not None:
        lines = list(outlines(display(differs(label, truth, structures))))
        axes.add_collection(LineCollection(lines, colors=ERROR, linewidths=1.0, capstyle="projecting"))


def caption(axes: Axes, text: str) -> None:
    """Name a row of panels: upright text left of its first one."""
    axes.text(
        -0.025,
        0.5,
        text,
        transform=axes.transAxes,
        rotation=90,
        ha="right",
        va="center",
        multialignment="center",
        fontsize=8,
        color=FAINT,
    )


def differs(label: np.ndarray, truth: np.ndarray, structures: NamedValues) -> np.ndarray:
    """Where the two do not belong to the same structures."""
    return np.any([np.isin(label, own) != np.isin(truth, own) for own in structures.values()], axis=0)


def coloured(label: np.ndarray, structures: NamedValues) -> np.ndarray:
    """A label as see-through colours, (..., 4); of structures that share values, such as regions, the last one's."""
    picture, colours = np.zeros((*label.shape, 4)), colours_of(structures)
    for name, values in structures.items():
        picture[np.isin(label, values)] = (*to_rgb(colours[name]), OPACITY)
    return picture


def mean(scores: np.ndarray) -> float:
    """Of those that are defined; NaN if none is."""
    known = scores[~np.isnan(scores)]
    return float(known.mean()) if known.size else float("nan")
