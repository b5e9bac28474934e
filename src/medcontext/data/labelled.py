"""One labelled case in memory, with every check that its voxels must pass."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from medcontext.data.cases import Case, Dataset
from medcontext.data.label_map import check_targets, names_left
from medcontext.data.nifti import check_same_grid, read_header, read_image, read_label
from medcontext.errors import InputError

LARGEST_TABLE = 2**16


class Labelled(NamedTuple):
    """A case's image (C, X, Y, Z), float32; its class indices (X, Y, Z), integer; their affine (4, 4)."""

    image: np.ndarray
    label: np.ndarray
    affine: np.ndarray


def read_labelled(case: Case, dataset: Dataset, label_map: dict[int, int]) -> Labelled:
    """Read a case's image and label, the latter as class indices.

    Raises:
        InputError: naming the case, if it has no label, if a file is damaged, if image and label do not lie
            on the same grid, or if the label holds a value that is neither declared nor in `label_map`.
    """
    if case.label is None:
        raise InputError(f"Case '{case.name}' has no label; only labelled cases can be prepared for training.")
    headers = read_header(case.images[0]), read_header(case.label)
    check_same_grid(*headers, names=(str(case.images[0]), str(case.label)))
    values, _ = read_label(case.label)
    label = class_indices(values, mapped_labels(dataset, label_map), label_map, case.label)
    image, affine = read_image(case, dataset.channels)
    return Labelled(image, label, affine)


def mapped_labels(dataset: Dataset, label_map: dict[int, int]) -> dict[str, int]:
    """The structures and their values when `label_map` has been applied, without the background.

    Raises:
        InputError: if it maps to a value that the data set does not declare, or leaves no structure.
    """
    check_targets(dataset.labels, label_map)
    labels = names_left(dataset.labels, label_map)
    if not labels:
        raise InputError(f"label_map {label_map} leaves no structure of {dataset.labels}; map fewer values to 0.")
    return labels


def class_indices(values: np.ndarray, labels: dict[str, int], label_map: dict[int, int], source: Path) -> np.ndarray:
    """Label values as class indices: their rank among the sorted values, the background being 0.

    Args:
        values: from 0, an integer type.
        labels: structure name to value.
        label_map: applied first.
        source: the file, for the message.

    Returns:
        The same shape, uint8 (int16 from 257 classes on).

    Raises:
        InputError: naming the values that are neither declared nor mapped, with their number of voxels.

    >>> class_indices(np.array([0, 500, 200]), {"liver": 200, "spleen": 500}, {}, Path("label.nii.gz"))
    array([0, 2, 1], dtype=uint8)
    """
    classes = sorted({0, *labels.values()})
    if values.max(initial=0) >= LARGEST_TABLE:
        found, small = np.unique(values, return_inverse=True)
        small = small.reshape(values.shape)
    else:
        found, small = np.arange(int(values.max(initial=0)) + 1), values
    rank = {value: index for index, value in enumerate(classes)}
    table = np.array([rank.get(label_map.get(int(value), int(value)), -1) for value in found], dtype=np.int16)
    indices = table[small]
    if (indices < 0).any():
        raise _undeclared(values[indices < 0], classes, source)
    return indices.astype(np.uint8) if len(classes) <= 256 else indices


def _undeclared(unknown: np.ndarray, classes: list[int], source: Path) -> InputError:
    values, counts = np.unique(unknown, return_counts=True)
    shown = ", ".join(f"{value} ({count} voxels)" for value, count in zip(values[:5], counts, strict=False))
    more = ", ..." if len(values) > 5 else ""
    return InputError(
        f"{source} has label values that are not declared: {shown}{more}. Declared are {classes}. Declare them "
        "in the data set, or say with label_map which declared values they stand for."
    )
