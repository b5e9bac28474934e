"""Series of every habit: right, as an independent reader has it, or one clear error; nothing lost in silence."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medcontext.data.cases import Case
from medcontext.data.nifti import image_digest, read_doubts, read_header, read_image
from medcontext.data.nifti_write import write_image
from medcontext.errors import InputError
from tests.dicom import AXIAL, CORONAL, CT, MR, PET, SAGITTAL, change, datasets, enhanced, pydicom, voxels, write

sitk = pytest.importorskip("SimpleITK")

OBLIQUE = (0.96, 0.28, 0, -0.28 * 0.8, 0.96 * 0.8, 0.6)


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image, affine = read_image(Case("a", (path,)), ("CT",))
    return image[0], affine


def refused(path: Path) -> str:
    with pytest.raises(InputError) as error:
        read(path)
    with pytest.raises(InputError):
        read_image(Case("a", (path,)), ("CT",))
    return str(error.value)


def by_itk(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The array (X, Y, Z) and the RAS affine of SimpleITK's series reader."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    directions = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = directions, image.GetOrigin()
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ affine


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, CORONAL, OBLIQUE, (-1, 0, 0, 0, 1, 0)])
def test_voxels_and_places_are_those_of_an_independent_reader(orientation: tuple, tmp_path: Path) -> None:
    stored = voxels()
    write(tmp_path / "s", datasets(stored, orientation=orientation))
    image, affine = read(tmp_path / "s")
    expected, placed = by_itk(tmp_path / "s")
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, expected)
    np.testing.assert_allclose(affine, placed, atol=1e-5)
    np.testing.assert_array_equal(image, stored.astype(np.float32) - 1024)
    header = read_header(tmp_path / "s")
    assert header.shape == image.shape
    np.testing.assert_array_equal(header.affine, affine)
    assert read_doubts(tmp_path / "s") == ()


def test_any_file_of_a_series_means_the_whole_of_it(tmp_path: Path) -> None:
    write(tmp_path / "s", datasets(voxels(1), number=3))
    write(tmp_path / "s", datasets(voxels(2), number=4), name="other_{}.dcm")
    np.testing.assert_array_equal(read(tmp_path / "s" / "other_3.dcm")[0], voxels(2).astype(np.float32) - 1024)
    message = refused(tmp_path / "s")
    assert "has 2 DICOM series: series 3 'Abdomen' (CT, 8 slices, 0.7x0.9x2.5 mm)" in message
    assert "--series" in message


def test_the_same_scan_as_nifti_has_the_same_digest(tmp_path: Path) -> None:
    write(tmp_path / "s", datasets(voxels()))
    image, affine = read_image(Case("a", (tmp_path / "s",)), ("CT",))
    write_image(tmp_path / "a.nii.gz", image, affine, like=tmp_path / "s")
    again, placed = read_image(Case("a", (tmp_path / "a.nii.gz",)), ("CT",))
    assert image_digest(again) == image_digest(image)
    np.testing.assert_allclose(placed, affine, atol=1e-5)


def rescaled(data, index: int) -> None:
    data.RescaleSlope, data.RescaleIntercept = 0.5 + index, 10 * index


def test_each_slice_has_its_own_slope(tmp_path: Path) -> None:
    write(tmp_path / "s", change(datasets(voxels(), kind=PET), rescaled))
    image, _ = read(tmp_path / "s")
    index = np.arange(8)
    np.testing.assert_allclose(image, voxels() * (0.5 + index) + 10 * index, rtol=1e-6)
    np.testing.assert_allclose(image, by_itk(tmp_path / "s")[0], rtol=1e-6)


def twelve_bits(data, index: int) -> None:
    data.BitsStored, data.HighBit = 12, 11


def test_values_by_a_table(tmp_path: Path) -> None:
    """As of some old scanners: stored values are places in a table."""

    def table(data, index: int) -> None:
        del data.RescaleSlope, data.RescaleIntercept
        item = pydicom.Dataset()
        item.LUTDescriptor, item.ModalityLUTType = [4096, 0, 16], "HU"
        item.LUTData = (2 * np.arange(4096)).astype("<u2").tobytes()
        item["LUTData"].VR = "OW"
        data.ModalityLUTSequence = [item]

    write(tmp_path / "s", change(datasets(voxels()), table))
    np.testing.assert_array_equal(read(tmp_path / "s")[0], 2.0 * voxels())


def test_signed_values_and_bits_above_those_that_are_stored(tmp_path: Path) -> None:
    signed = voxels().astype(np.int16) - 2048  # of twelve bits
    write(tmp_path / "carried", change(datasets(signed, signed=True), twelve_bits))
    write(tmp_path / "cut", change(datasets(signed & 0xFFF, signed=True), twelve_bits))
    write(tmp_path / "overlay", change(datasets(voxels() | 0x5000), twelve_bits))
    for name in ("carried", "cut"):
        np.testing.assert_array_equal(read(tmp_path / name)[0], signed.astype(np.float32) - 1024)
    np.testing.assert_array_equal(read(tmp_path / "overlay")[0], voxels().astype(np.float32) - 1024)


def test_low_values_shown_white_are_taken_as_they_are_and_said(tmp_path: Path) -> None:
    def inverse(data, index: int) -> None:
        data.PhotometricInterpretation = "MONOCHROME1"

    write(tmp_path / "s", change(datasets(voxels()), inverse))
    np.testing.assert_array_equal(read(tmp_path / "s")[0], voxels().astype(np.float32) - 1024)
    (doubt,) = read_doubts(tmp_path / "s")
    assert "MONOCHROME1" in doubt.message


@pytest.mark.parametrize("kind", [CT, MR])
def test_enhanced_multi_frame(kind: str, tmp_path: Path) -> None:
    slices = change(datasets(voxels(), kind=kind, orientation=OBLIQUE), rescaled)
    write(tmp_path / "classic", slices)
    write(tmp_path / "enhanced", [enhanced(slices, [3, 0, 7, 5, 1, 2, 6, 4])])
    (one, there), (two, here) = read(tmp_path / "classic"), read(tmp_path / "enhanced")
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(there, here)


def test_enhanced_multi_frame_is_read_as_highdicom_reads_it(tmp_path: Path) -> None:
    hd = pytest.importorskip("highdicom")
    slices = change(datasets(voxels(), orientation=OBLIQUE), rescaled)
    write(tmp_path / "s", [enhanced(slices, [3, 0, 7, 5, 1, 2, 6, 4])], name="a.dcm")
    volume = hd.imread(tmp_path / "s" / "a.dcm").get_volume().flip_spatial(0)  # (slices, rows, columns)
    image, affine = read(tmp_path / "s")
    np.testing.assert_allclose(image, volume.array.transpose(2, 1, 0), rtol=1e-6)
    np.testing.assert_allclose(affine, np.diag([-1, -1, 1, 1]) @ volume.affine[:, [2, 1, 0, 3]], atol=1e-5)


SYNTAXES = ("JPEGLosslessProcess14_1", "JPEG2000Lossless", "JPEGLSLossless", "RLELossless")


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_compressed_voxels(syntax: str, tmp_path: Path) -> None:
    gdcm = pytest.importorskip("gdcm")
    write(tmp_path / "plain", datasets(voxels()))
    (tmp_path / "packed").mkdir()
    for file in (tmp_path / "plain").iterdir():
        reader, changed, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(file))
        assert reader.Read()
        changed.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
        changed.SetInput(reader.GetImage())
        assert changed.Change()
        writer.SetFileName(str(tmp_path / "packed" / file.name))
        writer.SetFile(reader.GetFile())
        writer.SetImage(changed.GetOutput())
        assert writer.Write()
    np.testing.assert_array_equal(read(tmp_path / "packed")[0], read(tmp_path / "plain")[0])


def test_without_a_decoder_the_transfer_syntax_is_named(tmp_path: Path) -> None:
    def claimed(data, index: int) -> None:
        from pydicom.encaps import encapsulate

        data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.201"  # HTJ2K, which nothing here decodes
        data.PixelData = encapsulate([data.PixelData])
        data["PixelData"].VR = "OB"

    write(tmp_path / "s", change(datasets(voxels()), claimed))
    message = refused(tmp_path / "s")
    assert "High-Throughput JPEG 2000" in message
    assert "medcontext[dicom]" in message


def test_odd_characters_in_texts_do_no_harm(tmp_path: Path) -> None:
    def odd(data, index: int) -> None:
        data.SpecificCharacterSet = "ISO_IR 999"
        data.SeriesDescription = "Bauch"

    write(tmp_path / "s", change(datasets(voxels()), odd))
    assert read(tmp_path / "s")[0].shape == (20, 16, 8)


def test_other_objects_beside_a_series_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "s", datasets(voxels()))
    write(tmp_path / "s", datasets(voxels(3), kind="1.2.840.10008.5.1.4.1.1.7"), name="capture{}")
    write(tmp_path / "s", [*_scout()], name="scout{}")
    (tmp_path / "s" / "notes.txt").write_text("not an image")
    np.testing.assert_array_equal(read(tmp_path / "s")[0], voxels().astype(np.float32) - 1024)
    assert "is no part of a volume: Secondary Capture Image" in refused(tmp_path / "s" / "capture0")


def _scout(**more) -> list:
    def localizer(data, index: int) -> None:
        data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    return list(change(datasets(voxels(9), orientation=CORONAL, **more)[:1], localizer))


def test_a_localizer_inside_a_series_is_left_out_and_said(tmp_path: Path) -> None:
    slices, (scout,) = datasets(voxels()), _scout()
    scout.SeriesInstanceUID = slices[0].SeriesInstanceUID
    write(tmp_path / "s", [*slices, scout])
    np.testing.assert_array_equal(read(tmp_path / "s")[0], voxels().astype(np.float32) - 1024)
    (doubt,) = read_doubts(tmp_path / "s")
    assert "localizers" in doubt.message
    assert doubt.detail == "1 image of 9"


def test_slices_missing_at_an_end_are_doubted(tmp_path: Path) -> None:
    write(tmp_path / "s", datasets(voxels())[2:])
    (doubt,) = read_doubts(tmp_path / "s")
    assert "missing at an end" in doubt.message


def moved(index: int, by: tuple) -> Callable:
    def edit(data, at: int) -> None:
        if at == index:
            data.ImagePositionPatient = [p + d for p, d in zip(data.ImagePositionPatient, by, strict=True)]

    return edit


def sheared(data, index: int) -> None:
    x, y, z = data.ImagePositionPatient
    data.ImagePositionPatient, data.GantryDetectorTilt = [x, y + 0.8 * index, z], 17.7


def without(name: str) -> Callable:
    return lambda data, index: delattr(data, name) if index == 2 else None


def turned(data, index: int) -> None:
    data.ImageOrientationPatient = list(SAGITTAL if index == 2 else AXIAL)


def smaller(data, index: int) -> None:
    if index == 2:
        data.Rows, data.PixelData = 15, data.PixelData[: 15 * 20 * 2]


def coloured(data, index: int) -> None:
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelData = 7, bytes(3 * 16 * 20)


def half_scaled(data, index: int) -> None:
    if index == 2:
        del data.RescaleIntercept


def unscaled(data, index: int) -> None:
    data.RescaleSlope = "" if index == 2 else 1


BAD: dict[str, tuple[Callable[[], list], list[str]]] = {
    "a slice is missing": (
        lambda: [s for i, s in enumerate(datasets(voxels())) if i != 4],
        ["1 slice of the series", "5 mm, elsewhere 2.5 mm"],
    ),
    "uneven": (lambda: change(datasets(voxels()), moved(3, (0, 0, 0.9))), ["not evenly spaced", "dcm2niix"]),
    "shifted": (lambda: change(datasets(voxels()), moved(3, (4, 0, 0))), ["shifted by 4 mm within its plane"]),
    "tilted": (lambda: change(datasets(voxels()), sheared), ["tilted by 17.7 degrees", "dcm2niix", "17.7)"]),
    "no position": (
        lambda: change(datasets(voxels()), without("ImagePositionPatient")),
        ["no usable position (ImagePositionPatient)"],
    ),
    "no spacing": (lambda: change(datasets(voxels()), without("PixelSpacing")), ["pixel spacing"]),
    "mixed orientations": (lambda: change(datasets(voxels()), turned), ["different orientations", "(1 slice)"]),
    "mixed sizes": (lambda: change(datasets(voxels()), smaller), ["different sizes", "20x15 (1 slice)"]),
    "a slope without an intercept": (lambda: change(datasets(voxels()), half_scaled), ["one is missing"]),
    "an empty slope": (lambda: change(datasets(voxels()), unscaled), ["truncated or damaged"]),
    "colour": (lambda: change(datasets(voxels()), coloured), ["colour image (RGB) (8)"]),
    "one slice": (lambda: datasets(voxels())[:1], ["no DICOM series that is a volume", "single image (1)"]),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_volume_is_refused(name: str, tmp_path: Path) -> None:
    make, words = BAD[name]
    write(tmp_path / "s", make())
    message = refused(tmp_path / "s")
    assert str(tmp_path / "s") in message
    for word in words:
        assert word in message


def test_doubled_slices_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "s", datasets(voxels()))
    shutil.copy(tmp_path / "s" / "IM0003", tmp_path / "s" / "copy")
    message = refused(tmp_path / "s")
    assert "IM0003" in message
    assert "are the same image" in message


def test_several_volumes_in_one_series_are_refused(tmp_path: Path) -> None:
    def echo(data, index: int) -> None:
        data.EchoTime = 40

    first, second = datasets(voxels(1), kind=MR), change(datasets(voxels(2), kind=MR), echo)
    for data in first:
        data.EchoTime = 20
    for data in second:
        data.SeriesInstanceUID, data.FrameOfReferenceUID = first[0].SeriesInstanceUID, first[0].FrameOfReferenceUID
    write(tmp_path / "all", [*first, *second])
    message = refused(tmp_path / "all")
    assert "holds 2 volumes" in message
    assert "different echoes" in message
    write(tmp_path / "some", [*first, second[3]])
    assert "1 slice too many" in refused(tmp_path / "some")


def test_several_multi_frame_images_in_one_series_are_refused(tmp_path: Path) -> None:
    slices = datasets(voxels())
    one, two = enhanced(slices, [0, 1, 2, 3]), enhanced(slices, [4, 5, 6, 7])
    two.SOPInstanceUID = pydicom.uid.generate_uid()
    write(tmp_path / "s", [one, two])
    assert "several files of several frames" in refused(tmp_path / "s")


@pytest.mark.parametrize("kept", [-100, 700, 200, 140])
def test_truncated_files_are_refused(kept: int, tmp_path: Path) -> None:
    write(tmp_path / "s", datasets(voxels()))
    file = tmp_path / "s" / "IM0002"
    file.write_bytes(file.read_bytes()[:kept])
    message = refused(tmp_path / "s")
    assert str(file) in message
    assert "again" in message


def test_nothing_of_the_patient_is_in_errors_or_warnings(tmp_path: Path, caplog, recwarn) -> None:
    def broken(data, index: int) -> None:
        data.PatientBirthDate = "MARKEDBIRTH"

    with pytest.warns(UserWarning, match="Invalid value"):
        slices = change(datasets(voxels()), broken)
    write(tmp_path / "s", slices[:3])
    recwarn.clear()
    caplog.clear()
    read(tmp_path / "s")
    write(tmp_path / "s", slices[5:], name="more{}")
    assert "MARKED" not in refused(tmp_path / "s")
    assert "MARKED" not in caplog.text + "".join(str(each.message) for each in recwarn)
