"""Volume-based attention, local, shifted or global, as in nnFormer (Zhou et al., arXiv 2109.03201).

Letters: B batch, h w d a grid of tokens, E channels of a token; a b c a window, N = a*b*c its tokens, n the number of
windows; g attention heads, e = E/g channels of a head. A prime: the grid after padding.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medcontext.data.geometry import Shape3


class VolumeAttention(nn.Module):
    """`softmax(Q K^T / sqrt(e) + B) V` within windows (LV-MSA), shifted ones (SLV-MSA), or the whole grid (GV-MSA).

    A grid that whole windows do not cover is padded at its far end; no token sees what is padded. After a cyclic
    shift, no token sees those that came from the opposite border.

    Args:
        channels: E.
        heads: g, a divisor of E.
        window: (a, b, c); along an axis with fewer tokens the window is the axis.
        shifted: whether windows start half a window later, cyclically, along the axes that have several.
        cross: whether the query is taken as it is, not projected.

    Example:
        >>> attention = VolumeAttention(channels=8, heads=2, window=(2, 2, 3), shifted=True)
        >>> tokens = torch.zeros(1, 4, 5, 3, 8)
        >>> attention(tokens, tokens).shape
        torch.Size([1, 4, 5, 3, 8])
    """

    def __init__(self, channels: int, heads: int, window: Shape3, shifted: bool = False, cross: bool = False) -> None:
        super().__init__()
        self.heads, self.window, self.shifted = heads, window, shifted
        self.query = nn.Identity() if cross else nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.output = nn.Linear(channels, channels)
        self.table = nn.Parameter(torch.zeros(heads, *(2 * size - 1 for size in window)))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, asking: Tensor, answering: Tensor) -> Tensor:
        """Tokens (B, h, w, d, E) that ask and tokens (B, h, w, d, E) that answer: (B, h, w, d, E)."""
        grid = asking.shape[1], asking.shape[2], asking.shape[3]
        window = smaller(self.window, grid)
        several = [size < extent for size, extent in zip(window, grid, strict=True)]
        shift = [size // 2 if self.shifted and many else 0 for size, many in zip(window, several, strict=True)]
        padding = [-extent % size for size, extent in zip(window, grid, strict=True)]

        def split(tokens: Tensor) -> Tensor:
            tokens = F.pad(tokens, (0, 0, 0, padding[2], 0, padding[1], 0, padding[0]))  # -> (B, h', w', d', E)
            tokens = partition(tokens.roll([-step for step in shift], (1, 2, 3)), window)  # -> (B * n, N, E)
            return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B * n, N, E) -> (B * n, g, N, e)

        bias = self.position_bias(window)[None]  # (1, g, N, N)
        if any(shift) or any(padding):
            visible = visibility(grid, padding, shift, window, asking.device)  # (n, N, N)
            bias = torch.where(visible[:, None], bias, -torch.inf)
            batch = asking.shape[0]  # not len(), which torch.export would take for a constant
            bias = bias.expand(batch, -1, -1, -1, -1).flatten(0, 1)  # (n, g, N, N) -> (B * n, g, N, N)
        query = split(self.query(asking))
        key, value = map(split, self.key_value(answering).chunk(2, dim=-1))
        tokens = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        tokens = tokens.transpose(1, 2).flatten(2)  # (B * n, g, N, e) -> (B * n, N, E)
        h, w, d = grid
        tokens = merge(tokens, window, (h + padding[0], w + padding[1], d + padding[2])).roll(shift, (1, 2, 3))
        return self.output(tokens[:, :h, :w, :d])

    def position_bias(self, window: Shape3) -> Tensor:
        """The learnable bias B of every query (first) and key in a window: (g, N, N)."""
        index = []
        for axis, (size, full) in enumerate(zip(window, self.window, strict=True)):
            place = torch.arange(size, device=self.table.device)
            shape = [1] * 6
            shape[axis] = shape[axis + 3] = size
            index.append((place[:, None] - place + full - 1).view(shape))
        bias = self.table[:, index[0], index[1], index[2]]
        return bias.flatten(4).flatten(1, 3)  # (g, a, b, c, a, b, c) -> (g, N, N)


def partition(tokens: Tensor, window: Shape3) -> Tensor:
    """Windows of tokens: (B, h, w, d, E) -> (B * n, N, E)."""
    (a, b, c), (_, h, w, d, e) = window, tokens.shape
    tokens = tokens.reshape(-1, h // a, a, w // b, b, d // c, c, e)
    return tokens.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, a * b * c, e)


def merge(windows: Tensor, window: Shape3, grid: Shape3) -> Tensor:
    """The inverse of `partition`: (B * n, N, E) -> (B, h, w, d, E)."""
    (a, b, c), (h, w, d), e = window, grid, windows.shape[-1]
    tokens = windows.reshape(-1, h // a, w // b, d // c, a, b, c, e)
    return tokens.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(-1, h, w, d, e)


def visibility(
    grid: Shape3, padding: Sequence[int], shift: Sequence[int], window: Shape3, device: torch.device | None = None
) -> Tensor:
    """Who may see whom in the windows of a padded and cyclically shifted grid: (n, N, N) booleans.

    Along each axis a token is inside, brought here from the opposite border, or padding. Only equals see each other;
    every token sees itself, so that no softmax is empty.

    Example:
        >>> visibility((4, 1, 1), (0, 0, 0), (1, 0, 0), (2, 1, 1)).int().tolist()  # windows 1 2 and 3 0
        [[[1, 1], [1, 1]], [[1, 0], [0, 1]]]
    """
    kinds = torch.zeros(1, 1, 1, dtype=torch.long, device=device)
    for axis in range(3):
        place = torch.arange(grid[axis] + padding[axis], device=device).roll(-shift[axis])
        shape = [1, 1, 1]
        shape[axis] = -1
        kinds = 3 * kinds + ((place < shift[axis]) + 2 * (place >= grid[axis])).view(shape)
    kinds = partition(kinds[None, ..., None], window).squeeze(-1)  # (h', w', d') -> (1, h', w', d', 1) -> (n, N)
    return kinds[:, :, None] == kinds[:, None, :]


def smaller(window: Shape3, grid: Shape3) -> Shape3:
    """A window that fits in the grid."""
    return min(window[0], grid[0]), min(window[1], grid[1]), min(window[2], grid[2])
