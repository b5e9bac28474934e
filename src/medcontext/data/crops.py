"""Training crops, each a pure function of a seed and its index.

So the crops are the same whatever the number of worker processes, and a resumed run goes on at the index where
the killed one stopped.

C: channels; h, w, d: the crop's size.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from medcontext.data.geometry import Triple
from medcontext.data.store import Store, StoredCase
from medcontext.errors import InputError

JITTER = 4  # a foreground crop's centre lies within crop / JITTER of the chosen voxel, along each axis


class CropDataset(Dataset[dict[str, Any]]):
    """Crops from the cases of a store; every pass over the cases visits each once, in a new order.

    With probability `foreground_fraction` a crop contains a voxel, near its centre, of a class drawn uniformly
    from those that its case has (so that small structures are seen as often as large ones). All other crops,
    and those of cases with an empty label, lie anywhere in the volume. Axes shorter than the crop are padded
    on both sides, the image with the case's background value, the label with 0.

    Args:
        store: of prepared cases.
        names: the training cases.
        crop_size: (h, w, d) in prepared voxels.
        length: number of crops; the indices are 0..length-1.
        seed: 0 or above.
        foreground_fraction: 0..1.

    Raises:
        InputError: for a case that is not prepared, no case at all, or a setting out of range.
    """

    def __init__(
        self,
        store: Store,
        names: Sequence[str],
        crop_size: Triple,
        *,
        length: int,
        seed: int = 0,
        foreground_fraction: float = 0.5,
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

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The crop: `image` (C, h, w, d) float32, `label` (1, h, w, d) class indices, `name`, `index`.

        The label is uint8 (int16 from 257 classes on): an eighth of int64 on its way to the device.
        """
        if not 0 <= index < self.length:
            raise IndexError(index)
        case = self.case_at(index)
        rng = np.random.default_rng([self.seed, 1, index])
        start = self.draw(case, rng)
        image, label = cut(case, start, self.crop_size)
        return {"image": image, "label": label, "name": case.name, "index": index}

    def case_at(self, index: int) -> StoredCase:
        """The case of a crop."""
        turn, place = divmod(index, len(self.cases))
        order = np.random.default_rng([self.seed, 0, turn]).permutation(len(self.cases))
        return self.cases[order[place]]

    def draw(self, case: StoredCase, rng: np.random.Generator) -> Triple:
        """Where a crop starts; negative along an axis that will be padded."""
        foreground = rng.random() < self.foreground_fraction and bool(case.classes)
        centre = None
        if foreground:
            voxels = case.positions(int(rng.choice(case.classes)))
            centre = voxels[rng.integers(len(voxels))]
        start = []
        for axis, (size, crop) in enumerate(zip(case.shape[1:], self.crop_size, strict=True)):
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
    however many ranks share them.

    >>> list(StepSampler(8, start=4, rank=1, ranks=2))
    [5, 7]
    """

    def __init__(self, length: int, start: int = 0, rank: int = 0, ranks: int = 1) -> None:
        self.indices = range(start + rank, length, ranks)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


def cut(case: StoredCase, start: Triple, crop_size: Triple) -> tuple[Tensor, Tensor]:
    """Read a crop, padded where it reaches beyond the volume: image (C, h, w, d), label (1, h, w, d)."""
    sizes = case.shape[1:]
    stops = [first + crop for first, crop in zip(start, crop_size, strict=True)]
    inside = [(max(first, 0), min(stop, size)) for first, stop, size in zip(start, stops, sizes, strict=True)]
    h, w, d = (slice(low, high) for low, high in inside)
    image, label = case.read((h, w, d))
    if tuple(image.shape[1:]) == tuple(crop_size):
        return image, label
    # In numpy: torch's padding starts threads, which costs more than the padding where cores are shared.
    places: list[slice] = [slice(None)]
    places += (slice(low - first, high - first) for first, (low, high) in zip(start, inside, strict=True))
    padded = np.empty((len(image), *crop_size), dtype=np.float32)
    padded[:] = np.reshape(case.background, (-1, 1, 1, 1))
    padded[tuple(places)] = image.numpy()
    labelled = np.zeros((1, *crop_size), dtype=label.numpy().dtype)
    labelled[tuple(places)] = label.numpy()
    return torch.from_numpy(padded), torch.from_numpy(labelled)
