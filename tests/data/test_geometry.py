"""The prepared grid and the way back."""

import json
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
import torch
from torch.nn import functional

from medcontext.data import geometry
from medcontext.data.geometry import Geometry, from_ras, ras_spacing, to_ras
from medcontext.errors import InputError
from tests.data.scans import affine_of, blobs, rotation

ORIENTATIONS = [
    "".join(signs[letter] for letter in order)
    for order in permutations(range(3))
    for signs in (("R", "A", "S"), ("L", "P", "I"), ("R", "P", "S"), ("L", "A", "I"))
]


def one_hot(label: torch.Tensor, classes: int) -> torch.Tensor:
    return functional.one_hot(label.long(), classes).movedim(-1, 0).float()


def dice(a: np.ndarray, b: np.ndarray, value: int) -> float:
    return 2 * ((a == value) & (b == value)).sum() / ((a == value).sum() + (b == value).sum())


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_reorients_as_nibabel_does_and_back(codes: str) -> None:
    affine = affine_of(codes, (0.7, 1.5, 4.0))
    volume = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    expected = nib.as_closest_canonical(nib.Nifti1Image(volume, affine))
    found = to_ras(torch.from_numpy(volume), affine)
    np.testing.assert_array_equal(found, expected.get_fdata())
    assert ras_spacing(affine) == pytest.approx(tuple(float(mm) for mm in expected.header.get_zooms()))
    np.testing.assert_array_equal(from_ras(found, affine), volume)


@pytest.mark.parametrize("codes", ["PIR", "LSA", "RAS", "ILP"])
@pytest.mark.parametrize("oblique", [0, 25])
def test_label_comes_back_voxel_for_voxel(codes: str, oblique: float) -> None:
    affine = rotation(oblique, 1) @ rotation(oblique / 2, 0) @ affine_of(codes, (0.8, 0.8, 5.0))
    label = torch.from_numpy(np.random.default_rng(1).integers(0, 5, (7, 9, 11), dtype=np.uint8))
    label[0] = label[:, 0] = label[..., -2:] = 0
    ras = to_ras(label, affine)
    box = tuple((int(i.min()), int(i.max()) + 1) for i in torch.nonzero(ras, as_tuple=True))
    there = Geometry.create((7, 9, 11), affine, ras_spacing(affine), box)  # type: ignore[arg-type]
    assert there.prepared_shape == there.cropped_shape != (7, 9, 11)
    prepared = there.label_to_prepared(label)
    back = there.to_original(one_hot(prepared, 5))
    torch.testing.assert_close(back, label, rtol=0, atol=0)


@pytest.mark.parametrize("codes", ["PIR", "LAS"])
@pytest.mark.parametrize(("file_spacing", "target"), [((1, 1, 5), (1, 1, 1)), ((0.8, 0.8, 0.8), (1, 1, 1.3))])
def test_resampled_blobs_come_back_nearly(codes: str, file_spacing: tuple, target: tuple) -> None:
    affine = rotation(15, 2) @ affine_of(codes, file_spacing)
    label = blobs((64, 70, 58), [(0.3, 0.3, 0.4), (0.7, 0.6, 0.5)], 0.22)
    there = Geometry.create(label.shape, affine, target)  # type: ignore[arg-type]
    prepared = there.label_to_prepared(torch.from_numpy(label))
    assert prepared.shape == there.prepared_shape != there.cropped_shape
    back = there.to_original(one_hot(prepared, 3)).numpy()
    assert back.shape == label.shape
    assert min(dice(back, label, 1), dice(back, label, 2)) > 0.97


def test_slabs_equal_trilinear_interpolation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry, "SLAB_VALUES", 2000)  # several slabs
    scores = torch.randn(4, 9, 6, 7)
    there = Geometry((14, 13, 4), tuple(map(tuple, np.eye(4))), ((0, 14), (0, 13), (0, 4)), (9, 6, 7))
    expected = functional.interpolate(scores[None], (14, 13, 4), mode="trilinear", align_corners=False)[0]
    torch.testing.assert_close(there.probabilities_to_original(scores), expected)
    assert torch.equal(there.to_original(scores).long(), expected.argmax(0))


def test_outside_of_the_box_is_background() -> None:
    affine = affine_of("LPI", (1, 1, 1))
    there = Geometry.create((6, 6, 6), affine, None, ((1, 4), (2, 5), (0, 2)))
    scores = torch.zeros(3, 3, 3, 2)
    scores[2] = 1
    back = to_ras(there.to_original(scores), affine)
    expected = torch.zeros(6, 6, 6, dtype=torch.uint8)
    expected[1:4, 2:5, 0:2] = 2
    assert torch.equal(back, expected)
    full = there.probabilities_to_original(scores)
    assert torch.equal(full.sum(0), torch.ones(6, 6, 6))
    assert torch.equal(full.argmax(0), from_ras(expected, affine).long())


def test_labels_never_become_new_values() -> None:
    label = torch.zeros(10, 10, 4, dtype=torch.int16)
    label[:5, :5], label[5:, :5], label[:5, 5:] = 200, 500, 600
    there = Geometry.create((10, 10, 4), np.diag([1.0, 1, 5, 1]), (0.7, 1.9, 1.3))
    prepared = there.label_to_prepared(label)
    assert prepared.dtype == torch.int16
    assert set(prepared.unique().tolist()) == {0, 200, 500, 600}


def test_image_keeps_its_field_of_view() -> None:
    """A ramp stays the ramp of world positions, wherever both grids have voxels around."""
    affine = affine_of("LPS", (2, 2, 2))
    x = torch.arange(20.0)
    image = (40 - 2 * x)[None, :, None, None].expand(1, 20, 4, 4)  # value: position towards the right
    there = Geometry.create((20, 4, 4), affine, (0.5, 2, 2))
    prepared = there.to_prepared(image)[0, :, 0, 0]
    positions = 2 - 1 + 0.25 + 0.5 * torch.arange(80)  # of voxel centres
    torch.testing.assert_close(prepared[4:-4], positions[4:-4])


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 3.0, 9.0)])
def test_one_slice(spacing: tuple) -> None:
    label = torch.zeros(36, 30, 1, dtype=torch.uint8)
    label[5:25, 6:27] = 1
    there = Geometry.create((36, 30, 1), np.diag([1.0, 1, 5, 1]), spacing)
    prepared = there.label_to_prepared(label)
    assert prepared.shape[2] == max(1, round(5 / spacing[2]))
    back = there.to_original(one_hot(prepared, 2))
    assert dice(back.numpy(), label.numpy(), 1) > (0.999 if spacing[0] == 1 else 0.9)


def test_json_round_trip() -> None:
    affine = rotation(33.3, 0) @ affine_of("PIR", (0.1 + 0.2, 1, 1))
    there = Geometry.create((5, 6, 7), affine, (1, 1, 1), ((1, 5), (0, 2), (3, 6)))
    assert Geometry.from_dict(json.loads(json.dumps(there.to_dict()))) == there


def test_refuses_a_singular_affine_and_an_absurd_grid() -> None:
    with pytest.raises(InputError, match="cannot be inverted"):
        Geometry.create((5, 5, 5), np.diag([1.0, 0, 1, 1]))
    with pytest.raises(InputError, match="spacing"):
        Geometry.create((512, 512, 512), np.diag([1000.0, 1000, 1000, 1]), (1, 1, 1))


def test_many_classes_do_not_wrap_around() -> None:
    scores = torch.zeros(300, 1, 1, 1)
    scores[299] = 1
    there = Geometry.create((1, 1, 1), np.eye(4))
    assert there.to_original(scores).item() == 299


def test_all_48_orientations_are_distinct() -> None:
    volume = torch.arange(60).reshape(3, 4, 5)
    seen = set()
    for order in permutations(range(3)):
        for signs in product("RL", "AP", "SI"):
            affine = affine_of("".join(signs[axis] for axis in order), (1, 1, 1))
            ras = to_ras(volume, affine)
            assert torch.equal(from_ras(ras, affine), volume)
            seen.add((tuple(ras.shape), tuple(ras.flatten().tolist())))
    assert len(seen) == 48


def test_a_spacing_that_leaves_nothing_of_a_volume_is_refused() -> None:
    microns = np.diag([0.5, 0.5, 0.5, 1])
    with pytest.raises(InputError, match=r"resampled to 500 x 500 x 500 mm .* choose a finer spacing"):
        Geometry.create((40, 40, 40), microns, (500.0, 500.0, 500.0))
    assert Geometry.create((40, 40, 1), microns, (0.5, 0.5, 1.0)).prepared_shape == (40, 40, 1)


def test_volumes_of_very_small_voxels_are_not_singular() -> None:
    assert ras_spacing(np.diag([1e-5, 1e-5, 1e-5, 1])) == pytest.approx((1e-5, 1e-5, 1e-5))
