"""`medcontext init` on folders of DICOM series with labels in NIfTI files."""

import json
from pathlib import Path

import numpy as np
import pytest

from medcontext.commands.init import init
from medcontext.data.formats import read_dataset
from medcontext.data.nifti import read_header, read_image
from medcontext.data.nifti_write import write_label
from tests.dicom import SECONDARY, datasets, voxels, write


def case(series: Path, label: Path, seed: int) -> None:
    write(series, datasets(voxels(seed)))
    values = np.zeros((20, 16, 8), np.uint8)
    values[3:9, 4:8, 2:5] = 1
    label.parent.mkdir(parents=True, exist_ok=True)
    write_label(label, values, read_header(series).affine)


LAYOUTS = {
    "folders of images and of labels": ("dicom/{}", "labels/{}.nii.gz"),
    "a folder for each patient": ("{}/DICOM", "{}/seg.nii.gz"),
    "a label beside the files of a series": ("{}", "{}/seg.nii.gz"),
    "deep, as exported": ("{}/ST0/SE1", "{}/seg.nii.gz"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_series_and_labels_are_put_together(layout: str, tmp_path: Path, capsys) -> None:
    image, label = LAYOUTS[layout]
    for seed, name in enumerate(("pat_1", "pat_2", "pat_3")):
        case(tmp_path / image.format(name), tmp_path / label.format(name), seed)
    write(tmp_path / image.format("pat_2"), datasets(voxels(), kind=SECONDARY)[:1], name="capture{}")
    dataset = read_dataset(init(tmp_path, workers=1))
    assert dataset.channels == ("CT",)
    assert [each.name for each in dataset.cases] == ["pat_1", "pat_2", "pat_3"]
    for seed, each in enumerate(dataset.cases):
        stored, _ = read_image(each, dataset.channels)
        np.testing.assert_array_equal(stored[0], voxels(seed).astype(np.float32) - 1024)
        assert each.label == tmp_path / label.format(each.name)
    assert "Secondary Capture Image (DICOM, 1)" in " ".join(capsys.readouterr().out.split())


def test_series_without_a_label_are_listed_as_such(tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        case(tmp_path / "dicom" / name, tmp_path / "labels" / f"{name}.nii.gz", seed)
    write(tmp_path / "dicom" / "c", datasets(voxels(5)))
    described = json.loads(init(tmp_path, workers=1).read_text())
    assert described["unlabelled"] == ["dicom/c"] or described["unlabelled"] == [{"name": "c", "image": "dicom/c"}]
