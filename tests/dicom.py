"""Generated DICOM series, each habit of scanners and exports by a change of the data sets before they are written."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset  # noqa: E402
from pydicom.sequence import Sequence as Items  # noqa: E402
from pydicom.uid import ExplicitVRLittleEndian, generate_uid  # noqa: E402

CT, MR, PET = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.128"
SECONDARY = "1.2.840.10008.5.1.4.1.1.7"
AXIAL, SAGITTAL, CORONAL = (1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1)
PRIVATE = {  # marked, to be looked for where they must not be
    "PatientName": "MARKEDNAME^ANNA",
    "PatientID": "MARKEDID77",
    "PatientBirthDate": "19510203",
    "StudyDate": "20240506",
    "SeriesDate": "20240506",
    "AcquisitionDate": "20240506",
    "ContentDate": "20240506",
    "InstitutionName": "MARKEDHOSPITAL",
    "ReferringPhysicianName": "MARKEDDOCTOR",
    "AccessionNumber": "MARKEDACCESS",
    "StudyID": "MARKEDSTUDY",
}

Change = Callable[[Dataset, int], None]


def voxels(seed: int = 0, shape: tuple[int, int, int] = (20, 16, 8)) -> np.ndarray:
    """Random values (X, Y, Z) of twelve bits."""
    return np.random.default_rng(seed).integers(0, 4096, shape).astype(np.uint16)


def datasets(
    stored: np.ndarray,
    *,
    orientation: Sequence[float] = AXIAL,
    spacing: tuple[float, float] = (0.9, 0.7),
    gap: float = 2.5,
    origin: Sequence[float] = (-31.0, 12.5, 7.0),
    kind: str = CT,
    number: int = 3,
    description: str = "Abdomen",
    study: str = "",
    signed: bool = False,
) -> list[FileDataset]:
    """A slice each of stored values (X, Y, Z); mm between rows and columns, and from slice to slice."""
    normal = np.cross(orientation[:3], orientation[3:])
    study, series, frame = study or generate_uid(), generate_uid(), generate_uid()
    found = []
    for index in range(stored.shape[2]):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        for name, value in PRIVATE.items():
            setattr(data, name, value)
        data.SOPClassUID, data.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, series, frame
        data.Modality = {CT: "CT", MR: "MR", PET: "PT"}.get(kind, "OT")
        data.SeriesNumber, data.InstanceNumber, data.SeriesDescription = number, index + 1, description
        data.ImageType, data.PatientSex, data.StudyTime = ["ORIGINAL", "PRIMARY", "AXIAL"], "F", "101112"
        data.PositionReferenceIndicator, data.Manufacturer = "", "Maker"
        data.ImageOrientationPatient = [float(value) for value in orientation]
        data.ImagePositionPatient = [round(float(v), 6) for v in np.array(origin) + index * gap * normal]
        data.PixelSpacing, data.SliceThickness = list(spacing), gap
        data.Rows, data.Columns = stored.shape[1], stored.shape[0]
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.PixelRepresentation = 15, int(signed)
        data.RescaleSlope, data.RescaleIntercept = 1, -1024 if kind == CT else 0
        data.PixelData = stored[:, :, index].T.astype("<i2" if signed else "<u2").tobytes()
        found.append(data)
    return found


def write(folder: Path, slices: Sequence[Dataset], name: str = "IM{:04d}", shuffled: bool = True) -> Path:
    """Write slices to files without an ending, in an order that is not that of the slices."""
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(7).permutation(len(slices)) if shuffled else np.arange(len(slices))
    for index, data in zip(order, slices, strict=True):
        data.save_as(folder / name.format(index), enforce_file_format=True)
    return folder


def change(slices: Sequence[Dataset], edit: Change) -> Sequence[Dataset]:
    """The same, each edited; an edit gets the slice's index, too."""
    for index, data in enumerate(slices):
        edit(data, index)
    return slices


def enhanced(slices: Sequence[Dataset], order: Sequence[int]) -> FileDataset:
    """The slices as frames of one enhanced CT or MR image, in an order."""
    first = slices[0]
    data = FileDataset("", {}, file_meta=deepcopy(first.file_meta), preamble=b"\0" * 128)
    placed = {"ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "PixelData"}
    placed |= {"RescaleSlope", "RescaleIntercept"}
    for element in first:
        if element.keyword not in placed:
            data.add(deepcopy(element))
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = first.SOPClassUID + ".1"
    data.NumberOfFrames = len(order)
    shared, frames = Dataset(), []
    shared.PlaneOrientationSequence = _item(first, "ImageOrientationPatient")
    shared.PixelMeasuresSequence = _item(first, "PixelSpacing", "SliceThickness")
    for index in order:
        frame = Dataset()
        frame.PlanePositionSequence = _item(slices[index], "ImagePositionPatient")
        frame.PixelValueTransformationSequence = _item(slices[index], "RescaleSlope", "RescaleIntercept")
        frame.PixelValueTransformationSequence[0].RescaleType = "HU"
        frame.FrameContentSequence = Items([Dataset()])
        frames.append(frame)
    data.SharedFunctionalGroupsSequence, data.PerFrameFunctionalGroupsSequence = Items([shared]), Items(frames)
    data.PixelData = b"".join(slices[index].PixelData for index in order)
    return data


def _item(data: Dataset, *names: str) -> Items:
    item = Dataset()
    for name in names:
        setattr(item, name, data[name].value)
    return Items([item])
