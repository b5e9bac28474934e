"""Tiny networks of every kind, and what to feed them."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from monai.networks.nets import DynUNet
from torch import nn

from medcontext.method import TokenAdapter
from medcontext.method.adapters import Adapter
from medcontext.networks import build_network, token_adapter

CLASSES = 3


class BatchNormNet(nn.Module):
    """Two convolutions and a batch norm, of volumes or of images: the smallest network that has buffers."""

    def __init__(self, axes: int = 3) -> None:
        super().__init__()
        convolution, norm = {2: (nn.Conv2d, nn.BatchNorm2d), 3: (nn.Conv3d, nn.BatchNorm3d)}[axes]
        self.layers = nn.Sequential(convolution(1, 4, 3, padding=1), norm(4), nn.ReLU(), convolution(4, CLASSES, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.layers(image)


@dataclass(frozen=True)
class Subject:
    """A network under test: how to build it, its crop, a mask patch that fits, and where tokens are."""

    crop: tuple[int, ...]
    patch: int
    build: Callable[[], nn.Module]
    tokens: Callable[[nn.Module], TokenAdapter] | None = None
    samples: int = 2

    def adapter(self, network: nn.Module, space: str) -> Adapter | None:
        return self.tokens(network) if space == "tokens" and self.tokens else None

    def batch(self, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        image = torch.randn(self.samples, 1, *self.crop, generator=generator, dtype=dtype)
        return image, torch.randint(0, CLASSES, (self.samples, 1, *self.crop), generator=generator)


def named(name: str, crop: tuple[int, int, int], **args: object) -> Callable[[], nn.Module]:
    return lambda: build_network(name, in_channels=1, out_channels=CLASSES, crop_size=crop, args=args)


def supervised_images() -> nn.Module:
    """MONAI's DynUNet of images, whose outputs (B, n, K, H, W) have as many axes as a volume's."""
    sizes = {"kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [4, 8, 8]}
    return DynUNet(2, 1, CLASSES, deep_supervision=True, deep_supr_num=1, **sizes)


SUBJECTS = {
    "unet": Subject((16, 16, 8), 4, named("unet", (16, 16, 8), channels=(4, 8), strides=(2,))),
    "dynunet": Subject(
        (16, 16, 16),
        4,
        named("dynunet", (16, 16, 16), filters=[4, 8, 8], deep_supervision=True, deep_supr_num=1),
    ),
    "unetr": Subject(
        (32, 32, 16),
        16,
        named("unetr", (32, 32, 16), feature_size=4, hidden_size=24, mlp_dim=32, num_heads=2),
        lambda network: token_adapter("unetr", network),
    ),
    "swin_unetr": Subject(
        (64, 32, 32),
        8,
        named("swin_unetr", (64, 32, 32), feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), window_size=2),
        lambda network: token_adapter("swin_unetr", network),
        samples=1,
    ),
    "nnformer": Subject(
        (16, 16, 8),
        4,
        named("nnformer", (16, 16, 8), embed_dim=8, depths=(2, 1, 1), windows=(2, 2, 1), drop_path=0.0),
        lambda network: token_adapter("nnformer", network),
    ),
    "pcrlv2": Subject((8, 16, 8), 4, named("pcrlv2", (8, 16, 8), width=4)),
    "resenc": Subject(
        (16, 16, 16), 4, named("resenc", (16, 16, 16), features_per_stage=[4, 8, 8], n_blocks_per_stage=[1, 1, 2])
    ),
    "batchnorm": Subject((8, 8, 8), 4, BatchNormNet),
    "images": Subject((16, 8), 4, lambda: BatchNormNet(axes=2)),
    "images_supervised": Subject((16, 16), 4, supervised_images),
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
