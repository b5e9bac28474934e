"""Augmentation: reproducible, aligned, and only what was asked for."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from medcontext.data.augment import Augment, AugmentSettings
from medcontext.errors import InputError

OFF = {f"{what}_probability": 0.0 for what in ("affine", "noise", "smooth", "brightness", "shift", "contrast", "gamma")}


def batch(count: int = 3, channels: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(count, channels, 12, 14, 10, generator=generator)
    label = torch.zeros(count, 1, 12, 14, 10, dtype=torch.uint8)
    label[:, :, 2:8, 3:9, 2:7] = 1
    label[:, :, 8:11, 3:9, 2:7] = 255
    return image, label


def only(**settings: Any) -> Augment:
    return Augment(AugmentSettings(**{**OFF, **settings}))


ALL = only(flip_axes=(0, 1, 2), **dict.fromkeys(OFF, 1.0))


def test_same_seed_same_bits_whatever_the_global_state() -> None:
    image, label = batch()
    before = image.clone(), label.clone()
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    first = ALL(image, label, seed=3)
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    ALL(image, label, seed=4)
    second = ALL(image, label, seed=3)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert torch.equal(states[0], torch.get_rng_state())
    np.testing.assert_array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(image, before[0])
    assert torch.equal(label, before[1])


def test_autocast_changes_nothing() -> None:
    """Trainings on a GPU run under it; in bfloat16 the places of voxels would be rounded, to a quarter of one at 32."""
    image, label = batch()
    expected = ALL(image, label, seed=3)
    with torch.autocast("cpu", torch.bfloat16):
        found = ALL(image, label, seed=3)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_seeds_and_samples_differ() -> None:
    image, label = batch(1)
    image, label = image.repeat(2, 1, 1, 1, 1), label.repeat(2, 1, 1, 1, 1)
    first, _ = ALL(image, label, seed=0)
    second, _ = ALL(image, label, seed=1)
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


def test_a_sample_does_not_depend_on_its_neighbours() -> None:
    image, label = batch()
    whole = ALL(image, label, seed=0)
    part = ALL(image[:2], label[:2], seed=0)
    assert torch.equal(whole[0][:2], part[0])
    assert torch.equal(whole[1][:2], part[1])


def test_shapes_types_and_plain_tensors() -> None:
    image, label = batch()
    for found, given in zip(ALL(image, label, seed=0), (image, label), strict=True):
        assert type(found) is torch.Tensor
        assert (found.shape, found.dtype) == (given.shape, given.dtype)
        assert torch.isfinite(found.float()).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_labels_keep_to_their_values(dtype: torch.dtype) -> None:
    image, label = batch()
    for seed in range(5):
        varied = ALL(image, label.to(dtype), seed=seed)[1]
        assert varied.dtype == dtype
        assert set(varied.unique().tolist()) <= {0, 1, 255}


def test_image_and_label_move_together() -> None:
    """An image that is its own label stays so, up to interpolation at the edges."""
    label = torch.zeros(4, 1, 40, 40, 40, dtype=torch.uint8)
    label[:, :, 8:20, 10:26, 14:30] = 1
    moved, moved_label = only(affine_probability=1.0, flip_axes=(0, 1, 2))(label.float(), label, seed=0)
    inside = torch.from_numpy(ndimage.binary_erosion(moved_label.numpy(), np.ones((1, 1, 3, 3, 3))))
    outside = torch.from_numpy(~ndimage.binary_dilation(moved_label.numpy(), np.ones((1, 1, 3, 3, 3))))
    assert not torch.equal(moved_label, label)
    assert inside.sum() > 1000
    assert moved[inside].min() > 0.99
    assert moved[outside].max() < 0.01


def test_scale_is_the_factor_of_size() -> None:
    label = torch.zeros(1, 1, 60, 60, 60, dtype=torch.uint8)
    label[:, :, 20:40, 20:40, 20:40] = 1
    augment = only(affine_probability=1.0, rotation=(0, 0, 0), scale=(1.5, 1.5))
    larger = augment(label.float(), label, seed=0)[1]
    extent = torch.nonzero(larger[0, 0]).max(0).values - torch.nonzero(larger[0, 0]).min(0).values + 1
    assert extent.tolist() == [30, 30, 30]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rotation_is_about_its_axis(axis: int) -> None:
    """Rotating about an axis leaves profiles that vary only along this axis unchanged."""
    shape = [1, 1, 1]
    shape[axis] = 16
    image = torch.arange(16.0).reshape(1, 1, *shape).expand(1, 1, 16, 16, 16).contiguous()
    rotation = [0.0, 0.0, 0.0]
    rotation[axis] = 30.0
    label = torch.zeros(1, 1, 16, 16, 16, dtype=torch.uint8)
    label.movedim(2 + axis, 2)[:, :, :, :4] = 1
    augment = only(affine_probability=1.0, rotation=tuple(rotation), scale=(1.0, 1.0))
    found, turned = augment(image, label, seed=1)
    torch.testing.assert_close(found, image, rtol=0, atol=1e-3)
    assert not torch.equal(turned, label)


def test_flips_are_off_unless_asked_for() -> None:
    assert AugmentSettings().flip_axes == ()
    image, label = batch()
    flip = only(flip_axes=(1,))
    seen = set()
    for seed in range(8):
        found, turned = flip(image, label, seed)
        for sample in range(3):
            mirrored = torch.equal(found[sample], image[sample].flip(2))
            assert mirrored or torch.equal(found[sample], image[sample])
            assert torch.equal(turned[sample], label[sample].flip(2) if mirrored else label[sample])
            seen.add(mirrored)
    assert seen == {True, False}


def test_flips_are_as_frequent_as_asked_for() -> None:
    image, label = batch()
    flip = only(flip_axes=(1,), flip_probability=0.2)
    found = torch.cat([flip(image, label, seed)[0] == image for seed in range(100)])
    flipped = 1 - found.flatten(1).all(1).float().mean()
    assert 0.12 < flipped < 0.28


@pytest.mark.parametrize("what", ["noise", "smooth", "brightness", "shift", "contrast", "gamma"])
def test_intensity_changes_leave_the_label_and_are_bounded(what: str) -> None:
    image, label = batch()
    found, same = only(**{f"{what}_probability": 1.0})(image, label, seed=0)
    assert torch.equal(same, label)
    assert not torch.equal(found, image)
    assert (found - image).abs().mean() < 1
    assert not torch.equal(found[:, 0] - image[:, 0], found[:, 1] - image[:, 1])  # channels drawn apart


def test_brightness_is_one_factor_in_its_range() -> None:
    image, label = batch(20, 1)
    found, _ = only(brightness_probability=1.0, brightness=(0.5, 0.8))(image, label, seed=0)
    factors = found / image
    assert (factors.amax((1, 2, 3, 4)) - factors.amin((1, 2, 3, 4))).max() < 1e-3
    assert factors.min() > 0.499
    assert factors.max() < 0.801
    assert factors.mean((1, 2, 3, 4)).std() > 0.02


def test_shift_is_one_amount_in_its_range() -> None:
    """RandShiftIntensity(offsets=0.1) of UNETR's and Swin UNETR's codes."""
    image, label = batch(100, 1)
    found, _ = only(shift_probability=0.4, shift=0.1)(image, label, seed=0)
    amounts = found - image
    assert (amounts.amax((1, 2, 3, 4)) - amounts.amin((1, 2, 3, 4))).max() < 1e-5
    each = amounts.mean((1, 2, 3, 4))
    assert each.abs().max() < 0.1001
    assert each.min() < -0.05
    assert each.max() > 0.05
    assert 0.25 < (each.abs() > 1e-6).float().mean() < 0.55


def test_probability_is_kept() -> None:
    image, label = batch(200, 1)
    found, _ = only(noise_probability=0.25)(image, label, seed=0)
    changed = (found != image).flatten(1).any(1).float().mean()
    assert 0.15 < changed < 0.35


def test_off_means_off() -> None:
    image, label = batch()
    for augment in (only(), Augment(AugmentSettings(enabled=False))):
        found, same = augment(image, label, seed=0)
        assert torch.equal(found, image)
        assert torch.equal(same, label)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"affine_probability": 1.2}, "affine_probability is 1.2"),
        ({"scale": (1.2, 0.8)}, "smallest, above 0"),
        ({"gamma": (0.0, 1.0)}, "smallest, above 0"),
        ({"flip_axes": (3,)}, "axes are 0, 1 and 2"),
        ({"noise_std": -1.0}, "0 or above"),
        ({"shift": -1.0}, "0 or above"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AugmentSettings(**settings)


def test_samples_that_are_filled_into_one_another_are_mirrored_alike() -> None:
    augment = only(flip_axes=(0, 1, 2))
    image, label = batch(1)
    image, label = image.repeat(2, 1, 1, 1, 1), label.repeat(2, 1, 1, 1, 1)
    different = 0
    for seed in range(10):
        alike, labels = augment(image, label, seed, [(seed, 0)] * 2)
        assert torch.equal(alike[0], alike[1])
        assert torch.equal(labels[0], labels[1])
        assert torch.equal(augment.images(image[:1], seed + 99, [(seed, 0)])[0], alike[0])
        alone, _ = augment(image, label, seed)
        assert torch.equal(alone[0], alike[0])
        different += not torch.equal(alone[0], alone[1])
    assert different > 4
