"""nnU-Net's U-Net with a residual encoder (Isensee et al., MICCAI 2024), with the names of its published weights.

Of the several names that `ResidualEncoderUNet` of dynamic-network-architectures has for each tensor, those here are the
ones whose tensors it computes with, `all_modules.0` of a convolution and `all_modules.1` of its norm. In files of SparK
(S3D) `conv` and `norm` beside them are other tensors, which never learned.

Letters: B batch, C image channels, K classes, H W D the volume, E a stage's channels, S stages.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medcontext.data.geometry import Shape3
from medcontext.errors import InputError

SLOPE = 0.01  # of the leaky ReLUs
FEATURES = (32, 64, 128, 256, 320, 320)
BLOCKS = (1, 3, 4, 6, 6, 6)  # of ResEnc-M, L and XL alike; they differ in the crop


class ResEnc(nn.Module):
    """The network, from images (B, C, H, W, D) to logits.

    In training mode with deep supervision these are a list, (B, K, H, W, D) first, then the coarser ones, down to
    that of the last stage but one; else (B, K, H, W, D) alone. nnU-Net's own loss leaves out the coarsest.

    Args:
        in_channels: C.
        out_channels: K.
        strides: of each of the S stages along H, W and D; usually 1 at first, then 2.
        features_per_stage: E of each stage.
        n_blocks_per_stage: residual blocks of each stage.
        n_conv_per_stage_decoder: convolutions of each of the S - 1 stages of the decoder, the coarsest first; 1 each
            where it is not given.
        kernel_sizes: of the convolutions of each stage along H, W and D; 3 where it is not given.
        deep_supervision: whether the decoder's coarser stages learn, too.

    Raises:
        InputError: if these are not for as many stages.

    Example:
        >>> network = ResEnc(1, 3, [[1, 1, 1], [2, 2, 1]], features_per_stage=[4, 8], n_blocks_per_stage=[1, 1])
        >>> network.eval()(torch.zeros(2, 1, 8, 8, 4)).shape
        torch.Size([2, 3, 8, 8, 4])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        strides: Sequence[Sequence[int]],
        *,
        features_per_stage: Sequence[int] = FEATURES,
        n_blocks_per_stage: Sequence[int] = BLOCKS,
        n_conv_per_stage_decoder: Sequence[int] | None = None,
        kernel_sizes: Sequence[Sequence[int]] | None = None,
        deep_supervision: bool = True,
    ) -> None:
        super().__init__()
        stages = len(features_per_stage)
        convolutions = [1] * (stages - 1) if n_conv_per_stage_decoder is None else n_conv_per_stage_decoder
        kernels = [(h, w, d) for h, w, d in kernel_sizes or [(3, 3, 3)] * stages]
        steps = [(h, w, d) for h, w, d in strides]
        if stages < 2:
            raise InputError(
                "features_per_stage must have two entries or more, one for each stage, got fewer; a crop that this is "
                "planned for has 8 voxels or more along some axis."
            )
        _check("features_per_stage", features_per_stage, stages)
        _check("strides", steps, stages)
        _check("kernel_sizes", kernels, stages)
        _check("n_blocks_per_stage", n_blocks_per_stage, stages)
        _check("n_conv_per_stage_decoder", convolutions, stages - 1)
        self.encoder = ResidualEncoder(in_channels, features_per_stage, n_blocks_per_stage, kernels, steps)
        self.decoder = Decoder(out_channels, features_per_stage, convolutions, kernels, steps)
        self.deep_supervision = deep_supervision
        if not deep_supervision:  # they stay, as in nnU-Net, so that its files fit
            self.decoder.seg_layers[:-1].requires_grad_(False)
        self.apply(_start)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        features = self.decoder(self.encoder(image))  # the coarsest first
        if not (self.training and self.deep_supervision):
            return self.decoder.seg_layers[-1](features[-1])
        return [layer(each) for layer, each in zip(self.decoder.seg_layers, features, strict=True)][::-1]


class ResidualEncoder(nn.Module):
    """From images (B, C, H, W, D) to the features of each stage, the finest first."""

    def __init__(
        self,
        in_channels: int,
        features: Sequence[int],
        blocks: Sequence[int],
        kernels: Sequence[Shape3],
        strides: Sequence[Shape3],
    ) -> None:
        super().__init__()
        self.stem = _chain("convs", [_convolution(in_channels, features[0], kernels[0])])
        stages = []
        for before, after, count, kernel, stride in zip(
            [features[0], *features], features, blocks, kernels, strides, strict=False
        ):
            first = ResidualBlock(before, after, kernel, stride)
            more = (ResidualBlock(after, after, kernel, (1, 1, 1)) for _ in range(count - 1))
            stages.append(_chain("blocks", [first, *more]))
        self.stages = nn.Sequential(*stages)

    def forward(self, image: Tensor) -> list[Tensor]:
        features = [self.stem(image)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features[1:]


class Decoder(nn.Module):
    """From the encoder's features, the finest first, to its own of all stages but the last, the coarsest first.

    `seg_layers` make logits of them, each of its own stage's.
    """

    def __init__(
        self,
        out_channels: int,
        features: Sequence[int],
        convolutions: Sequence[int],
        kernels: Sequence[Shape3],
        strides: Sequence[Shape3],
    ) -> None:
        super().__init__()
        self.stages, self.transpconvs, self.seg_layers = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for stage, count in zip(reversed(range(len(features) - 1)), convolutions, strict=True):
            after, stride = features[stage], strides[stage + 1]
            first = _convolution(2 * after, after, kernels[stage])
            more = (_convolution(after, after, kernels[stage]) for _ in range(count - 1))
            self.transpconvs.append(nn.ConvTranspose3d(features[stage + 1], after, stride, stride))
            self.stages.append(_chain("convs", [first, *more]))
            self.seg_layers.append(nn.Conv3d(after, out_channels, 1))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        *skips, below = features
        found = []
        for up, stage, skip in zip(self.transpconvs, self.stages, reversed(skips), strict=True):
            below = stage(torch.cat((up(below), skip), 1))  # (B, E', h, w, d) -> (B, 2E, 2h, 2w, 2d) -> (B, E, ...)
            found.append(below)
        return found


class ResidualBlock(nn.Module):
    """Two convolutions and, around them, the mean over each step of the first, projected to as many channels."""

    def __init__(self, before: int, after: int, kernel: Shape3, stride: Shape3) -> None:
        super().__init__()
        self.conv1 = _convolution(before, after, kernel, stride)
        self.conv2 = _convolution(after, after, kernel, activated=False)
        skip: list[nn.Module] = [nn.AvgPool3d(stride)] if any(step != 1 for step in stride) else []
        if before != after:
            skip.append(_convolution(before, after, (1, 1, 1), bias=False, activated=False))
        self.skip = nn.Sequential(*skip)

    def forward(self, features: Tensor) -> Tensor:
        return F.leaky_relu(self.conv2(self.conv1(features)) + self.skip(features), SLOPE, inplace=True)


def _convolution(
    before: int, after: int, kernel: Shape3, stride: Shape3 = (1, 1, 1), *, bias: bool = True, activated: bool = True
) -> nn.Sequential:
    h, w, d = kernel
    padding = ((h - 1) // 2, (w - 1) // 2, (d - 1) // 2)
    layers: list[nn.Module] = [
        nn.Conv3d(before, after, kernel, stride, padding, bias=bias),
        nn.InstanceNorm3d(after, affine=True),
    ]
    return _chain("all_modules", [*layers, nn.LeakyReLU(SLOPE, inplace=True)] if activated else layers)


def _chain(name: str, modules: Iterable[nn.Module]) -> nn.Sequential:
    """Modules one after the other under a name of their own, as nnU-Net's files have them: `name.0`, `name.1`."""
    return nn.Sequential(OrderedDict({name: nn.Sequential(*modules)}))


def _start(module: nn.Module) -> None:
    """He's initialisation; a block begins as what goes around its convolutions, for their last norm gives 0."""
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, ResidualBlock):
        nn.init.zeros_(module.conv2.get_parameter("all_modules.1.weight"))


def _check(name: str, given: Sequence[Any], entries: int) -> None:
    """
    Raises:
        InputError: if there are not as many entries, or one is a number below 1.
    """
    if len(given) != entries:
        raise InputError(
            f"{name} must have {entries} entries for the stages of features_per_stage, got {len(given)}. Strides "
            "that are planned halve the crop as long as 4 voxels are left: for more take a larger one, or give strides."
        )
    if low := [each for each in given if isinstance(each, int) and each < 1]:
        raise InputError(f"{name} must be at least 1 everywhere, got {low[0]}.")
