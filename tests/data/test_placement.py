"""Where voxels lie by headers that are incomplete, in other units, or contradict themselves."""

import gzip
import struct
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medcontext.data.nifti import Unoriented, check_same_grid, read_doubts, read_header, read_label
from medcontext.data.nifti_write import write_label
from medcontext.errors import InputError
from tests.data.scans import affine_of, rotation

SHAPE = (5, 6, 7)
OBLIQUE = rotation(20, 0) @ rotation(-9, 2) @ affine_of("PIR", (0.8, 1.3, 5.0))
PIXDIM, XYZT, CODES, SROW = 76, 123, 252, 280  # where they lie in a header


def header(path: Path, affine: np.ndarray, codes: tuple[int, int] = (1, 1), **fields: Any) -> Path:
    """A file whose sform and qform are both of an affine, with its (qform, sform) codes, but for what is given."""
    image = nib.Nifti1Image(np.zeros(SHAPE, np.uint8), affine)
    image.set_qform(affine, 1)
    data = bytearray(image.to_bytes())
    struct.pack_into("<hh", data, CODES, *codes)
    if "pixdim" in fields:
        struct.pack_into("<3f", data, PIXDIM + 4, *fields["pixdim"])
    if "units" in fields:
        data[XYZT] = fields["units"]
    if "sform" in fields:
        struct.pack_into("<12f", data, SROW, *np.asarray(fields["sform"])[:3].ravel())
    path.write_bytes(gzip.compress(bytes(data)) if path.name.endswith(".gz") else data)
    return path


def doubts(path: Path) -> str:
    return "; ".join(f"{doubt.message} ({doubt.detail})" for doubt in read_doubts(path))


def refused(path: Path) -> str:
    for read in (read_header, read_label):
        with pytest.raises(InputError) as error:
            read(path)
    assert str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("codes", [(1, 1), (1, 0), (0, 1), (2, 4)])
def test_a_header_in_order_raises_no_doubt(tmp_path: Path, codes: tuple[int, int]) -> None:
    path = header(tmp_path / "a.nii.gz", OBLIQUE, codes)
    assert doubts(path) == ""
    np.testing.assert_allclose(read_header(path).affine, OBLIQUE, atol=1e-5)


@pytest.mark.parametrize(("units", "scale"), [(1, 1000.0), (3, 0.001), (3 + 8, 0.001), (2, 1.0), (0, 1.0), (8, 1.0)])
@pytest.mark.parametrize("codes", [(1, 1), (1, 0), (0, 0)])
def test_units_are_converted_to_millimetres(tmp_path: Path, units: int, scale: float, codes: tuple[int, int]) -> None:
    stored = np.diag([1 / scale, 2 / scale, 3 / scale, 1.0])
    path = header(tmp_path / "a.nii", stored, codes, units=units)
    np.testing.assert_allclose(np.linalg.norm(read_header(path).affine[:3, :3], axis=0), (1, 2, 3), rtol=1e-5)
    assert ("converted to millimetres" in doubts(path)) == (scale != 1)
    assert "microns" in doubts(path) or scale != 0.001
    assert "voxel sizes outside" not in doubts(path)


def test_what_is_written_like_a_file_in_microns_says_the_same(tmp_path: Path) -> None:
    source = header(tmp_path / "a.nii", np.diag([500.0, 500, 2000, 1]), units=3)
    affine = read_header(source).affine
    np.testing.assert_allclose(affine, np.diag([0.5, 0.5, 2, 1]), rtol=1e-6)
    write_label(tmp_path / "b.nii", np.ones(SHAPE, np.uint8), affine, source)
    first, second = (nib.load(tmp_path / name).header for name in ("a.nii", "b.nii"))
    for field in ("pixdim", "xyzt_units", "qform_code", "sform_code", "srow_x", "srow_z", "qoffset_x"):
        np.testing.assert_array_equal(first[field], second[field])
    np.testing.assert_allclose(read_header(tmp_path / "b.nii").affine, affine)
    write_label(tmp_path / "c.nii", np.ones(SHAPE, np.uint8), affine)
    assert nib.load(tmp_path / "c.nii").header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(read_header(tmp_path / "c.nii").affine, affine)


def test_an_unknown_unit_and_sizes_that_no_scan_has_are_doubted(tmp_path: Path) -> None:
    assert "none of metres" in doubts(header(tmp_path / "a.nii", OBLIQUE, units=5))
    assert "voxel sizes outside" in doubts(header(tmp_path / "b.nii", np.diag([1.0, 1, 1, 1]), units=1))
    assert "(1e+03x1e+03x1e+03 mm)" in doubts(tmp_path / "b.nii")


@pytest.mark.parametrize("codes", [(1, 0), (0, 0)])
@pytest.mark.parametrize("size", [0.0, -5.0, np.nan, np.inf])
def test_without_an_sform_every_voxel_size_must_be_given(tmp_path: Path, codes: tuple[int, int], size: float) -> None:
    message = refused(header(tmp_path / "a.nii", np.diag([0.8, 0.8, 5, 1]), codes, pixdim=(0.8, 0.8, size)))
    assert f"(pixdim) 0.8x0.8x{size:.3g}" in message


@pytest.mark.parametrize("size", [0.0, -5.0, np.nan])
@pytest.mark.parametrize("qform", [0, 1])
def test_with_an_sform_a_lost_voxel_size_is_doubted_and_not_written_again(
    tmp_path: Path, qform: int, size: float
) -> None:
    affine = np.diag([0.8, 0.8, 5, 1])
    path = header(tmp_path / "a.nii", affine, (qform, 1), pixdim=(0.8, 0.8, size))
    np.testing.assert_allclose(read_header(path).affine, affine)
    assert "pixdim holds no voxel sizes: those of the sform are taken, other programs may not" in doubts(path)
    assert f"(sform 0.8x0.8x5, pixdim 0.8x0.8x{size:.3g} mm)" in doubts(path)
    write_label(tmp_path / "b.nii", np.ones(SHAPE, np.uint8), read_header(path).affine, path)
    np.testing.assert_allclose(nib.load(tmp_path / "b.nii").header["pixdim"][1:4], (0.8, 0.8, 5))


def test_an_sform_that_contradicts_qform_or_pixdim_is_doubted(tmp_path: Path) -> None:
    twice, flipped = np.diag([2.0, 2, 2, 1]), np.diag([-1.0, 1, 1, 1])
    both = header(tmp_path / "a.nii", np.eye(4), (1, 1), sform=twice)
    assert "sform and qform disagree" in doubts(both)
    assert "(sform 2x2x2, qform 1x1x1 mm)" in doubts(both)
    np.testing.assert_allclose(read_header(both).affine, twice)
    assert "(8 voxels apart)" in doubts(header(tmp_path / "b.nii", np.eye(4), (1, 1), sform=flipped))
    alone = header(tmp_path / "c.nii", np.eye(4), (0, 1), sform=twice)
    assert "sform and pixdim disagree on the voxel sizes" in doubts(alone)
    assert "(sform 2x2x2, pixdim 1x1x1 mm)" in doubts(alone)
    assert doubts(header(tmp_path / "d.nii", np.eye(4), (1, 0), sform=twice)) == ""  # an sform that does not count


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_an_affine_without_an_inverse_is_refused(tmp_path: Path, value: float) -> None:
    sform = np.diag([1.0, 1, value, 1])
    assert "not invertible" in refused(header(tmp_path / "a.nii", np.eye(4), (1, 1), sform=sform))


def test_a_code_that_there_is_not_is_refused(tmp_path: Path) -> None:
    assert "has the sform_code 7; 0 to 5 are allowed" in refused(header(tmp_path / "a.nii", np.eye(4), (1, 7)))
    assert "has the qform_code -3" in refused(header(tmp_path / "b.nii", np.eye(4), (-3, 1)))


def test_without_codes_the_orientation_is_unknown_and_stays_so(tmp_path: Path) -> None:
    bare = header(tmp_path / "a.nii.gz", np.diag([1.0, 1, 2, 1]), (0, 0))
    found = read_header(bare)
    assert isinstance(found, Unoriented)
    assert "no orientation in the header" in doubts(bare)
    write_label(tmp_path / "b.nii.gz", np.ones(SHAPE, np.uint8), found.affine, bare)
    written = nib.load(tmp_path / "b.nii.gz").header
    assert (written["sform_code"], written["qform_code"]) == (0, 0)
    np.testing.assert_array_equal(written["pixdim"][1:4], (1, 1, 2))
    check_same_grid(found, read_header(tmp_path / "b.nii.gz"), ("a", "b"))


def test_a_file_without_codes_is_compared_by_its_voxel_sizes(tmp_path: Path) -> None:
    bare = read_header(header(tmp_path / "a.nii", np.diag([1.0, 1, 2, 1]), (0, 0)))
    again = read_header(header(tmp_path / "b.nii", np.diag([-1.0, -1, 2, 1])))  # as an ITK tool writes it
    other = read_header(header(tmp_path / "c.nii", np.diag([-1.0, -1, 3, 1])))
    check_same_grid(bare, again, ("a", "b"))
    check_same_grid(again, bare, ("b", "a"))
    with pytest.raises(InputError, match=r"Different affines.* voxels of 1x1x2 and 1x1x3 mm"):
        check_same_grid(bare, other, ("a", "c"))
