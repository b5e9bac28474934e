"""nnFormer, a U-Net of 3D transformers (Zhou et al., arXiv 2109.03201; IEEE Transactions on Image Processing, 2023).

Written from the paper's sections Encoder, Bottleneck and Decoder. What they leave open is taken from the published
code: which layers have norms, biases and GELU, the strides on ACDC, and that the first residual of a skip attention is
the sum of both its inputs. So the numbers of parameters are the published ones. Four things are not as in that code;
none of them changes a size:

- The relative position bias has an entry of its own for every offset. The published index multiplies the first axis by
  3M - 1 where (2M - 1)^2 is meant, so that offsets share entries and most entries are never used.
- Tokens from opposite borders, side by side after the cyclic shift, do not see each other; published so for Synapse
  and tumours, not for ACDC.
- Tokens that only pad a grid to whole windows are seen by none; published, they take part.
- A window is cut to its grid, and shifted, along each axis by itself; published, one axis decides for all.

Axes come in the tensor's order, here (H, W, D) with depth last; published settings name depth first.

Letters: B batch, C image channels, K classes, H W D the volume; h w d a grid of tokens, h' w' d' the next coarser one,
E channels of a token.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from monai.networks.layers import DropPath
from torch import Tensor, nn

from medcontext.errors import InputError
from medcontext.networks.volume_attention import Shape3, VolumeAttention, smaller


class NNFormer(nn.Module):
    """nnFormer (Zhou et al., 2023), from images (B, C, H, W, D) to logits (B, K, H, W, D).

    In training mode, with deep supervision, it gives a list of logits, the full-resolution ones first, then those of
    each coarser stage of the decoder; in evaluation mode the full-resolution ones alone.

    Images of any size are taken: one that whole patches do not cover is padded with zeros at its far end, as
    convolutions pad it anyway, and logits are cut back. Where sizes vary, compile with `dynamic=False`: tracing
    windows of unknown size takes minutes.

    All defaults derive from the crop, and are the published networks: Synapse for a crop of (128, 128, 64); ACDC for
    (160, 160, 14) and `embed_dim=96`; tumours for (128, 128, 128), `embed_dim=96` and `decoder_heads=(6, 12, 24)`. On
    the last two they are trained without deep supervision.

    Args:
        in_channels: C.
        out_channels: K.
        crop_size: the training crop in voxels; only the other defaults depend on it.
        embed_dim: E of the first stage; it doubles from stage to stage.
        patch_size: voxels of a token, 1, 2 or 4, one number or three. Default: 4, but 2 along an axis at most half as
            long as the longest, and 1 at most a quarter.
        depths: transformer blocks of each stage, the bottleneck last; every second block is shifted.
        num_heads: attention heads of each stage. Default: one for every 32 channels.
        decoder_heads: those of the decoder, the finest stage first. Default: as in the encoder.
        windows: tokens of each stage's windows, one number or three. Default: the whole grid in the last two stages
            (global attention), and before them as many as the last grid has (four where that has one or two).
        strides: of the down-sampling between stages, 1 or 2 along each axis. Default: 2, but 1 along an axis with
            less than half as many tokens as the longest.
        drop_path: the rate of stochastic depth in the last block, to which it rises from 0 (the published code's 0.2).
        deep_supervision: whether the decoder's coarser stages have outputs.

    Raises:
        InputError: if the settings do not fit together.

    Example:
        >>> network = NNFormer(1, 3, (32, 32, 16), embed_dim=12, depths=(1, 1, 1))
        >>> [tuple(logits.shape) for logits in network(torch.zeros(1, 1, 32, 32, 16))]
        [(1, 3, 32, 32, 16), (1, 3, 16, 16, 8)]
        >>> network.eval()(torch.zeros(1, 1, 31, 30, 13)).shape
        torch.Size([1, 3, 31, 30, 13])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        crop_size: Shape3,
        *,
        embed_dim: int = 192,
        patch_size: int | Shape3 | None = None,
        depths: Sequence[int] = (2, 2, 2, 2),
        num_heads: Sequence[int] | None = None,
        decoder_heads: Sequence[int] | None = None,
        windows: Sequence[int | Shape3] | None = None,
        strides: Sequence[Shape3] | None = None,
        drop_path: float = 0.2,
        deep_supervision: bool = True,
    ) -> None:
        super().__init__()
        stages = len(depths)
        channels = [embed_dim * 2**stage for stage in range(stages)]
        patch = _default_patch(crop_size) if patch_size is None else _three(patch_size)
        grid = _three(-(-extent // size) for extent, size in zip(crop_size, patch, strict=True))
        strides = _default_strides(grid, stages) if strides is None else [_three(stride) for stride in strides]
        grids = [grid]
        for stride in strides:
            grids.append(_coarser(grids[-1], stride))
        sizes = _default_windows(grids) if windows is None else [_three(window) for window in windows]
        num_heads = [max(1, width // 32) for width in channels] if num_heads is None else num_heads
        decoder_heads = num_heads[:-1] if decoder_heads is None else decoder_heads
        _check(depths, channels, patch, num_heads, decoder_heads, sizes, strides)
        sizes = [smaller(window, grid) for window, grid in zip(sizes, grids, strict=True)]  # no entry without a use
        self.patch_size, self.deep_supervision = patch, deep_supervision

        upwards = range(stages - 2, -1, -1)
        rates = _rates(drop_path, depths)
        self.patch_embed = PatchEmbedding(in_channels, embed_dim, patch)
        self.encoder = nn.ModuleList(map(Stage, channels, num_heads, sizes, rates))
        self.down = nn.ModuleList(map(DownSample, channels, strides))
        self.norms = nn.ModuleList(map(nn.LayerNorm, channels))
        rates = _rates(drop_path, [depths[stage] for stage in upwards])
        self.up = nn.ModuleList(UpSample(channels[stage], strides[stage]) for stage in upwards)
        self.decoder = nn.ModuleList(
            Stage(channels[stage], decoder_heads[stage], sizes[stage], rate, cross=True)
            for stage, rate in zip(upwards, rates, strict=True)
        )
        supervised = channels[:-1] if deep_supervision else channels[:1]
        self.expand = nn.ModuleList(nn.ConvTranspose3d(width, out_channels, patch, patch) for width in supervised)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        tokens = self.patch_embed(image).movedim(1, -1)  # (B, C, H, W, D) -> (B, E, h, w, d) -> (B, h, w, d, E)
        padded = [extent * size for extent, size in zip(tokens.shape[1:4], self.patch_size, strict=True)]
        skips: list[Tensor] = []
        for stage, blocks in enumerate(self.encoder):
            tokens = blocks(self.down[stage - 1](tokens) if stage else tokens)
            skips.append(self.norms[stage](tokens))
        tokens = skips.pop()
        features: list[Tensor] = []
        for up, blocks in zip(self.up, self.decoder, strict=True):
            skip = skips.pop()
            tokens = blocks(up(tokens, skip.shape[1:4]), skip)
            features.insert(0, tokens)
        if not (self.training and self.deep_supervision):
            return cut(self.expand[0](features[0].movedim(-1, 1)), image.shape[2:], padded)
        # The expanding layers: (B, h, w, d, E) -> (B, E, h, w, d) -> (B, K, H, W, D), or coarser
        logits = [expand(tokens.movedim(-1, 1)) for expand, tokens in zip(self.expand, features, strict=True)]
        return [cut(level, image.shape[2:], padded) for level in logits]


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (B, E, h, w, d)."""

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens.movedim(1, -1)).movedim(-1, 1)


class PatchEmbedding(nn.Sequential):
    """The volume embedding, two strided and two plain convolutions: (B, C, H, W, D) -> (B, E, h, w, d)."""

    def __init__(self, in_channels: int, embed_dim: int, patch_size: Shape3) -> None:
        first = smaller(patch_size, (2, 2, 2))
        second = _three(size // step for size, step in zip(patch_size, first, strict=True))
        layers: dict[str, nn.Module] = {
            "strided1": nn.Conv3d(in_channels, embed_dim // 2, 3, first, padding=1),
            "norm1": nn.Sequential(nn.GELU(), ChannelNorm(embed_dim // 2)),
            "plain1": nn.Conv3d(embed_dim // 2, embed_dim // 2, 3, padding=1),
            "norm2": nn.Sequential(nn.GELU(), ChannelNorm(embed_dim // 2)),
            "strided2": nn.Conv3d(embed_dim // 2, embed_dim, 3, second, padding=1),
            "norm3": nn.Sequential(nn.GELU(), ChannelNorm(embed_dim)),
            "plain2": nn.Conv3d(embed_dim, embed_dim, 3, padding=1),
            "norm4": ChannelNorm(embed_dim),
        }
        super().__init__(OrderedDict(layers))
        self.patch_size = patch_size

    def forward(self, image: Tensor) -> Tensor:
        h, w, d = (-extent % size for extent, size in zip(image.shape[2:], self.patch_size, strict=True))
        return super().forward(F.pad(image, (0, d, 0, w, 0, h)))


class Block(nn.Module):
    """A transformer block; given the encoder's tokens too, its attention is the skip attention.

    There the decoder's upsampled tokens are the query, not projected, and keys and values are projected from the
    encoder's tokens (section Decoder).
    """

    def __init__(
        self, channels: int, heads: int, window: Shape3, shifted: bool, drop_path: float, cross: bool = False
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = VolumeAttention(channels, heads, window, shifted, cross)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor, skip: Tensor | None = None) -> Tensor:
        query = self.norm1(tokens)
        if skip is None:
            tokens = tokens + self.drop_path(self.attention(query, query))
        else:
            tokens = tokens + skip + self.drop_path(self.attention(query, self.norm1(skip)))
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))


class Stage(nn.ModuleList):
    """Blocks, every second one shifted; with `cross` the first has the skip attention."""

    def __init__(
        self, channels: int, heads: int, window: Shape3, drop_path: Sequence[float], cross: bool = False
    ) -> None:
        super().__init__(
            Block(channels, heads, window, index % 2 == 1, rate, cross and index == 0)
            for index, rate in enumerate(drop_path)
        )

    def forward(self, tokens: Tensor, skip: Tensor | None = None) -> Tensor:
        for index, block in enumerate(self):
            tokens = block(tokens, skip if index == 0 else None)
        return tokens


class DownSample(nn.Module):
    """GELU, layer norm and a strided convolution: (B, h, w, d, E) -> (B, h', w', d', 2E)."""

    def __init__(self, channels: int, stride: Shape3) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.reduce = nn.Conv3d(channels, 2 * channels, _three(2 * step - 1 for step in stride), stride)

    def forward(self, tokens: Tensor) -> Tensor:
        # 2m + 1 tokens become m without padding, as ACDC's 7 slices become 3; 2m tokens need one more to become m.
        padding: list[int] = []
        for extent, step in zip(tokens.shape[1:4], self.reduce.stride, strict=True):
            before, after = extent == 1 or extent % 2 == 0, extent == 1
            padding = [int(before), int(after), *padding] if step == 2 else [0, 0, *padding]
        tokens = self.norm(F.gelu(tokens)).movedim(-1, 1)  # (B, h, w, d, E) -> (B, E, h, w, d)
        return self.reduce(F.pad(tokens, padding)).movedim(1, -1)  # (B, 2E, h', w', d') -> (B, h', w', d', 2E)


class UpSample(nn.Module):
    """Layer norm and a transposed convolution: (B, h', w', d', 2E) -> (B, h, w, d, E)."""

    def __init__(self, channels: int, stride: Shape3) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * channels)
        self.expand = nn.ConvTranspose3d(2 * channels, channels, stride, stride)

    def forward(self, tokens: Tensor, grid: Sequence[int]) -> Tensor:
        least = [extent * step for extent, step in zip(tokens.shape[1:4], self.expand.stride, strict=True)]
        tokens = self.norm(tokens).movedim(-1, 1)  # (B, h', w', d', 2E) -> (B, 2E, h', w', d')
        tokens = self.expand(tokens, output_size=list(map(max, least, grid))).movedim(1, -1)
        return tokens[:, : grid[0], : grid[1], : grid[2]]


def cut(logits: Tensor, shape: Sequence[int], padded: Sequence[int]) -> Tensor:
    """What of logits over a padded volume, at any resolution, lies in the volume, to the nearest voxel."""
    inside = zip(logits.shape[2:], shape, padded, strict=True)
    h, w, d = (max(1, round(extent * part / whole)) for extent, part, whole in inside)
    return logits[:, :, :h, :w, :d]


def _default_patch(crop_size: Shape3) -> Shape3:
    longest = max(crop_size)
    return _three(4 if 2 * extent > longest else 2 if 4 * extent > longest else 1 for extent in crop_size)


def _default_strides(grid: Shape3, stages: int) -> list[Shape3]:
    strides: list[Shape3] = []
    for _ in range(stages - 1):
        strides.append(_three(2 if 2 * extent >= max(grid) else 1 for extent in grid))
        grid = _coarser(grid, strides[-1])
    return strides


def _default_windows(grids: Sequence[Shape3]) -> list[Shape3]:
    local = _three(extent if extent > 2 else 4 for extent in grids[-1])
    return [local] * (len(grids) - 2) + list(grids[-2:])


def _coarser(grid: Shape3, stride: Shape3) -> Shape3:
    return _three(max(1, extent // step) for extent, step in zip(grid, stride, strict=True))


def _rates(last: float, depths: Sequence[int]) -> list[list[float]]:
    rates = iter(torch.linspace(0, last, sum(depths), device="cpu").tolist())
    return [[next(rates) for _ in range(depth)] for depth in depths]


def _three(values: int | Iterable[int]) -> Shape3:
    h, w, d = (values,) * 3 if isinstance(values, int) else values
    return h, w, d


def _check(
    depths: Sequence[int],
    channels: Sequence[int],
    patch: Shape3,
    num_heads: Sequence[int],
    decoder_heads: Sequence[int],
    windows: Sequence[Shape3],
    strides: Sequence[Shape3],
) -> None:
    stages = len(depths)
    if stages < 2 or min(depths) < 1:
        raise InputError(f"depths must name at least two stages of at least one block, got {tuple(depths)}.")
    lengths: dict[str, tuple[Sequence, int]] = {
        "num_heads": (num_heads, stages),
        "windows": (windows, stages),
        "decoder_heads": (decoder_heads, stages - 1),
        "strides": (strides, stages - 1),
    }
    for name, (values, length) in lengths.items():
        if len(values) != length:
            raise InputError(f"{name} must have {length} entries for depths {tuple(depths)}, got {tuple(values)}.")
    if channels[0] < 2 or channels[0] % 2:
        raise InputError(f"embed_dim must be an even number of channels, got {channels[0]}.")
    if not set(patch) <= {1, 2, 4}:
        raise InputError(f"patch_size must be 1, 2 or 4 along each axis, got {patch}.")
    if not {step for stride in strides for step in stride} <= {1, 2}:
        raise InputError(f"strides must be 1 or 2 along each axis, got {tuple(strides)}.")
    if min(size for window in windows for size in window) < 1:
        raise InputError(f"windows must have at least one token along each axis, got {tuple(windows)}.")
    for name, counts in (("num_heads", num_heads), ("decoder_heads", decoder_heads)):
        if any(count < 1 or width % count for width, count in zip(channels, counts, strict=False)):
            raise InputError(f"{name} must divide each stage's channels {tuple(channels)}, got {tuple(counts)}.")
