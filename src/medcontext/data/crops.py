"""Training crops, each a pure function of a seed and its index.

So the crops are the same whatever the number of worker processes, and a resumed run goes on at the index where
the killed one stopped.

C: channels; h, w, d: the crop's size.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from medcontext.data.geometry import Shape3
from medcontext.data.store import Slices, Store, StoredCase
from medcontext.errors import InputError

JITTER = 4  # a foreground crop's centre lies within crop / JITTER of the chosen voxel, along each axis


class CropDataset(Dataset[dict[str, Any]]):
    """Crops from the cases of a store; every pass over the cases visits each once, in a new order.

    With probability `foreground_fraction` a crop contains a voxel, near its centre, of a class drawn uniformly
    from those that its case has (so that small structures are seen as often as large ones). All other crops,
    and those of cases with an empty label, lie anywhere in the volume. A crop that follows another lies at about
    its place, and where that is near a voxel of some class, near its case's nearest one of that class, or of any
    that it has. Axes shorter than the crop are padded on both sides, the image with the case's background value,
    the label with 0.

    Args:
        store: of prepared cases.
        names: the training cases.
        crop_size: (h, w, d) in prepared voxels.
        length: number of crops; the indices are 0..length-1.
        seed: 0 or above.
        foreground_fraction: 0..1.
        follows: from a crop's index to that of the crop which it follows, its own where it follows none.

    Raises:
        InputError: for a case that is not prepared, no case at all, or a setting out of range.
    """

    def __init__(
        self,
        store: Store,
        names: Sequence[str],
        crop_size: Shape3,
        *,
        length: int,
        seed: int = 0,
        foreground_fraction: float = 0.5,
        follows: Callable[[int], int] | None = None,
    ) -> None:
        if not names:
            raise InputError("No training case to crop from; name at least one.")
        if len(crop_size) != 3 or min(crop_size) < 1:
            raise InputError(f"crop_size is {crop_size}; give three sizes in voxels, from 1.")
        if not 0 <= foreground_fraction <= 1:
            raise InputError(f"foreground_fraction is {foreground_fraction}; 0 to 1 is allowed.")
        if seed < 0:
            raise InputError(f"seed is {seed}; 0 or above is allowed.")
        self.cases = [store.case(name) for name in names]
        self.crop_size = crop_size
        self.length = length
        self.seed = seed
        self.foreground_fraction = foreground_fraction
        self.follows = follows

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The crop: `image` (C, h, w, d) float32, `label` (1, h, w, d) class indices, `name`, `index`.

        The label is uint8 (int16 from 257 classes on): an eighth of int64 on its way to the device.
        """
        if not 0 <= index < self.length:
            raise IndexError(index)
        case = self.case_at(index)
        image, label = cut(case, self.start(index), self.crop_size)
        return {"image": image, "label": label, "name": case.name, "index": index}

    def case_at(self, index: int) -> StoredCase:
        """The case of a crop."""
        return in_turn(self.cases, index, [self.seed, 0])

    def place(self, index: int) -> np.ndarray:
        """Where in its scan the centre of a crop lies, 0 to 1 along each axis."""
        return (np.array(self.start(index)) + np.array(self.crop_size) / 2) / self.case_at(index).shape[1:]

    def start(self, index: int) -> Shape3:
        """Where a crop starts; negative along an axis that will be padded."""
        case = self.case_at(index)
        wanted, rng = self.wanted(index)
        first = index if self.follows is None else self.follows(index)
        centre = None
        if first != index:
            centre = self.beside(first, case)
        elif wanted:
            voxels = case.positions(wanted)
            centre = voxels[rng.integers(len(voxels))]
        return start_of(case, self.crop_size, rng, centre)

    def beside(self, first: int, case: StoredCase) -> np.ndarray:
        """The voxel of a case around which a crop lies that follows another."""
        wanted, _ = self.wanted(first)
        classes = [wanted] if wanted in case.classes else case.classes
        voxels = np.concatenate([case.positions(each) for each in classes]) if wanted and classes else ()
        return nearest(self.place(first), np.array(case.shape[1:]), voxels)

    def wanted(self, index: int) -> tuple[int, np.random.Generator]:
        """The class that a crop's centre is to be near, 0 for none, and what draws the rest of its place."""
        rng, classes = np.random.default_rng([self.seed, 1, index]), self.case_at(index).classes
        foreground = rng.random() < self.foreground_fraction and bool(classes)
        return int(rng.choice(classes)) if foreground else 0, rng


@dataclass(frozen=True)
class CropBefore:
    """Which crops follow another: those that are filled with one before, see `medcontext.method.batches.before`.

    Args:
        batch: crops of a step on one device.
        filled: its last ones.
        back: how many crops before each of them the one lies that it is filled with.
        devices: to which the crops of a step go by turns.
    """

    batch: int
    filled: int
    back: int = 1
    devices: int = 1

    def __call__(self, index: int) -> int:
        """Of the crops that are filled into one another the one that is seen as it is, by its index; maybe the same."""
        number = index % (self.batch * self.devices) // self.devices
        seen = self.batch - self.filled
        first = number if number < seen else max(0, min(number - self.back, seen - 1))
        return index - (number - first) * self.devices


@dataclass(frozen=True)
class PartnerPlace:
    """Where an unlabelled crop lies: as the labelled one that it is filled with. The last of a step have partners.

    Args:
        labelled: crops.
        batch: labelled crops of a step, on all devices.
        partners: unlabelled ones of a step, on all devices.
    """

    labelled: CropDataset
    batch: int
    partners: int

    def __call__(self, index: int) -> np.ndarray:
        """Of the crop with that index the centre, 0 to 1 along each axis of its scan."""
        step, number = divmod(index, self.partners)
        return self.labelled.place((step + 1) * self.batch - self.partners + number)


class ScanCrops(Dataset[dict[str, Any]]):
    """Crops of scans without labels; every pass over the scans visits each once, in a new order.

    Args:
        cases: prepared, of any stores.
        crop_size: (h, w, d) in prepared voxels.
        length: number of crops; the indices are 0..length-1.
        seed: 0 or above.
        place: from a crop's index to where in the scan its centre should lie, 0 to 1 along each axis, see
            `CropDataset.place`; without it, anywhere.
    """

    def __init__(
        self,
        cases: Sequence[StoredCase],
        crop_size: Shape3,
        *,
        length: int,
        seed: int = 0,
        place: Callable[[int], np.ndarray] | None = None,
    ) -> None:
        if not cases:
            raise InputError("No unlabelled scan to crop from; name at least one.")
        self.cases = list(cases)
        self.crop_size = crop_size
        self.length = length
        self.seed = seed
        self.place = place

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The crop: `image` (C, h, w, d) float32, `name`, `index`."""
        if not 0 <= index < self.length:
            raise IndexError(index)
        case = in_turn(self.cases, index, [self.seed, 2])
        centre = None if self.place is None else nearest(self.place(index), np.array(case.shape[1:]))
        start = start_of(case, self.crop_size, np.random.default_rng([self.seed, 3, index]), centre)
        return {"image": cut_image(case, start, self.crop_size), "name": case.name, "index": index}


def in_turn(cases: Sequence[StoredCase], index: int, seed: list[int]) -> StoredCase:
    """The case of a crop, where each pass over the cases visits all of them in an order of its own."""
    turn, place = divmod(index, len(cases))
    return cases[np.random.default_rng([*seed, turn]).permutation(len(cases))[place]]


def nearest(place: np.ndarray, shape: np.ndarray, voxels: Sequence[np.ndarray] | np.ndarray = ()) -> np.ndarray:
    """Of some voxels (n, 3) the one nearest to a place of a scan; without any, the voxel at the place.

    Args:
        place: 0 to 1 along each axis.
        shape: (H, W, D) of the scan.
        voxels: of which one is taken.

    >>> nearest(np.array([0.4]), np.array([10]), np.array([[9], [7]])), nearest(np.array([1.0]), np.array([10]))
    (array([7]), array([9]))
    """
    if not len(voxels):
        return np.minimum(place * shape, shape - 1).astype(int)
    return np.asarray(voxels)[np.square(np.asarray(voxels) / shape - place).sum(1).argmin()]


def start_of(case: StoredCase, crop_size: Shape3, rng: np.random.Generator, centre: np.ndarray | None = None) -> Shape3:
    """Where a crop starts: near a voxel (H, W, D) or, without one, anywhere; negative along an axis to be padded."""
    start = []
    for axis, (size, crop) in enumerate(zip(case.shape[1:], crop_size, strict=True)):
        if size <= crop:
            start.append(-((crop - size) // 2))
        elif centre is None:
            start.append(int(rng.integers(size - crop + 1)))
        else:
            jitter = int(rng.integers(-(crop // JITTER), crop // JITTER + 1))
            start.append(int(np.clip(centre[axis] - crop // 2 + jitter, 0, size - crop)))
    return start[0], start[1], start[2]


class StepSampler(Sampler[int]):
    """The indices from `start` on, in order; with several ranks each takes every `ranks`-th.

    A run resumed after `step` steps starts at `step * batch_size * ranks`. The crops of a step are the same
    however many ranks share them, but for those that follow another of their rank.

    >>> list(StepSampler(8, start=4, rank=1, ranks=2))
    [5, 7]
    """

    def __init__(self, length: int, start: int = 0, rank: int = 0, ranks: int = 1) -> None:
        self.indices = range(start + rank, length, ranks)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


def shares_in_crops(label: Tensor, crop_size: Shape3, classes: int) -> Tensor:
    """(K,): the share of each class in crops from anywhere in a case, the mean over all places of the crop.

    The middle of a scan lies in more crops than its border does, and padding is background.

    >>> shares_in_crops(torch.tensor([1, 2, 0, 0]).view(4, 1, 1), (2, 1, 1), 3).tolist()
    [0.5, 0.166..., 0.333...]
    """
    chances = []
    for size, crop in zip(label.shape, crop_size, strict=True):
        starts = max(1, size - crop + 1)
        place = torch.arange(size)
        covering = torch.minimum(place, torch.tensor(starts - 1)) - (place - crop + 1).clamp_min(0) + 1
        chances.append(covering.float() / starts)
    h, w, d = chances
    weights = (h.view(-1, 1, 1) * w.view(-1, 1) * d).flatten()  # how often a voxel lies in a crop
    shares = torch.bincount(label.flatten().long(), weights, minlength=classes).float() / math.prod(crop_size)
    shares[0] += 1 - shares.sum()
    return shares


def cut(case: StoredCase, start: Shape3, crop_size: Shape3) -> tuple[Tensor, Tensor]:
    """Read a crop, padded where it reaches beyond the volume: image (C, h, w, d), label (1, h, w, d)."""
    inside, places = _inside(case, start, crop_size)
    image, label = case.read(inside)
    return _padded(image, places, crop_size, case.background), _padded(label, places, crop_size, (0,))


def cut_image(case: StoredCase, start: Shape3, crop_size: Shape3) -> Tensor:
    """As `cut`, the image alone."""
    inside, places = _inside(case, start, crop_size)
    return _padded(case.read_image(inside), places, crop_size, case.background)


def _inside(case: StoredCase, start: Shape3, crop_size: Shape3) -> tuple[Slices, Slices]:
    """The part of a crop that lies in the volume: where in the volume, and where in the crop."""
    low = [max(first, 0) for first in start]
    high = [min(first + crop, size) for first, crop, size in zip(start, crop_size, case.shape[1:], strict=True)]
    h, w, d = (slice(*bounds) for bounds in zip(low, high, strict=True))
    y, x, z = (slice(a - first, b - first) for a, b, first in zip(low, high, start, strict=True))
    return (h, w, d), (y, x, z)


def _padded(part: Tensor, places: Slices, crop_size: Shape3, background: tuple[float, ...]) -> Tensor:
    """A volume (C, ...) at its place in a crop (C, h, w, d) of background."""
    if tuple(part.shape[1:]) == tuple(crop_size):
        return part
    # In numpy: torch's padding starts threads, which costs more than the padding where cores are shared.
    values = part.numpy()
    padded = np.empty((len(values), *crop_size), dtype=values.dtype)
    padded[:] = np.reshape(background, (-1, 1, 1, 1))
    padded[(slice(None), *places)] = values
    return torch.from_numpy(padded)
