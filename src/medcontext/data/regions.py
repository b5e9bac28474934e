"""Overlapping regions, such as the whole tumour with its core inside, as sets of label values.

A network that segments regions has one sigmoid output for each, instead of a softmax over classes (as for BraTS in
nnU-Net, Isensee et al. 2020). Labels stay on disk and in the store as they are; predictions are written in the label
values again, so that anybody's tools can read them.

Letters: R regions, K classes (label values in order, the background's 0 first).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from medcontext.errors import InputError

Regions = dict[str, tuple[int, ...]]

MEAN = "mean"
"""In tables it stands for a structure: all of them."""


def check_name(name: str, source: str) -> None:
    """Refuse a structure or region that is called as the mean of all is in tables.

    >>> check_name("liver", "dataset.json")
    """
    if name == MEAN:
        raise InputError(f"{source}: a structure is called '{MEAN}', as the mean of all is; name it otherwise.")


def read_regions(declared: Any, values: Sequence[int], source: str) -> Regions:
    """Regions as declared, checked.

    Args:
        declared: name to a value or a list of values, larger regions first.
        values: the data set's label values.
        source: for messages.

    Raises:
        InputError: if a region is empty, or has a value that is not a declared label; if two are the same; if a
            prediction could not be written in label values, see `written_values`; see also `check_name`.

    >>> read_regions({"whole": [1, 2], "core": 2}, (0, 1, 2), "dataset.json")
    {'whole': (1, 2), 'core': (2,)}
    """
    if not isinstance(declared, Mapping) or not all(isinstance(name, str) for name in declared):
        raise InputError(f'{source}: regions are {declared!r}; give names and values, such as {{"whole": [1, 2]}}.')
    regions: Regions = {}
    for name, given in declared.items():
        check_name(name, source)
        parts = [given] if isinstance(given, int) else list(given) if isinstance(given, list | tuple) else []
        unknown = [value for value in parts if type(value) is not int or value == 0 or value not in values]
        if not parts or unknown:
            raise InputError(
                f"{source}: region '{name}' consists of {given!r}; give some of the label values "
                f"{sorted(set(values) - {0})}."
            )
        regions[name] = tuple(sorted(set(parts)))
    if regions:
        written_values(regions, source)
    return regions


def written_values(regions: Regions, source: str = "regions") -> tuple[int, ...]:
    """The label value that a voxel gets for each region in it, later regions over earlier ones.

    It is the one value of the region that no later region has. These are nnU-Net's `regions_class_order`.

    Raises:
        InputError: if a region has none such value, or several.

    >>> written_values({"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)})
    (2, 1, 4)
    """
    values = []
    for index, (name, own) in enumerate(regions.items()):
        later = set().union(*list(regions.values())[index + 1 :])
        left = sorted(set(own) - later)
        if len(left) != 1:
            raise InputError(
                f"{source}: of region '{name}' {list(own)}, the values {left} are in no later region; exactly "
                "one must be, the value that predictions are written in. Name larger regions before those inside them."
            )
        values += left
    return tuple(values)


def membership(regions: Regions, values: Sequence[int]) -> Tensor:
    """Which class belongs to which region: booleans (R, K).

    >>> membership({"whole": (1, 2), "core": (2,)}, (0, 1, 2)).int().tolist()
    [[0, 1, 1], [0, 0, 1]]
    """
    return torch.tensor([[value in own for value in values] for own in regions.values()])


def classes_of(probabilities: Tensor, regions: Regions, values: Sequence[int]) -> Tensor:
    """Class indices (H, W, D) from the regions' probabilities (R, H, W, D); a region is where its own exceeds 0.5.

    >>> probabilities = torch.tensor([[0.9, 0.2, 0.7], [0.6, 0.4, 0.1]])[:, None, None]
    >>> classes_of(probabilities, {"whole": (1, 2), "core": (2,)}, (0, 1, 2)).tolist()
    [[[2, 0, 1]]]
    """
    dtype = torch.uint8 if len(values) <= 256 else torch.int16
    classes = torch.zeros(probabilities.shape[1:], dtype=dtype, device=probabilities.device)
    for probability, value in zip(probabilities, written_values(regions), strict=True):
        classes[probability > 0.5] = list(values).index(value)
    return classes
