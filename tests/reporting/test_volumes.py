import gzip
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medcontext.errors import InputError
from medcontext.reporting.volumes import CaseFiles, limits_of, read_volumes

AFFINE = np.array([[-2.0, 0, 0, 30], [0, 0, 3.0, -5], [0, 1.5, 0, 7], [0, 0, 0, 1]])  # flipped, axes exchanged


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def unpack(content: bytes) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(content))


@pytest.fixture
def files(tmp_path: Path) -> CaseFiles:
    image = np.random.default_rng(0).normal(40, 100, (30, 40, 20)).astype(np.float32)
    truth = np.zeros(image.shape, np.int16)
    truth[10:20, 15:25, 5:10] = 600
    truth[12:14, 16:18, 6:8] = 7
    prediction = np.roll(truth, 3, axis=0)
    prediction[29, 39, 19] = 7  # a false alarm in a corner
    paths = {
        name: save(tmp_path / f"{name}.nii.gz", array)
        for name, array in {"image": image, "truth": truth, "model": prediction}.items()
    }
    return CaseFiles("a", paths["image"], paths["truth"], {"model": paths["model"]})


def test_every_voxel_lies_where_it_did_in_the_patient(files: CaseFiles) -> None:
    volumes = read_volumes(files, [600, 7])
    start = [low for low, _ in volumes.box]
    crop = tuple(slice(*bounds) for bounds in volumes.box)
    for key, path in {"truth": files.truth, "0": files.predictions["model"]}.items():
        packed, whole = unpack(volumes.files[key]), nib.load(path)
        expected = np.asanyarray(whole.dataobj)[crop]
        shown = np.take([0, 600, 7], np.asanyarray(packed.dataobj))
        np.testing.assert_array_equal(shown, expected)
        np.testing.assert_allclose(packed.affine @ [0, 0, 0, 1], whole.affine @ [*start, 1], atol=1e-4)
        np.testing.assert_allclose(packed.affine[:3, :3], AFFINE[:3, :3], atol=1e-5)
        assert (np.asanyarray(whole.dataobj) != 0).sum() == (shown != 0).sum(), "nothing labelled is cropped away"


def test_intensities_are_kept_to_a_256th_of_their_range(files: CaseFiles) -> None:
    volumes = read_volumes(files, [600, 7])
    packed = unpack(volumes.files["image"])
    crop = tuple(slice(*bounds) for bounds in volumes.box)
    original = np.clip(nib.load(files.image).get_fdata()[crop], *volumes.limits)
    step = (volumes.limits[1] - volumes.limits[0]) / 255
    assert packed.get_data_dtype() == np.uint8
    assert np.abs(packed.get_fdata() - original).max() <= 0.501 * step
    assert volumes.limits[0] <= volumes.window[0] or volumes.window[0] < original.min()


def test_a_case_without_an_image_is_shown_on_black(files: CaseFiles) -> None:
    volumes = read_volumes(replace(files, image=None), [600, 7])
    assert not unpack(volumes.files["image"]).get_fdata().any()


def test_of_several_channels_the_first_is_shown(files: CaseFiles, tmp_path: Path) -> None:
    first = nib.load(files.image).get_fdata(dtype=np.float32)
    path = save(tmp_path / "channels.nii.gz", np.stack([first, first * 0 + 9], -1))
    found, expected = (read_volumes(replace(files, image=each), [600, 7]) for each in (path, files.image))
    assert found.files == expected.files


def test_a_model_can_have_an_image_of_its_own(files: CaseFiles, tmp_path: Path) -> None:
    masked = save(tmp_path / "masked.nii.gz", np.full((30, 40, 20), 25, np.float32))
    volumes = read_volumes(replace(files, own_images={"model": masked}), [600, 7])
    limits = volumes.limits
    shown = unpack(volumes.files["image-0"]).get_fdata()
    assert np.abs(shown - 25).max() <= 0.501 * (limits[1] - limits[0]) / 255


def test_a_prediction_on_another_grid_is_refused(files: CaseFiles, tmp_path: Path) -> None:
    other = save(tmp_path / "other.nii.gz", np.zeros((30, 40, 21), np.uint8))
    with pytest.raises(InputError, match="Different shapes"):
        read_volumes(replace(files, predictions={"model": other}), [600, 7])


def test_a_file_that_is_gone_is_named(files: CaseFiles) -> None:
    files.truth.unlink()
    with pytest.raises(InputError, match=r"truth\.nii\.gz"):
        read_volumes(files, [600, 7])


def test_a_flat_image_has_a_range_all_the_same() -> None:
    low, high = limits_of(np.full((3, 3, 3), 5.0), (5.0, 5.0))
    assert low == 5
    assert high > low
