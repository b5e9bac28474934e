"""Where a NIfTI file's voxels lie, in millimetres, by its header; and what other programs may read otherwise.

A header can say it three times: with a matrix (sform), with a rotation (qform) and the voxel sizes (pixdim), and with
these sizes alone. As in nibabel, the sform counts where it is there, else the qform. Where both are absent, nobody
knows where the axes point.
"""

from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError

from medcontext.errors import InputError

PLAUSIBLE_SPACING = (0.02, 25.0)
"""Millimetres. A spacing outside is most likely in another unit, or lost."""

SAME_SIZE = 0.01
"""By how much the voxel sizes that a header says twice may differ, relatively: some writers round them."""

GRID_TOLERANCE = 0.05
"""Two grids are the same when no corner differs by more than this many voxels along any axis.

Far below a shift that would move a label, and above what a header loses when a tool turns its affine into
float32 quaternions (up to about 0.04 voxels on a large oblique scan).
"""

_UNITS = {0: ("", 1.0), 1: ("metres", 1e3), 2: ("", 1.0), 3: ("microns", 1e-3)}  # code: name, millimetres
_SPATIAL = 7  # the bits of xyzt_units that are the spatial unit's


class Doubt(NamedTuple):
    """Something in a header that a person should look at.

    Args:
        message: the same for all files with the same doubt.
        detail: this file's figures.
    """

    message: str
    detail: str


class Placement(NamedTuple):
    """Where the voxels lie.

    Args:
        affine: (4, 4), from voxel indices to millimetres in RAS+.
        oriented: whether the header says where the axes point; else the affine's sizes alone are known.
        sizes: of the voxels, (3,), as pixdim should hold them: in the file's own unit.
        doubts: what to tell a person.
    """

    affine: np.ndarray
    oriented: bool
    sizes: np.ndarray
    doubts: tuple[Doubt, ...]


def place(image: nib.Nifti1Image, path: Path) -> Placement:
    """Where the voxels of an open file lie.

    Raises:
        InputError: if the header gives no voxel sizes, or an affine that is not invertible.
    """
    raw = _raw_header(image, path)
    sform, qform = (int(image.header[field]) for field in ("sform_code", "qform_code"))
    for field, code in (("sform_code", sform), ("qform_code", qform)):
        if int(raw[field]) != code:
            raise InputError(f"{path} has the {field} {int(raw[field])}; 0 to 5 are allowed. Correct the header.")
    sizes, scale = np.array(raw["pixdim"][1:4], np.float64), millimetres(image.header)
    sound = bool((np.isfinite(sizes) & (sizes > 0)).all())
    if not sform and not sound:
        raise InputError(
            f"{path} has the voxel sizes (pixdim) {triple_text(sizes)}, and no sform that would give others; sizes "
            "above 0 are needed, or there are no millimetres. Correct the header."
        )
    affine = np.asarray(image.affine, np.float64).copy()
    affine[:3] *= scale
    _check_invertible(affine, path)
    doubts = _units(image.header) + plausible(affine)
    if sform:
        doubts += _contradictions(image, affine, sizes * scale, sound, bool(qform))
    elif not qform:
        axes = "".join(nib.aff2axcodes(affine))
        doubts.append(
            Doubt(
                "no orientation in the header, sform_code and qform_code are 0: nobody knows where the axes point, and "
                "other programs may take it for flipped",
                f"taken as {axes}",
            )
        )
    own = sizes if sound else voxel_sizes(affine) / scale
    return Placement(affine, bool(sform or qform), own, tuple(doubts))


def millimetres(header: nib.Nifti1Header) -> float:
    """The length of a header's spatial unit; what it does not say, or says wrongly, is taken as millimetres."""
    return _UNITS.get(int(header["xyzt_units"]) & _SPATIAL, ("", 1.0))[1]


def voxel_sizes(affine: np.ndarray) -> np.ndarray:
    """(3,): along the file's axes, the lengths of the affine's columns."""
    return np.linalg.norm(np.asarray(affine, np.float64)[:3, :3], axis=0)


def grid_distance(a: np.ndarray, b: np.ndarray, shape: tuple[int, ...]) -> float:
    """The farthest that a corner of the volume lies in `b` from where it lies in `a`, in voxels of `a`.

    >>> moved = np.diag([1.0, 1.0, 1.0, 1.0])
    >>> moved[0, 3] = 0.5
    >>> grid_distance(np.diag([2.0, 2.0, 2.0, 1.0]), np.diag([2.0, 2.0, 2.0, 1.0]) @ moved, (8, 8, 8))
    0.5
    """
    corners = np.array([[*index, 1.0] for index in np.ndindex(2, 2, 2)])  # (8, 4)
    corners[:, :3] *= np.asarray(shape) - 1
    difference = (corners @ (b - a).T)[:, :3]
    return float(np.abs(difference @ np.linalg.inv(a[:3, :3]).T).max())


def triple_text(spacing: tuple[float, ...] | np.ndarray) -> str:
    """Three sizes to be read by a person, with three digits each.

    >>> triple_text((0.7578125, 0.7578125, 5.0))
    '0.758x0.758x5'
    """
    return "x".join(f"{mm:.3g}" for mm in spacing)


def _raw_header(image: nib.Nifti1Image, path: Path) -> nib.Nifti1Header:
    """As it is in the file: nibabel's reading makes voxel sizes of 0 to 1, and negative ones positive."""
    with ImageOpener(str(path)) as stream:
        return type(image).header_class.from_fileobj(stream, check=False)


def _check_invertible(affine: np.ndarray, path: Path) -> None:
    matrix = affine[:3, :3]
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(matrix) < 3:
        raise InputError(
            f"{path} has an affine that is not invertible: {affine[:3].tolist()}. Correct its sform or qform."
        )


def _units(header: nib.Nifti1Header) -> list[Doubt]:
    code = int(header["xyzt_units"]) & _SPATIAL
    if code not in _UNITS:
        return [Doubt("the header's spatial unit is none of metres, millimetres and microns: taken as mm", f"{code}")]
    name = _UNITS[code][0]
    return [Doubt(f"sizes are in {name} (xyzt_units): converted to millimetres", f"code {code}")] if name else []


def plausible(affine: np.ndarray) -> list[Doubt]:
    """A doubt where voxel sizes are none that a scan has."""
    (low, high), sizes = PLAUSIBLE_SPACING, voxel_sizes(affine)
    if ((low <= sizes) & (sizes <= high)).all():
        return []
    message = f"voxel sizes outside of {low} to {high:g} mm: the header may be wrong, or in another unit than mm"
    return [Doubt(message, f"{triple_text(sizes)} mm")]


def _contradictions(
    image: nib.Nifti1Image, affine: np.ndarray, sizes: np.ndarray, sound: bool, qform: bool
) -> list[Doubt]:
    """Where the sform, which counts, is not alone: what qform and pixdim (in mm) say beside it."""
    own = voxel_sizes(affine)
    figures = f"sform {triple_text(own)}, pixdim {triple_text(sizes)} mm"
    if not sound:
        return [Doubt("pixdim holds no voxel sizes: those of the sform are taken, other programs may not", figures)]
    sized = (np.abs(own / sizes - 1) <= SAME_SIZE).all()
    if not qform:
        message = "sform and pixdim disagree on the voxel sizes: the sform's are taken, other programs may not"
        return [] if sized else [Doubt(message, figures)]
    try:
        other = np.array(image.header.get_qform(), np.float64)
    except HeaderDataError as error:
        return [Doubt("the qform is damaged: the sform is taken, other programs may not", str(error))]
    other[:3] *= millimetres(image.header)
    apart = grid_distance(affine, other, image.shape[:3])
    if apart <= GRID_TOLERANCE:
        return []
    message = "sform and qform disagree on where the voxels lie: the sform is taken, other programs may take the qform"
    if not sized:
        return [Doubt(message, f"sform {triple_text(own)}, qform {triple_text(sizes)} mm")]
    return [Doubt(message, f"{apart:.3g} voxels apart")]
