"""Views of a crop for contrastive learning, as MONAI's tutorial `self_supervised_pretraining` makes them.

Boxes are filled with noise between the crop's lowest and highest intensity, or all but some boxes are; then voxels
change places within some boxes. Built on MONAI's transforms.
"""

from collections.abc import Sequence

import torch
from monai.transforms import RandCoarseDropout, RandCoarseShuffle
from monai.utils import convert_to_tensor
from torch import Generator, Tensor

from medcontext.pretraining.settings import SimCLRSettings

CROP = 96  # the edge of the tutorial's crops


class CoarseView:
    """Spoils each image of a batch by itself.

    Args:
        settings: what is done how often.
    """

    def __init__(self, settings: SimCLRSettings) -> None:
        self.settings = settings

    def draw(self, batch: int, generator: Generator) -> Tensor:
        """(B, 3) whole numbers: whether to drop inside, and two seeds for MONAI's transforms."""
        inside = torch.randint(2, (batch, 1), generator=generator)
        return torch.cat((inside, torch.randint(2**31, (batch, 2), generator=generator)), 1)

    def __call__(self, images: Tensor, drawn: Tensor) -> Tensor:
        """New images (B, C, H, W, D), on the device of the old ones."""
        return torch.stack([self._spoil(image, *row) for image, row in zip(images, drawn.tolist(), strict=True)])

    def _spoil(self, image: Tensor, inside: int, first: int, second: int) -> Tensor:
        settings, shape = self.settings, image.shape[1:]
        low, high = (edges(edge, shape) for edge in (settings.inside if inside else settings.outside))
        drop = RandCoarseDropout(settings.holes, low, bool(inside), max_spatial_size=high, prob=1.0)
        block = edges(settings.shuffle_size, shape)
        shuffle = RandCoarseShuffle(settings.shuffled, block, prob=settings.shuffle_probability)
        drop.set_random_state(seed=first)
        shuffle.set_random_state(seed=second)
        varied = shuffle(drop(image.clone()))  # MONAI's write into what they are given
        return convert_to_tensor(varied, dtype=image.dtype, device=image.device)


def edges(voxels: int, shape: Sequence[int]) -> tuple[int, ...]:
    """Of a box in a crop of `shape`, which in one of 96^3 has an edge of so many voxels.

    >>> edges(32, (96, 96, 48))
    (32, 32, 16)
    """
    return tuple(min(extent, max(1, round(voxels * extent / CROP))) for extent in shape)
