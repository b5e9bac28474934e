"""Which axial slices of a scan to show, how they are turned for display, and what is wrong in them."""

from collections.abc import Iterable, Sequence

import numpy as np

FRAME_MARGIN = 0.12  # of the frame around the structures, as a share of their extent


def choose_slices(label: np.ndarray, count: int) -> list[int]:
    """The slices in which most structures are present, some way apart, from head to feet.

    Args:
        label: (H, W, D).
        count: how many at most.

    >>> label = np.zeros((4, 4, 20), dtype=int)
    >>> label[0, 0, 3:18], label[1, 1, 10] = 1, 2
    >>> choose_slices(label, 2)
    [10, 3]
    """
    depth = label.shape[2]
    values = [value for value in np.unique(label) if value != 0]
    areas = np.array([(label == value).sum(axis=(0, 1)) for value in values]).reshape(-1, depth)  # (K, D)
    present = np.flatnonzero(areas.any(axis=0))
    if not present.size:
        return [depth // 2]
    structures = (areas > 0).sum(axis=0)
    rich = np.flatnonzero(structures >= structures.max() / 2)
    apart = max(1, (int(rich[-1] - rich[0]) + 1) // (count + 1))
    # Among slices with as many structures, the one where the smallest share of a structure is largest.
    shares = areas / areas.max(axis=1, keepdims=True)
    score = structures + 0.9 * shares.mean(axis=0)
    chosen: list[int] = []
    while len(chosen) < count and (score > 0).any():
        z = int(score.argmax())
        chosen.append(z)
        score[max(0, z - apart + 1) : z + apart] = 0
    return sorted(chosen, reverse=True)


def frame(label: np.ndarray, share: float = FRAME_MARGIN) -> tuple[tuple[int, int], tuple[int, int]]:
    """Start and stop along H and W of what is shown: the structures of all slices, and a share of them around."""
    ranges = []
    for axis in range(2):
        other = 1 - axis
        inside = np.flatnonzero((label != 0).any(axis=(other, 2)))
        low, high = (int(inside[0]), int(inside[-1]) + 1) if inside.size else (0, label.shape[axis])
        margin = round(share * (high - low)) + 1
        ranges.append((max(0, low - margin), min(label.shape[axis], high + margin)))
    return ranges[0], ranges[1]


def window_of(image: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """Intensities to show black and white so that the structures lie in the middle greys.

    Args:
        image: (H, W, D).
        label: (H, W, D); where it has no structure, all of the image counts.
    """
    inside = image[label != 0] if (label != 0).any() else image
    low, high = (float(value) for value in np.percentile(inside, (10, 90)))
    spread = max(high - low, 1e-6)
    return low - 1.5 * spread, high + spread


def display(plane: np.ndarray) -> np.ndarray:
    """An axial plane (H, W, ...) of a RAS volume as rows and columns of a picture: patient's right left, anterior up.

    >>> plane = np.array([["left back", "left front"], ["right back", "right front"]])
    >>> display(plane).tolist()
    [['right front', 'left front'], ['right back', 'left back']]
    """
    return np.swapaxes(plane[::-1, ::-1], 0, 1)


def outlines(mask: np.ndarray) -> np.ndarray:
    """The edges between pixels inside and outside a mask, in `imshow`'s coordinates.

    Args:
        mask: (rows, columns), bool.

    Returns:
        (n, 2, 2): for each edge its two ends, each x (column) and y (row).
    """
    padded = np.pad(mask, 1)
    row, column = np.nonzero(padded[1:, :] != padded[:-1, :])  # an edge above padded row + 1
    across = np.stack([np.stack([column - 1.5, row - 0.5], -1), np.stack([column - 0.5, row - 0.5], -1)], 1)
    row, column = np.nonzero(padded[:, 1:] != padded[:, :-1])
    down = np.stack([np.stack([column - 0.5, row - 1.5], -1), np.stack([column - 0.5, row - 0.5], -1)], 1)
    return np.concatenate([across, down])


def overlap(truth: np.ndarray, prediction: np.ndarray) -> float:
    """The DSC of two masks, 0 to 1; NaN where both are empty.

    >>> overlap(np.array([1, 1, 0, 0], dtype=bool), np.array([1, 0, 0, 0], dtype=bool))
    0.666
    """
    total = int(truth.sum()) + int(prediction.sum())
    return 2 * int((truth & prediction).sum()) / total if total else float("nan")


def overlaps(truth: np.ndarray, prediction: np.ndarray, structures: Iterable[int | Sequence[int]]) -> np.ndarray:
    """The DSC of each structure, a label value or several, (K,)."""
    return np.array([overlap(np.isin(truth, values), np.isin(prediction, values)) for values in structures])
