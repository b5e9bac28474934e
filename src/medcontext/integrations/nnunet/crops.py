"""nnU-Net's loader of training crops, where crops that are filled into one another lie at about the same place."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import nnunetv2.training.nnUNetTrainer.nnUNetTrainer as host
import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from torch import Tensor

from medcontext.data.crops import nearest


class PlacedDataLoader(nnUNetDataLoader):
    """Knows where in their scans the crops of a batch lie, and how they were mirrored.

    Args:
        data: the labelled cases; what follows it is as in nnU-Net's loader.
        beside: transforms of other crops, which share the mirror.
    """

    def __init__(self, data: Any, *args: Any, beside: Any = None, **kwargs: Any) -> None:
        super().__init__(data, *args, **kwargs)
        self.mirror = share_mirror(self.transforms, beside)
        self.places: list[np.ndarray] = []  # of the batch's crops so far, 0 to 1 along each axis of their scans

    def get_bbox(self, data_shape: Any, *args: Any, **kwargs: Any) -> tuple[list[int], list[int]]:
        low, high = super().get_bbox(data_shape, *args, **kwargs)
        centre = (np.array(low) + np.array(high)) / 2
        self.places.append(np.clip(centre / np.array(data_shape), 0, 1))
        return low, high

    def generate_train_batch(self) -> dict[str, Any]:
        self.places, self.mirror.drawn = [], []
        return super().generate_train_batch()

    def box_around(self, voxel: np.ndarray, shape: np.ndarray) -> tuple[list[int], list[int]]:
        """Where a crop begins and ends in a scan of a shape (H, W, D), with its centre at a voxel of it."""
        # Where nnU-Net centres a crop on a voxel of a class, that is the voxel.
        return nnUNetDataLoader.get_bbox(self, shape, True, {0: np.array([[0, *voxel]])})


class FollowingDataLoader(PlacedDataLoader):
    """Labelled crops that are filled into one another lie at about the same place, mirrored alike.

    Where nnU-Net centres the first of them on a class, the others are centred on their case's nearest voxel of that
    class, or of any that it has. nnU-Net has the crops with foreground last, where all are filled; here it is drawn
    anew which ones have it.

    Args:
        data: as in `PlacedDataLoader`, and what follows it.
        follows: from the crops of a batch to what says which of them follows which.
    """

    def __init__(self, data: Any, *args: Any, follows: Callable[[int], Callable[[int], int]], **kwargs: Any) -> None:
        super().__init__(data, *args, **kwargs)
        self.follows = follows(self.batch_size)
        self.foreground: np.ndarray = np.zeros(self.batch_size, dtype=bool)
        self.wanted: list[Any] = []  # of the batch's crops so far, the class or classes that they are centred on

    def get_bbox(self, data_shape: Any, force_fg: bool, class_locations: Any) -> tuple[list[int], list[int]]:
        number, shape = len(self.places), np.array(data_shape)
        first = self.follows(number)
        if first != number:
            self.wanted.append(self.wanted[first])
            self.places.append(self.places[first])
            self.mirror.again = self.mirror.drawn[first] if self.mirror.drawn else None
            voxels = voxels_of(self.wanted[first], class_locations)
            return self.box_around(nearest(self.places[first], shape, voxels), shape)
        there = [key for key, voxels in class_locations.items() if len(voxels) and key != self.annotated_classes_key]
        wanted = self.annotated_classes_key if self.has_ignore else None
        if self.foreground[number] and there:
            wanted = there[np.random.choice(len(there))]  # noqa: NPY002 (nnU-Net's own source of chance)
        self.wanted.append(wanted)
        self.mirror.again = None
        forced = bool(self.foreground[number])
        return super().get_bbox(data_shape, forced, class_locations, wanted if forced else None)

    def generate_train_batch(self) -> dict[str, Any]:
        groups = [self.follows(number) for number in range(self.batch_size)]
        forced = [self.get_do_oversample(number) for number in range(self.batch_size)]
        self.foreground = np.random.permutation(forced)[groups]  # noqa: NPY002
        self.wanted = []
        try:
            return super().generate_train_batch()
        finally:
            self.mirror.again = None


def voxels_of(wanted: Any, locations: dict[Any, np.ndarray]) -> np.ndarray:
    """Voxels (n, 3) of a class, or of any where there is none of it; none where no class is wanted.

    Args:
        wanted: the class, one of the keys; None for none.
        locations: nnU-Net's, some voxels (n, 4) of each class, the first column apart.
    """
    if wanted is None:
        return np.empty((0, 3), int)
    of_it = locations.get(wanted, ())
    found = [np.asarray(each) for each in ([of_it] if len(of_it) else locations.values()) if len(each)]
    return np.concatenate(found)[:, 1:].astype(int) if found else np.empty((0, 3), int)


class PairedDataLoader(PlacedDataLoader):
    """Beside the last labelled crops of a batch, each a crop at about the same place of a scan without labels.

    It is mirrored as the labelled crop is: a left side filled with parts of a right one would teach that sides do not
    matter. The batch is in random order: nnU-Net puts the crops with foreground last, and each kind shall have
    partners.

    Args:
        data: as in `PlacedDataLoader`, and what follows it.
        scans: prepared scans, an nnU-Net data set.
        partners: from the crops of a batch to how many of them have partners.
        scan_transforms: nnU-Net's training transforms, for a scan alone.
    """

    def __init__(
        self, data: Any, *args: Any, scans: Any, partners: Callable[[int], int], scan_transforms: Any, **kwargs: Any
    ) -> None:
        super().__init__(data, *args, beside=scan_transforms, **kwargs)
        self.scans = scans
        self.partners = partners(self.batch_size)
        self.scan_transforms = scan_transforms

    def generate_train_batch(self) -> dict[str, Any]:
        batch = super().generate_train_batch()
        order = np.random.permutation(self.batch_size)  # noqa: NPY002 (nnU-Net's own source of chance)
        target = batch["target"]
        return {
            "data": batch["data"][order],
            "target": [each[order] for each in target] if isinstance(target, list) else target[order],
            "keys": [batch["keys"][index] for index in order],
            "unlabelled": torch.stack([self.partner(index) for index in order[-self.partners :]]),
        }

    def partner(self, index: int) -> Tensor:
        """A crop of some scan where the labelled crop with an index lies, mirrored like it."""
        with self.mirror.as_before(index):
            return self.scan_at(self.places[index])

    def scan_at(self, place: np.ndarray) -> Tensor:
        """A crop (C, h, w, d), or (C, h, w), of some scan, with its centre at a place of it, 0 to 1 along each axis."""
        name = self.scans.identifiers[np.random.choice(len(self.scans.identifiers))]  # noqa: NPY002
        image, mask, _, _ = self.scans.load_case(name)
        shape = np.array(image.shape[1:])
        low, high = self.box_around(nearest(place, shape), shape)
        box = [list(bounds) for bounds in zip(low, high, strict=True)]
        crop = torch.from_numpy(crop_and_pad_nd(image, box, 0)).float()
        inside = torch.from_numpy(crop_and_pad_nd(mask, box, -1, cast_cropped_to=np.int16)).to(torch.int16)
        if self.patch_size_was_2d:
            crop, inside = crop[:, 0], inside[:, 0]
        return self.scan_transforms(image=crop, segmentation=inside)["image"]


class SharedMirror(MirrorTransform):
    """Draws which axes are mirrored, and can do again what it drew before."""

    def __init__(self, allowed_axes: Sequence[int]) -> None:
        super().__init__(allowed_axes)
        self.drawn: list[dict[str, Any]] = []
        self.again: dict[str, Any] | None = None

    def get_parameters(self, **data: Any) -> dict[str, Any]:
        if self.again is not None:
            return self.again
        self.drawn.append(super().get_parameters(**data))
        return self.drawn[-1]

    @contextmanager
    def as_before(self, index: int) -> Iterator[None]:
        """Mirror as the crop with an index was mirrored."""
        self.again = self.drawn[index] if self.drawn else None
        try:
            yield
        finally:
            self.again = None


def share_mirror(*compositions: Any) -> SharedMirror:
    """Put one mirror in the place of each composition's own.

    Trainers without one keep none; one within another transform stays as it is.
    """
    shared = SharedMirror(())
    for transforms in (getattr(composition, "transforms", []) for composition in compositions):
        for index, transform in enumerate(transforms):
            if type(transform) is MirrorTransform:
                shared.allowed_axes = transform.allowed_axes
                transforms[index] = shared
    return shared


class OtherLoader:
    """While it lasts, the trainer's loader of training crops is another one.

    nnU-Net makes its loaders in one long function, which trainers seldom replace; the class is all that differs.

    Args:
        trainer: whose `training_cases` the loader is told by.
        kind: makes it, as `nnUNetDataLoader` does.
    """

    def __init__(self, trainer: Any, kind: Callable[..., nnUNetDataLoader]) -> None:
        self.trainer = trainer
        self.kind = kind
        self.used = False

    def __enter__(self) -> "OtherLoader":
        host.nnUNetDataLoader = self.make
        return self

    def __exit__(self, *_: object) -> None:
        host.nnUNetDataLoader = nnUNetDataLoader

    def make(self, data: Any, *args: Any, **kwargs: Any) -> nnUNetDataLoader:
        if data is not self.trainer.training_cases:
            return nnUNetDataLoader(data, *args, **kwargs)
        self.used = True
        return self.kind(data, *args, **kwargs)


def scan_transforms(trainer: Any) -> Any:
    """The trainer's training transforms for an image of which nothing but its place is known."""
    rotation, flat, _, mirror = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    return trainer.get_training_transforms(
        trainer.configuration_manager.patch_size,
        rotation,
        None,
        mirror,
        flat,
        use_mask_for_norm=trainer.configuration_manager.use_mask_for_norm,
        foreground_labels=trainer.label_manager.foreground_labels,
    )
