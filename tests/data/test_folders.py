"""Which files of a folder make up a case."""

import os
from pathlib import Path

import pytest

from medcontext.data.folders import find_images, nifti_files, passed_over, passed_over_text
from medcontext.errors import InputError


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def found(path: Path, channels: int) -> dict[str, list[str]]:
    cases = find_images(path, channels)
    assert all(case.label is None for case in cases)
    return {case.name: [image.name for image in case.images] for case in cases}


def refused(path: Path, channels: int = 1) -> str:
    with pytest.raises(InputError) as error:
        find_images(path, channels)
    return str(error.value)


def test_each_file_is_a_case(tmp_path: Path) -> None:
    touch(tmp_path, "b.nii.gz", "a.nii", "._a.nii", ".tmp-1-c.nii.gz", "notes.txt")
    assert found(tmp_path, 1) == {"a": ["a.nii"], "b": ["b.nii.gz"]}


def test_4d_files_are_cases_too(tmp_path: Path) -> None:
    touch(tmp_path, "BRATS_001.nii.gz", "BRATS_002.nii.gz")
    assert found(tmp_path, 4) == {"BRATS_001": ["BRATS_001.nii.gz"], "BRATS_002": ["BRATS_002.nii.gz"]}


def test_channel_files_are_grouped_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b_0001.nii.gz", "b_0000.nii.gz", "a_0000.nii.gz", "a_0001.nii.gz")
    assert found(tmp_path, 2) == {
        "a": ["a_0000.nii.gz", "a_0001.nii.gz"],
        "b": ["b_0000.nii.gz", "b_0001.nii.gz"],
    }


def test_the_only_channel_s_number_is_dropped_if_every_file_has_it(tmp_path: Path) -> None:
    touch(tmp_path, "a_0000.nii.gz", "b_0000.nii.gz")
    assert list(found(tmp_path, 1)) == ["a", "b"]
    touch(tmp_path, "c.nii.gz")
    assert list(found(tmp_path, 1)) == ["a_0000", "b_0000", "c"]


def test_four_digit_case_numbers_are_no_channels(tmp_path: Path) -> None:
    touch(tmp_path, "scan_0000.nii.gz", "scan_0001.nii.gz", "scan_0483.nii.gz")
    assert list(found(tmp_path, 1)) == ["scan_0000", "scan_0001", "scan_0483"]


def test_one_file(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz", "bb_0000.nii.gz", "b.nii.gz")
    assert found(tmp_path / "a.nii.gz", 1) == {"a": ["a.nii.gz"]}
    assert found(tmp_path / "a.nii.gz", 2) == {"a": ["a.nii.gz"]}  # 4D
    assert found(tmp_path / "b_0000.nii.gz", 1) == {"b": ["b_0000.nii.gz"]}
    assert found(tmp_path / "b_0000.nii.gz", 2) == {"b": ["b_0000.nii.gz", "b_0001.nii.gz"]}


def test_incomplete_channels_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "a_0000.nii.gz", "a_0001.nii.gz", "b_0001.nii.gz")
    message = refused(tmp_path, 2)
    assert "case 'b' has the channel files _0001, but _0000, _0001 are expected" in message
    assert "'a'" not in message


def test_nothing_found(tmp_path: Path) -> None:
    assert "Input not found" in refused(tmp_path / "none")
    touch(tmp_path, "notes.txt")
    assert "not a NIfTI file" in refused(tmp_path / "notes.txt")
    touch(tmp_path / "imagesTs")
    message = refused(tmp_path)
    assert "No NIfTI files (.nii.gz, .nii)" in message
    assert "It has the folders imagesTs; give one of them" in message


def test_the_same_name_twice(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii", "a.nii.gz")
    assert "a.nii and a.nii.gz have the same name" in refused(tmp_path)
    touch(tmp_path / "sub", "a_0000.nii", "a_0000.nii.gz")
    assert "the same channel of one case" in refused(tmp_path / "sub")


def test_endings_in_capitals_are_cases_too(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz", "b.NII.GZ", "c.NII", "d.Nii")
    assert found(tmp_path, 1) == {"a": ["a.nii.gz"], "b": ["b.NII.GZ"], "c": ["c.NII"]}
    assert passed_over(tmp_path) == ["d.Nii"]
    touch(tmp_path, "a.NII")
    assert "a.NII and a.nii.gz have the same name" in refused(tmp_path)


def test_the_same_name_with_accents_written_in_two_ways_is_one(tmp_path: Path) -> None:
    touch(tmp_path, "Mu\u0308ller.nii.gz", "M\u00fcller.nii.gz")
    assert "have the same name" in refused(tmp_path)


def test_what_may_be_a_scan_and_is_not_read_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz", "b.NII.GZ", "notes.txt", ".hidden")
    touch(tmp_path, "c.mha", "d.hdr", "d.img", "e.nii.gz.part", "IM0001")
    touch(tmp_path / "series", "1.dcm")
    touch(tmp_path / "logs", "x.log")
    others = ["IM0001", "c.mha", "d.hdr", "d.img", "e.nii.gz.part", "series/"]
    assert passed_over(tmp_path) == others
    assert passed_over(tmp_path, [tmp_path / "b.NII.GZ"]) == sorted([*others, "a.nii.gz"])
    assert passed_over(tmp_path / "none") == []
    text = passed_over_text(tmp_path, others)
    assert text.startswith(f"passed over in {tmp_path}, where .nii.gz and .nii files are read: IM0001, c.mha, d.hdr")


def test_where_only_other_formats_are_they_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "c.mha", "d.nrrd", "notes.txt")
    assert "It has c.mha, d.nrrd; convert scans to NIfTI first" in refused(tmp_path)


def test_a_file_name_that_is_not_utf8_is_refused_before_the_work(tmp_path: Path) -> None:
    """As from a disk of the nineties: os.listdir gives its bytes as lone surrogates, which no table can hold."""
    (tmp_path / "scan_1.nii.gz").touch()
    (tmp_path / os.fsdecode(b"m\xfcnster_1.nii.gz")).touch()
    with pytest.raises(InputError, match=r"m\\udcfcnster_1\.nii\.gz is not UTF-8"):
        nifti_files(tmp_path)
