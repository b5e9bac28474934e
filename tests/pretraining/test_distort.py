import math
from dataclasses import replace

import pytest
import torch
from scipy.ndimage import gaussian_filter

from medcontext.errors import InputError
from medcontext.pretraining.distort import Distortion, blur, draw_distortion, move, rotation, spoil, swap
from medcontext.pretraining.settings import PCRLv2Settings

SHAPE = (12, 10, 8)
NONE = PCRLv2Settings(flip=0, scale=0, degrees=0, blur=0, noise=0, gamma=0, swaps=0)


def draw(settings: PCRLv2Settings, views: int = 3, seed: int = 0, swaps: bool = False) -> Distortion:
    return draw_distortion(views, SHAPE, settings, torch.Generator().manual_seed(seed), swaps)


def test_nothing_drawn_changes_nothing_but_the_scale() -> None:
    views = torch.rand(3, 2, *SHAPE)
    distortion = draw(NONE)
    torch.testing.assert_close(move(views, distortion), views)
    spoilt = spoil(views, distortion, NONE)
    mean, deviation = views.mean((1, 2, 3, 4), keepdim=True), views.std((1, 2, 3, 4), keepdim=True)
    torch.testing.assert_close(spoilt, (views - mean) / deviation, rtol=1e-4, atol=1e-4)


def test_the_first_axis_is_mirrored_with_its_chance() -> None:
    views = torch.rand(1, 1, *SHAPE).expand(60, -1, -1, -1, -1)
    moved = move(views, draw(replace(NONE, flip=0.5), views=60))
    mirrored = [torch.allclose(view, views[0].flip(1), atol=1e-5) for view in moved]
    assert all(flip or torch.allclose(view, views[0], atol=1e-5) for flip, view in zip(mirrored, moved, strict=True))
    assert 15 < sum(mirrored) < 45


def test_a_quarter_turn_in_an_anisotropic_view_is_exact() -> None:
    view = torch.rand(1, 1, 8, 8, 6)
    distortion = draw(NONE, views=1)
    turn = rotation(torch.tensor([[0.0, 0.0, math.pi / 2]]))
    moved = move(view, replace(distortion, turn=turn))
    assert any(torch.allclose(moved, torch.rot90(view, k, (2, 3)), atol=1e-5) for k in (1, 3))


def test_turns_are_rotations_within_the_angle() -> None:
    turn = draw(replace(NONE, degrees=10), views=50).turn
    torch.testing.assert_close(turn @ turn.mT, torch.eye(3).expand(50, 3, 3))
    torch.testing.assert_close(torch.linalg.det(turn), torch.ones(50))
    assert turn.diagonal(dim1=1, dim2=2).min() > math.cos(math.radians(10)) ** 2 - 0.02
    factors = draw(replace(NONE, scale=0.1), views=50).turn.diagonal(dim1=1, dim2=2)
    assert (factors.min() > 0.9) & (factors.max() < 1.1) & (factors.std() > 0.03)


def test_the_blur_is_scipys_for_each_view_and_axis() -> None:
    views = torch.rand(2, 2, *SHAPE, dtype=torch.float64)
    sigma = torch.tensor([[1.0, 0.5, 0.25], [0.2, 1.2, 0.8]], dtype=torch.float64)
    blurred = blur(views, sigma)
    for view, result, deviations in zip(views, blurred, sigma, strict=True):
        for channel, found in zip(view, result, strict=True):
            expected = gaussian_filter(channel.numpy(), deviations.tolist(), mode="nearest", truncate=12)
            torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-3, atol=1e-3)


def test_noise_and_gamma_are_those_drawn() -> None:
    views = torch.rand(200, 1, 4, 4, 4)
    distortion = replace(draw(NONE, views=200), noise=torch.full((200,), 0.2))
    shares = (spoil(views, distortion, NONE) * views).mean((1, 2, 3, 4))  # covariance with what was there
    spread = views.var((1, 2, 3, 4))
    torch.testing.assert_close(shares.mean(), (spread / (spread + 0.04).sqrt()).mean(), rtol=0.05, atol=0)
    squared = replace(distortion, noise=torch.zeros(200), gamma=torch.full((200,), 2.0))
    ranks = spoil(views, squared, NONE).flatten(1)
    expected = (views**2).flatten(1)
    torch.testing.assert_close(
        ranks, (expected - expected.mean(1, keepdim=True)) / expected.std(1, keepdim=True), rtol=1e-3, atol=1e-3
    )
    assert draw(replace(NONE, gamma=0.3), views=99).gamma.log().abs().max() < 0.3


def test_swapped_patches_change_places_one_pair_after_the_other() -> None:
    views = torch.randn(2, 2, *SHAPE)
    corners = draw(PCRLv2Settings(global_size=(16, 16, 8), swap_patch=(4, 3, 2), swaps=5), views=2, swaps=True).swaps
    expected = views.clone()
    for pair in corners:
        for view in range(2):
            first, second = (
                (slice(None), slice(a, a + 4), slice(b, b + 3), slice(c, c + 2)) for a, b, c in pair[:, view].tolist()
            )
            kept = expected[view][first].clone()
            expected[view][first] = expected[view][second]
            expected[view][second] = kept
    swapped = swap(views, corners, (4, 3, 2))
    assert torch.equal(swapped, expected)
    assert not torch.equal(swapped, views)
    assert torch.equal(swapped.flatten(2).sort(2).values, views.flatten(2).sort(2).values)  # nothing lost


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"overlap": 1}, "overlap"),
        ({"flip": -0.1}, "flip"),
        ({"local_size": (12, 16, 16)}, "local_size must be multiples of 8"),
        ({"global_boxes": ()}, "global_boxes"),
        ({"local_views": 0}, "local_views"),
        ({"swap_patch": (64, 64, 32)}, "must fit beside each other"),
        ({"blur": -1}, "blur"),
    ],
)
def test_values_out_of_range_are_refused(wrong: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        PCRLv2Settings(**wrong)
