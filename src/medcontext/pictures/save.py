"""Writing a figure."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from medcontext.files import atomic_path


def literal(text: str) -> str:
    """Text from a user that matplotlib must not read as a formula.

    >>> literal("$50 or 60$")
    '\\\\$50 or 60\\\\$'
    """
    return text.replace("$", r"\$")


def save_figure(figure: Figure, path: Path, dpi: int) -> Path:
    """Write a figure on white as PNG or SVG, by its suffix: whole or not at all, and the same bytes each time."""
    undated: dict[str, Any] = {"metadata": {"Date": None}} if path.suffix == ".svg" else {}
    with atomic_path(path) as temporary, matplotlib.rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(temporary, format=path.suffix.removeprefix("."), dpi=dpi, facecolor="white", **undated)
    return path


def pixels(figure: Figure) -> np.ndarray:
    """A figure as (rows, columns, 3), uint8, RGB."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
