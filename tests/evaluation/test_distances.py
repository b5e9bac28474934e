"""Against medpy, MONAI and values computed by hand."""

import numpy as np
import pytest
import torch
from medpy.metric.binary import hd95 as medpy_hd95
from monai.metrics import compute_hausdorff_distance
from scipy import ndimage

from medcontext.evaluation.distances import hd95_max, hd95_pooled, surface, surface_distances

SPACINGS = [(1.0, 1.0, 1.0), (0.7, 0.9, 5.0), (3.0, 0.5, 1.25)]


def monai_hd95(first: np.ndarray, second: np.ndarray, spacing: tuple[float, ...]) -> float:
    one_hot = [torch.from_numpy(mask)[None, None].float() for mask in (first, second)]
    return float(compute_hausdorff_distance(*one_hot, include_background=True, percentile=95, spacing=list(spacing)))


def blob(rng: np.random.Generator, shape: tuple[int, ...], share: float = 0.3) -> np.ndarray:
    """A random smooth mask; at these sizes it nearly always touches the border."""
    field = ndimage.gaussian_filter(rng.normal(size=shape), 1.5)
    return field > np.quantile(field, 1 - share)


def one_voxel(shape: tuple[int, ...], *index: int) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[index] = True
    return mask


def assert_as_medpy_and_monai(first: np.ndarray, second: np.ndarray, spacing: tuple[float, ...]) -> None:
    distances = surface_distances(first, second, spacing)
    assert hd95_pooled(distances) == pytest.approx(medpy_hd95(first, second, voxelspacing=spacing), rel=1e-9)
    assert hd95_max(distances) == pytest.approx(monai_hd95(first, second, spacing), rel=1e-6)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", range(6))
def test_random_blobs_match_medpy_and_monai(seed: int, spacing: tuple[float, ...]) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(5, 22, 3))
    assert_as_medpy_and_monai(blob(rng, shape), blob(rng, shape, share=0.1), spacing)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_blobs_inside_and_at_the_border_match(spacing: tuple[float, ...]) -> None:
    rng = np.random.default_rng(7)
    inside, border = np.zeros((2, 24, 20, 16), dtype=bool)
    inside[6:15, 7:15, 4:11] = blob(rng, (9, 8, 7), 0.6)
    border[:10, 12:, 9:] = True
    assert_as_medpy_and_monai(inside, border, spacing)
    assert_as_medpy_and_monai(border, border[::-1].copy(), spacing)


def test_distances_are_all_those_of_a_distance_transform() -> None:
    rng = np.random.default_rng(3)
    first, second = blob(rng, (20, 17, 9)), blob(rng, (20, 17, 9))
    spacing = (0.8, 1.1, 3.0)
    edges = [mask ^ ndimage.binary_erosion(mask) for mask in (first, second)]
    distances = surface_distances(first, second, spacing)
    for found, origin, target in zip(distances, edges, edges[::-1], strict=True):
        expected = ndimage.distance_transform_edt(~target, sampling=spacing)[origin]
        np.testing.assert_allclose(np.sort(found), np.sort(expected), rtol=1e-12)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_single_voxels_are_as_far_apart_as_they_are(spacing: tuple[float, ...]) -> None:
    shape = (9, 9, 9)
    first, second = one_voxel(shape, 0, 0, 0), one_voxel(shape, 8, 3, 5)
    assert_as_medpy_and_monai(first, second, spacing)
    distances = surface_distances(first, second, spacing)
    assert hd95_max(distances) == pytest.approx(np.linalg.norm(np.array(spacing) * (8, 3, 5)))


@pytest.mark.parametrize("spacing", SPACINGS)
def test_the_transform_for_large_surfaces_gives_what_the_tree_gives(monkeypatch, spacing: tuple[float, ...]) -> None:
    rng = np.random.default_rng(11)
    first, second = blob(rng, (16, 11, 7)), rng.random((16, 11, 7)) < 0.05
    expected = surface_distances(first, second, spacing)
    monkeypatch.setattr("medcontext.evaluation.distances.LARGE_SURFACE", 0)
    monkeypatch.setattr("medcontext.evaluation.distances.KDTree", None)
    for array, other in zip(expected, surface_distances(first, second, spacing), strict=True):
        np.testing.assert_allclose(other, array, rtol=1e-6)


def test_equal_masks_have_distance_zero() -> None:
    mask = blob(np.random.default_rng(0), (12, 12, 12))
    distances = surface_distances(mask, mask.copy(), (1, 1, 1))
    assert hd95_pooled(distances) == hd95_max(distances) == 0
    assert len(distances.forth) == len(surface(mask))


def test_the_two_definitions_differ_and_are_not_swapped() -> None:
    """By hand: one voxel against a line of 20 from it; forth 0, back 0, 1, ..., 19."""
    line, point = np.zeros((20, 3, 3), dtype=bool), one_voxel((20, 3, 3), 0, 1, 1)
    line[:, 1, 1] = True
    distances = surface_distances(point, line, (1, 1, 1))
    assert sorted(distances.forth) == [0]
    assert sorted(distances.back) == list(range(20))
    assert hd95_max(distances) == pytest.approx(0.95 * 19)
    assert hd95_pooled(distances) == pytest.approx(18)  # 21 values, 0 twice: the 95th percentile is the 20th, 18


def test_each_spacing_goes_with_its_axis() -> None:
    shape = (6, 6, 6)
    origin = one_voxel(shape, 1, 1, 1)
    for axis, step in enumerate((0.5, 2.0, 7.0)):
        index = [1, 1, 1]
        index[axis] = 4
        distances = surface_distances(origin, one_voxel(shape, *index), (0.5, 2.0, 7.0))
        assert hd95_max(distances) == pytest.approx(3 * step)


def test_cropping_to_the_common_box_changes_nothing() -> None:
    rng = np.random.default_rng(5)
    first, second = np.zeros((2, 30, 30, 30), dtype=bool)
    first[8:20, 9:20, 10:22] = True
    second[9:21, 8:18, 12:25] = blob(rng, (12, 10, 13), 0.7)
    whole = surface_distances(first, second, (1, 2, 3))
    box = (slice(8, 21), slice(8, 20), slice(10, 25))
    for array, cropped in zip(whole, surface_distances(first[box], second[box], (1, 2, 3)), strict=True):
        np.testing.assert_array_equal(array, cropped)


def test_memory_order_does_not_matter() -> None:
    rng = np.random.default_rng(9)
    first, second = blob(rng, (14, 9, 6)), blob(rng, (14, 9, 6))
    expected = surface_distances(first, second, (1, 2, 3))
    found = surface_distances(np.asfortranarray(first), second[::1].copy(order="F"), (1, 2, 3))
    for array, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(array, other)


@pytest.mark.parametrize("shape", [(7, 6, 5), (1, 6, 5), (1, 1, 1)])
def test_the_surface_is_what_erosion_takes_away(shape: tuple[int, ...]) -> None:
    for share in (0.2, 0.7, 1.0):
        mask = np.random.default_rng(1).random(shape) < share
        expected = np.flatnonzero(mask ^ ndimage.binary_erosion(mask))
        np.testing.assert_array_equal(surface(mask), expected)
        np.testing.assert_array_equal(surface(np.asfortranarray(mask)), expected)


def test_an_empty_mask_and_different_shapes_are_refused() -> None:
    mask = np.ones((3, 3, 3), dtype=bool)
    for first, second in ((mask, ~mask), (~mask, mask), (~mask, ~mask)):
        with pytest.raises(ValueError, match="empty"):
            surface_distances(first, second, (1, 1, 1))
    with pytest.raises(ValueError, match="shapes"):
        surface_distances(mask, mask[:2], (1, 1, 1))
