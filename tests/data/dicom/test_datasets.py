"""DICOM series as images of a data set: every command reads data sets by way of these functions."""

import json
from pathlib import Path

import numpy as np
import pytest

from medcontext.data.check import check_dataset
from medcontext.data.formats import read_dataset
from medcontext.data.nifti import image_digest, read_header, read_image
from medcontext.data.nifti_write import write_label
from medcontext.data.plan import PrepareSettings
from medcontext.data.planning import make_plan
from medcontext.data.prepare import prepare_dataset, prepared_folder
from tests.dicom import CORONAL, datasets, voxels, write


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Two cases with labels, one without: folders, and a file of a series beside another."""
    cases = []
    for name, orientation in (("one", (1, 0, 0, 0, 1, 0)), ("two", CORONAL)):
        image = write(tmp_path / "dicom" / name, datasets(voxels(len(cases)), orientation=orientation))
        label = np.zeros((20, 16, 8), np.uint8)
        label[4:12, 5:9, 2:5] = 1
        write_label(tmp_path / f"{name}.nii.gz", label, read_header(image).affine)
        cases.append({"image": f"dicom/{name}", "label": f"{name}.nii.gz"})
    for number in (3, 4):
        write(tmp_path / "dicom" / "mixed", datasets(voxels(number), number=number), name=f"s{number}_{{}}.dcm")
    described = {"channels": ["CT"], "labels": {"background": 0, "liver": 1}, "cases": cases}
    file = tmp_path / "dataset.json"
    file.write_text(json.dumps(described | {"unlabelled": ["dicom/mixed/s4_0.dcm"]}))
    return file


def test_a_data_set_of_dicom_series_is_checked_and_prepared(manifest: Path, tmp_path: Path) -> None:
    dataset = read_dataset(manifest)
    assert [case.name for case in (*dataset.cases, *dataset.unlabelled)] == ["one", "two", "s4_0"]
    report = check_dataset(manifest)
    assert [problem for problem in report.problems if problem.level == "error"] == []
    assert [case.shape for case in report.cases] == [(20, 16, 8)] * 3
    assert report.cases[0].spacing == pytest.approx((0.7, 0.9, 2.5))
    assert [case.orientation for case in report.cases] == ["LPS", "LIP", "LPS"]
    plan = make_plan(dataset, dataset.cases, PrepareSettings(), 1)
    store = prepare_dataset(dataset, ["one", "two"], plan, tmp_path / "cache")
    image, _ = read_image(dataset.cases[0], dataset.channels)
    assert store.case("one").digest == image_digest(image)
    assert prepared_folder(dataset.cases[0], store.root)
    (tmp_path / "dicom" / "one" / "IM0000").touch()
    assert not prepared_folder(dataset.cases[0], store.root)


def test_a_label_on_another_grid_is_refused(manifest: Path, tmp_path: Path) -> None:
    affine = read_header(tmp_path / "dicom" / "one").affine @ np.diag([1, -1, 1, 1])
    write_label(tmp_path / "one.nii.gz", np.ones((20, 16, 8), np.uint8), affine)
    errors = [problem.message for problem in check_dataset(manifest).problems if problem.level == "error"]
    assert len(errors) == 1
    assert "Different affines" in errors[0]
