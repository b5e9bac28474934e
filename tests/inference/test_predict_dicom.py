"""DICOM in, NIfTI and DICOM out, by the command; and where the patient's data are, and are not."""

import csv
import json
import logging
from pathlib import Path

import numpy as np
import pytest

from medcontext.cli import main
from medcontext.commands.predict import predict
from medcontext.errors import InputError
from medcontext.inference.dicom_seg import write_segmentation
from medcontext.run import Run
from tests.dicom import CORONAL, MR, PRIVATE, change, datasets, enhanced, pydicom, write
from tests.inference.runs import LABELS, level_run, levels_image, read
from tests.inference.test_dicom_seg import check_masks, place_back

SHAPE = (9, 10, 6)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return level_run(tmp_path_factory.mktemp("runs") / "run")


def scan(folder: Path, seed: int, **more) -> np.ndarray:
    """A series of which the run makes the label that is returned, (X, Y, Z)."""
    image, label = levels_image(SHAPE, seed)
    slices = datasets(np.rint(image + 100).astype(np.uint16), kind=MR, **more)

    def shifted(data, index: int) -> None:
        data.RescaleIntercept = -100

    write(folder, change(slices, shifted))
    return label


@pytest.fixture
def scans(tmp_path: Path) -> dict[str, np.ndarray]:
    """Two patients, one of them coronal, and the labels that they must get."""
    return {
        name: scan(tmp_path / "scans" / name / "SE1", index, **more)
        for index, (name, more) in enumerate({"anna": {}, "bert": {"orientation": CORONAL}}.items())
    }


def structures() -> dict[str, tuple[int, ...]]:
    return {name: (value,) for name, value in sorted(LABELS.items(), key=lambda item: item[1])}


def test_a_segmentation_of_each_kind(run: Run, scans: dict, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    command = ["predict", f"--run={run.folder}", f"--input={tmp_path / 'scans'}", f"--output={out}"]
    assert main(command) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count("hold the patients' data") == 1
    of_cases = {f"{name}.{ending}" for name in scans for ending in ("dcm", "nii.gz")}
    beside = {"dataset.json", "labels.ctbl", "labels.txt", "volumes.csv"}
    assert {path.name for path in out.iterdir()} == of_cases | beside
    for name, label in scans.items():
        np.testing.assert_array_equal(read(out / f"{name}.nii.gz"), label)
        check_masks(out / f"{name}.dcm", label, tmp_path / "scans" / name / "SE1", structures())
    (out / "anna.dcm").unlink()
    (out / "bert.nii.gz").unlink()
    kept = (out / "bert.dcm").stat().st_mtime_ns
    assert main([*command, "--resume"]) == 0
    assert (out / "anna.dcm").is_file()
    assert (out / "bert.nii.gz").is_file()
    assert (out / "bert.dcm").stat().st_mtime_ns > kept
    assert main([*command, "--resume"]) == 0
    assert "0 cases predicted, 2 there before" in capsys.readouterr().out


def test_an_enhanced_image_by_one_file(run: Run, tmp_path: Path) -> None:
    image, label = levels_image(SHAPE, 4)
    slices = datasets(np.rint(image + 100).astype(np.uint16), kind=MR)
    for data in slices:
        data.RescaleIntercept = -100
    file = write(tmp_path / "a", [enhanced(slices, [5, 0, 3, 1, 2, 4])], name="one.dcm") / "one.dcm"
    (found,) = predict(run, file, tmp_path / "out")
    np.testing.assert_array_equal(read(found), label)
    check_masks(tmp_path / "out" / "a.dcm", label, file, structures())


def test_a_series_among_several_and_codes(run: Run, tmp_path: Path, capsys) -> None:
    scan(tmp_path / "p", 0, number=2, description="localised")
    study = pydicom.dcmread(tmp_path / "p" / "IM0000").StudyInstanceUID
    (tmp_path / "p").rename(tmp_path / "q")
    label = scan(tmp_path / "p", 1, number=3, description="volume", study=study)
    (tmp_path / "q").rename(tmp_path / "p" / "other")
    command = ["predict", f"--run={run.folder}", f"--input={tmp_path / 'p'}", f"--output={tmp_path / 'out'}"]
    assert main(command) == 2
    assert "series 3 'volume' (MR, 6 slices" in " ".join(capsys.readouterr().err.split())
    codes = tmp_path / "codes.json"
    codes.write_text(json.dumps({"liver": {"value": "10200004", "scheme": "SCT", "meaning": "Liver"}}))
    assert main([*command, "--series", "3", "--codes", str(codes)]) == 0
    np.testing.assert_array_equal(read(tmp_path / "out" / "p.nii.gz"), label)
    first = pydicom.dcmread(tmp_path / "out" / "p.dcm").SegmentSequence[0]
    assert first.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Liver"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"lung": {}}, "Unknown structure in"),
        ({"liver": {"value": "1"}}, "give value, scheme and meaning"),
        ({"liver": {"value": "1" * 17, "scheme": "SCT", "meaning": "Liver"}}, "1 to 16 characters"),
        ([], "give an object"),
    ],
)
def test_wrong_codes_are_refused(content: object, words: str, run: Run, scans: dict, tmp_path: Path) -> None:
    (tmp_path / "codes.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=words):
        predict(run, tmp_path / "scans", tmp_path / "out", codes=tmp_path / "codes.json")
    assert not (tmp_path / "out").exists()


def everything_in(folder: Path) -> bytes:
    """All that is written, NIfTI files unpacked, names of files included."""
    import gzip

    content = b""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            raw = file.read_bytes()
            content += file.name.encode() + (gzip.decompress(raw) if file.suffix == ".gz" else raw)
    return content


def test_only_the_dicom_files_know_the_patient(run: Run, scans: dict, tmp_path: Path, capsys, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    predict(run, tmp_path / "scans", tmp_path / "out")
    for name in scans:
        data = pydicom.dcmread(tmp_path / "out" / f"{name}.dcm")
        assert str(data.PatientName) == PRIVATE["PatientName"]
        (tmp_path / "out" / f"{name}.dcm").unlink()
    shown = capsys.readouterr()
    said = (shown.out + shown.err + caplog.text).encode()
    for value in PRIVATE.values():
        assert value.encode() not in everything_in(tmp_path / "out") + everything_in(run.folder) + said


def test_anonymous_predictions_know_no_patient(run: Run, scans: dict, tmp_path: Path) -> None:
    out = tmp_path / "out"
    paths = predict(run, tmp_path / "scans" / "bert", out, anonymous=True)
    assert [path.name for path in paths] == ["case_001.nii.gz"]
    with pytest.raises(InputError, match="has names of other cases"):
        predict(run, tmp_path / "scans", tmp_path / "else" / ".." / "out", anonymous=True)
    (tmp_path / "scans" / "bert" / "ann").mkdir()
    (tmp_path / "scans" / "anna" / "SE1").rename(tmp_path / "scans" / "bert" / "SE2")
    paths = predict(run, tmp_path / "scans" / "bert", out, anonymous=True, resume=True)
    with (tmp_path / "out_names.csv").open() as stream:
        key = {row["case"]: Path(row["image"]).name for row in csv.DictReader(stream)}
    assert key == {"case_001": "SE1", "case_002": "SE2"}, "the first keeps its number"
    np.testing.assert_array_equal(read(out / "case_001.nii.gz"), scans["bert"])
    np.testing.assert_array_equal(read(out / "case_002.nii.gz"), scans["anna"])
    assert set(json.loads((out / "dataset.json").read_text())["parts"]) == {"case_001", "case_002"}
    content = everything_in(out)
    for value in (*PRIVATE.values(), "anna", "bert"):
        assert value.encode() not in content
    data = pydicom.dcmread(out / "case_002.dcm")
    assert data.PatientIdentityRemoved == "YES"
    assert place_back(data, (SHAPE, _affine(tmp_path / "scans" / "bert" / "SE2")))


def _affine(path: Path) -> np.ndarray:
    from medcontext.data.nifti import read_header

    return read_header(path).affine


def test_headers_that_allow_no_dicom_segmentation_do_not_hinder_the_other(
    run: Run, scans: dict, tmp_path: Path, monkeypatch
) -> None:
    import medcontext.inference.predict as module

    def refuse(path: Path, *arguments) -> None:
        if path.name == "anna.dcm":
            raise InputError("The DICOM segmentation cannot be made.")
        write_segmentation(path, *arguments)

    monkeypatch.setattr(module, "write_segmentation", refuse)
    with pytest.raises(InputError, match="1 of 2 cases could not be predicted: case 'anna': The DICOM segmentation"):
        predict(run, tmp_path / "scans", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").glob("*.*") if path.stem[:4] in ("anna", "bert")} == {
        "anna.nii.gz",
        "bert.nii.gz",
        "bert.dcm",
    }


def test_without_the_packages_the_extra_is_named_before_anything_is_predicted(
    run: Run, scans: dict, tmp_path: Path, monkeypatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(InputError, match=r"medcontext\[dicom\]"):
        predict(run, tmp_path / "scans", tmp_path / "out")
    assert not (tmp_path / "out").exists()
