import itertools

import pytest
import torch
from torch import Tensor

from medcontext.networks.volume_attention import VolumeAttention

Shape3 = tuple[int, int, int]


def runs(extent: int, size: int, shifted: bool) -> list[slice]:
    """The windows along one axis, without padding or cyclic shift: a shifted axis begins with half a window."""
    size = min(size, extent)
    starts = list(range(0, extent, size))
    if shifted and size < extent:
        starts = [0, *range(size // 2, extent, size)]
    return [slice(start, stop) for start, stop in itertools.pairwise([*dict.fromkeys(starts), extent])]


def offset(one: Shape3, other: Shape3, window: Shape3) -> Shape3:
    h, w, d = (mine - theirs + size - 1 for mine, theirs, size in zip(one, other, window, strict=True))
    return h, w, d


def naive(attention: VolumeAttention, asking: Tensor, answering: Tensor) -> Tensor:
    """The same attention, one window, sample and head at a time, the bias read offset by offset."""
    grid, heads, window = asking.shape[1:4], attention.heads, attention.window
    queries = attention.query(asking)
    keys, values = attention.key_value(answering).chunk(2, dim=-1)
    result = torch.zeros_like(asking)
    axes = [runs(extent, size, attention.shifted) for extent, size in zip(grid, window, strict=True)]
    for sample, *place in itertools.product(range(len(asking)), *axes):
        inside = (sample, *place)
        points = list(itertools.product(*(range(part.start, part.stop) for part in place)))
        for head in range(heads):
            q, k, v = (all_[inside].flatten(0, 2).chunk(heads, -1)[head] for all_ in (queries, keys, values))
            bias = [[attention.table[head][offset(one, other, window)] for other in points] for one in points]
            scores = q @ k.T / q.shape[-1] ** 0.5 + torch.stack([torch.stack(row) for row in bias])
            part = (scores.softmax(-1) @ v).view(*result[inside].shape[:-1], -1)
            width = part.shape[-1]
            result[inside][..., head * width : (head + 1) * width] = part
    return attention.output(result)


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(
    ("grid", "window"),
    [
        ((4, 4, 2), (2, 2, 2)),  # whole windows; one along the last axis
        ((5, 4, 3), (2, 3, 2)),  # padded
        ((5, 1, 2), (4, 4, 2)),  # a window of padding alone beside the shift, and one larger than the grid
        ((3, 2, 4), (3, 2, 4)),  # global
    ],
)
def test_attention_is_that_of_a_loop_over_windows(grid: Shape3, window: Shape3, shifted: bool, cross: bool) -> None:
    torch.manual_seed(0)
    attention = VolumeAttention(4, 2, window, shifted, cross).double()
    torch.nn.init.normal_(attention.table)
    asking, answering = torch.randn(2, 2, *grid, 4, dtype=torch.float64)
    torch.testing.assert_close(attention(asking, answering), naive(attention, asking, answering))


def sees(attention: VolumeAttention, asking: Shape3, grid: Shape3) -> set[Shape3]:
    """The tokens whose values reach the answer of one token."""
    tokens = torch.randn(1, *grid, 4, requires_grad=True)
    attention(tokens.detach(), tokens)[(0, *asking)].sum().backward()
    assert tokens.grad is not None
    return {(h, w, d) for h, w, d in tokens.grad[0].abs().sum(-1).nonzero().tolist()}


def test_tokens_from_opposite_borders_do_not_see_each_other() -> None:
    attention = VolumeAttention(4, 2, (2, 2, 1), shifted=True)
    # After the cyclic shift 3 and 0 share a window along either axis, and only the mask keeps them apart.
    assert sees(attention, (0, 0, 0), (4, 4, 1)) == {(0, 0, 0)}
    assert sees(attention, (3, 1, 0), (4, 4, 1)) == {(3, 1, 0), (3, 2, 0)}
    assert sees(attention, (1, 2, 0), (4, 4, 1)) == {(1, 1, 0), (1, 2, 0), (2, 1, 0), (2, 2, 0)}


def test_padding_does_not_change_what_real_tokens_get() -> None:
    attention = VolumeAttention(4, 2, (4, 1, 1))
    with torch.no_grad():
        attention.key_value.bias.zero_()
        attention.key_value.bias[4:] += 100  # were a padded token seen, its zero would stand out among such values
    tokens = torch.randn(1, 6, 1, 1, 4)
    torch.testing.assert_close(attention(tokens, tokens)[:, 4:], attention(tokens[:, 4:], tokens[:, 4:]))


def test_skip_attention_takes_keys_and_values_from_the_skip_alone() -> None:
    attention = VolumeAttention(4, 2, (2, 2, 2), cross=True)
    assert not list(attention.query.parameters())
    same = torch.randn(1, 1, 1, 1, 4).expand(1, 2, 2, 2, 4)
    first, second = (attention(torch.randn(1, 2, 2, 2, 4), same) for _ in range(2))
    torch.testing.assert_close(first, second)
    other = torch.randn(1, 2, 2, 2, 4)
    assert not torch.allclose(*(attention(torch.randn(1, 2, 2, 2, 4), other) for _ in range(2)))


def test_every_parameter_and_every_entry_of_the_table_learns() -> None:
    torch.manual_seed(0)
    attention = VolumeAttention(4, 2, (2, 3, 2), shifted=True)
    tokens = torch.randn(1, 5, 4, 3, 4)
    attention(tokens, tokens).square().sum().backward()
    for name, parameter in attention.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert (attention.table.grad != 0).all()
