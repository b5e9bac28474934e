"""NIfTI files: read exactly, written exactly, refused with a clear message."""

import gzip
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medcontext.data.cases import Case
from medcontext.data.nifti import (
    Header,
    case_name,
    check_same_grid,
    grid_distance,
    is_nifti,
    read_header,
    read_image,
    read_label,
)
from medcontext.data.nifti_write import write_image, write_label
from medcontext.errors import InputError
from tests.data.scans import affine_of, rotation, save

SHAPE = (5, 6, 7)
OBLIQUE = rotation(20, 0) @ rotation(-9, 2) @ affine_of("PIR", (0.8, 1.3, 5.0))
SHEARED = np.array([[1.0, 0.4, 0, 3], [0, 1.2, 0, -5], [0, 0.1, 2.5, 9], [0, 0, 0, 1]])


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 100, SHAPE).astype(np.float32)


def image_of(*paths: Path, channels: tuple[str, ...] = ("CT",)) -> np.ndarray:
    return read_image(Case("a", paths), channels)[0]


def refused(*paths: Path, channels: tuple[str, ...] = ("CT",)) -> str:
    with pytest.raises(InputError) as error:
        read_image(Case("a", paths), channels)
    return str(error.value)


def label_refused(path: Path) -> str:
    with pytest.raises(InputError) as error:
        read_label(path)
    return str(error.value)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("affine", [affine_of("LPS", (1, 1, 3)), OBLIQUE, SHEARED])
def test_image_is_read_as_it_lies_in_the_file(
    tmp_path: Path, noise: np.ndarray, affine: np.ndarray, suffix: str
) -> None:
    path = save(tmp_path / f"a{suffix}", noise, affine)
    image, found = read_image(Case("a", (path,)), ("CT",))
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, noise[None])
    np.testing.assert_allclose(found, affine, atol=1e-6)


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    stored = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    image = nib.Nifti1Image(stored, np.eye(4))
    image.header.set_slope_inter(2.0, -1024.0)
    nib.save(image, tmp_path / "a.nii.gz")
    raw = bytearray(gzip.decompress((tmp_path / "a.nii.gz").read_bytes()))
    assert np.frombuffer(raw[112:120], "<f4").tolist() == [2.0, -1024.0]
    # nibabel divides on saving; what is on disk now is what counts.
    on_disk = np.frombuffer(bytes(raw[352:]), "<i2").reshape(SHAPE, order="F")
    np.testing.assert_array_equal(image_of(tmp_path / "a.nii.gz")[0], on_disk * 2.0 - 1024.0)


def test_channels_in_one_4d_file_equal_channels_in_several_files(tmp_path: Path, noise: np.ndarray) -> None:
    both = np.stack([noise, noise + 7], axis=-1)
    four = save(tmp_path / "four.nii.gz", both, OBLIQUE)
    three = [save(tmp_path / f"{c}.nii.gz", both[..., c], OBLIQUE) for c in range(2)]
    together = image_of(four, channels=("A", "B"))
    assert together.shape == (2, *SHAPE)
    np.testing.assert_array_equal(together[1], noise + 7)
    np.testing.assert_array_equal(together, image_of(*three, channels=("A", "B")))


def test_trailing_single_axes_are_no_channels(tmp_path: Path, noise: np.ndarray) -> None:
    path = save(tmp_path / "a.nii.gz", noise[..., None, None])
    np.testing.assert_array_equal(image_of(path)[0], noise)


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 1), (1, 8, 9)])
def test_2d_images_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert "is a 2D image" in refused(save(tmp_path / "a.nii.gz", np.zeros(shape, np.float32)))


def test_5d_images_are_refused(tmp_path: Path) -> None:
    message = refused(save(tmp_path / "a.nii.gz", np.zeros((4, 4, 4, 2, 2), np.float32)))
    assert "5 dimensions" in message
    assert "4D with the channels last" in message


def test_empty_images_are_refused(tmp_path: Path) -> None:
    assert "is empty" in refused(save(tmp_path / "a.nii", np.zeros((4, 0, 4), np.float32)))


@pytest.mark.parametrize("files", ["one file", "two files"])
def test_wrong_number_of_channels_names_the_expected(tmp_path: Path, noise: np.ndarray, files: str) -> None:
    if files == "one file":
        message = refused(save(tmp_path / "a.nii.gz", np.stack([noise] * 2, -1)), channels=("FLAIR", "T1", "T2"))
        assert "holds 2 channels" in message
    else:
        paths = [save(tmp_path / f"{n}.nii.gz", noise) for n in range(2)]
        message = refused(*paths, channels=("FLAIR", "T1", "T2"))
        assert "has 2 image files" in message
    assert "3 expected: FLAIR, T1, T2" in message


def test_a_4d_file_among_channel_files_is_refused(tmp_path: Path, noise: np.ndarray) -> None:
    paths = (save(tmp_path / "a.nii.gz", noise), save(tmp_path / "b.nii.gz", np.stack([noise] * 2, -1)))
    assert "b.nii.gz holds 2 channels" in refused(*paths, channels=("A", "B"))


def test_channel_files_must_share_the_grid(tmp_path: Path, noise: np.ndarray) -> None:
    first = save(tmp_path / "a.nii.gz", noise)
    shifted = save(tmp_path / "b.nii.gz", noise, np.diag([1, 1, 1.1, 1]))
    smaller = save(tmp_path / "c.nii.gz", noise[1:])
    assert "corners lie up to 0.6 voxels apart" in refused(first, shifted, channels=("A", "B"))
    assert "Different shapes" in refused(first, smaller, channels=("A", "B"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_voxels_are_counted_and_located(tmp_path: Path, noise: np.ndarray, bad: float) -> None:
    noise[3, 2, 1] = noise[4, 0, 0] = bad
    message = refused(save(tmp_path / "a.nii.gz", noise))
    assert "2 NaN or infinite voxels, the first at index (3, 2, 1)" in message


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    (tmp_path / "text.nii.gz").write_text("not an image")
    (tmp_path / "empty.nii.gz").write_bytes(b"")
    assert "File not found" in refused(tmp_path / "none.nii.gz")
    assert "Cannot read" in refused(tmp_path / "text.nii.gz")
    assert "Cannot read" in refused(tmp_path / "empty.nii.gz")
    assert "is a folder" in refused(tmp_path)


def test_wherever_a_file_is_cut_off_the_message_is_ours(tmp_path: Path, noise: np.ndarray) -> None:
    content = save(tmp_path / "whole.nii.gz", noise).read_bytes()
    cut = tmp_path / "cut.nii.gz"
    for length in [*range(0, len(content), 11), *range(len(content) - 9, len(content))]:
        cut.write_bytes(content[:length])
        assert "Cannot read" in refused(cut)
        assert "Cannot read" in label_refused(cut)


def test_a_cut_off_uncompressed_file_is_refused(tmp_path: Path, noise: np.ndarray) -> None:
    content = save(tmp_path / "whole.nii", noise).read_bytes()
    (tmp_path / "cut.nii").write_bytes(content[:-1])
    assert "Cannot read" in refused(tmp_path / "cut.nii")


def test_a_damaged_voxel_is_noticed_by_the_checksum(tmp_path: Path) -> None:
    # Stored without compression, so that only the checksum can tell.
    content = bytearray(gzip.compress(nib.Nifti1Image(np.zeros((20, 20, 20), np.uint8), np.eye(4)).to_bytes(), 0))
    (tmp_path / "a.nii.gz").write_bytes(content)
    assert image_of(tmp_path / "a.nii.gz").sum() == 0
    content[-100] ^= 1
    (tmp_path / "a.nii.gz").write_bytes(content)
    assert "CRC" in refused(tmp_path / "a.nii.gz")


def test_colour_and_singular_affines_are_refused(tmp_path: Path, noise: np.ndarray) -> None:
    rgb = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(rgb, np.eye(4)), tmp_path / "rgb.nii.gz")
    assert "a plain number for each voxel" in refused(tmp_path / "rgb.nii.gz")
    flat = nib.Nifti1Image(noise, np.eye(4))
    flat.header["srow_z"] = 0
    flat.header["sform_code"] = 1
    (tmp_path / "flat.nii").write_bytes(flat.header.binaryblock + b"\0" * 4 + noise.tobytes(order="F"))
    assert "not invertible" in refused(tmp_path / "flat.nii")


@pytest.mark.parametrize(
    ("values", "dtype"), [((0, 1, 255), np.uint8), ((0, 200, 600), np.int16), ((0, 1, 40000), np.int32)]
)
@pytest.mark.parametrize("stored", [np.int32, np.float32, np.float64])
def test_labels_come_back_in_the_smallest_type(tmp_path: Path, values: tuple, dtype: type, stored: type) -> None:
    label = np.random.default_rng(0).choice(values, SHAPE)
    label[0, 0, 0] = max(values)
    found, affine = read_label(save(tmp_path / "a.nii.gz", label.astype(stored), OBLIQUE))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, label)
    np.testing.assert_allclose(affine, OBLIQUE, atol=1e-5)


def test_labels_stored_through_a_slope_are_whole_numbers(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.array([0, 100, 200, 300], np.float32).reshape(2, 2, 1).repeat(2, 2), np.eye(4))
    image.set_data_dtype(np.uint8)  # nibabel makes a slope of 300 / 255
    nib.save(image, tmp_path / "a.nii.gz")
    assert nib.load(tmp_path / "a.nii.gz").dataobj.slope != 1
    assert np.unique(read_label(tmp_path / "a.nii.gz")[0]).tolist() == [0, 100, 200, 300]


def test_labels_that_are_no_labels_are_refused(tmp_path: Path) -> None:
    def message(*values: float, dtype: type = np.float32) -> str:
        label = np.zeros(SHAPE, dtype)
        label[0, 0, : len(values)] = values
        return label_refused(save(tmp_path / "a.nii.gz", label))

    assert "fractional label values: 0.25, 0.5 (3 voxels)" in message(0.5, 0.5, 0.25)
    assert "a.nii.gz" in message(0.5)
    assert "2 NaN or infinite" in message(np.nan, np.inf)
    assert "negative label values: -2, -1 (2 voxels)" in message(-1, -2)
    assert "negative label values: -1 (1 voxels)" in message(-1, dtype=np.int16)
    assert "the largest allowed" in message(3e9, dtype=np.float64)


def test_a_label_of_several_volumes_is_refused(tmp_path: Path) -> None:
    assert "holds 3 volumes" in label_refused(save(tmp_path / "a.nii.gz", np.zeros((*SHAPE, 3), np.uint8)))


def test_header_is_read_without_the_voxels(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 999, (20, 20, 20, 2), dtype=np.int16)
    path = save(tmp_path / "a.nii.gz", noise, OBLIQUE)
    path.write_bytes(path.read_bytes()[:-200])  # the voxels cannot be read any more
    shape, affine, dtype = read_header(path)
    assert shape == (20, 20, 20, 2)
    assert dtype == np.int16
    np.testing.assert_allclose(affine, OBLIQUE, atol=1e-5)


@pytest.mark.parametrize(("qform", "sform"), [(1, 1), (2, 0), (0, 4), (0, 0), (3, 2)])
@pytest.mark.parametrize("channels", [1, 3])
def test_written_labels_keep_the_source_geometry(
    tmp_path: Path, noise: np.ndarray, qform: int, sform: int, channels: int
) -> None:
    image = nib.Nifti1Image(np.stack([noise] * channels, -1), OBLIQUE)
    image.set_qform(OBLIQUE, code=qform)
    image.set_sform(OBLIQUE, code=sform)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"a patient's name"
    nib.save(image, tmp_path / "image.nii.gz")
    source = nib.load(tmp_path / "image.nii.gz")
    label = (noise > 0).astype(np.int64) * 500
    write_label(tmp_path / "label.nii.gz", label, source.affine, tmp_path / "image.nii.gz")
    written = nib.load(tmp_path / "label.nii.gz")
    assert written.shape == SHAPE
    assert written.get_data_dtype() == np.int16
    np.testing.assert_array_equal(np.asarray(written.dataobj), label)
    np.testing.assert_allclose(written.affine, source.affine, atol=1e-6)
    assert b"patient" not in gzip.decompress((tmp_path / "label.nii.gz").read_bytes())
    if qform or sform:
        np.testing.assert_array_equal(written.affine, source.affine)
        assert (written.header["qform_code"], written.header["sform_code"]) == (qform, sform)
    assert written.header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize("affine", [OBLIQUE, SHEARED])
def test_written_without_a_source_the_affine_is_in_the_file(tmp_path: Path, affine: np.ndarray) -> None:
    write_label(tmp_path / "a.nii.gz", np.ones(SHAPE, bool), affine)
    written = nib.load(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(written.header.get_sform(), affine, atol=1e-5)
    assert written.header.get_xyzt_units()[0] == "mm"
    assert written.get_data_dtype() == np.uint8
    assert bool(written.header["qform_code"]) == (affine is OBLIQUE)  # a qform cannot hold a shear


def test_a_new_affine_wins_over_the_source(tmp_path: Path, noise: np.ndarray) -> None:
    source = save(tmp_path / "image.nii.gz", noise, OBLIQUE)
    write_image(tmp_path / "b.nii.gz", noise, SHEARED, source)
    np.testing.assert_allclose(read_header(tmp_path / "b.nii.gz").affine, SHEARED, atol=1e-5)


def test_images_survive_a_round_trip(tmp_path: Path, noise: np.ndarray) -> None:
    both = np.stack([noise, -noise])
    write_image(tmp_path / "a.nii.gz", both, OBLIQUE)
    np.testing.assert_array_equal(image_of(tmp_path / "a.nii.gz", channels=("A", "B")), both)
    write_image(tmp_path / "b.nii.gz", noise.astype(np.int16)[None], OBLIQUE)
    assert read_header(tmp_path / "b.nii.gz")[::2] == (SHAPE, np.dtype(np.int16))


def test_a_failed_write_leaves_nothing_and_explains(tmp_path: Path, noise: np.ndarray, monkeypatch) -> None:
    def full(image: nib.Nifti1Image, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("medcontext.data.nifti_write.nib.save", full)
    with pytest.raises(InputError, match=r"Cannot write .*a.nii.gz: No space left on device"):
        write_label(tmp_path / "a.nii.gz", noise > 0, OBLIQUE)
    assert list(tmp_path.iterdir()) == []


def test_float32_quaternions_are_the_same_grid_and_half_a_voxel_is_not() -> None:
    shape = (512, 512, 300)
    quaternions = nib.Nifti1Header()
    near = rotation(0.05, 1) @ affine_of("LPS", (0.7, 0.7, 1.0))  # where quaternions lose most
    quaternions.set_qform(near, code=1)
    lossy = quaternions.get_qform()
    assert 0 < grid_distance(near, lossy, shape) < 0.05
    check_same_grid(Header(shape, near, np.dtype("u1")), Header(shape, lossy, np.dtype("u1")), ("a", "b"))
    moved = near.copy()
    moved[:3, 3] += 0.5 * near[:3, 0]
    with pytest.raises(InputError, match=r"a and b .* 0.5 voxels apart"):
        check_same_grid(Header(shape, near, np.dtype("u1")), Header(shape, moved, np.dtype("u1")), ("a", "b"))


def test_flipped_affines_of_a_symmetric_scan_differ() -> None:
    flipped = affine_of("LPS", (1, 1, 1))
    with pytest.raises(InputError, match="flipped"):
        check_same_grid(
            Header(SHAPE, affine_of("RAS", (1, 1, 1)), np.dtype("u1")),
            Header(SHAPE, flipped, np.dtype("u1")),
            ("a", "b"),
        )


def test_itks_vectors_are_channels(tmp_path: Path, noise: np.ndarray) -> None:
    both = np.stack([noise, noise + 7], axis=-1)
    image = nib.Nifti1Image(both[:, :, :, None], OBLIQUE)  # (X, Y, Z, 1, C)
    image.header.set_intent("vector")
    nib.save(image, tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(image_of(tmp_path / "a.nii.gz", channels=("A", "B")), np.moveaxis(both, -1, 0))
    assert "holds 2 channels, but 1 expected" in refused(tmp_path / "a.nii.gz")
    assert "holds 2 volumes" in label_refused(tmp_path / "a.nii.gz")
    affine = read_header(tmp_path / "a.nii.gz").affine
    write_label(tmp_path / "label.nii.gz", noise > 0, affine, tmp_path / "a.nii.gz")
    written = nib.load(tmp_path / "label.nii.gz")
    assert written.shape == SHAPE
    np.testing.assert_array_equal(written.affine, nib.load(tmp_path / "a.nii.gz").affine)


def test_the_name_must_say_whether_a_file_is_compressed(tmp_path: Path, noise: np.ndarray) -> None:
    plain, packed = save(tmp_path / "plain.nii", noise), save(tmp_path / "packed.nii.gz", noise)
    message = refused(plain.rename(tmp_path / "a.nii.gz"))
    assert "a.nii.gz is called .gz, but is not compressed; rename it to end in .nii, or compress it" in message
    message = refused(packed.rename(tmp_path / "b.nii"))
    assert "b.nii is compressed with gzip, but not called .gz; rename it to end in .nii.gz" in message


@pytest.mark.parametrize("name", ["a.NII", "a.NII.GZ"])
def test_endings_in_capitals(tmp_path: Path, noise: np.ndarray, name: str) -> None:
    path = save(tmp_path / name.lower(), noise).rename(tmp_path / name)
    assert is_nifti(path)
    assert case_name(path) == "a"
    np.testing.assert_array_equal(image_of(path)[0], noise)


def test_names_are_the_same_however_accents_are_written() -> None:
    assert case_name(Path("Mu\u0308ller.nii.gz")) == case_name(Path("M\u00fcller.nii")) == "M\u00fcller"


@pytest.mark.parametrize("value", [3.4e38, -3.4e38, 1e20, -1e16])
def test_values_that_no_scanner_measures_are_refused(tmp_path: Path, noise: np.ndarray, value: float) -> None:
    noise[1:3, 2, 0] = value
    message = refused(save(tmp_path / "a.nii.gz", noise))
    assert f"2 voxels like {np.float32(value):.3g}, which no scanner measures: a fill value" in message
    assert "the first at index (1, 2, 0)" in message


def test_doubles_beyond_single_precision_are_infinite(tmp_path: Path) -> None:
    array = np.ones(SHAPE)
    array[3, 2, 1] = 1e300
    assert "1 NaN or infinite voxels, the first at index (3, 2, 1)" in refused(save(tmp_path / "a.nii.gz", array))
