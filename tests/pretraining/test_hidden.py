"""What MAE and SimMIM share, for each of them and each network."""

import math
from collections.abc import Callable

import pytest
import torch

from medcontext.errors import InputError
from medcontext.method.masking import expand
from medcontext.networks.conversions import perceptron_to_convolution
from medcontext.pretraining.hidden import HiddenPatches
from medcontext.pretraining.mae import MAE
from medcontext.pretraining.settings import HiddenSettings, MAESettings, SimMIMSettings
from medcontext.pretraining.simmim import SimMIM
from tests.pretraining.conftest import tiny_swin, tiny_unetr

DECODER = {"decoder_width": 24, "decoder_depth": 1, "decoder_heads": 2, "decoder_mlp": 48}
CROP = (32, 32, 32)


def mae(channels: int = 1, **settings) -> MAE:
    return MAE(tiny_unetr(CROP, channels), MAESettings(**DECODER, **settings))


def simmim(channels: int = 1, **settings) -> SimMIM:
    return SimMIM(tiny_unetr(CROP, channels), SimMIMSettings(**settings))


def swin(channels: int = 1, **settings) -> SimMIM:
    return SimMIM(tiny_swin(channels), SimMIMSettings(**settings))


MAKERS = [mae, simmim, swin]
each = pytest.mark.parametrize("make", MAKERS)


def drawn_for(objective: HiddenPatches, images: torch.Tensor, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """What is drawn, and the voxels (B, 1, H, W, D) that it hides."""
    drawn = objective.draw(images, torch.Generator().manual_seed(seed))
    return drawn, expand(drawn, images.shape[2:])


@each
def test_hidden_voxels_do_not_reach_the_encoder_to_the_bit_and_visible_ones_do(make: Callable) -> None:
    objective = make(channels=2)
    images = torch.randn(2, 2, *CROP)
    drawn, voxels = drawn_for(objective, images)
    hidden = objective.hidden(images, drawn)
    with torch.no_grad():
        output = objective.encode(images, hidden)
        assert torch.equal(
            objective.encode(torch.where(voxels, 100 * torch.randn(images.shape), images), hidden), output
        )
        assert torch.equal(
            objective.predict(images.masked_fill(voxels, 9.0), hidden), objective.predict(images, hidden)
        )
        changed = objective.encode(torch.where(voxels, images, images + 0.1), hidden)
    assert ((changed != output).flatten(1).any(1)).all()


@each
def test_the_loss_is_the_mean_error_over_hidden_voxels_alone(make: Callable) -> None:
    objective = make(channels=2)
    images = torch.randn(2, 2, *CROP)
    drawn, voxels = drawn_for(objective, images)
    shown = objective.show(images, drawn)
    difference = (shown["restored"] - images).masked_select(voxels)
    losses = objective(images, drawn)
    torch.testing.assert_close(losses.loss, difference.abs().mean())
    torch.testing.assert_close(losses.parts["hidden"], losses.loss.detach())
    # Were what is predicted fixed, visible voxels would change nothing, and hidden ones would.
    fixed = objective.predict(images, objective.hidden(images, drawn)).detach()
    objective.predict = lambda _images, _hidden: fixed  # type: ignore[method-assign]
    assert torch.equal(objective(torch.where(voxels, images, 7.0), drawn).loss, losses.loss)
    assert not torch.equal(objective(torch.where(voxels, images + 1, images), drawn).loss, losses.loss)


@each
def test_squared_and_normalised_targets_are_those_of_the_equation(make: Callable) -> None:
    objective = make(error="squared", normalise_targets=True)
    images = torch.rand(2, 1, *CROP)
    drawn, _ = drawn_for(objective, images)
    hidden = objective.hidden(images, drawn)
    total = []
    for sample, prediction, where in zip(images, objective.predict(images, hidden), hidden, strict=True):
        cells = [sample[0, i : i + 16, j : j + 16, k : k + 16] for i in (0, 16) for j in (0, 16) for k in (0, 16)]
        chosen = [cell for cell, inside in zip(cells, where, strict=True) if inside]
        for cell, guess in zip(chosen, prediction, strict=True):
            target = (cell - cell.mean()) / (cell.var() + 1e-6).sqrt()
            total.append((guess - target.flatten()).square().mean())
    torch.testing.assert_close(objective(images, drawn).loss, torch.stack(total).mean())
    shown = objective.show(images, drawn)
    difference = (shown["restored"] - images).masked_select(expand(drawn, CROP))
    torch.testing.assert_close(difference.abs().mean(), objective(images, drawn).parts["hidden"])


@each
def test_what_is_seen_is_shown_as_it_is_and_what_is_hidden_is_not(make: Callable) -> None:
    objective = make()
    image = torch.rand(1, *CROP)
    objective.train()
    shown = objective.picture(image, torch.Generator().manual_seed(0))
    assert list(shown) == ["original", "masked", "restored"]
    assert objective.training
    _, voxels = drawn_for(objective, image[None])
    assert torch.equal(shown["original"], image)
    for name in ("masked", "restored"):
        assert torch.equal(shown[name][~voxels[0]], image[~voxels[0]])
    assert (shown["masked"][voxels[0]] == image.min()).all()
    assert not shown["restored"].requires_grad


@each
def test_the_guess_is_the_visible_mean_of_each_sample_and_channel(make: Callable) -> None:
    objective = make(channels=2)
    images = torch.rand(2, 2, *CROP) * torch.tensor([1.0, 5.0]).view(1, 2, 1, 1, 1)
    drawn, voxels = drawn_for(objective, images)
    errors = [
        (channel[where[0]] - channel[~where[0]].mean()).abs()
        for image, where in zip(images, voxels, strict=True)
        for channel in image
    ]
    torch.testing.assert_close(objective(images, drawn).parts["guess"], torch.cat(errors).mean())


@each
def test_the_same_generator_gives_the_same_loss_and_another_does_not(make: Callable) -> None:
    objective, images = make(), torch.rand(2, 1, *CROP)
    torch.manual_seed(5)
    first = objective.loss(images, torch.Generator().manual_seed(1)).loss
    torch.manual_seed(6)
    assert torch.equal(objective.loss(images, torch.Generator().manual_seed(1)).loss, first)
    assert not torch.equal(objective.loss(images, torch.Generator().manual_seed(2)).loss, first)


@each
def test_bfloat16_gives_nearly_the_same(make: Callable) -> None:
    objective, images = make(), torch.rand(2, 1, *CROP)
    drawn, _ = drawn_for(objective, images)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rough = objective(images, drawn).loss
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, objective(images, drawn).loss.detach(), rtol=0.02, atol=0)


def test_the_published_setting_hides_162_of_216_in_each_sample() -> None:
    with torch.device("meta"):
        objective = SimMIM(tiny_unetr((96, 96, 96)))
    drawn = objective.draw(torch.empty(5, 1, 96, 96, 96, device="meta"), torch.Generator().manual_seed(0))
    assert drawn.sum((1, 2, 3, 4)).tolist() == [162] * 5
    assert len({tuple(sample.flatten().tolist()) for sample in drawn}) == 5


def test_a_crop_that_is_no_cubes_or_of_other_channels_is_refused() -> None:
    generator = torch.Generator()
    with pytest.raises(InputError, match=r"built for crops of \(32, 32, 32\), got \(32, 32, 16\)"):
        mae().loss(torch.rand(1, 1, 32, 32, 16), generator)
    with pytest.raises(InputError, match=r"must be \(B, 2, H, W, D\) for this network, got \(1, 1, 32, 32, 32\)"):
        simmim(2).loss(torch.rand(1, 1, *CROP), generator)
    with pytest.raises(InputError, match=r"multiple of \(32, 32, 32\), got \(32, 32, 48\)"):
        swin().loss(torch.rand(1, 1, 32, 32, 48), generator)
    with pytest.raises(InputError, match="some must be hidden and some seen"):
        swin(cube=32).loss(torch.rand(1, 1, *CROP), generator)
    with pytest.raises(InputError, match=r"cube must be a multiple of this network's token of \(16, 16, 16\)"):
        mae(cube=8)


@pytest.mark.parametrize(
    "wrong", [{"ratio": 0}, {"ratio": 1}, {"cube": 0}, {"cube": (8, 0, 8)}, {"error": "cubed"}, {"decoder_depth": 0}]
)
def test_values_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        MAESettings(**wrong)
    with pytest.raises(InputError, match="decoder_heads must divide decoder_width"):
        MAESettings(decoder_width=10, decoder_heads=4)


def test_the_defaults_are_the_published_values() -> None:
    assert HiddenSettings() == HiddenSettings(16, 0.75, "absolute", False, False)
    assert math.isclose(MAESettings().decoder_width * 4, MAESettings().decoder_mlp)


@pytest.mark.parametrize(("make", "cube"), [(mae, (16, 16, 32)), (simmim, (32, 16, 16)), (swin, (8, 4, 16))])
def test_cubes_of_several_tokens_are_hidden_as_a_whole(make: Callable, cube: tuple[int, int, int]) -> None:
    objective = make(cube=cube)
    images = torch.rand(2, 1, *CROP)
    drawn, voxels = drawn_for(objective, images)
    assert voxels.float().mean((1, 2, 3, 4)).tolist() == [0.75, 0.75]
    assert tuple(drawn.shape[2:]) == tuple(extent // edge for extent, edge in zip(CROP, cube, strict=True))
    shown = objective.show(images, drawn)
    assert torch.equal(shown["masked"] != images, voxels & (images > images.min()))
    hidden = objective.hidden(images, drawn)
    with torch.no_grad():
        others = torch.where(voxels, torch.randn(images.shape), images)
        assert torch.equal(objective.encode(others, hidden), objective.encode(images, hidden))


@pytest.mark.parametrize("objective", [MAE, SimMIM])
def test_a_perceptron_embedding_gives_what_its_convolution_gives(objective: Callable) -> None:
    settings = MAESettings(**DECODER) if objective is MAE else None
    perceptron = objective(tiny_unetr(CROP, 2, proj_type="perceptron"), settings)
    convolution = objective(tiny_unetr(CROP, 2), settings)
    weights = perceptron.state_dict()
    name = "encoder.patch_embedding.patch_embeddings"
    weights[f"{name}.weight"] = perceptron_to_convolution(weights.pop(f"{name}.1.weight"), (16, 16, 16))
    weights[f"{name}.bias"] = weights.pop(f"{name}.1.bias")
    convolution.load_state_dict(weights)
    images = torch.rand(2, 2, *CROP)
    drawn, _ = drawn_for(convolution, images)
    torch.testing.assert_close(perceptron(images, drawn).loss, convolution(images, drawn).loss)
