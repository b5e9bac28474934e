"""The voxels of slices in the unit that the scanner means, such as Hounsfield's."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from medcontext.data.dicom.heads import quiet
from medcontext.data.dicom.planes import Plane, frame_groups
from medcontext.errors import InputError, NotEnoughMemory, first_line, lacks_memory, memory_words

_PIXEL_TAGS = (
    *("SOPClassUID", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData", "RescaleSlope"),
    *("RescaleIntercept", "ModalityLUTSequence", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)


def read_voxels(planes: Sequence[Plane]) -> np.ndarray:
    """Slices in the order given, (X, Y, Z) float32: stored values times slope plus intercept, each slice's own.

    A real world value map is not applied, nor a window, and MONOCHROME1 is not turned round.

    Raises:
        InputError: if a file is truncated, or compressed in a way that cannot be read here.
    """
    import pydicom

    height, width = planes[0].size
    volume = np.empty((len(planes), height, width), np.float32)
    frames: dict[Path, list[int]] = {}
    for index, plane in enumerate(planes):
        frames.setdefault(plane.file, []).append(index)
    for file, indices in frames.items():
        name = ["?"]
        with _readable(file, name), quiet():
            data = pydicom.dcmread(file, force=True, specific_tags=list(_PIXEL_TAGS))
            name[0] = _syntax(data)
            stored = _own_bits(data.pixel_array, data).reshape(-1, height, width)  # (frames, rows, columns)
            for index in indices:
                frame = planes[index].frame
                volume[index] = _scaled(stored[frame], data, frame)
    return volume.transpose(2, 1, 0)  # (Z, Y, X) -> (X, Y, Z)


@contextmanager
def _readable(file: Path, syntax: list[str]) -> Iterator[None]:
    """Around the reading of a file, whose syntax is noted as soon as it is known; all errors become one of ours."""
    try:
        yield
    except Exception as error:  # decoders raise whatever damaged bytes lead to
        if lacks_memory(error):
            raise NotEnoughMemory(f"Not enough memory to read {file}{memory_words(error)}.") from None
        if "missing dependencies" in str(error) or isinstance(error, NotImplementedError):
            raise InputError(
                f"Cannot read {file}: its voxels are compressed as {syntax[0]}, for which no decoder is installed. "
                "pip install medcontext[dicom] brings python-gdcm and pyjpegls; or decompress the files, for example "
                "by gdcmconv --raw."
            ) from None
        raise InputError(
            f"Cannot read {file}: its voxels ({syntax[0]}) are truncated or damaged ({type(error).__name__}: "
            f"{first_line(error)}). Copy or export it again."
        ) from None


def _syntax(data: Any) -> str:
    """The name of the transfer syntax, in which the voxels are written; the oldest files do not say it."""
    import pydicom

    known = getattr(data.file_meta, "TransferSyntaxUID", None) or pydicom.uid.ImplicitVRLittleEndian
    data.file_meta.TransferSyntaxUID = known
    if "PixelData" not in data:
        raise ValueError("PixelData is not there")
    return known.name


def _own_bits(values: np.ndarray, data: Any) -> np.ndarray:
    """Without what may lie in the bits above those that are stored: overlays, and signs that were not carried on."""
    stored, allocated = int(data.BitsStored), int(data.BitsAllocated)
    if int(data.get("HighBit", stored - 1)) != stored - 1:
        raise ValueError(f"the highest bit is {data.HighBit}, of {stored} stored")
    if stored >= allocated:
        return values
    wide = values.astype(np.int64) & ((1 << stored) - 1)
    if int(data.PixelRepresentation):
        wide -= (wide >> (stored - 1)) << stored
    return wide


def _scaled(values: np.ndarray, data: Any, frame: int) -> np.ndarray:
    """By the modality's table, or by slope and intercept: the frame's own, those of all frames, or the file's."""
    from pydicom.pixels import apply_modality_lut

    name = "PixelValueTransformationSequence"
    places = [group[name].value[0] for group in frame_groups(data, frame) if group.get(name)]
    place = places[0] if places else data
    if ("RescaleSlope" in place) != ("RescaleIntercept" in place):
        raise ValueError("of RescaleSlope and RescaleIntercept one is missing")
    return apply_modality_lut(values, place)
