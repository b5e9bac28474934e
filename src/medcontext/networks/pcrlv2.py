"""The 3D CNN of PCRLv2 (Zhou et al., arXiv 2301.00772; IEEE TPAMI, 2023), for segmentation.

The encoder is the one that PCRLv2 pretrains, 3D U-Net's (Çiçek et al., 2016) with the channels of Models Genesis
(Zhou et al., 2019): four levels of 64, 128, 256 and 512 channels, each of two 3x3x3 convolutions with batch norm and
ReLU, the first of which has half of the level's channels; maximum pooling between levels. It is a module of its own,
so that pretrained weights load into it: `network.encoder.load_state_dict(...)`.

PCRLv2 pretrains a "non-skip U-Net", without skip connections, so that the decoder cannot copy the input. Here
they are there, for segmentation. Where the decoder is not settled by that, it is Models Genesis's: a transposed
2x2x2 convolution that keeps the channels, concatenation with the skip, two convolutions with the level's channels,
and at last a 1x1x1 convolution; it gives logits, without a sigmoid, at full resolution alone.

Letters: B batch, C image channels, K classes, H W D the volume, E the first level's channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medcontext.errors import InputError

LEVELS = 4


class PCRLv2(nn.Module):
    """The network, from images (B, C, H, W, D) to logits (B, K, H, W, D).

    Args:
        in_channels: C.
        out_channels: K.
        width: E; levels have E, 2E, 4E and 8E channels. PCRLv2's is 64.

    Raises:
        InputError: for an odd width, or a volume whose extents are not multiples of 8.

    Example:
        >>> PCRLv2(1, 3, width=4)(torch.zeros(2, 1, 16, 8, 8)).shape
        torch.Size([2, 3, 16, 8, 8])
    """

    def __init__(self, in_channels: int, out_channels: int, *, width: int = 64) -> None:
        super().__init__()
        self.encoder = Encoder(in_channels, width)
        coarse = [width * 2**level for level in range(LEVELS - 1, 0, -1)]  # 8E, 4E, 2E
        self.up = nn.ModuleList(nn.ConvTranspose3d(channels, channels, 2, 2) for channels in coarse)
        self.decoder = nn.ModuleList(
            double_convolution(channels + channels // 2, channels // 2, channels // 2) for channels in coarse
        )
        self.output = nn.Conv3d(width, out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        *skips, features = self.encoder(image)
        for up, convolutions, skip in zip(self.up, self.decoder, reversed(skips), strict=True):
            # (B, 2E', h, w, d) -> (B, 2E' + E', 2h, 2w, 2d) -> (B, E', 2h, 2w, 2d)
            features = convolutions(torch.cat((up(features), skip), 1))
        return self.output(features)


class Encoder(nn.Module):
    """From images (B, C, H, W, D) to four levels of features, (B, E, H, W, D) to (B, 8E, H/8, W/8, D/8)."""

    def __init__(self, in_channels: int, width: int = 64) -> None:
        super().__init__()
        if width < 2 or width % 2:
            raise InputError(f"width must be an even number of channels, got {width}.")
        channels = [width * 2**level for level in range(LEVELS)]
        self.levels = nn.ModuleList(
            double_convolution(before, after // 2, after)
            for before, after in zip([in_channels, *channels], channels, strict=False)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        multiple = 2 ** (LEVELS - 1)
        if any(extent % multiple for extent in image.shape[2:]):
            raise InputError(f"each extent must be a multiple of {multiple}, got a volume of {tuple(image.shape[2:])}")
        features: list[Tensor] = []
        for convolutions in self.levels:
            features.append(convolutions(F.max_pool3d(features[-1], 2) if features else image))
        return features


def double_convolution(before: int, between: int, after: int) -> nn.Sequential:
    """Two 3x3x3 convolutions, each with batch norm and ReLU: from `before` to `between` to `after` channels."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((before, between), (between, after)):
        layers += [nn.Conv3d(inputs, outputs, 3, padding=1), nn.BatchNorm3d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
