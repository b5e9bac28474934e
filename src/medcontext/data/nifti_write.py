"""Arrays into NIfTI files: whole or not at all, and where their source image lies. Axes as in `nifti.py`."""

from pathlib import Path

import nibabel as nib
import numpy as np

from medcontext.data.dicom.heads import is_dicom_path
from medcontext.data.nifti import label_type, open_image
from medcontext.data.placement import grid_distance, place
from medcontext.errors import InputError
from medcontext.files import atomic_path

SAME_PLACE = 1e-3
"""Voxels by which an affine may differ from a file's to be the same, rounded."""

_GEOMETRY_FIELDS = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


def write_label(path: Path, array: np.ndarray, affine: np.ndarray, like: Path | None = None) -> None:
    """Write a segmentation, in the smallest of uint8, int16 and int32 that holds it, whole or not at all.

    Args:
        path: ends in `.nii.gz` or `.nii`.
        array: (X, Y, Z), an integer type or bool.
        affine: (4, 4), in millimetres.
        like: the source image. Where its affine is the same, its sform, qform, their codes, also if these are 0,
            and its units are kept to the bit. Nothing else of it is, so no patient's data travels along.

    Raises:
        InputError: if the file cannot be written, for example because the disk is full.
    """
    _write(path, array.astype(label_type(array)), affine, like)


def write_image(
    path: Path, array: np.ndarray, affine: np.ndarray, like: Path | None = None, *, keep_single: bool = False
) -> None:
    """Write an image, whole or not at all: integers up to 32 bits as they are, all else as float32.

    Args:
        path: ends in `.nii.gz` or `.nii`.
        array: (X, Y, Z), or (C, X, Y, Z), written with the channels last (one channel: as a 3D file).
        affine: (4, 4), in millimetres.
        like: as for `write_label`.
        keep_single: write one channel, too, as a 4D file.

    Raises:
        InputError: if the file cannot be written.
    """
    if array.ndim == 4:
        array = array[0] if len(array) == 1 and not keep_single else np.moveaxis(array, 0, -1)  # (X, Y, Z, C)
    keep = array.dtype.kind in "iu" and array.dtype.itemsize <= 4
    _write(path, array if keep else array.astype(np.float32, copy=False), affine, like)


def _write(path: Path, array: np.ndarray, affine: np.ndarray, like: Path | None) -> None:
    header = nib.Nifti1Header()
    header.set_data_shape(array.shape)
    image = _placed_like(array, affine, header, like) if like is not None else None
    if image is None:
        header.set_xyzt_units("mm")
        image = nib.Nifti1Image(array, affine, header, dtype=array.dtype)
        image.set_sform(affine, code=1)
        image.set_qform(affine, code=1)
        if not np.allclose(image.header.get_qform(), affine, atol=1e-4):  # a qform cannot hold a shear
            image.set_qform(affine, code=0)
    try:
        with atomic_path(path) as temporary:
            nib.save(image, temporary)
    except OSError as error:
        raise InputError(f"Cannot write {path}: {error.strerror or error}.") from None


def _placed_like(array: np.ndarray, affine: np.ndarray, header: nib.Nifti1Header, like: Path) -> nib.Nifti1Image | None:
    """An image that says of its place what a file says; None where that is another place, or DICOM."""
    if is_dicom_path(like):
        return None
    source = open_image(like)
    placement = place(source, like)
    if grid_distance(placement.affine, affine, array.shape[:3]) > SAME_PLACE:
        return None
    for field in _GEOMETRY_FIELDS:
        header[field] = source.header[field]
    header["pixdim"][1:4] = placement.sizes
    return nib.Nifti1Image(array, header.get_best_affine(), header, dtype=array.dtype)
