"""Which cases of a data set are predicted."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medcontext.data.nifti import image_digest
from medcontext.data.splits import Split
from medcontext.errors import InputError
from medcontext.inference.selection import find_cases
from medcontext.run import Run
from tests.inference.runs import make_run, save


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set with cases a to e and the unlabelled u."""
    volume = np.ones((3, 4, 5), np.uint8)
    for name in "abcde":
        save(tmp_path / f"data/images/{name}.nii.gz", volume)
        save(tmp_path / f"data/labels/{name}.nii.gz", volume)
    save(tmp_path / "data/images/u.nii.gz", volume)
    manifest = {
        "channels": ["MR"],
        "labels": {"background": 0, "liver": 200},
        "cases": [{"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"} for name in "abcde"],
        "test": ["images/u.nii.gz"],
    }
    (tmp_path / "data/dataset.json").write_text(json.dumps(manifest))
    return tmp_path / "data"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "run", split=Split(("a",), ("b",), ("c", "d")))


def names(*arguments) -> str:  # type: ignore[no-untyped-def]
    return "".join(case.name for case in find_cases(*arguments).cases)


def test_parts(data: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert names(data, [run]) == "cd"
    assert "test cases, 2 of 6\n" in capsys.readouterr().out
    assert names(data, [run], "test") == "cd"
    assert names(data, [run], "train") == "a"
    assert names(data, [run], "validation") == "b"
    assert names(data / "dataset.json", [run]) == "cd"
    capsys.readouterr()
    assert names(data, [run], "all") == "abcdeu"
    assert "all cases, 6 of 6; 2 of them were used in training" in capsys.readouterr().out


def test_without_test_cases_all_are_taken(data: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "other", split=Split(("x",), (), ("y",)))
    assert names(data, [run]) == "abcdeu"
    with pytest.raises(InputError, match=r"no case that is a test case of .*other; see split\.json there, or .*all"):
        find_cases(data, [run], "test")


def test_no_case_that_one_of_several_runs_has_seen(data: Path, run: Run, tmp_path: Path) -> None:
    """Folds: what one tests on, another was trained on."""
    second = make_run(tmp_path / "second", split=Split(("a", "c"), (), ("d", "e")))
    third = make_run(tmp_path / "third", split=Split(("c", "d"), (), ("a",)))
    assert names(data, [run, second]) == "d"
    with pytest.raises(InputError, match="test case in common of"):
        find_cases(data, [run, third])


def test_files_and_folders(data: Path, run: Run) -> None:
    assert names(data / "images", [run]) == "abcdeu"
    assert names(data / "images/a.nii.gz", [run]) == "a"
    with pytest.raises(InputError, match="--part test needs a data set"):
        find_cases(data / "images", [run], "test")
    with pytest.raises(InputError, match="not found"):
        find_cases(data / "nowhere", [run])
    with pytest.raises(InputError, match="not found"):
        find_cases(data / "nowhere.json", [run])


@pytest.mark.parametrize("channels", [["CT"], ["MR", "CT"]])
def test_a_data_set_with_other_channels_is_refused(channels: list[str], data: Path, run: Run) -> None:
    manifest = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps(manifest | {"channels": channels}))
    with pytest.raises(InputError, match=r"has the channels .*CT, the run was trained on MR"):
        find_cases(data, [run])


def test_the_order_of_channels_counts_and_their_case_does_not(data: Path, tmp_path: Path) -> None:
    manifest = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps(manifest | {"channels": ["Flair", "t1"]}))
    run = make_run(tmp_path / "run", channels=("FLAIR", "T1"))
    swapped = make_run(tmp_path / "swapped", channels=("T1", "FLAIR"))
    assert names(data, [run]) == "abcdeu"
    with pytest.raises(InputError, match="Flair, t1, the run was trained on T1, FLAIR"):
        find_cases(data, [swapped])


def test_data_sets_without_a_json_file_have_parts_too(tmp_path: Path) -> None:
    volume = np.ones((3, 4, 5), np.uint8)
    for stem in ("patient001/patient001_frame01", "patient002/patient002_frame01"):
        for ending in ("", "_gt"):
            save(tmp_path / f"acdc/{stem}{ending}.nii.gz", volume)
    run = make_run(tmp_path / "run", split=Split(("patient001_frame01",), (), ("patient002_frame01",)))
    run = replace(run, plan=replace(run.plan, channels=("MR cine",)))
    assert names(tmp_path / "acdc", [run]) == "patient002_frame01"
    assert names(tmp_path / "acdc", [run], "train") == "patient001_frame01"


def test_other_scans_under_the_same_names_are_not_taken_for_the_runs_own(
    data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    own = image_digest(np.ones((1, 3, 4, 5), np.float32))
    same = replace(run, facts=replace(run.facts, cases={"a": (own, ""), "b": (own, "")}))
    assert names(data, [same]) == "cd"
    other = replace(run, facts=replace(run.facts, cases={"a": ("1", ""), "b": ("2", "")}))
    capsys.readouterr()
    assert names(data, [other]) == "abcdeu"
    shown = capsys.readouterr().out
    assert "all cases, 6 of 6; they are other scans than those of the training, under the same names" in shown
    assert "were used in training" not in shown
    for part in ("train", "validation", "test"):
        with pytest.raises(InputError, match=r"has other scans than .*run was trained on.*Use --part all"):
            find_cases(data, [other], part)  # type: ignore[arg-type]
    mixed = replace(run, facts=replace(run.facts, cases={"a": (own, ""), "b": ("2", "")}))
    with pytest.raises(InputError, match="the scan a of the training, but another one under the name b"):
        find_cases(data, [mixed])


def test_what_is_skipped_of_a_data_set_is_said(data: Path, run: Run) -> None:
    assert find_cases(data, [run]).skipped == (
        "Not predicted: 4 cases that are not among the test cases, a, b, e, u. --part all takes all."
    )
    assert find_cases(data, [run], "all").skipped == ""


def test_a_data_set_with_none_of_the_scans_of_the_training_is_predicted_whole(
    data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its names may be those of test cases: of these a run records no content."""
    trained = replace(run, facts=replace(run.facts, cases={"x": ("1", ""), "y": ("2", "")}))
    assert names(data, [trained]) == "abcdeu"
    assert "all cases, 6 of 6; no scan of the training is among them\n" in capsys.readouterr().out
    assert find_cases(data, [trained]).tested == frozenset()


def test_lists(data: Path, run: Run) -> None:
    images = data / "images"
    assert names([images / "a.nii.gz", images / "c.nii.gz"], [run]) == "ac"
    assert names([images / "[ab]*"], [run]) == "ab"
    (data / "some.json").write_text('["images/b.nii.gz", "images/u.nii.gz"]')
    assert names(data / "some.json", [run]) == "bu"
    (data / "some.json").write_text('[{"name": "x", "image": "images/b.nii.gz"}, ["images/u.nii.gz"]]')
    assert names(data / "some.json", [run]) == "xu"
    for content, message in (
        ("[]", "empty list"),
        ('["images/none.nii.gz"]', "not found"),
        ('[{"image": "images/none.nii.gz"}]', "not found"),
        ("[3]", r"some\.json, \[0\]"),
    ):
        (data / "some.json").write_text(content)
        with pytest.raises(InputError, match=message):
            find_cases(data / "some.json", [run])
    with pytest.raises(InputError, match="give it alone"):
        find_cases([data, images / "a.nii.gz"], [run])
    with pytest.raises(InputError, match="--image is for files and folders"):
        find_cases(data, [run], "auto", ["a.nii.gz"])


def test_a_damaged_training_scan_does_not_stop_a_prediction(data: Path, run: Run) -> None:
    own = image_digest(np.ones((1, 3, 4, 5), np.float32))
    (data / "images/a.nii.gz").write_bytes(b"")
    assert names(data, [replace(run, facts=replace(run.facts, cases={"a": ("1", ""), "b": (own, "")}))]) == "cd"
