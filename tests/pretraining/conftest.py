"""Tiny networks that are pretrained, and volumes with a structure to learn."""

import pytest
import torch
from monai.networks.nets import UNETR, SwinUNETR
from torch import nn

from medcontext.networks.pcrlv2 import PCRLv2


def tiny_unetr(crop: tuple[int, int, int] = (32, 32, 16), channels: int = 1, layers: int = 2, **args) -> nn.Module:
    network = UNETR(channels, 2, crop, feature_size=4, hidden_size=48, mlp_dim=96, num_heads=4, **args)
    network.vit.blocks = network.vit.blocks[:layers]
    return network


def tiny_swin(channels: int = 1) -> nn.Module:
    return SwinUNETR(channels, 2, feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), window_size=2)


def tiny_cnn(channels: int = 1) -> nn.Module:
    return PCRLv2(channels, 2, width=4)


NETWORKS = {"unetr": tiny_unetr, "swin_unetr": tiny_swin, "pcrlv2": tiny_cnn}


def toy(batch: int, crop: tuple[int, int, int] = (32, 32, 16), seed: int = 0) -> torch.Tensor:
    """Bodies (B, 1, H, W, D) from 0 to 1, alike but for size, place and brightness: what is seen tells the rest."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.stack(torch.meshgrid(*(torch.linspace(-1, 1, extent) for extent in crop), indexing="ij"))
    shift = 0.2 * torch.rand(batch, 3, 1, 1, 1, generator=generator) - 0.1
    size, bright = torch.rand(2, batch, 1, 1, 1, generator=generator)
    distance = (places - shift).norm(dim=1)  # (B, H, W, D)
    return ((0.6 + 0.4 * bright) * torch.sigmoid(12 * (0.8 + 0.1 * size - distance)))[:, None]


def waves(batch: int, crop: tuple[int, int, int], seed: int = 0) -> torch.Tensor:
    """Waves (B, 1, H, W, D) from 0 to 1, each with a direction and a length of its own, to be told apart."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.stack(torch.meshgrid(*(torch.arange(float(extent)) for extent in crop), indexing="ij"))
    direction = torch.nn.functional.normalize(torch.rand(batch, 3, generator=generator), dim=1)
    length = 8 + 16 * torch.rand(batch, 1, 1, 1, generator=generator)
    return (0.5 + 0.5 * (6.2832 * torch.einsum("bi,ihwd->bhwd", direction, places) / length).sin())[:, None]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
