"""The slices of DICOM images: each file is one, or has several as frames."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

PLACE_TAGS = (
    *("Rows", "Columns", "NumberOfFrames", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("FrameOfReferenceUID", "InstanceNumber", "GantryDetectorTilt", "SharedFunctionalGroupsSequence"),
    *("PerFrameFunctionalGroupsSequence", "TemporalPositionIdentifier", "AcquisitionNumber", "EchoTime"),
    *("DiffusionBValue", "TriggerTime", "FrameReferenceTime", "InversionTime"),
)
APART = {  # what may tell apart slices at one place: tag, and what people call it
    "TemporalPositionIdentifier": "time points",
    "FrameReferenceTime": "time points",
    "TriggerTime": "phases of the heart",
    "EchoTime": "echoes",
    "EffectiveEchoTime": "echoes",
    "DiffusionBValue": "b-values",
    "InversionTime": "inversion times",
    "TemporalPositionIndex": "time points",
    "AcquisitionNumber": "acquisitions",
    "ImageType": "kinds of image, such as magnitude and phase",
}


class Plane(NamedTuple):
    """One slice.

    Args:
        file: where it is.
        frame: its number there, from 0.
        size: (rows, columns).
        position: of its first voxel's centre, in mm, LPS; empty where the file does not say.
        orientation: the directions along a row and along a column, LPS; empty where the file does not say.
        spacing: mm between rows, and between columns; empty where the file does not say.
        instance: the image's UID.
        number: of the image in the series, or None.
        frame_of_reference: UID of the coordinate system.
        tilt: of the gantry, in degrees.
        scout: whether it says that it is a localizer.
        inverse: whether the lowest values are shown white.
        apart: what may tell it from another slice at its place.
    """

    file: Path
    frame: int
    size: tuple[int, int]
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    instance: str
    number: int | None
    frame_of_reference: str
    tilt: float
    scout: bool
    inverse: bool
    apart: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """For messages: the file's name, and the frame of one with several."""
        return self.file.name + (f" (frame {self.frame + 1})" if self.frame else "")


def planes_of(data: Any, file: Path) -> tuple[Plane, ...]:
    """The slices of a read file, in its order.

    Raises:
        Exception: whatever a damaged value leads to.
    """
    return tuple(_plane(data, file, frame) for frame in range(int(data.get("NumberOfFrames") or 1)))


def frame_groups(data: Any, frame: int) -> list[Any]:
    """Where a frame's attributes are: its own functional groups, those of all frames, the file itself."""
    own, shared = data.get("PerFrameFunctionalGroupsSequence"), data.get("SharedFunctionalGroupsSequence")
    places = [own[frame]] if own else []
    return [*places, *([shared[0]] if shared else [])]


def frame_value(data: Any, frame: int, group: str, name: str) -> Any:
    """An attribute of a frame, from a functional group or from the file itself; None if it is in neither."""
    for place in frame_groups(data, frame):
        if place.get(group) and place[group].value[0].get(name) is not None:
            return place[group].value[0].get(name)
    return data.get(name)


def _plane(data: Any, file: Path, frame: int) -> Plane:
    position = frame_value(data, frame, "PlanePositionSequence", "ImagePositionPatient")
    orientation = frame_value(data, frame, "PlaneOrientationSequence", "ImageOrientationPatient")
    spacing = frame_value(data, frame, "PixelMeasuresSequence", "PixelSpacing")
    types = data.get("ImageType")
    for group in ("CTImageFrameTypeSequence", "MRImageFrameTypeSequence", "PETFrameTypeSequence"):
        types = frame_value(data, frame, group, "FrameType") or types
    number = data.get("InstanceNumber")
    return Plane(
        file,
        frame,
        (int(data.get("Rows") or 0), int(data.get("Columns") or 0)),
        _numbers(position, 3),
        _numbers(orientation, 6),
        _numbers(spacing, 2),
        str(data.get("SOPInstanceUID") or ""),
        None if number in (None, "") else int(number),
        str(data.get("FrameOfReferenceUID") or ""),
        float(data.get("GantryDetectorTilt") or 0),
        "LOCALIZER" in [str(word).upper() for word in types or ()],
        str(data.get("PhotometricInterpretation")) == "MONOCHROME1",
        _apart(data, frame, types),
    )


def _numbers(values: Any, count: int) -> tuple[float, ...]:
    """As many finite numbers as there must be, or none."""
    if values is None or isinstance(values, str) or len(values) != count:
        return ()
    found = tuple(float(value) for value in values)
    return found if np.isfinite(found).all() else ()


def _apart(data: Any, frame: int, types: Any) -> tuple[tuple[str, str], ...]:
    groups = {
        "EffectiveEchoTime": "MREchoSequence",
        "DiffusionBValue": "MRDiffusionSequence",
        "TemporalPositionIndex": "FrameContentSequence",
    }
    found = {name: frame_value(data, frame, groups.get(name, ""), name) for name in APART if name != "ImageType"}
    found["ImageType"] = "/".join(map(str, types or ()))
    return tuple((name, str(value)) for name, value in found.items() if value not in (None, ""))
