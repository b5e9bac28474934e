"""The scores of one case, structure by structure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from medcontext.evaluation.distances import hd95_max, hd95_pooled, surface_distances
from medcontext.evaluation.protocols import PROTOCOLS, Protocol

Status = Literal["both", "missed", "spurious", "absent"]
Extent = tuple[slice, ...]
"""A box of voxels, as an array is indexed with it."""

Boxes = dict[int, Extent]
"""Of each value the smallest box that holds its voxels."""

LARGEST_LIST = 2**16


@dataclass(frozen=True)
class Score:
    """One structure of one case.

    Args:
        structure: its name.
        status: `both` have it; `missed`: only the label has it; `spurious`: only the prediction; `absent`: neither.
        dsc: Dice similarity coefficient, a fraction from 0 to 1; NaN if it does not count (see `Protocol`).
        hd95_pooled: in millimetres, or voxels, as the protocol says; NaN if it does not count.
        hd95_max: likewise.
        label_voxels: size of the structure in the label.
        prediction_voxels: and in the prediction.
        label_mm3: the same in cubic millimetres, under every protocol.
        prediction_mm3: likewise.
    """

    structure: str
    status: Status
    dsc: float
    hd95_pooled: float
    hd95_max: float
    label_voxels: int = 0
    prediction_voxels: int = 0
    label_mm3: float = 0.0
    prediction_mm3: float = 0.0

    @property
    def counts(self) -> bool:
        """Whether it takes part in the means."""
        return not math.isnan(self.dsc)


def score_case(
    label: np.ndarray,
    prediction: np.ndarray,
    spacing: Sequence[float],
    structures: Mapping[str, Sequence[int]],
    protocol: Protocol = PROTOCOLS["standard"],
) -> list[Score]:
    """Score every structure of one case.

    Args:
        label: (X, Y, Z), an integer type.
        prediction: the same shape, an integer type.
        spacing: voxel size along X, Y, Z in millimetres.
        structures: name to its values in label and prediction; several values are merged.
        protocol: the conventions.

    Returns:
        A score for each structure, in their order.

    Raises:
        ValueError: if the shapes differ.

    >>> label, prediction = np.zeros((2, 8, 8, 8), dtype=np.uint8)
    >>> label[2:6, 2:6, 2:6] = prediction[3:7, 2:6, 2:6] = 1
    >>> score, = score_case(label, prediction, (1.0, 1.0, 3.0), {"liver": (1,)})
    >>> score.dsc, score.hd95_pooled, score.label_mm3
    (0.75, 1.0, 192.0)
    """
    if label.shape != prediction.shape:
        raise ValueError(f"label and prediction of different shapes: {label.shape} and {prediction.shape}")
    label, prediction, spacing = along_memory(label, prediction, spacing)
    return score_located(label, prediction, locate(label), locate(prediction), spacing, structures, protocol)


def along_memory(
    label: np.ndarray, prediction: np.ndarray, spacing: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, Sequence[float]]:
    """Label, prediction and spacing with their axes reversed where both arrays lie in memory so, as nibabel reads.

    No score depends on the order of the axes, and walking along the memory is several times as fast.
    """
    if label.flags.f_contiguous and prediction.flags.f_contiguous:
        return label.T, prediction.T, tuple(spacing)[::-1]
    return label, prediction, spacing


def score_located(
    label: np.ndarray,
    prediction: np.ndarray,
    label_boxes: Boxes,
    prediction_boxes: Boxes,
    spacing: Sequence[float],
    structures: Mapping[str, Sequence[int]],
    protocol: Protocol,
) -> list[Score]:
    """As `score_case`, where the boxes that `locate` finds are known already."""
    scores = []
    for name, values in structures.items():
        boxes = [boxes[value] for boxes in (label_boxes, prediction_boxes) for value in values if value in boxes]
        if not boxes:
            scores.append(absent(name, protocol))
            continue
        box = common_box(boxes)
        masks = _mask(label[box], values), _mask(prediction[box], values)
        scores.append(_score(name, *masks, label.shape, spacing, protocol))
    return scores


def absent(structure: str, protocol: Protocol) -> Score:
    """The score of a structure that neither label nor prediction has."""
    value = 0.0 if protocol.absent_counts else math.nan
    return Score(structure, "absent", value, value, value)


def locate(volume: np.ndarray) -> Boxes:
    """Each value of a label but 0, and the smallest box that holds its voxels.

    Args:
        volume: (X, Y, Z), an integer type, from 0.

    >>> locate(np.array([[0, 0, 7], [0, 7, 7]]))
    {7: (slice(0, 2, None), slice(1, 3, None))}
    """
    if volume.max(initial=0) < LARGEST_LIST:
        return {value: box for value, box in enumerate(ndimage.find_objects(volume), start=1) if box is not None}
    values, ranks = np.unique(np.append(volume, 0), return_inverse=True)  # with 0, ranks start at the background
    ranks = ranks[:-1].reshape(volume.shape)
    return {int(values[rank]): box for rank, box in locate(ranks).items()}


def common_box(boxes: Iterable[Extent]) -> Extent:
    """The smallest box that holds all boxes.

    >>> common_box([(slice(2, 5),), (slice(4, 9),)])
    (slice(2, 9, None),)
    """
    return tuple(
        slice(min(side.start for side in sides), max(side.stop for side in sides)) for sides in zip(*boxes, strict=True)
    )


def diagonal(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """Length of the image's diagonal, in the spacing's unit.

    >>> diagonal((3, 4, 12), (1.0, 1.0, 1.0))
    13.0
    """
    return math.hypot(*(size * step for size, step in zip(shape, spacing, strict=True)))


def _mask(volume: np.ndarray, values: Sequence[int]) -> np.ndarray:
    mask = volume == values[0]
    for value in values[1:]:
        mask |= volume == value
    return mask


def _score(
    name: str,
    label: np.ndarray,
    prediction: np.ndarray,
    image_shape: Sequence[int],
    spacing: Sequence[float],
    protocol: Protocol,
) -> Score:
    """Two masks in their common box, at least one of them not empty."""
    sizes = int(np.count_nonzero(label)), int(np.count_nonzero(prediction))
    voxel = math.prod(spacing)
    volumes = (*sizes, sizes[0] * voxel, sizes[1] * voxel)
    unit = tuple(spacing) if protocol.millimetres else (1.0,) * len(spacing)
    if min(sizes) == 0:
        worst = diagonal(image_shape, unit) if protocol.empty_hd95_is_diagonal else 0.0
        return Score(name, "missed" if sizes[0] else "spurious", 0.0, worst, worst, *volumes)
    dsc = 2 * int(np.count_nonzero(label & prediction)) / sum(sizes)
    distances = surface_distances(label, prediction, unit)
    return Score(name, "both", dsc, hd95_pooled(distances), hd95_max(distances), *volumes)
