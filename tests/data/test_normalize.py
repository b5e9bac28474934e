"""Intensities against closed forms and MONAI."""

import pytest
import torch
from monai.transforms import NormalizeIntensity, ScaleIntensityRange

from medcontext.data.normalize import background, foreground_box, normalize
from medcontext.data.plan import Normalization

IMAGE = torch.randn(2, 5, 6, 7, generator=torch.Generator().manual_seed(0)) * 30 + 100


def test_range_equals_monai() -> None:
    found = normalize(IMAGE, [Normalization("range", 80, 120)] * 2)
    expected = ScaleIntensityRange(80, 120, 0, 1, clip=True)(IMAGE)
    torch.testing.assert_close(found, torch.as_tensor(expected))
    assert found.min() == 0
    assert found.max() == 1


def test_zscore_equals_monai() -> None:
    found = normalize(IMAGE, [Normalization("zscore")] * 2)
    expected = NormalizeIntensity(channel_wise=True)(IMAGE)
    torch.testing.assert_close(found, torch.as_tensor(expected), rtol=1e-5, atol=1e-5)


def test_zscore_inside_equals_monai_and_keeps_zeros() -> None:
    image = IMAGE.clone()
    image[:, 2:] = 0
    found = normalize(image, [Normalization("zscore", inside=True)] * 2)
    expected = NormalizeIntensity(nonzero=True, channel_wise=True)(image.clone())
    torch.testing.assert_close(found, torch.as_tensor(expected), rtol=1e-5, atol=1e-5)
    assert not found[:, 2:].any()


def test_inside_is_the_union_of_channels() -> None:
    image = torch.zeros(2, 4, 4, 4)
    image[0, 0], image[1, 1] = 5, 7
    found = normalize(image, [Normalization("zscore", inside=True)] * 2)
    assert found[0, :2].mean() == pytest.approx(0, abs=1e-6)
    assert found[0, :2].std(unbiased=False) == pytest.approx(1)


def test_zscore_nonzero_equals_monai_where_channels_are_zero_in_different_places() -> None:
    """Swin UNETR's on BraTS, which the union of the channels is not."""
    image = IMAGE.clone()
    image[0, :3], image[1, 2:, :4] = 0, 0
    found = normalize(image, [Normalization("zscore_nonzero", inside=True)] * 2)
    expected = torch.as_tensor(NormalizeIntensity(nonzero=True, channel_wise=True)(image.clone()))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(found == 0, image == 0)
    union = normalize(image, [Normalization("zscore", inside=True)] * 2)
    assert not torch.allclose(union, expected, atol=0.1)
    assert background(image, [Normalization("zscore_nonzero", inside=True)] * 2) == (0.0, 0.0)


def test_ct_closed_form_and_channels_apart() -> None:
    found = normalize(IMAGE, [Normalization("ct", 90, 110, 100, 4), Normalization("none")])
    torch.testing.assert_close(found[0], (IMAGE[0].clamp(90, 110) - 100) / 4)
    assert torch.equal(found[1], IMAGE[1])


@pytest.mark.parametrize(
    "channel",
    [Normalization("zscore"), Normalization("zscore", inside=True), Normalization("zscore_nonzero", inside=True)],
)
@pytest.mark.parametrize("value", [0.0, 7.0])
def test_constant_images_stay_finite(channel: Normalization, value: float) -> None:
    found = normalize(torch.full((1, 3, 3, 3), value), [channel])
    assert torch.equal(found, torch.zeros(1, 3, 3, 3))


def test_the_input_is_not_changed() -> None:
    before = IMAGE.clone()
    for kind in ("ct", "zscore", "range", "none"):
        normalize(IMAGE, [Normalization(kind, 90, 110)] * 2)[:] = 0  # type: ignore[arg-type]
    assert torch.equal(IMAGE, before)


def test_box_is_the_union_of_channels() -> None:
    image = torch.zeros(2, 5, 6, 7)
    image[0, 1, 2, 3] = -4
    image[1, 3, 2, 6] = 1
    assert foreground_box(image) == ((1, 4), (2, 3), (3, 7))
    assert foreground_box(torch.zeros(1, 2, 3, 4)) == ((0, 2), (0, 3), (0, 4))


def test_background() -> None:
    channels = [Normalization("zscore"), Normalization("zscore", inside=True)]
    assert background(IMAGE, channels) == (float(IMAGE[0].min()), 0.0)
