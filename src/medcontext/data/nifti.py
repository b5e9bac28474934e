"""Scans in, arrays out, with one clear error for every file that cannot be trusted; `nifti_write.py` is the way back.

A path is a NIfTI file's; an image's may also be a folder with a DICOM series, or a file of one: see `data/dicom`.

Arrays are indexed in the file's own axes, X, Y, Z; an image has its channels C in front. Affines are 4 x 4,
from voxel indices to millimetres in RAS+ (nibabel's convention).
"""

import gzip
import hashlib
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.spatialimages import HeaderDataError, HeaderTypeError
from nibabel.wrapstruct import WrapStructError

from medcontext.data.cases import Case
from medcontext.data.dicom.heads import is_dicom_path
from medcontext.data.dicom.read import doubts_of, read_volume, stack_of
from medcontext.data.placement import GRID_TOLERANCE, SAME_SIZE, Doubt, grid_distance, place, triple_text, voxel_sizes
from medcontext.errors import InputError, NotEnoughMemory, counted, lacks_memory, memory_words

NIFTI_SUFFIXES = (".nii.gz", ".nii")
_ENDINGS = (*NIFTI_SUFFIXES, *(suffix.upper() for suffix in NIFTI_SUFFIXES))  # nibabel reads no mixture, .Nii

LARGEST_INTENSITY = 1e15
"""Larger values stand for nothing that a scanner measures, and the squares of a scan's sum up beyond 32 bits."""

FRACTION_TOLERANCE = 1e-4
"""How far from a whole number a label value may lie: what a float32 slope in the header costs."""

_UNREADABLE = (
    OSError,
    EOFError,
    zlib.error,
    ValueError,
    OverflowError,
    ImageFileError,
    HeaderDataError,
    HeaderTypeError,
    WrapStructError,
)
_LABEL_TYPES = (np.uint8, np.int16, np.int32)


class Header(NamedTuple):
    """What a file says of itself: its shape as stored, its affine, the type its voxels are stored in."""

    shape: tuple[int, ...]
    affine: np.ndarray
    dtype: np.dtype


class Unoriented(Header):
    """Of a file that does not say where its axes point: only the voxel sizes in its affine are known."""

    __slots__ = ()


def is_nifti(path: Path) -> bool:
    """Whether the name is a NIfTI file's, in capitals or not, leaving out hidden files such as macOS's `._*`."""
    return path.name.endswith(_ENDINGS) and not path.name.startswith(".")


def case_name(path: Path) -> str:
    """The file's name without its NIfTI suffix or .dcm, with composed accents: macOS's file systems decompose them.

    A folder of DICOM files gives its whole name.

    >>> case_name(Path("imagesTr/hippocampus_001.nii.gz"))
    'hippocampus_001'
    """
    name = unicodedata.normalize("NFC", path.name)
    suffix = next((suffix for suffix in (*NIFTI_SUFFIXES, ".dcm") if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def read_header(path: Path) -> Header:
    """Read shape, affine and stored type (of DICOM, that of the scaled values) without reading a voxel.

    Raises:
        InputError: if the file is missing, is not NIfTI, is not a volume, or says no voxel sizes or no usable affine;
            of DICOM, if there is not one series, or it is not one volume.
    """
    if is_dicom_path(path):
        found = stack_of(path)
        return Header(found.shape, found.affine, np.dtype(np.float32))
    return _header(open_image(path), path)


def read_doubts(path: Path) -> tuple[Doubt, ...]:
    """What in a file's header other programs may read otherwise, see `place`.

    Raises:
        InputError: as `read_header`.
    """
    return doubts_of(path) if is_dicom_path(path) else place(open_image(path), path).doubts


def image_digest(image: np.ndarray) -> str:
    """Of an image (C, X, Y, Z) as `read_image` gives it, or a label's class indices: equal for equal ones."""
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    digest.update(image.ravel(order="K").data)  # in memory's order: no copy
    return digest.hexdigest()


def read_image(case: Case, channels: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read a case's image, slope and intercept applied.

    Args:
        case: with one 3D file or DICOM series per channel, or a single 4D file with the channels last.
        channels: the names of the channels expected, in order.

    Returns:
        The image, float32 (C, X, Y, Z), and its affine (4, 4).

    Raises:
        InputError: if a file is unreadable or truncated, not three-dimensional or empty; if the number of
            channels is not the expected one; if channel files differ in shape or affine; if a voxel is NaN,
            infinite or beyond `LARGEST_INTENSITY`.
    """
    if not case.images:
        raise InputError(f"Case '{case.name}' has no image file.")
    if len(case.images) > 1 and len(case.images) != len(channels):
        raise _wrong_channels(f"Case '{case.name}' has {len(case.images)} image files", channels)
    arrays: list[np.ndarray] = []
    first: Header | None = None
    for path in case.images:
        header, voxels = _opened(path)
        shape = header.shape
        found = shape[3] if len(shape) == 4 else 1
        expected = len(channels) if len(case.images) == 1 else 1
        if found != expected:
            raise _wrong_channels(f"{path} holds {counted(found, 'channel')}", channels)
        if first is None:
            first = header
        check_same_grid(first, header, (str(case.images[0]), str(path)))
        volume = voxels().reshape(*shape[:3], found)  # (X, Y, Z, C)
        _check_values(volume, path)
        arrays.append(np.moveaxis(volume, -1, 0))  # (C, X, Y, Z)
    assert first is not None
    return (arrays[0] if len(arrays) == 1 else np.concatenate(arrays)), first.affine


def read_label(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a segmentation. Whole numbers stored as floats, or through a slope, are fine.

    Returns:
        The label (X, Y, Z), in the smallest of uint8, int16 and int32 that holds it, and its affine (4, 4).

    Raises:
        InputError: if the file is unreadable, truncated, empty or not one 3D volume; if a value is
            fractional, negative, NaN or infinite (the message gives the values and how many voxels).
    """
    image = open_image(path)
    shape = _volume_shape(image, path)
    if len(shape) != 3:
        raise InputError(
            f"{path} holds {shape[3]} volumes (shape {image.shape}); a label is one 3D volume with a whole "
            "number for each voxel. Merge the volumes into one."
        )
    values = _voxels(image, path).reshape(shape)
    if values.dtype.kind == "f":
        values = _whole_numbers(values, path)
    negative = values[values < 0]
    if negative.size:
        raise InputError(
            f"{path} has negative label values: {_examples(negative)} ({negative.size} voxels). Labels are 0 "
            "(background) and above; give these voxels a declared value."
        )
    if values.max() > np.iinfo(np.int32).max:
        raise InputError(f"{path} has the label value {values.max()}; the largest allowed is 2147483647.")
    return values.astype(label_type(values), copy=False), place(image, path).affine


def check_same_grid(a: Header, b: Header, names: tuple[str, str]) -> None:
    """Refuse two volumes whose voxels do not lie at the same places.

    Only the three spatial axes count. Affines may differ by `GRID_TOLERANCE` voxels at the worst corner. Of files
    that do not say where their axes point (`Unoriented`) only the voxel sizes can be compared.

    Raises:
        InputError: naming both, with both shapes, or how far apart their corners are.
    """
    if a.shape[:3] != b.shape[:3]:
        raise InputError(
            f"Different shapes: {names[0]} has {a.shape[:3]}, {names[1]} has {b.shape[:3]}. They must lie on "
            "the same grid; export them again, or resample one onto the other."
        )
    sizes = voxel_sizes(a.affine), voxel_sizes(b.affine)
    sized = (np.abs(sizes[0] / sizes[1] - 1) <= SAME_SIZE).all()
    if sized and (isinstance(a, Unoriented) or isinstance(b, Unoriented)):
        return
    apart = grid_distance(a.affine, b.affine, a.shape[:3])
    if not apart <= GRID_TOLERANCE:
        differ = "" if sized else f", with voxels of {triple_text(sizes[0])} and {triple_text(sizes[1])} mm"
        raise InputError(
            f"Different affines: {names[0]} and {names[1]} have the same shape, but their corners lie up to "
            f"{apart:.3g} voxels apart (allowed: {GRID_TOLERANCE}){differ}. One of the headers is wrong, or one is "
            "flipped; export them again, or resample one onto the other."
        )


def open_image(path: Path) -> nib.Nifti1Image:
    """The image with its header read and its voxels not."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; a NIfTI file (.nii.gz, .nii) or one with a DICOM series is expected.")
    if path.exists() and not path.name.endswith(_ENDINGS):
        raise InputError(f"{path} is not a NIfTI file (.nii.gz or .nii); convert it, or rename it if it is one.")
    try:
        _check_compression(path)
        with LoggingOutputSuppressor(), np.errstate(invalid="ignore"):  # `place` says what is wrong with a header
            image = nib.load(path)
    except FileNotFoundError:
        raise InputError(f"File not found: {path}") from None
    except InputError:  # ours, and a ValueError
        raise
    except _UNREADABLE as error:
        raise _unreadable(path, error) from None
    if not isinstance(image, nib.Nifti1Image):
        raise InputError(f"{path} is not a NIfTI file; convert it to .nii.gz.")
    return image


def _opened(path: Path) -> tuple[Header, Callable[[], np.ndarray]]:
    """The header of an image, and what reads its voxels, float32."""
    if is_dicom_path(path):
        return read_header(path), lambda: read_volume(path)[0]
    image = open_image(path)
    return _header(image, path), lambda: _voxels(image, path, np.float32)


def _header(image: nib.Nifti1Image, path: Path) -> Header:
    placement = place(image, path)
    kind = Header if placement.oriented else Unoriented
    return kind(_volume_shape(image, path), placement.affine, image.get_data_dtype())


def _check_compression(path: Path) -> None:
    """Programs choose how to read a file by its name: one that is not what it is called is refused by some."""
    with path.open("rb") as stream:
        start = stream.read(4)
    zipped, called = start[:2] == b"\x1f\x8b", path.name.lower().endswith(".gz")
    plain = start[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c", b"\x1c\x02\0\0", b"\0\0\x02\x1c")  # 348 or 540 bytes
    if called and plain:
        raise InputError(
            f"{path} is called .gz, but is not compressed; rename it to end in .nii, or compress it with gzip."
        )
    if zipped and not called:
        raise InputError(f"{path} is compressed with gzip, but not called .gz; rename it to end in .nii.gz.")


def _voxels(image: nib.Nifti1Image, path: Path, dtype: type | None = None) -> np.ndarray:
    """All voxels, scaled; a compressed file is read to its end, so that its checksum is verified too."""
    if image.get_data_dtype().kind not in "iufb":
        raise InputError(
            f"{path} holds voxels of type {image.get_data_dtype()}; a plain number for each voxel is needed."
        )
    try:
        with LoggingOutputSuppressor(), np.errstate(over="ignore"):  # infinite beyond 32 bits, and refused as such
            if not path.name.lower().endswith(".gz"):
                voxels = np.asanyarray(image.dataobj, dtype)
            else:
                with gzip.open(path) as stream:
                    voxels = np.asanyarray(type(image).from_stream(stream).dataobj, dtype)
                    while stream.read(1 << 20):
                        pass
    except _UNREADABLE as error:
        raise _unreadable(path, error) from None
    return voxels


def _volume_shape(image: nib.Nifti1Image, path: Path) -> tuple[int, ...]:
    """(X, Y, Z) or (X, Y, Z, C), without trailing axes of size one, and without time before ITK's vectors."""
    shape = tuple(int(size) for size in image.shape)
    if len(shape) == 5 and shape[3] == 1:  # (X, Y, Z, 1, C)
        shape = (*shape[:3], shape[4])
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if 0 in shape:
        raise InputError(f"{path} is empty: its shape is {shape}.")
    if len(shape) < 3 or 1 in shape[:3]:
        raise InputError(f"{path} is a 2D image (shape {shape}); medcontext segments 3D volumes.")
    if len(shape) > 4:
        raise InputError(
            f"{path} has {len(shape)} dimensions (shape {shape}); 3D, or 4D with the channels last, is allowed."
        )
    return shape


def _check_values(volume: np.ndarray, path: Path) -> None:
    if volume.min() >= -LARGEST_INTENSITY and volume.max() <= LARGEST_INTENSITY:  # not so where a NaN is, either
        return
    wrong, what = ~np.isfinite(volume), "NaN or infinite voxels"
    if not wrong.any():
        wrong = np.abs(volume) > LARGEST_INTENSITY
        what = f"voxels like {volume[wrong][0]:.3g}, which no scanner measures: a fill value"
    first = tuple(int(i) for i in np.unravel_index(wrong.argmax(), wrong.shape))[:3]
    raise InputError(
        f"{path} has {int(wrong.sum())} {what}, the first at index {first}. Replace them, for example by the value of "
        "air or background."
    )


def _whole_numbers(values: np.ndarray, path: Path) -> np.ndarray:
    finite = np.isfinite(values)
    if not finite.all():
        raise InputError(
            f"{path} has {int((~finite).sum())} NaN or infinite label values. Labels are whole numbers from 0."
        )
    rounded = np.rint(values)
    fractional = values[np.abs(values - rounded) > FRACTION_TOLERANCE]
    if fractional.size:
        raise InputError(
            f"{path} has fractional label values: {_examples(fractional)} ({fractional.size} voxels). Labels "
            "are whole numbers; they were probably interpolated: resample them with nearest neighbour."
        )
    return rounded.astype(np.int64)


def _examples(values: np.ndarray, count: int = 5) -> str:
    distinct = np.unique(values)
    shown = ", ".join(f"{value:.6g}" for value in distinct[:count])
    return shown + (", ..." if distinct.size > count else "")


def label_type(values: np.ndarray) -> type:
    """The smallest of uint8, int16 and int32 that holds whole numbers."""
    lowest, highest = (int(values.min()), int(values.max())) if values.size else (0, 0)
    for dtype in _LABEL_TYPES:
        if np.iinfo(dtype).min <= lowest and highest <= np.iinfo(dtype).max:
            return dtype
    raise ValueError(f"label values from {lowest} to {highest} do not fit 32 bits")


def _unreadable(path: Path, error: BaseException) -> InputError:
    if lacks_memory(error):
        return NotEnoughMemory(f"Not enough memory to read {path}{memory_words(error)}. Use a machine with more.")
    return InputError(
        f"Cannot read {path}: the file is truncated, damaged or not NIfTI ({type(error).__name__}: {error}). "
        "Copy or export it again."
    )


def _wrong_channels(found: str, channels: Sequence[str]) -> InputError:
    names = ", ".join(channels)
    return InputError(
        f"{found}, but {len(channels)} expected: {names}. Give one 3D file per channel, in this order, or one "
        "4D file with the channels last."
    )
