"""Signs by which a segmentation that nobody has checked can be told good or bad: what a network shows of itself.

Each is a fraction that behaves like a DSC, so that a few cases with labels are enough to learn what it is worth.

C: channels, K: classes, or regions; H, W, D: the prepared grid.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from medcontext.data.geometry import Geometry
from medcontext.data.store import quantiles
from medcontext.run import Run

SIGNS = ("confidence", "certainty", "sharpness")
"""Their names, in order."""

UNLIKELY, SURE = 0.1, 0.9


@dataclass
class Noticed:
    """What is noticed of one case while it is predicted.

    Args:
        signs: of each structure, one row of `SIGNS` for each network; None where it found none of the structure.
        quantiles: (C, 21), of the prepared intensities, see `medcontext.data.store`.
        extent: of the field of view to the right, anterior and superior, in mm.
    """

    signs: dict[str, list[tuple[float, ...] | None]] = field(default_factory=dict)
    quantiles: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    extent: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def scan(self, prepared: Tensor, geometry: Geometry) -> None:
        """Notice an image, (C, H, W, D), as it is prepared for the first network: so the labelled scans are known."""
        if self.quantiles.size:
            return
        self.quantiles = quantiles(prepared)
        (a, b, c), (h, w, d) = geometry.spacing, geometry.cropped_shape
        self.extent = (a * h, b * w, c * d)

    def segmentation(self, run: Run, scores: Tensor) -> None:
        """Notice what a network makes of the image: probabilities (K, H, W, D)."""
        for name, row in signs_of(run, scores):
            self.signs.setdefault(name, []).append(row)

    def mean(self, structure: str) -> tuple[float, ...] | None:
        """A structure's signs, the mean over those networks that found it; None where none did."""
        found = [row for row in self.signs[structure] if row is not None]
        return tuple(np.mean(found, axis=0).tolist()) if found else None


def signs_of(run: Run, scores: Tensor) -> Iterator[tuple[str, tuple[float, ...] | None]]:
    """The signs of every structure, from its probabilities (K, H, W, D).

    - confidence: the DSC that the segmentation would have if the probabilities were true: a ratio of expected volumes;
    - certainty: the mean probability inside of the segmentation;
    - sharpness: of the voxels that might be the structure's (`UNLIKELY`) the share that surely is (`SURE`); 0 where
      even the likeliest of many classes is unlikely.

    None where there is none of the structure.
    """
    for name, (probability, inside) in zip(run.structures, _masks(run, scores), strict=True):
        size = int(inside.count_nonzero())
        if not size:
            yield name, None
            continue
        right = float(probability[inside].sum(dtype=torch.float64))
        confidence = 2 * right / (size + float(probability.sum(dtype=torch.float64)))
        sharpness = int((probability > SURE).count_nonzero()) / max(1, int((probability > UNLIKELY).count_nonzero()))
        yield name, (confidence, right / size, sharpness)


def _masks(run: Run, scores: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Of each structure or region its probabilities and its segmentation, (H, W, D) each."""
    if run.regions:
        for probability in scores:
            yield probability, probability > 0.5
        return
    best = scores.max(0).indices
    for value in run.plan.labels.values():
        index = run.plan.values.index(value)
        yield scores[index], best == index
