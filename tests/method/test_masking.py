import pytest
import torch

from medcontext.errors import InputError
from medcontext.method.masking import BoxMask, CubeMask, TubeMask, expand, hide


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_tubes_run_through_the_whole_axis(axis: int) -> None:
    mask = TubeMask(patch_size=4, ratio=0.5, axis=axis)
    voxels = expand(mask.sample((16, 12, 8), batch=3), (16, 12, 8))
    assert voxels.shape == (3, 1, 16, 12, 8)
    first = voxels.select(axis + 2, 0).unsqueeze(axis + 2)
    assert torch.equal(voxels, first.expand_as(voxels))
    assert voxels.any()
    assert not voxels.all()


def test_each_sample_has_its_own_mask_unless_shared() -> None:
    generator = torch.Generator().manual_seed(0)
    own = TubeMask(4, 0.5).sample((32, 32, 8), 4, generator)
    shared = TubeMask(4, 0.5, per_sample=False).sample((32, 32, 8), 4, generator)
    assert len({tuple(sample.flatten().tolist()) for sample in own}) == 4
    assert all(torch.equal(sample, shared[0]) for sample in shared)


def test_the_same_generator_draws_the_same_mask() -> None:
    draws = [CubeMask(4).sample((16, 16, 16), 2, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_every_patch_is_hidden_equally_often() -> None:
    share = TubeMask(4, 0.4).sample((16, 16, 4), 4000, torch.Generator().manual_seed(0)).float().mean(0)
    assert share.min() > 0.36  # 6 of 16 patches: 0.375, with a standard error of 0.008
    assert share.max() < 0.41


@pytest.mark.parametrize(("ratio", "hidden"), [(0, 0), (0.4, 14), (1, 36)])
def test_the_exact_draw_hides_the_nearest_number_of_patches(ratio: float, hidden: int) -> None:
    assert (TubeMask(16, ratio).sample((96, 96, 64), 5).sum(dim=(1, 2, 3, 4)) == hidden).all()


@pytest.mark.parametrize(("ratio", "edges"), [(0, (0, 0, 0)), (0.3, (4, 5, 2)), (1e-6, (1, 1, 1)), (1, (6, 8, 3))])
def test_a_box_is_one_piece_of_the_nearest_size_anywhere(ratio: float, edges: tuple[int, int, int]) -> None:
    hidden = BoxMask((8, 6, 4), ratio).sample((48, 48, 12), 4000, torch.Generator().manual_seed(0))
    for sample in hidden[:20, 0]:
        for axis, edge in enumerate(edges):
            inside = sample.movedim(axis, 0).flatten(1).any(1).nonzero().flatten()
            assert len(inside) == edge
            assert edge == 0 or inside[-1] - inside[0] == edge - 1
    assert (hidden.sum((1, 2, 3, 4)) == edges[0] * edges[1] * edges[2]).all()
    corners = hidden.flatten(1).int().argmax(1).unique()
    places = (7 - edges[0]) * (9 - edges[1]) * (4 - edges[2])
    assert len(corners) == (places if ratio else 1)


@pytest.mark.parametrize(
    ("shape", "patch", "ratio", "hidden"),
    [
        ((96, 96, 8), 8, 0.4, 56 / 144),  # an axis of one patch is whole, and the others have the ratio
        ((96, 96, 96), 16, 0.4, 80 / 216),
        ((32, 32, 32), 16, 0.4, 4 / 8),
        ((32, 32, 32), 16, 0.9, 4 / 8),  # never all
        ((48, 48, 48), 8, 0.3, 64 / 216),
    ],
)
def test_a_box_hides_what_comes_nearest_to_its_ratio(shape: tuple, patch: int, ratio: float, hidden: float) -> None:
    share = BoxMask(patch, ratio).sample(shape, 3).float().mean((1, 2, 3, 4))
    torch.testing.assert_close(share, torch.full((3,), hidden))
    fitted = BoxMask(patch, ratio).fitted(shape).sample(shape, 1).float().mean()
    assert fitted == pytest.approx(ratio, abs=0.08 if ratio < 0.9 else 0.16)


def test_a_box_is_there_for_images_and_for_a_whole_batch() -> None:
    shared = BoxMask(4, 0.3, per_sample=False).sample((32, 32), 3, torch.Generator().manual_seed(0))
    assert shared.shape == (3, 1, 8, 8)
    assert torch.equal(shared[0], shared[1])
    assert shared[0].sum() == 20
    with pytest.raises(InputError, match="A box is one piece, of which draw 'bernoulli' has no parts"):
        BoxMask(draw="bernoulli")


def test_an_anisotropic_patch_is_hidden_as_given() -> None:
    assert CubeMask((4, 8, 2)).grid((16, 16, 16)) == (4, 2, 8)
    assert TubeMask((4, 8, 3)).grid((16, 16, 16)) == (4, 2, 1)


def test_a_patch_must_divide_the_crop() -> None:
    with pytest.raises(InputError, match=r"crop \(96, 96, 90\) and patch \(16, 16, 16\); use a crop of \(96, 96, 96\)"):
        CubeMask(16).sample((96, 96, 90), 1)


@pytest.mark.parametrize("wrong", [{"ratio": 1.1}, {"ratio": -0.1}, {"patch_size": 0}, {"axis": 3}, {"draw": "often"}])
def test_values_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError):
        TubeMask(**wrong)


def test_hiding_is_equation_1_with_a_gradient_for_the_embedding() -> None:
    volume = torch.randn(2, 3, 4, 4, 4, dtype=torch.float64)
    mask = torch.rand(2, 1, 4, 4, 4) < 0.5
    embedding = torch.randn(3, dtype=torch.float64, requires_grad=True)
    hidden = hide(volume, mask, embedding)
    inside = mask.double()
    torch.testing.assert_close(hidden, volume * (1 - inside) + embedding.view(1, 3, 1, 1, 1) * inside)
    hidden.sum().backward()
    torch.testing.assert_close(embedding.grad, mask.sum().double().expand(3))


def test_a_mask_that_would_hide_nothing_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"Nothing would be hidden: the crop \(16, 16, 8\) has 1 patch of \(16, 16, 8\)"
    ):
        TubeMask(patch_size=16).sample((16, 16, 8), batch=1)
    assert not TubeMask(patch_size=16, ratio=0).sample((16, 16, 8), batch=1).any()
    assert TubeMask(patch_size=16, ratio=0.6).sample((16, 16, 8), batch=1).all()
