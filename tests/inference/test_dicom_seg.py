"""Segmentations as DICOM objects: read back by pydicom and our own placing, and by ITK, voxel for voxel."""

from pathlib import Path

import numpy as np
import pytest

from medcontext.data.nifti import read_header
from medcontext.data.nifti_write import write_label
from medcontext.data.regions import Regions
from medcontext.errors import InputError
from medcontext.inference.codes import Coded, Term, read_codes
from medcontext.inference.dicom_seg import Segments, write_segmentation
from medcontext.pictures.colours import colours_of
from tests.dicom import AXIAL, CORONAL, MR, PRIVATE, SAGITTAL, change, datasets, enhanced, pydicom, voxels, write

OBLIQUE = (0.96, 0.28, 0, -0.28 * 0.8, 0.96 * 0.8, 0.6)
STRUCTURES: Regions = {"liver": (200,), "left kidney": (500,), "spleen": (600,)}
REGIONS: Regions = {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}


def segments(structures: Regions = STRUCTURES, **more) -> Segments:
    return Segments(structures, read_codes(None, structures), "abcdef0123456789ffff", **more)


def some_label(values: tuple[int, ...], shape=(20, 16, 8), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice([0, *values], shape).astype(np.int16)


def place_back(data, grid: tuple[tuple[int, ...], np.ndarray]) -> dict[str, np.ndarray]:
    """Each segment's mask (X, Y, Z) on a grid: shape and RAS affine. Every voxel goes where the file says it lies."""
    shape, affine = grid
    shared, names = (
        data.SharedFunctionalGroupsSequence[0],
        {s.SegmentNumber: s.SegmentLabel for s in data.SegmentSequence},
    )
    masks = {name: np.zeros(shape, bool) for name in names.values()}
    pixels = data.pixel_array.reshape(-1, data.Rows, data.Columns)
    between_rows, between_columns = shared.PixelMeasuresSequence[0].PixelSpacing
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    for frame, values in zip(data.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        origin = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        rows, columns = np.nonzero(values)
        places = origin + np.outer(columns * between_columns, orientation[:3])
        places += np.outer(rows * between_rows, orientation[3:])
        indices = (places * [-1, -1, 1] - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
        np.testing.assert_allclose(indices, np.rint(indices), atol=1e-3)
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        masks[names[number]][tuple(np.rint(indices).astype(int).T)] = True
    return masks


def check_masks(file: Path, label: np.ndarray, source: Path, structures: Regions) -> None:
    header = read_header(source)
    masks = place_back(pydicom.dcmread(file), (header.shape, header.affine))
    assert list(masks) == list(structures)
    for name, values in structures.items():
        np.testing.assert_array_equal(masks[name], np.isin(label, values), err_msg=name)


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, CORONAL, OBLIQUE])
def test_every_voxel_is_in_its_place(orientation: tuple, tmp_path: Path) -> None:
    source = write(tmp_path / "s", datasets(voxels(), orientation=orientation))
    label = some_label((200, 600))
    write_segmentation(tmp_path / "a.dcm", label, source, segments())
    check_masks(tmp_path / "a.dcm", label, source, STRUCTURES)
    read = pytest.importorskip("highdicom").seg.segread(tmp_path / "a.dcm")  # which checks it
    assert list(read.segment_numbers) == [1, 2, 3]
    assert list(tmp_path.glob(".tmp*")) == []


def test_overlapping_regions(tmp_path: Path) -> None:
    source = write(tmp_path / "s", datasets(voxels(), kind=MR))
    label = some_label((1, 2, 4))
    write_segmentation(tmp_path / "a.dcm", label, source, segments(REGIONS))
    check_masks(tmp_path / "a.dcm", label, source, REGIONS)


@pytest.mark.parametrize("structures", [STRUCTURES, REGIONS])
def test_of_an_enhanced_multi_frame_image(structures: Regions, tmp_path: Path) -> None:
    slices = datasets(voxels(), orientation=OBLIQUE)
    source = write(tmp_path / "s", [enhanced(slices, [3, 0, 7, 5, 1, 2, 6, 4])])
    label = some_label(tuple({value for values in structures.values() for value in values}))
    write_segmentation(tmp_path / "a.dcm", label, source, segments(structures))
    check_masks(tmp_path / "a.dcm", label, source, structures)


def test_an_empty_segmentation_has_all_segments(tmp_path: Path) -> None:
    source = write(tmp_path / "s", datasets(voxels()))
    write_segmentation(tmp_path / "a.dcm", np.zeros((20, 16, 8), np.uint8), source, segments())
    check_masks(tmp_path / "a.dcm", np.zeros((20, 16, 8)), source, STRUCTURES)


def test_itk_reads_the_frames_where_the_nifti_lies(tmp_path: Path) -> None:
    """ITK reads a segmentation's frames as a volume, here one structure in every slice."""
    sitk = pytest.importorskip("SimpleITK")
    source = write(tmp_path / "s", datasets(voxels()))
    label = some_label((200,))
    write_segmentation(tmp_path / "a.dcm", label, source, segments({"liver": (200,)}))
    write_label(tmp_path / "a.nii.gz", label, read_header(source).affine)
    one, two = sitk.ReadImage(str(tmp_path / "a.dcm")), sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    assert one.GetSize() == two.GetSize()
    placed = sitk.Resample(one, two, sitk.Transform(), sitk.sitkNearestNeighbor)  # its frames may run the other way
    np.testing.assert_array_equal(sitk.GetArrayFromImage(placed) > 0, sitk.GetArrayFromImage(two) > 0)


def test_what_it_says_of_itself(tmp_path: Path) -> None:
    slices = datasets(voxels())
    source = write(tmp_path / "s", slices)
    liver = Coded(Term("10200004", "SCT", "Liver"), Term("123037004", "SCT", "Anatomical Structure"))
    given = Segments(STRUCTURES, {**read_codes(None, STRUCTURES), "liver": liver}, "abc")
    write_segmentation(tmp_path / "a.dcm", some_label((200, 500)), source, given)
    data = pydicom.dcmread(tmp_path / "a.dcm")
    assert data.SegmentationType == "BINARY"
    for name, value in PRIVATE.items():
        if name.startswith("Patient") or name in ("StudyDate", "StudyID", "AccessionNumber", "ReferringPhysicianName"):
            assert str(data[name].value) == value
    assert data.StudyInstanceUID == slices[0].StudyInstanceUID
    assert data.FrameOfReferenceUID == slices[0].FrameOfReferenceUID
    assert data.SeriesInstanceUID != slices[0].SeriesInstanceUID
    (series,) = data.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == slices[0].SeriesInstanceUID
    assert {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence} == {
        each.SOPInstanceUID for each in slices
    }
    first, second, third = data.SegmentSequence
    assert [each.SegmentLabel for each in (first, second, third)] == list(STRUCTURES)
    assert {each.SegmentAlgorithmType for each in data.SegmentSequence} == {"AUTOMATIC"}
    assert {each.SegmentAlgorithmName for each in data.SegmentSequence} == {"MedContext"}
    assert first.SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"
    assert first.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Anatomical Structure"
    assert second.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "99MEDCONTEXT"
    for segment, colour in zip(data.SegmentSequence, colours_of(STRUCTURES).values(), strict=True):
        assert np.abs(rgb(segment.RecommendedDisplayCIELabValue) - list(bytes.fromhex(colour[1:]))).max() <= 2


def rgb(scaled) -> np.ndarray:
    """From DICOM's scaled CIELab, D65, to sRGB of 8 bits, by the definitions (IEC 61966-2-1)."""
    lightness, a, b = scaled[0] / 65535 * 100, scaled[1] / 65535 * 255 - 128, scaled[2] / 65535 * 255 - 128
    y = (lightness + 16) / 116
    cubes = np.array([y + a / 500, y, y - b / 200])
    xyz = np.where(cubes > 6 / 29, cubes**3, 3 * (6 / 29) ** 2 * (cubes - 4 / 29)) * [0.95047, 1, 1.08883]
    matrix = [[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]]
    linear = np.clip(np.array(matrix) @ xyz, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def test_odd_patients_are_kept_as_they_are(tmp_path: Path) -> None:
    """Absent, against the standard, or in another alphabet: none of it hinders a segmentation."""

    def odd(data, index: int) -> None:
        data.SpecificCharacterSet = "ISO_IR 100"
        data.PatientName, data.PatientSex = "Müller^Jörg", "X"
        del data.PatientBirthDate, data.StudyID, data.FrameOfReferenceUID
        data.StudyDate, data.AccessionNumber = "", "of more than sixteen characters"

    with pytest.warns(UserWarning, match="AccessionNumber|exceeds"):
        slices = change(datasets(voxels()), odd)
    source = write(tmp_path / "s", slices)
    write_segmentation(tmp_path / "a.dcm", some_label((200,)), source, segments({"Leber/肝臓": (200,)}))
    data = pydicom.dcmread(tmp_path / "a.dcm")
    assert (str(data.PatientName), data.PatientSex, data.StudyDate) == ("Müller^Jörg", "X", "")
    assert data.AccessionNumber == "of more than sixteen characters"
    assert data.SegmentSequence[0].SegmentLabel == "Leber/肝臓"


def test_anonymous_files_hold_nothing_of_the_patient(tmp_path: Path) -> None:
    source = write(tmp_path / "s", datasets(voxels()))
    write_segmentation(tmp_path / "a.dcm", some_label((200,)), source, segments(anonymous=True), "case_001")
    content = (tmp_path / "a.dcm").read_bytes()
    for value in PRIVATE.values():
        assert value.encode() not in content
    data = pydicom.dcmread(tmp_path / "a.dcm")
    assert (str(data.PatientName), data.PatientID, data.PatientIdentityRemoved) == ("case_001", "case_001", "YES")
    assert [item.CodeValue for item in data.DeidentificationMethodCodeSequence] == ["113100", "113110"]
    assert {element.value for element in data if element.VR == "DA"} <= {"19700101", "", None}
    check_masks(tmp_path / "a.dcm", some_label((200,)), source, STRUCTURES)


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    source = write(tmp_path / "s", datasets(voxels()))
    with pytest.raises(InputError, match="Cannot write"):
        write_segmentation(tmp_path / "nowhere" / "a.dcm", some_label((200,)), source, segments())
