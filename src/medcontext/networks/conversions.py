"""Weights in the layouts of others: their names, and their shapes, as the network here has them.

| from | differs in |
|---|---|
| MONAI's self-supervised Swin UNETR | `mlp.fc1` for `mlp.linear1` |
| Disruptive Autoencoders (MONAI's `filter_swinunetr`) | `layers1.0.0` for `layers1.0` |
| VoCo, early | `swin_vit` for `swinViT` |
| MIM-Med3D, and MONAI's ViT with a perceptron | `patch_embeddings.1`, a matrix (E, h w d C) for a convolution |
| PCRLv2 | `down_tr64.ops.0.conv1` for `levels.0.0` |

Letters: E channels of a token, C image channels, N positions, h w d a grid of positions or the kernel of a patch.
"""

import math
import re
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from medcontext.data.geometry import Shape3
from medcontext.errors import InputError

RENAMED = (
    (r"\bswin_vit\.", "swinViT."),
    (r"\b(layers\d)\.0\.0\.", r"\1.0."),
    (r"\bmlp\.fc(\d)\.", r"mlp.linear\1."),
    (r"\bpatch_embeddings\.1\.", "patch_embeddings."),
)
PCRLV2_LEVELS = ("64", "128", "256", "512")


@dataclass(frozen=True)
class Grid:
    """The places that a table has an entry for.

    Args:
        shape: their number along each axis.
        offsets: whether they are the offsets between two places, whose middle one is 0, and not places.
    """

    shape: Shape3
    offsets: bool = False


def names(key: str) -> tuple[str, ...]:
    """What a file's tensor may be called here: as there, or as the layouts above translate it.

    >>> names("module.layers1.0.blocks.0.mlp.fc1.bias")[-1]
    'module.layers1.0.blocks.0.mlp.linear1.bias'
    >>> names("down_tr256.ops.1.bn1.weight")
    ('down_tr256.ops.1.bn1.weight', 'levels.2.4.weight')
    """
    name = key
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    name = re.sub(r"\bdown_tr(64|128|256|512)\.ops\.([01])\.(conv1|bn1)\.", _pcrlv2, name)
    return (key,) if name == key else (key, name)


def _pcrlv2(found: re.Match[str]) -> str:
    # Each of a level's two convolutions is followed by its norm and a ReLU.
    return f"levels.{PCRLV2_LEVELS.index(found[1])}.{3 * int(found[2]) + (found[3] == 'bn1')}."


def grids(network: nn.Module) -> dict[str, Grid]:
    """The tables of positions that MONAI's UNETR and Swin UNETR have, by name."""
    found = {}
    for outer, module in network.named_modules():
        window = getattr(module, "window_size", None)
        if hasattr(module, "relative_position_bias_table") and isinstance(window, tuple | list) and len(window) == 3:
            h, w, d = (2 * extent - 1 for extent in window)
            found[f"{outer}.relative_position_bias_table".removeprefix(".")] = Grid((h, w, d), offsets=True)
        if isinstance(grid := getattr(module, "feat_size", None), tuple) and len(grid) == 3:
            for name, table in module.named_parameters(outer):
                if name.endswith("position_embeddings") and table.shape[1] == math.prod(grid):
                    found[name] = Grid(grid)
    return found


def converted(
    there: Tensor, here: Tensor, channels: int | None = None, grid: Grid | None = None, before: Shape3 | None = None
) -> tuple[Tensor, str] | None:
    """A file's tensor in the shape of the network's, and in words what was done to it; None where that cannot be.

    Args:
        there: the file's.
        here: the network's.
        channels: of the images, to which a convolution of one channel may be repeated; None for not at all. It is
            divided by their number, so that the answer to equal channels stays.
        grid: of the network's tensor, where that is a table of positions.
        before: the grid of the file's; None where that is not known: a cube, then, if it can be one.

    Example:
        >>> from torch import ones, zeros
        >>> converted(ones(8, 1, 3, 3, 3), zeros(8, 4, 3, 3, 3), channels=4)[1]
        '1 channel repeated to 4, divided by 4'
    """
    if grid and (before is not None or there.shape != here.shape):
        return _resampled(there, here, grid, before)
    done = []
    if there.dim() == 2 and here.dim() == 5 and there.shape[1] % math.prod(here.shape[2:]) == 0:
        h, w, d = here.shape[2:]
        there = perceptron_to_convolution(there, (h, w, d))
        done.append("perceptron to convolution")
    if there.dim() == here.dim() == 5 and there.shape[1] == 1 and here.shape[1] == channels != 1:
        there = there.repeat(1, channels, 1, 1, 1) / channels
        done.append(f"1 channel repeated to {channels}, divided by {channels}")
    return (there, "; ".join(done)) if there.shape == here.shape else None


def perceptron_to_convolution(weight: Tensor, patch: Shape3) -> Tensor:
    """The convolution that makes the same tokens as a linear layer on patches with voxels in the order (p, q, r, C).

    Args:
        weight: (E, p*q*r*C) of the linear layer; its bias stays as it is.
        patch: (p, q, r), kernel and stride of the convolution.

    Returns:
        (E, C, p, q, r).

    Raises:
        InputError: if the weight is not for such patches.
    """
    p, q, r = patch
    if weight.dim() != 2 or weight.shape[1] % (p * q * r):
        raise InputError(f"A weight of {tuple(weight.shape)} is not for patches of {tuple(patch)}.")
    return weight.reshape(len(weight), p, q, r, -1).permute(0, 4, 1, 2, 3).contiguous()


def _resampled(there: Tensor, here: Tensor, grid: Grid, before: Shape3 | None) -> tuple[Tensor, str] | None:
    """(1, N, E) or (N, heads), trilinearly."""
    if there.dim() != here.dim() or there.dim() < 2 or there.shape[-1] != here.shape[-1]:
        return None
    edge = round(there.shape[-2] ** (1 / 3))
    before = before or (edge, edge, edge)
    if math.prod(before) != there.shape[-2]:
        return None
    if before == grid.shape:
        return there, ""
    volume = there.float().reshape(1, *before, -1).movedim(-1, 1)  # (1, E, h, w, d)
    # Offsets of 0 must stay in the middle, which is an entry.
    volume = F.interpolate(volume, grid.shape, mode="trilinear", align_corners=grid.offsets)
    shown = " to ".join(" x ".join(map(str, shape)) for shape in (before, grid.shape))
    return volume.movedim(1, -1).reshape(here.shape), f"positions interpolated from {shown}"
