"""Random changes of training crops, on the device where the batch is.

Built on MONAI's transforms. B: batch; C: channels; H, W, D: space.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from monai.transforms import (
    RandAdjustContrast,
    RandAffineGrid,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandomizableTransform,
    RandScaleIntensity,
    RandScaleIntensityFixedMean,
    RandShiftIntensity,
    Resample,
)
from monai.utils import convert_to_tensor
from torch import Tensor

from medcontext.data.augment_settings import AugmentSettings, Range

MIRROR = 1  # sets its seeds apart from those of what is drawn for each sample


class Augment:
    """Vary each sample of a batch by itself; the same seed gives the same result, to the bit, on one device.

    Args:
        settings: what to do how often and how much.
        own: a transform of the user's, which follows: from an image (C, H, W, D), a label (1, H, W, D) and a seed to
            new ones.
    """

    def __init__(
        self, settings: AugmentSettings, own: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]] | None = None
    ) -> None:
        self.settings = settings
        self.own = own
        low, high = settings.scale
        self._grid = RandAffineGrid(
            rotate_range=[float(np.deg2rad(angle)) for angle in settings.rotation],
            scale_range=[(1 / high - 1, 1 / low - 1)] * 3,  # MONAI's factor is from the result to the source
        )
        self._resample = Resample(padding_mode="border")
        sigma = settings.smooth_sigma
        self._intensity: tuple[RandomizableTransform, ...] = (
            RandGaussianNoise(settings.noise_probability, std=settings.noise_std),
            RandGaussianSmooth(sigma, sigma, sigma, prob=settings.smooth_probability),
            RandScaleIntensity(_minus_one(settings.brightness), prob=settings.brightness_probability),
            RandScaleIntensityFixedMean(
                settings.contrast_probability, _minus_one(settings.contrast), preserve_range=True
            ),
            RandAdjustContrast(settings.gamma_probability, settings.gamma, retain_stats=True),
        )
        if settings.shift_probability:  # else it draws nothing, and runs without it have the crops they always had
            self._intensity += (RandShiftIntensity(settings.shift, prob=settings.shift_probability),)

    def __call__(
        self, image: Tensor, label: Tensor, seed: int, mirrors: Sequence[tuple[int, int]] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Vary a batch.

        Args:
            image: (B, C, H, W, D), floating point.
            label: (B, 1, H, W, D), class indices of any integer type.
            seed: 0 or above, such as the step's number; torch's and numpy's own random states are neither read
                nor changed.
            mirrors: the seed and the number of the sample that each is mirrored like: crops that are filled into one
                another keep their sides. By default each is itself.

        Returns:
            New image and label of the same shapes, types and device, the same under autocast. Labels keep to
            their values (nearest neighbour); beyond the crop's border the outermost voxels are repeated, in both.
        """
        if not self.settings.enabled and self.own is None:
            return image, label
        with torch.autocast(image.device.type, enabled=False):  # else the places of voxels are rounded to bfloat16
            alone = [(seed, number) for number in range(len(image))]
            samples = [self._vary(*each) for each in zip(image, label, alone, mirrors or alone, strict=True)]
        images, labels = zip(*samples, strict=True)
        return torch.stack(images), torch.stack(labels)

    def images(self, image: Tensor, seed: int, mirrors: Sequence[tuple[int, int]] | None = None) -> Tensor:
        """Vary a batch of images (B, C, H, W, D) that have no label; a transform of the user's sees background."""
        shape = (1, 1, 1) if self.own is None else image.shape[2:]
        return self(image, image.new_zeros(len(image), 1, *shape), seed, mirrors)[0]

    def _vary(
        self, image: Tensor, label: Tensor, seed: tuple[int, int], mirror: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng(seed)
        if self.settings.enabled:
            image, label = self._vary_as_set(image, label, rng, np.random.default_rng([*mirror, MIRROR]))
        return self.own(image, label, int(rng.integers(2**32))) if self.own else (image, label)

    def _vary_as_set(
        self, image: Tensor, label: Tensor, rng: np.random.Generator, mirror: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        if rng.random() < self.settings.affine_probability:
            image, label = self._deform(image, label, int(rng.integers(2**32)))
        flips = [1 + axis for axis in self.settings.flip_axes if mirror.random() < self.settings.flip_probability]
        image, label = image.flip(flips), label.flip(flips)
        channels = []
        for channel in image:  # (H, W, D); each drawn by itself
            varied = channel[None]
            for transform in self._intensity:
                transform.set_random_state(seed=int(rng.integers(2**32)))
                varied = transform(varied)
            channels.append(convert_to_tensor(varied, dtype=image.dtype))
        return torch.cat(channels), label

    def _deform(self, image: Tensor, label: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        self._grid.set_random_state(seed=seed)
        self._grid.device = image.device
        grid = self._grid(spatial_size=image.shape[1:])
        deformed = self._resample(image, grid, mode="bilinear")
        if label.shape[1:] != image.shape[1:]:  # there is none
            return convert_to_tensor(deformed, dtype=image.dtype), label
        nearest = self._resample(label, grid, mode="nearest")
        return convert_to_tensor(deformed, dtype=image.dtype), convert_to_tensor(nearest, dtype=label.dtype)


def _minus_one(factors: Range) -> Range:
    """MONAI adds 1 to the factors that it is given."""
    return factors[0] - 1, factors[1] - 1
