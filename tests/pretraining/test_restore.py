from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from medcontext.errors import InputError
from medcontext.networks.pcrlv2 import PCRLv2
from medcontext.pretraining.restore import Features, PCRLv2Objective, agreement, part, side_weight, unit_range
from tests.pretraining.conftest import tiny_cnn, toy
from tests.pretraining.test_objective import CROP, TINY

MAP = torch.zeros(5, 1, 1, 1, 1)


def objective() -> PCRLv2Objective:
    return PCRLv2Objective(tiny_cnn(), TINY["pcrlv2"])


def test_p_parallel_to_q_gives_minus_one_and_opposite_one() -> None:
    q = torch.randn(5, 8)
    assert agreement(Features(q, 2 * q, MAP), Features(3 * q, q, MAP)).item() == pytest.approx(-1, abs=1e-6)
    assert agreement(Features(q, -q, MAP), Features(q, -2 * q, MAP)).item() == pytest.approx(1, abs=1e-6)


def test_no_gradient_goes_through_q() -> None:
    q1, q2, p1, p2 = (torch.randn(5, 8, requires_grad=True) for _ in range(4))
    agreement(Features(q1, p1, MAP), Features(q2, p2, MAP)).backward()
    assert q1.grad is None
    assert q2.grad is None
    assert p1.grad.abs().sum() > 0  # type: ignore[union-attr]
    assert p2.grad.abs().sum() > 0  # type: ignore[union-attr]


def test_the_side_weight_falls_from_one_to_zero() -> None:
    weights = [side_weight(step / 240) for step in range(241)]
    assert weights[0] == 1
    assert weights[-1] == 0
    assert all(later < earlier for earlier, later in pairwise(weights))


def test_the_output_depends_on_the_bottleneck_alone() -> None:
    model = objective().eval()
    view = torch.rand(2, 1, 16, 16, 8)
    expected = model.restore(model.features(view))
    handle = model.encoder.register_forward_hook(lambda _m, _i, levels: [*(0 * x - 9 for x in levels[:-1]), levels[-1]])
    assert torch.equal(model.restore(model.features(view)), expected)
    handle.remove()
    model.encoder.register_forward_hook(lambda _m, _i, levels: [*levels[:-1], levels[-1] + 1])
    assert not torch.allclose(model.restore(model.features(view)), expected)


def test_scales_have_the_published_channels_and_double_in_extent() -> None:
    with torch.device("meta"):
        model = PCRLv2Objective(PCRLv2(1, 2)).eval()
        found = model.features(torch.empty(2, 1, 64, 64, 32))
        sides = [scale.side(features.map).shape for scale, features in zip(model.decoder, found, strict=True)]
    assert [tuple(features.q.shape) for features in found] == [(2, 256), (2, 128), (2, 64)]
    assert [tuple(features.p.shape) for features in found] == [(2, 256), (2, 128), (2, 64)]
    assert [tuple(side) for side in sides] == [(2, 1, 16, 16, 8), (2, 1, 32, 32, 16), (2, 1, 64, 64, 32)]


def test_the_loss_is_the_sum_that_it_says() -> None:
    """Written out view by view and term by term; frozen batch norms, so that passes do not depend on each other."""
    model, images = objective().eval(), toy(3, CROP)
    drawn = replace(model.draw(images, torch.Generator().manual_seed(0)), scales=(1, 0, 2, 1, 1))
    losses = model(images, drawn, progress=0.25)
    size, small = model.settings.global_size, model.settings.local_size
    target, first = model.view(images, [scan.first for scan in drawn.views], size, drawn.first)
    _, second = model.view(images, [scan.second for scan in drawn.views], size, drawn.second)
    boxes = [scan.local[index] for index in range(2) for scan in drawn.views]
    _, local = model.view(torch.cat((images, images)), boxes, small, drawn.local)
    one, two, near, far = (model.features(view) for view in (first, second, local[:3], local[3:]))
    side = F.interpolate(model.decoder[1].side(one[1].map), scale_factor=2, mode="trilinear")
    local_terms = agreement(one[0], near[0]) + agreement(two[2], near[2])
    local_terms = local_terms + agreement(one[1], far[1]) + agreement(two[1], far[1])
    expected = (
        (model.restore(one) - target).square().mean()
        + agreement(one[1], two[1])
        + 0.8535534 * (side - target).square().mean()
        + local_terms / 4
    )
    torch.testing.assert_close(losses.loss, expected)
    assert model(images, drawn, progress=1.0).loss < losses.loss


def test_scales_are_drawn_anew_for_every_comparison() -> None:
    model = PCRLv2Objective(tiny_cnn(), replace(TINY["pcrlv2"], local_views=6))
    choices = [model.draw(toy(2, CROP), torch.Generator().manual_seed(seed)).scales for seed in range(20)]
    assert {len(scales) for scales in choices} == {13}
    assert all(set(column) == {0, 1, 2} for column in zip(*choices, strict=True))
    assert all(len(set(scales)) > 1 for scales in choices)


def test_only_global_views_have_patches_swapped() -> None:
    drawn = objective().draw(toy(2, CROP), torch.Generator().manual_seed(0))
    assert (len(drawn.first.swaps), len(drawn.second.swaps), len(drawn.local.swaps)) == (3, 3, 0)
    assert not torch.equal(drawn.first.turn, drawn.second.turn)


def test_views_that_went_through_together_come_apart_in_order() -> None:
    rows = torch.arange(6.0)
    features = Features(rows[:, None], rows[:, None], rows.view(6, 1, 1, 1, 1))
    assert part(features, 1, 3).q.flatten().tolist() == [2, 3]


def test_intensities_of_any_range_are_restored_from_0_to_1() -> None:
    """MR has no fixed one; a crop that has it already is taken as it is."""
    images, model = toy(2, CROP), objective()
    within = unit_range(5 * images - 2)
    assert within.amin((1, 2, 3, 4)).tolist() == [0, 0]
    assert torch.equal(unit_range(within), within)
    losses = [model.loss(each, torch.Generator().manual_seed(0)).loss for each in (within, within * 300 - 50)]
    torch.testing.assert_close(*losses)


def test_a_batch_of_one_is_refused() -> None:
    with pytest.raises(InputError, match="batch of at least 2, got 1"):
        objective().loss(toy(1, CROP), torch.Generator())
