"""Which DICOM series are cases, what they are called, and what is said of the rest; never a wrong one in silence."""

from pathlib import Path

import numpy as np
import pytest

from medcontext.data.corpus import find_corpus
from medcontext.data.discovery.scans import find_scans
from medcontext.data.formats import read_dataset
from medcontext.data.nifti import read_image
from medcontext.data.unlabelled import find_unlabelled
from medcontext.errors import InputError
from medcontext.run import Inputs
from tests.data.scans import save
from tests.dicom import CORONAL, MR, PET, SECONDARY, change, datasets, pydicom, voxels, write


def named(folder: Path, channels=("CT",), **more) -> dict[str, tuple[Path, ...]]:
    return {case.name: case.images for case in find_scans([folder], channels, **more).cases}


def refused(*paths: Path, channels=("CT",), **more) -> str:
    with pytest.raises(InputError) as error:
        find_scans(list(paths), channels, **more)
    return str(error.value)


def scout(study: str) -> list:
    def localizer(data, index: int) -> None:
        data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    return list(change(datasets(voxels(9), orientation=CORONAL, study=study, number=1)[:2], localizer))


def test_each_study_is_a_case_and_what_is_left_out_is_said_once(tmp_path: Path) -> None:
    """As a CD holds it: a folder for each patient, in it studies and series, and what is no volume."""
    for patient in ("Pat 01", "Pat 02"):
        slices = datasets(voxels(), number=3)
        study, top = slices[0].StudyInstanceUID, tmp_path / "cd" / "DICOM" / patient / "ST0"
        write(top / "SE1", slices)
        write(top / "SE0", scout(study))
        write(top / "SE2", datasets(voxels(), kind=SECONDARY, study=study, number=99)[:1])
    found = find_scans([tmp_path / "cd"], ("CT",))
    assert [case.name for case in found.cases] == ["Pat 01", "Pat 02"]
    assert [case.images for case in found.cases] == [
        (tmp_path / "cd/DICOM" / patient / "ST0/SE1",) for patient in ("Pat 01", "Pat 02")
    ]
    (remark,) = found.remarks
    assert "Secondary Capture Image (2), localizer (4)" in remark
    assert all(case.label is None for case in found.cases)


def test_folders_of_patients_whom_an_anonymiser_gave_one_uid_are_all_taken_once(tmp_path: Path) -> None:
    slices = datasets(voxels(), number=3)
    write(tmp_path / "a", slices)
    write(tmp_path / "b", slices)
    found = find_scans([tmp_path / "a", tmp_path / "b", tmp_path / "a"], ("CT",))
    assert [case.images for case in found.cases] == [(tmp_path / "a",), (tmp_path / "b",)]


def test_a_series_of_another_modality_is_left_out(tmp_path: Path) -> None:
    slices = datasets(voxels(), number=3)
    write(tmp_path / "p/ct", slices)
    write(tmp_path / "p/pet", datasets(voxels(), kind=PET, number=4, study=slices[0].StudyInstanceUID))
    found = find_scans([tmp_path / "p"], ("CT",))
    assert [case.images for case in found.cases] == [(tmp_path / "p/ct",)]
    assert "series 4 'Abdomen' (PT, 8 slices" in found.remarks[0]
    assert "has no series of the modality MR" in refused(tmp_path / "p", channels=("T1",))
    assert "has 2 DICOM series" in refused(tmp_path / "p", channels=("image",))


def test_of_several_series_a_person_says_which(tmp_path: Path) -> None:
    first = datasets(voxels(1), number=3, description="Abdomen arterial")
    study = first[0].StudyInstanceUID
    write(tmp_path / "p", first, name="a{}")
    second = datasets(voxels(2), number=4, description="Abdomen venous", study=study)
    write(tmp_path / "p", second, name="b{}")
    message = refused(tmp_path / "p")
    assert "series 3 'Abdomen arterial' (CT, 8 slices, 0.7x0.9x2.5 mm)" in message
    assert "series 4 'Abdomen venous'" in message
    assert "--series" in message
    for word in ("4", "*Venous", second[0].SeriesInstanceUID):
        (case,) = find_scans([tmp_path / "p"], ("CT",), series=[word]).cases
        assert case.name == "p"
        np.testing.assert_array_equal(read_image(case, ("CT",))[0][0], voxels(2).astype(np.float32) - 1024)
    (remark,) = find_scans([tmp_path / "p"], ("CT",), series=["4"]).remarks
    assert "series 3 'Abdomen arterial'" in remark
    assert sorted(named(tmp_path / "p", series=["Abdomen*"])) == ["p_series3", "p_series4"]
    assert "No DICOM series fits --series 7" in refused(tmp_path / "p", series=["7"])
    (alone,) = find_scans([tmp_path / "p" / "b3"], ("CT",)).cases
    assert alone.images == (tmp_path / "p" / "b3",)


def test_a_flat_folder_of_several_patients(tmp_path: Path) -> None:
    for letter in "ab":
        write(tmp_path / "p", datasets(voxels()), name=letter + "{}")
    assert named(tmp_path / "p") == {f"p_{letter}0": (tmp_path / "p" / f"{letter}0",) for letter in "ab"}


def test_names_join_the_folders_that_differ(tmp_path: Path) -> None:
    for place in ("A/1", "A/2", "B/1"):
        write(tmp_path / place / "s", datasets(voxels()))
    assert sorted(named(tmp_path)) == ["A_1_s", "A_2_s", "B_1_s"]
    assert list(named(tmp_path / "A" / "1")) == ["1"]


def test_channels_are_series_that_a_person_names(tmp_path: Path) -> None:
    for patient in "ab":
        study = pydicom.uid.generate_uid()
        for number, word in enumerate(("t1 mprage", "t2 flair"), start=1):
            slices = datasets(voxels(number), kind=MR, study=study, number=number, description=word)
            write(tmp_path / patient / word, slices)
    found = find_scans([tmp_path], ("FLAIR", "T1"), series=["*flair*", "*mprage*"])
    assert [(case.name, [image.name for image in case.images]) for case in found.cases] == [
        ("a", ["t2 flair", "t1 mprage"]),
        ("b", ["t2 flair", "t1 mprage"]),
    ]
    assert read_image(found.cases[0], ("FLAIR", "T1"))[0].shape == (2, 20, 16, 8)
    assert "say by --series which is which" in refused(tmp_path, channels=("FLAIR", "T1"))
    assert "has 1 entries for 2 channels" in refused(tmp_path, channels=("FLAIR", "T1"), series=["*"])
    assert "fits 2 series, and one is needed" in refused(tmp_path, channels=("FLAIR", "T1"), series=["*", "2"])


def test_a_series_in_several_folders(tmp_path: Path) -> None:
    slices = datasets(voxels())
    write(tmp_path / "p/1", slices[:5])
    write(tmp_path / "p/2", slices[5:])
    assert named(tmp_path) == {tmp_path.name: (tmp_path / "p",)}
    write(tmp_path / "p/2", datasets(voxels()), name="other{}")
    assert "lies in 2 folders, with other series" in refused(tmp_path)


def test_a_damaged_file_concerns_its_own_series_alone(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name, datasets(voxels()))
    file = tmp_path / "b" / "IM0003"
    whole = file.read_bytes()
    file.write_bytes(whole[:700])
    first, second = find_scans([tmp_path], ("CT",)).cases
    assert read_image(first, ("CT",))[0].shape == (1, 20, 16, 8)
    with pytest.raises(InputError, match="IM0003 is truncated or damaged"):
        read_image(second, ("CT",))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "IM0000").write_bytes(whole[:700])
    assert "c/IM0000 is truncated" in refused(tmp_path)


def test_dicom_and_nifti(tmp_path: Path) -> None:
    write(tmp_path / "p/dicom", datasets(voxels()))
    save(tmp_path / "p/seg.nii.gz", np.ones((4, 4, 4), np.uint8))
    assert named(tmp_path / "p") == {"p": (tmp_path / "p/dicom",)}, "labels are no scans"
    save(tmp_path / "p/scan.nii.gz", np.ones((4, 4, 4), np.float32))
    assert "Say which are meant" in refused(tmp_path / "p")
    assert list(named(tmp_path / "p", series=["*"])) == ["p"]
    assert list(named(tmp_path / "p", image=["scan.nii.gz"])) == ["scan"]
    save(tmp_path / "q/scan.nii.gz", np.ones((4, 4, 4), np.float32))
    assert "holds none" in refused(tmp_path / "q", series=["3"])
    (tmp_path / "r").mkdir()
    write(tmp_path / "r", datasets(voxels(), kind=SECONDARY))
    assert "no DICOM series that is a volume" in refused(tmp_path / "r")


def test_wildcards_mean_folders_and_files_of_series(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name / "ct", datasets(voxels()), name="IM{}.dcm")
    assert sorted(named(tmp_path / "*" / "ct")) == ["a", "b"]
    assert sorted(named(tmp_path / "*" / "ct" / "*.dcm")) == ["a", "b"], "each file stands for its whole series"


def test_sources_of_scans_without_labels(tmp_path: Path, balls: Path) -> None:
    for name, number in (("dicom", 3), ("dicom", 4)):
        write(tmp_path / name, datasets(voxels(number), kind=MR, number=number, study="1.2.3"), name=f"{number}_{{}}")
    save(tmp_path / "nifti/a.nii.gz", np.ones((4, 4, 4), np.float32))
    sources = [str(tmp_path / name) for name in ("dicom", "nifti")]
    dataset = read_dataset(balls)
    with pytest.raises(InputError, match="has 2 DICOM series"):
        find_unlabelled(sources, dataset, ())
    for found in (find_unlabelled(sources, dataset, (), ("3",)), find_corpus(sources, ("MRI",), series=("3",))):
        assert [[case.name for case in each.dataset.cases] for each in found] == [["dicom"], ["a"]]
        assert "series 4 'Abdomen'" in found[0].passed
    with pytest.raises(InputError, match="--series is for folders of DICOM"):
        find_unlabelled(sources[1:], dataset, (), ("3",))
    (hounsfield,) = find_corpus([str(write(tmp_path / "ct", datasets(voxels())))])
    assert hounsfield.dataset.channels == ("CT",)


def test_inputs_of_a_run_keep_the_series(tmp_path: Path) -> None:
    Inputs("data", ("scans",), series=("*venous*", "4")).write(tmp_path)
    assert Inputs.read(tmp_path).series == ("*venous*", "4")
