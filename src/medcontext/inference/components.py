"""Connected components of a structure: keeping the largest, what lies near it, or those of a certain size."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from medcontext.data.regions import Regions, written_values
from medcontext.evaluation.metrics import Extent, common_box, locate
from medcontext.evaluation.structures import Structures
from medcontext.run.postprocessing import BySize, Keep, Together

TOUCHING = np.ones((3, 3, 3), bool)  # by faces, edges and corners, as nnU-Net has it
ROUNDING = 1 + 1e-4  # of voxel sizes in headers, so that what is as long as a label is not longer
ALL = "(all structures)"
"""Stands for a structure: whatever is not background, as nnU-Net looks at it first."""


def with_all(structures: Structures, regions: Regions) -> Structures:
    """Structures that do not overlap, after what stands for all of them; regions hold one another already.

    >>> with_all({"liver": (1,), "spleen": (2, 3)}, {})
    {'(all structures)': (1, 2, 3), 'liver': (1,), 'spleen': (2, 3)}
    """
    if regions or len(structures) < 2 or ALL in structures:
        return structures
    return {ALL: tuple(value for values in structures.values() for value in values), **structures}


def components(label: np.ndarray, values: Sequence[int]) -> tuple[np.ndarray, Extent] | None:
    """The components of a structure, numbered from 1, in the smallest box that holds it; None where it is not.

    Args:
        label: (X, Y, Z), label values.
        values: of the structure.
    """
    boxes = locate(label)
    own = [boxes[value] for value in values if value in boxes]
    if not own:
        return None
    box = common_box(own)
    return ndimage.label(np.isin(label[box], values), TOUCHING)[0], box


def kept(sizes: np.ndarray, keep: BySize) -> np.ndarray:
    """Which components are kept, booleans, by their sizes in ml; of equally large ones the first.

    >>> kept(np.array([0.1, 2.0, 2.0]), "largest").tolist(), kept(np.array([0.1, 2.0, 2.0]), 1.0).tolist()
    ([False, True, False], [False, True, True])
    """
    if keep == "largest":
        return np.arange(len(sizes)) == sizes.argmax()
    return sizes >= keep


def together(parts: np.ndarray, mm: float, spacing: np.ndarray) -> np.ndarray:
    """Which components are kept, booleans: the largest, and from there on each that leaves the box of all small enough.

    Args:
        parts: (X, Y, Z), numbered from 1.
        mm: the longest side that the box of all may have, as `longest_side` measures it.
        spacing: (3,) mm.

    >>> line = np.array([1, 1, 1, 0, 2, 2, 0, 0, 0, 0, 3]).reshape(11, 1, 1)
    >>> together(line, 10.0, np.full(3, 2.0)).tolist(), together(line, 4.0, np.full(3, 2.0)).tolist()
    ([True, True, False], [True, False, False])
    """
    ends = np.array([[[side.start, side.stop] for side in box] for box in ndimage.find_objects(parts)])  # (N, 3, 2)
    first, *others = np.argsort(-np.bincount(parts.ravel())[1:], kind="stable")
    low, high = ends[first, :, 0], ends[first, :, 1]
    keep = np.arange(len(ends)) == first
    for each in others:
        lows, highs = np.minimum(low, ends[each, :, 0]), np.maximum(high, ends[each, :, 1])
        if longest_side(highs - lows, spacing) <= mm * ROUNDING:
            keep[each], low, high = True, lows, highs
    return keep


def longest_side(voxels: Sequence[int] | np.ndarray, spacing: np.ndarray) -> float:
    """Of a box of so many voxels (3,), the length of its longest side in mm, from the middle of one voxel to another's.

    >>> longest_side([3, 5, 2], np.array([2.0, 1.0, 5.0]))
    5.0
    """
    return float(((np.asarray(voxels) - 1) * spacing).max())


def apply_steps(
    label: np.ndarray, steps: Mapping[str, Keep], structures: Structures, regions: Regions, spacing: np.ndarray
) -> np.ndarray:
    """A label without the components that are not kept.

    What is dropped of a structure becomes background; of a region with all inside it, what lies around: the next larger
    region that holds it.

    Args:
        label: (X, Y, Z), label values.
        steps: what is kept, by structure, or of all.
        structures: their label values; of regions, larger ones first.
        regions: the same, where the structures are overlapping regions; else empty.
        spacing: (3,) mm.

    >>> line = np.array([1, 1, 0, 1, 0, 2]).reshape(6, 1, 1)
    >>> apply_steps(line, {"liver": "largest"}, {"liver": (1,), "spleen": (2,)}, {}, np.ones(3)).ravel().tolist()
    [1, 1, 0, 0, 0, 2]
    """
    for name, values in with_all(structures, regions).items():
        found = components(label, values) if name in steps else None
        if found is None:
            continue
        parts, box = found
        step, ml = steps[name], float(np.prod(spacing)) / 1000
        if isinstance(step, Together):
            keep = together(parts, step.mm, spacing)
        else:
            keep = kept(np.bincount(parts.ravel())[1:] * ml, step)
        label = label.copy()
        label[box][~np.append(True, keep)[parts]] = around(name, regions)  # the rest of the box stays
    return label


def around(name: str, regions: Regions) -> int:
    """The label value of what lies around a region; the background's where nothing holds it.

    >>> [around(name, {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}) for name in ("WT", "TC", "ET")]
    [0, 2, 1]
    """
    holding = [other for other, values in regions.items() if name in regions and set(values) > set(regions[name])]
    return dict(zip(regions, written_values(regions), strict=True))[holding[-1]] if holding else 0
