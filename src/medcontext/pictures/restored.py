"""A picture of a pretraining: a crop as it is, as it is shown to the network, and what this makes of it."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from medcontext.pictures.panel import INK, caption, draw_panel
from medcontext.pictures.save import literal

DPI = 100
EDGE, LEFT, TOP, GAP = 3.4, 0.3, 0.7, 0.06  # inches: a panel's longer edge, and what is around
PLANES = {"axial": 2, "coronal": 1}  # and the axis that each is through the middle of


def draw_restored(volumes: Mapping[str, np.ndarray], spacing: tuple[float, float, float], title: str) -> Figure:
    """Draw the middle slices of some volumes beside one another, all in the greys of the first.

    Args:
        volumes: (H, W, D), RAS, of one shape, by their headings.
        spacing: of a voxel in mm.
        title: above everything.
    """
    first = next(iter(volumes.values()))
    low, high = (float(value) for value in np.percentile(first, (1, 99)))
    window = low, max(high, low + 1e-6)
    across = first.shape[0] * spacing[0]
    extents = {name: first.shape[3 - axis] * spacing[3 - axis] for name, axis in PLANES.items()}
    scale = EDGE / max(across, *extents.values())  # inches of a millimetre
    width, heights = across * scale, {name: extent * scale for name, extent in extents.items()}
    size = (LEFT + len(volumes) * (width + GAP), TOP + sum(heights.values()) + GAP * len(heights))
    figure = Figure(figsize=size, dpi=DPI, facecolor="white")
    figure.text(LEFT / size[0], 1 - 0.1 / size[1], literal(title), fontsize=11, fontweight="bold", color=INK, va="top")
    top = TOP
    for row, (name, axis) in enumerate(PLANES.items()):
        for column, (heading, volume) in enumerate(volumes.items()):
            x, y = LEFT + column * (width + GAP), size[1] - top - heights[name]
            axes = figure.add_axes((x / size[0], y / size[1], width / size[0], heights[name] / size[1]))
            plane = volume.take(volume.shape[axis] // 2, axis)
            draw_panel(axes, plane, {}, window, spacing[3 - axis] / spacing[0])
            if row == 0:
                axes.set_title(heading, fontsize=10, color=INK, pad=4)
            if column == 0:
                caption(axes, name)
        top += heights[name] + GAP
    return figure
