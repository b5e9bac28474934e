"""What is doubtful in headers is said once for all files."""

from pathlib import Path

import nibabel as nib
import numpy as np

from medcontext.data.doubts import data_doubts, header_doubts
from medcontext.data.formats import read_dataset
from tests.conftest import write_blobs


def bare(path: Path) -> Path:
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5), np.uint8), None), path)
    return path


def test_many_files_with_one_doubt_are_one_sentence(tmp_path: Path) -> None:
    files = [bare(tmp_path / f"{number}.nii.gz") for number in range(8)]
    (tmp_path / "cut.nii.gz").write_bytes(b"cut")
    found = header_doubts([*files, tmp_path / "cut.nii.gz"])
    assert len(found) == 1
    assert "no orientation in the header" in found[0]
    assert f"{files[0]} (taken as LAS)" in found[0]
    assert found[0].endswith(f"{files[4]} (taken as LAS) and 3 more.")
    assert header_doubts([]) == []


def test_of_a_data_set_the_named_cases_count(tmp_path: Path) -> None:
    dataset = read_dataset(write_blobs(tmp_path / "data", cases=3))
    label = dataset.cases[1].label
    assert label is not None
    bare(label)
    assert data_doubts(dataset, ["ball_0", "ball_2"]) == []
    assert str(label) in data_doubts(dataset, ["ball_1"])[0]
    assert str(label) in data_doubts(dataset, [], [dataset])[0]
