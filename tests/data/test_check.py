"""Every problem of a data set is found, at once, and said in words that help."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medcontext.data.check import CaseReport, Report, check_case, check_dataset
from medcontext.data.formats import read_dataset
from medcontext.data.plan import PrepareSettings
from medcontext.data.planning import make_plan
from medcontext.data.prepare import prepare_dataset
from medcontext.errors import InputError
from tests.data.scans import affine_of, save

SHAPE = (6, 7, 8)
LPS = affine_of("LPS", (0.5, 0.5, 4.0))


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, SHAPE).astype(np.float32)


def label(*values: int, dtype: Any = np.int16) -> np.ndarray:
    """Background, and ten voxels of each value."""
    array = np.zeros(SHAPE, dtype)
    for plane, value in enumerate(values):
        array[plane, :2, :5] = value
    return array


class Folder:
    """A data set to be written case by case."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.entries: list[dict[str, Any]] = []

    def add(
        self,
        name: str,
        image: np.ndarray,
        label: np.ndarray,
        affine: np.ndarray = LPS,
        label_affine: np.ndarray | None = None,
    ) -> None:
        save(self.root / f"i/{name}.nii.gz", image, affine)
        save(self.root / f"l/{name}.nii.gz", label, affine if label_affine is None else label_affine)
        self.entries.append({"image": f"i/{name}.nii.gz", "label": f"l/{name}.nii.gz"})

    def check(self, workers: int = 1, **manifest: Any) -> Report:
        content = {"channels": ["CT"], "labels": {"liver": 200, "spleen": 500}, "cases": self.entries, **manifest}
        self.root.mkdir(exist_ok=True)
        (self.root / "dataset.json").write_text(json.dumps(content))
        return check_dataset(self.root, workers=workers)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """With two sound cases."""
    folder = Folder(tmp_path)
    folder.add("a", image(0), label(200, 500))
    folder.add("b", image(1), label(200))
    return folder


def said(report: Report, level: str) -> list[str]:
    """`case: message (detail)` of each problem of a level."""
    return [f"{p.case}: {p.message} ({p.detail})" for p in report.problems if p.level == level]


def test_a_sound_data_set_has_no_problems_and_true_figures(folder: Folder) -> None:
    report = folder.check()
    assert report.problems == ()
    report.raise_errors()
    a, b = report.cases
    assert a.shape == SHAPE
    assert a.spacing == (0.5, 0.5, 4.0)
    assert a.orientation == "LPS"
    np.testing.assert_allclose(a.intensity, [(image(0).min(), image(0).max())])
    assert a.voxels == {0: 6 * 7 * 8 - 20, 200: 10, 500: 10}
    assert a.volume(200) == pytest.approx(10 * 0.5 * 0.5 * 4 / 1000)
    assert b.volume(500) == 0


def test_volumes_in_a_sheared_grid_are_those_of_its_cells(folder: Folder) -> None:
    sheared = np.array([[1.0, 0.8, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    folder.add("c", image(2), label(200), sheared)
    assert folder.check().cases[2].volume(200) == pytest.approx(0.01)


def test_every_problem_is_found_in_one_go(folder: Folder) -> None:
    spoilt = image(3)
    spoilt[1, 2, 3] = np.nan
    folder.add("nan", spoilt, label(200))
    folder.add("undeclared", image(4), label(200, 7, 9))
    folder.add("fraction", image(5), label(200).astype(np.float32) / 400)
    folder.add("negative", image(6), label(-1))
    folder.add("shape", image(7), label(200)[1:])
    folder.add("moved", image(8), label(200), label_affine=affine_of("RAS", (0.5, 0.5, 4.0)))
    folder.add("flat", image(9)[..., 0], label(200))
    folder.add("cut", image(10), label(200))
    cut = folder.root / "i/cut.nii.gz"
    cut.write_bytes(cut.read_bytes()[:-50])
    folder.add("gone", image(11), label(200))
    (folder.root / "l/gone.nii.gz").unlink()
    folder.entries.append(folder.entries[0])
    report = folder.check()
    errors = "\n".join(said(report, "error"))
    for expected in (
        "case 'gone': not found: label",
        "the case 'a' occurs twice",
        "i/nan.nii.gz has 1 NaN or infinite voxels, the first at index (1, 2, 3)",
        "undeclared: values 7, 9 are not declared, in 1 case (declared: 0 background, 200 liver, 500 spleen)",
        '"labels"',
        "(7 in 10 voxels, 9 in 10 voxels)",
        "l/fraction.nii.gz has fractional label values: 0.5 (10 voxels)",
        "l/negative.nii.gz has negative label values: -1 (10 voxels)",
        "Different shapes",
        "Different affines",
        "i/flat.nii.gz is a 2D image",
        "Cannot read " + str(cut),
    ):
        assert expected in errors, expected
    assert len(said(report, "error")) == 10
    assert [case.name for case in report.cases][:3] == ["a", "b", "nan"]
    with pytest.raises(InputError, match="And 9 more; see medcontext check"):
        report.raise_errors()


def test_a_case_with_a_bad_image_and_a_bad_label_has_both_problems(folder: Folder) -> None:
    folder.add("both", np.full(SHAPE, np.inf, np.float32), label(3))
    errors = said(folder.check(), "error")
    assert len(errors) == 2
    assert "NaN or infinite" in errors[0]
    assert "value 3 is not declared" in errors[1]


def test_warnings_do_not_stop_anyone(folder: Folder) -> None:
    folder.add("empty", image(2), label())
    folder.add("constant", np.full(SHAPE, 7, np.float32), label(500))
    folder.add("copy", image(0), label(200))
    report = folder.check(labels={"liver": 200, "spleen": 500, "aorta": 600})
    assert said(report, "error") == []
    warnings = "\n".join(said(report, "warning"))
    assert "empty: the label is empty: there is only background" in warnings
    assert "constant: the image is constant (channel CT)" in warnings
    assert "(all 7)" in warnings
    assert "'aorta' (600) is declared, but in no label" in warnings
    assert "the same image, voxel for voxel: a, copy" in warnings
    assert len(said(report, "warning")) == 4
    report.raise_errors()


def test_no_foreground_anywhere_is_an_error(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.add("a", image(0), label())
    folder.add("b", image(1), label())
    report = folder.check()
    assert "no label has any foreground: there is nothing to learn" in said(report, "error")[0]
    assert not any("declared, but in no label" in text for text in said(report, "warning"))


def test_what_differs_between_cases_is_noted(folder: Folder) -> None:
    folder.add("c", image(2) * 1000, label(200), affine_of("RAS", (0.5, 0.6, 4.0)))
    report = folder.check()
    notes = "\n".join(said(report, "note"))
    assert "orientations differ (LPS 2, RAS 1 cases)" in notes
    assert "voxel sizes differ" in notes
    assert "c: CT is over 20 times brighter or darker than the median scan" in notes
    assert said(report, "error") + said(report, "warning") == []


def test_suspicious_spacings(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.add("a", image(0), label(200, 500), np.diag([-1.0, -1.0, 1.0, 1.0]))
    assert "every voxel size is exactly 1 mm" in said(folder.check(), "note")[0]
    folder.add("b", image(1), label(200), np.diag([0.0005, 0.0005, 0.003, 1.0]))
    report = folder.check()
    assert "voxel sizes outside of 0.02 to 25 mm" in said(report, "warning")[0]
    assert "(0.0005x0.0005x0.003 mm)" in said(report, "warning")[0]


def test_images_without_labels_are_checked_too(folder: Folder) -> None:
    spoilt = image(3)
    spoilt[0] = np.nan
    save(folder.root / "t/z.nii.gz", spoilt, LPS)
    report = folder.check(test=["t/z.nii.gz"])
    assert len(report.cases) == 3
    assert not report.cases[2].labelled
    assert "t/z.nii.gz has 56 NaN" in said(report, "error")[0]


def test_each_channel_has_its_range(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.add("a", np.stack([image(0), np.full(SHAPE, -3, np.float32)], -1), label(200, 500))
    report = folder.check(channels=["T1", "T2"])
    assert report.cases[0].intensity[1] == (-3.0, -3.0)
    assert "(channel T2)" in said(report, "warning")[0]
    assert "2 expected" not in "".join(said(report, "error"))
    assert "holds 2 channels, but 1 expected: T1" in said(folder.check(channels=["T1"]), "error")[0]


def test_very_large_label_values_cost_no_memory(folder: Folder) -> None:
    folder.add("c", image(2), label(2_000_000_000, dtype=np.int32))
    assert "value 2000000000 is not declared, in 1 case" in said(folder.check(), "error")[0]


def test_one_case_alone(folder: Folder) -> None:
    folder.check()
    dataset = read_dataset(folder.root)
    report = check_case(dataset.cases[1], dataset)
    assert isinstance(report, CaseReport)
    assert report.voxels == {0: 6 * 7 * 8 - 10, 200: 10}


@pytest.mark.slow
def test_several_processes_find_the_same(folder: Folder) -> None:
    folder.add("c", image(2), label(3))
    assert folder.check(workers=2) == folder.check(workers=1)


def test_hippocampus_is_sound(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "Task04_Hippocampus"
    manifest = json.loads((root / "dataset.json").read_text())
    entries = [{key: str(root / entry[key]) for key in ("image", "label")} for entry in manifest["training"][:5]]
    (tmp_path / "five.json").write_text(json.dumps({**manifest, "training": entries}))
    report = check_dataset(tmp_path / "five.json")
    report.raise_errors()
    assert [case.orientation for case in report.cases] == ["RAS"] * 5
    assert all(0.5 < case.volume(value) < 4 for case in report.cases for value in (1, 2))


def test_what_headers_leave_open_is_a_warning_once_a_case(folder: Folder) -> None:
    save(folder.root / "i/bare.nii.gz", image(2), LPS)
    for part, array in (("i", image(2)), ("l", label(200))):
        nib.save(nib.Nifti1Image(array, None), folder.root / f"{part}/bare.nii.gz")
    folder.entries.append({"image": "i/bare.nii.gz", "label": "l/bare.nii.gz"})
    report = folder.check()
    (warning,) = said(report, "warning")
    assert "bare: no orientation in the header" in warning
    assert warning.endswith("(taken as LAS)")
    assert report.cases[2].orientation is None
    assert said(report, "error") == []


def test_voxels_in_microns_have_their_volume_in_millilitres(folder: Folder) -> None:
    for part, array in (("i", image(2)), ("l", label(200))):
        file = nib.Nifti1Image(array, np.diag([500.0, 500.0, 4000.0, 1.0]))
        file.header.set_xyzt_units("micron")
        nib.save(file, folder.root / f"{part}/small.nii.gz")
    folder.entries.append({"image": "i/small.nii.gz", "label": "l/small.nii.gz"})
    report = folder.check()
    assert report.cases[2].spacing == pytest.approx((0.5, 0.5, 4.0))
    assert report.cases[2].volume(200) == pytest.approx(10 * 0.5 * 0.5 * 4 / 1000)
    assert "sizes are in microns (xyzt_units): converted to millimetres" in said(report, "warning")[0]


def test_a_doubt_in_the_label_alone_says_so(folder: Folder) -> None:
    nib.save(nib.Nifti1Image(label(200), None), folder.root / "l/b.nii.gz")
    save(folder.root / "i/b.nii.gz", image(1), np.eye(4))
    (warning,) = said(folder.check(), "warning")
    assert warning.endswith("(taken as LAS, the label)")


def test_fill_values_are_found(folder: Folder) -> None:
    filled = image(2)
    filled[:1] = -32768
    folder.add("filled", filled, label(200))
    huge = image(3)
    huge[:2] = 1e20
    folder.add("huge", huge, label(200))
    report = folder.check()
    assert "filled: CT has a fill value far from all others" in said(report, "warning")[0]
    assert "(-32768 in 56 voxels)" in said(report, "warning")[0]
    assert "i/huge.nii.gz has 112 voxels like 1e+20" in said(report, "error")[0]


def test_a_fill_value_is_an_error_where_training_refuses_it(folder: Folder) -> None:
    filled = image(2)
    filled[:1] = -32768
    folder.add("filled", filled, label(200))
    assert said(folder.check(channels=["CT"]), "error") == []
    prepare_as_training_does(folder)
    report = folder.check(channels=["MR"])
    with pytest.raises(InputError, match="Case 'filled': channel MR has the fill value -32768 in 56 voxels"):
        prepare_as_training_does(folder)
    (error,) = said(report, "error")
    assert error.endswith(
        "or clip it with --prepare.intensity_range: as it is, training refuses it (-32768 in 56 voxels)"
    )
    with pytest.raises(InputError, match="case 'filled': MR has a fill value"):
        report.raise_errors()


def prepare_as_training_does(folder: Folder) -> None:
    dataset = read_dataset(folder.root)
    plan = make_plan(dataset, dataset.cases, PrepareSettings())
    prepare_dataset(dataset, [case.name for case in dataset.cases], plan, folder.root / "cache")


def test_what_the_files_leave_open_is_a_warning(folder: Folder) -> None:
    assert '"numTraining": 5, but 2' in said(folder.check(numTraining=5), "warning")[0]
