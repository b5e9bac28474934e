"""A segmentation as a DICOM object beside the series that it is of, for PACS and viewers.

BINARY, a bit for each voxel and segment: what viewers read today; LABELMAP came in 2024, and few do. Frames without a
voxel are left out, as the standard allows; a structure that is absent is a segment without frames.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import medcontext
from medcontext.data.cases import Case
from medcontext.data.dicom.heads import HEAD_TAGS, is_dicom_path, quiet
from medcontext.data.dicom.planes import PLACE_TAGS, Plane
from medcontext.data.dicom.read import stack_of
from medcontext.data.regions import Regions
from medcontext.errors import CannotWrite, InputError, first_line, lacks_memory
from medcontext.extras import need
from medcontext.files import atomic_path
from medcontext.inference.codes import PRIVATE, Coded, read_codes, text_of
from medcontext.pictures.colours import colours_of

SERIES_NUMBER = 300  # as dcmqi's; a scanner's are lower
PERSON = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex")
STUDY = ("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName")
NO_DATE, NO_TIME = "19700101", "000000"
_SHOWN = ("SliceThickness", "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
REMOVED = ["MedContext: patient, study and dates removed", "UIDs kept, for the segmentation to fit its scan"]


@dataclass(frozen=True)
class Segments:
    """What is the same in the segmentations of all cases.

    Args:
        structures: label values of each, or of each region.
        codes: of each.
        network: what tells the networks from others, such as a hash.
        anonymous: whether the patient's data and dates are left out.
    """

    structures: Regions
    codes: Mapping[str, Coded]
    network: str = ""
    anonymous: bool = False

    def codes_given(self) -> dict[str, list[list[str]]]:
        """Plain values for JSON: of each structure its code and its category's."""
        return {name: [list(coded.type), list(coded.category)] for name, coded in self.codes.items()}


def as_dicom(
    cases: Sequence[Case], structures: Regions, codes: Path | None, network: str, anonymous: bool
) -> Segments | None:
    """What DICOM segmentations of the cases would say; None where no case is DICOM.

    Raises:
        InputError: if highdicom is not installed; for `codes`, see `read_codes`, and if no case is DICOM.
    """
    found = read_codes(codes, structures)
    if not any(is_dicom_path(case.images[0]) for case in cases):
        if codes is not None:
            raise InputError(f"--codes {codes} is for DICOM segmentations, and no scan is DICOM. Leave it out.")
        return None
    need("highdicom")
    if all(len(values) == 1 for values in structures.values()):  # regions keep their order
        structures = dict(sorted(structures.items(), key=lambda item: item[1]))
    return Segments(structures, found, network, anonymous)


def write_segmentation(path: Path, label: np.ndarray, source: Path, segments: Segments, patient: str = "") -> None:
    """Write a label (X, Y, Z) as a DICOM segmentation of its source series, whole or not at all.

    Args:
        path: ends in .dcm.
        label: in the user's values, on the source's grid.
        source: as `stack_of` takes it.
        segments: what the values mean.
        patient: what an anonymous file calls the patient.

    Raises:
        InputError: if the source's headers do not allow it; CannotWrite if the file cannot be written.
    """
    need("highdicom")
    planes = stack_of(source).planes
    try:
        with quiet(), _quiet_highdicom():
            images = _sources(planes, segments.anonymous)
            segmentation = _segmentation(images, _frames(label, planes, segments.structures), segments)
            (_forget if segments.anonymous else _remember)(segmentation, images[0], patient)
            with atomic_path(path) as temporary:
                segmentation.save_as(temporary, enforce_file_format=True)
    except OSError as error:
        raise CannotWrite(f"Cannot write {path}: {error.strerror or error}.") from None
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        if lacks_memory(error):
            raise
        raise InputError(
            f"The DICOM segmentation of {source} cannot be made ({type(error).__name__}: {first_line(error)}): its "
            "headers lack what the standard wants. Convert the series to NIfTI, such as by dcm2niix, and predict that."
        ) from error


def _sources(planes: Sequence[Plane], anonymous: bool) -> list[Any]:
    """The headers of the images, in order, without what highdicom would check of the patient: see `_remember`.

    highdicom copies more than that, such as the institution's name, unless it is not even read.
    """
    import pydicom

    found = []
    for file in dict.fromkeys(plane.file for plane in planes):
        tags = [*HEAD_TAGS, *PLACE_TAGS, *_SHOWN] if anonymous else None
        data = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=tags)
        data.kept = {name: data[name].value for name in (*PERSON, *STUDY) if name in data}
        for name in (*PERSON, *STUDY):
            setattr(data, name, None)
        if not data.get("FrameOfReferenceUID"):
            data.FrameOfReferenceUID = pydicom.uid.generate_uid(entropy_srcs=[str(data.SeriesInstanceUID)])
        found.append(data)
    return found


def _frames(label: np.ndarray, planes: Sequence[Plane], structures: Regions) -> np.ndarray:
    """The segments' numbers (Z, Y, X), or where structures overlap their masks (Z, Y, X, K), in the images' order."""
    stacked = np.ascontiguousarray(label.transpose(2, 1, 0))  # (X, Y, Z) -> (Z, Y, X)
    if len({plane.file for plane in planes}) < len(planes):  # frames of one file come in its order
        stacked = stacked[np.argsort([plane.frame for plane in planes])]
    values = [value for own in structures.values() for value in own]
    if len(set(values)) < len(values):
        masks = [np.logical_or.reduce([stacked == value for value in own]) for own in structures.values()]
        return np.stack(masks, axis=-1).astype(np.uint8)
    numbers = np.zeros(stacked.shape, np.uint8 if len(structures) < 256 else np.uint16)
    for number, own in enumerate(structures.values(), start=1):
        for value in own:
            numbers[stacked == value] = number
    return numbers


def _segmentation(images: Sequence[Any], frames: np.ndarray, segments: Segments) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes as dicom_codes

    algorithm = hd.AlgorithmIdentificationSequence(
        "MedContext", dicom_codes.DCM.ArtificialIntelligence, medcontext.__version__
    )
    scheme = hd.coding_schemes.CodingSchemeIdentificationItem(
        PRIVATE, name="MedContext: names that a data set gives its structures"
    )
    colours = colours_of(segments.structures)
    described = [
        hd.seg.SegmentDescription(
            number,
            text_of(name),
            _code(segments.codes[name].category),
            _code(segments.codes[name].type),
            "AUTOMATIC",
            algorithm,
            display_color=hd.color.CIELabColor.from_rgb(*bytes.fromhex(colours[name][1:])),
        )
        for number, name in enumerate(segments.structures, start=1)
    ]
    private = any(PRIVATE in (coded.type.scheme, coded.category.scheme) for coded in segments.codes.values())
    return hd.seg.Segmentation(
        images,
        frames,
        "BINARY",
        described,
        hd.UID(),
        SERIES_NUMBER,
        hd.UID(),
        1,
        "MedContext",
        "MedContext",
        medcontext.__version__,
        segments.network[:16] or "0",
        content_label="MEDCONTEXT",
        content_description="Segmented by MedContext",
        series_description="MedContext segmentation",
        specific_character_set="ISO_IR 192",
        coding_schemes=[scheme] if private else None,
    )


def _code(term: Any) -> Any:
    from pydicom.sr.coding import Code

    return Code(term.value, term.scheme, term.meaning)


def _remember(segmentation: Any, source: Any, _patient: str) -> None:
    """Patient and study as the source has them, whatever the standard thinks of the values."""
    for name in (*PERSON, *STUDY):
        if name in source.kept:
            setattr(segmentation, name, source.kept[name])


def _forget(segmentation: Any, _source: Any, patient: str) -> None:
    """Without the patient's data and dates, and marked so (PS3.15, E.1; its option to retain UIDs)."""
    from pydicom.dataset import Dataset

    segmentation.PatientName = segmentation.PatientID = patient
    segmentation.PatientIdentityRemoved, segmentation.LongitudinalTemporalInformationModified = "YES", "REMOVED"
    segmentation.DeidentificationMethod = REMOVED
    profile = []
    for value, meaning in (
        ("113100", "Basic Application Confidentiality Profile"),
        ("113110", "Retain UIDs Option"),
    ):
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
        profile.append(item)
    segmentation.DeidentificationMethodCodeSequence = profile
    segmentation.ContentDate, segmentation.ContentTime = NO_DATE, NO_TIME
    dates = ("InstanceCreationDate", "InstanceCreationTime", "SeriesDate", "SeriesTime")
    for name in (*dates, "ContributingEquipmentSequence"):
        if name in segmentation:
            delattr(segmentation, name)


@contextmanager
def _quiet_highdicom() -> Iterator[None]:
    logger = logging.getLogger("highdicom")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
