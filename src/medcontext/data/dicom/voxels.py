"""The voxels of slices in the unit that the scanner means, such as Hounsfield's."""

from collections.abc import Sequence
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
    height, width = planes[0].size
    volume = np.empty((len(planes), height, width), np.float32)
    frames: dict[Path, list[int]] = {}
    for index, plane in enumerate(planes):
        frames.setdefault(plane.file, []).append(index)
    for file, indices in frames.items():
        data, stored = _stored(file)
        if stored.ndim == 2:
            stored = stored[None]  # (frames, rows, columns)
        for index in indices:
            frame = planes[index].frame
            volume[index] = _scaled(stored[frame], data, frame)
    return volume.transpose(2, 1, 0)  # (Z, Y, X) -> (X, Y, Z)


def _stored(file: Path) -> tuple[Any, np.ndarray]:
    """The file's pixel attributes and its stored values, of as many bits as are stored."""
    import pydicom

    name = "?"
    try:
        with quiet():
            data = pydicom.dcmread(file, force=True, specific_tags=list(_PIXEL_TAGS))
            syntax = getattr(data.file_meta, "TransferSyntaxUID", None) or pydicom.uid.ImplicitVRLittleEndian
            data.file_meta.TransferSyntaxUID = syntax  # of the oldest files, which do not say it
            name = syntax.name
            if "PixelData" not in data:
                raise InputError(f"Cannot read {file}: it has no voxels (PixelData). Copy or export it again.")
            return data, _own_bits(data.pixel_array, data)
    except InputError:
        raise
    except Exception as error:  # decoders raise whatever damaged bytes lead to
        if lacks_memory(error):
            raise NotEnoughMemory(f"Not enough memory to read {file}{memory_words(error)}.") from None
        if "missing dependencies" in str(error) or isinstance(error, NotImplementedError):
            raise InputError(
                f"Cannot read {file}: its voxels are compressed as {name}, for which no decoder is installed. "
                "pip install medcontext[dicom] brings python-gdcm and pyjpegls; or decompress the files, for example "
                "by gdcmconv --raw."
            ) from None
        raise InputError(
            f"Cannot read {file}: its voxels ({name}) are truncated or damaged ({type(error).__name__}: "
            f"{first_line(error)}). Copy or export it again."
        ) from None


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
    from pydicom.pixels import apply_modality_lut

    for place in [
        group["PixelValueTransformationSequence"].value[0]
        for group in frame_groups(data, frame)
        if group.get("PixelValueTransformationSequence")
    ] or [data]:
        return apply_modality_lut(values, place)
    return values
