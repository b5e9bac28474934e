"""Splits: reproducible, without leaks, and refused where they are wrong."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medcontext.data.cases import Case, Dataset, patient
from medcontext.data.split_files import find_split
from medcontext.data.splits import Split, make_split
from medcontext.errors import InputError
from medcontext.files import read_json, write_json


def dataset_of(*names: str) -> Dataset:
    cases = tuple(Case(name, (Path(f"{name}.nii.gz"),), Path(f"l/{name}.nii.gz")) for name in names)
    return Dataset("set", Path(), ("CT",), {"background": 0, "liver": 1}, cases)


FIFTY = dataset_of(*(f"case_{number:02d}" for number in range(50)))


def refused(file: Path | None = None, dataset: Dataset = FIFTY, **arguments: Any) -> str:
    with pytest.raises(InputError) as error:
        make_split(dataset, file=file, **arguments)
    return str(error.value)


def written(folder: Path, content: Any) -> Path:
    file = folder / "split.json"
    file.write_text(json.dumps(content))
    return file


def test_every_case_is_in_one_part() -> None:
    split = make_split(FIFTY)
    assert (len(split.train), len(split.validation), len(split.test)) == (35, 5, 10)
    assert sorted(split.train + split.validation + split.test) == [case.name for case in FIFTY.cases]


def test_the_seed_decides_and_the_order_of_the_cases_does_not() -> None:
    reversed_ = dataset_of(*(case.name for case in reversed(FIFTY.cases)))
    assert make_split(FIFTY, seed=3) == make_split(reversed_, seed=3)
    assert make_split(FIFTY, seed=3) != make_split(FIFTY, seed=4)


def test_a_split_stays_the_same_for_good() -> None:
    # Published numbers refer to seeds: this must never change, on any machine or version.
    assert make_split(FIFTY, few_shot=3) == Split(
        train=("case_22", "case_29", "case_35"),
        validation=("case_11", "case_16", "case_33", "case_39", "case_40"),
        test=(
            "case_04",
            "case_06",
            "case_08",
            "case_18",
            "case_21",
            "case_25",
            "case_26",
            "case_31",
            "case_37",
            "case_49",
        ),
    )


def test_few_shot_leaves_validation_and_test_alone_and_is_nested() -> None:
    whole = make_split(FIFTY, seed=1)
    five, ten = make_split(FIFTY, seed=1, few_shot=5), make_split(FIFTY, seed=1, few_shot=10)
    assert (five.validation, five.test) == (ten.validation, ten.test) == (whole.validation, whole.test)
    assert len(five.train) == 5
    assert set(five.train) < set(ten.train) < set(whole.train)


def test_few_shot_depends_on_the_seed_also_with_a_file(tmp_path: Path) -> None:
    file = written(tmp_path, {"train": [case.name for case in FIFTY.cases]})
    assert make_split(FIFTY, file=file, seed=0, few_shot=5) != make_split(FIFTY, file=file, seed=1, few_shot=5)


@pytest.mark.parametrize("few_shot", [0, 36, -1])
def test_few_shot_that_is_not_there(few_shot: int) -> None:
    message = refused(few_shot=few_shot)
    assert f"few_shot is {few_shot}, but the training part has 35 cases; choose from 1 to 35" in message


def test_a_patients_frames_stay_together() -> None:
    names = [f"patient{number:03d}_frame{frame:02d}" for number in range(30) for frame in (1, 12)]
    split = make_split(dataset_of(*names))
    parts = [{patient(name) for name in part} for part in (split.train, split.validation, split.test)]
    assert [len(part) for part in parts] == [21, 3, 6]
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
    assert len(split.train + split.validation + split.test) == 60


def test_folds_test_every_case_once() -> None:
    tested = [name for fold in range(5) for name in make_split(FIFTY, fold=fold).test]
    assert sorted(tested) == [case.name for case in FIFTY.cases]
    assert "There is no fold 5: test_fraction 0.2 makes 5, 0 to 4" in refused(fold=5)
    assert "There is no fold -1" in refused(fold=-1)


def test_small_sets_and_fractions() -> None:
    three = make_split(dataset_of("a", "b", "c"))
    assert [len(part) for part in (three.train, three.validation, three.test)] == [1, 1, 1]
    assert "has 2 patients with labels: too few" in refused(dataset=dataset_of("a", "b"))
    everything = make_split(dataset_of("a", "b"), validation_fraction=0, test_fraction=0)
    assert everything == Split(("a", "b"), (), ())
    assert "add up to less than 1" in refused(validation_fraction=0.5, test_fraction=0.5)
    assert "add up to less than 1" in refused(test_fraction=-0.1)


@pytest.mark.parametrize("key", ["val", "validation"])
def test_split_file(tmp_path: Path, key: str) -> None:
    file = written(tmp_path, {"train": ["case_03", "case_01"], key: ["case_02"], "test": ["case_04"]})
    assert make_split(FIFTY, file=file) == Split(("case_03", "case_01"), ("case_02",), ("case_04",))
    assert "has 1 fold; there is no fold 1" in refused(file, fold=1)


def test_a_split_written_is_a_split_file(tmp_path: Path) -> None:
    split = make_split(FIFTY, few_shot=5)
    write_json(tmp_path / "split.json", split.to_dict())
    assert make_split(FIFTY, file=tmp_path / "split.json") == split


def test_nnunet_folds(tmp_path: Path) -> None:
    folds = [{"train": ["case_01"], "val": ["case_02"]}, {"train": ["case_02"], "val": ["case_01"]}]
    file = written(tmp_path, folds)
    assert make_split(FIFTY, file=file, fold=1) == Split(("case_02",), ("case_01",), ())
    assert "has 2 folds; there is no fold 2" in refused(file, fold=2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"train": ["case_1"]},
            "names 1 case that the data set does not have with a label: case_1; did you mean 'case_",
        ),
        ({"train": ["xyz", "zyx"]}, "names 2 cases that"),
        ({"train": ["xyz"]}, "the labelled cases are called like 'case_00'"),
        ({"train": ["case_01"], "test": ["case_01"]}, "has 1 case in both train and test: case_01"),
        ({"train": ["case_01"], "val": ["case_01"]}, "has 1 case in both train and validation: case_01"),
        ({"train": ["case_01"], "val": ["case_2"], "test": ["case_2"]}, "in both validation and test"),
        ({"train": ["case_01", "case_01"]}, "names 'case_01' twice in train"),
        ({"train": [], "test": ["case_01"]}, "has no training cases"),
        ({"test": ["case_01"]}, "has no training cases"),
        ({"cases": ["case_01"]}, "is not a split"),
        ({"train": "case_01"}, "is not a split"),
        ({"train": [1]}, "is not a split"),
        (["case_01"], "is not a split"),
        ([], "has 0 folds"),
    ],
)
def test_split_files_that_cannot_be_used(tmp_path: Path, content: Any, message: str) -> None:
    found = refused(written(tmp_path, content))
    assert message in found
    assert "split.json" in found


def test_a_missing_split_file(tmp_path: Path) -> None:
    assert "File not found" in refused(tmp_path / "none.json")


def test_the_packaged_splits_are_the_papers() -> None:
    sizes = {"btcv": (18, 12), "acdc": (160, 40), "brats17": (387, 73)}
    for name, (training, testing) in sizes.items():
        parts = read_json(find_split(name))
        assert (len(set(parts["train"])), len(set(parts["test"]))) == (training, testing)
        assert not set(parts["train"]) & set(parts["test"])
        assert parts["source"]
    for name in ("btcv", "acdc"):
        parts = read_json(find_split(name))
        assert len(parts["few_shot"]["5"]) == 5
        assert set(parts["few_shot"]["5"]) <= set(parts["train"])
    acdc = read_json(find_split("acdc"))
    assert not {patient(case) for case in acdc["train"]} & {patient(case) for case in acdc["test"]}


def btcv_cases(*parts: str) -> list[str]:
    content = read_json(find_split("btcv"))
    return [name for part in parts for name in content[part]]


def test_a_packaged_split_goes_by_its_name() -> None:
    split = make_split(dataset_of(*btcv_cases("train", "test"), "img0061"), file="btcv")
    assert (len(split.train), split.validation, len(split.test)) == (18, (), 12)
    assert make_split(dataset_of(*btcv_cases("train", "test")), file=Path("btcv")) == split


def test_a_file_comes_before_the_packaged_split_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "acdc").mkdir()  # a folder of data is no split file
    assert find_split("acdc").name == "acdc.json"
    (tmp_path / "btcv").write_text(json.dumps({"train": ["case_01"]}))
    assert make_split(FIFTY, file="btcv").train == ("case_01",)


def test_an_unknown_split_is_told_from_a_missing_file(tmp_path: Path) -> None:
    assert "Unknown split 'btvc'; did you mean 'btcv'?" in refused(Path("btvc"))
    assert "File not found: splits/btvc" in refused(Path("splits/btvc"))


def test_a_packaged_split_may_lack_its_whole_test_part(capsys: pytest.CaptureFixture[str]) -> None:
    split = make_split(dataset_of(*btcv_cases("train")), file="btcv")
    assert len(split.test) == 12  # they stay, so that predictions on all of BTCV take them alone
    shown = " ".join(capsys.readouterr().out.split())
    assert "set has none of the 12 test cases of the split btcv with a label" in shown
    make_split(dataset_of(*btcv_cases("train", "test")), file="btcv")
    assert capsys.readouterr().out == ""


def test_a_packaged_split_may_not_lack_single_cases(tmp_path: Path) -> None:
    message = refused(dataset=dataset_of(*btcv_cases("train")[1:]), file=Path("btcv"))
    assert "The split 'btcv' names 1 case that the data set does not have with a label: img0005; add them" in message
    assert "img0038" in refused(dataset=dataset_of(*btcv_cases("train", "test")[:-1]), file=Path("btcv"))
    own = written(tmp_path, {"train": btcv_cases("train"), "test": btcv_cases("test")})
    assert "names 12 cases" in refused(own, dataset_of(*btcv_cases("train")))  # in a file of one's own it is a mistake


def test_few_shot_lists_of_a_file_come_before_the_draw(tmp_path: Path) -> None:
    dataset = dataset_of(*btcv_cases("train"))
    listed = ("img0006", "img0007", "img0009", "img0010", "img0021")
    for seed in (0, 1):
        assert make_split(dataset, file="btcv", few_shot=5, seed=seed).train == listed
    assert make_split(dataset, file="btcv", few_shot=4, seed=0) != make_split(dataset, file="btcv", few_shot=4, seed=1)
    file = written(tmp_path, {"train": ["case_01", "case_02", "case_03"], "few_shot": {"1": ["case_02"]}})
    assert make_split(FIFTY, file=file, few_shot=1).train == ("case_02",)
    assert len(make_split(FIFTY, file=file).train) == 3


@pytest.mark.parametrize(
    "few_shot",
    [
        ["case_01"],
        {"2": ["case_01"]},
        {"1": ["case_09"]},
        {"2": ["case_01"] * 2},
        {"0": []},
        {"x": []},
        {"1": "case_01"},
    ],
)
def test_few_shot_lists_that_cannot_be_used(tmp_path: Path, few_shot: Any) -> None:
    file = written(tmp_path, {"train": ["case_01", "case_02"], "few_shot": few_shot})
    assert '"few_shot": give for a number of cases so many different training cases' in refused(file)


def test_brats21_is_drawn_for_want_of_a_list() -> None:
    names = [f"BraTS2021_{number:05d}" for number in range(1251)]
    split = make_split(dataset_of(*names), file="brats21", seed=5)
    assert (len(split.train), len(split.test)) == (1000, 251)
    assert sorted(split.train + split.test) == names
    assert make_split(dataset_of(*reversed(names)), file="brats21", seed=6) == split  # no seed but its own
    # Numbers are compared across machines: this must never change.
    assert split.test[:3] == ("BraTS2021_00001", "BraTS2021_00010", "BraTS2021_00014")
    assert "draws 1000 training and 251 test cases; the data set has 1250" in refused(
        Path("brats21"), dataset_of(*names[1:])
    )


def test_a_case_may_say_whose_it_is() -> None:
    names = [f"scan_{number}" for number in range(10)]
    cases = tuple(
        replace(case, patient="same") if case.name in names[:5] else case for case in dataset_of(*names).cases
    )
    for seed in range(10):
        split = make_split(replace(dataset_of(*names), cases=cases), seed=seed, test_fraction=0.3)
        parts = [part for part in (split.train, split.validation, split.test) if set(part) & set(names[:5])]
        assert len(parts) == 1


PAIRS = replace(
    dataset_of(*"abcdefgh"),
    cases=tuple(replace(case, patient=f"P{n // 2}") for n, case in enumerate(dataset_of(*"abcdefgh").cases)),
)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"train": ["a", "c"], "test": ["b"]}, "1 patient in several parts: P0 (a in train, b in test). "),
        ({"train": ["a"], "val": ["c", "e"], "test": ["d", "f"]}, "2 patients in several parts: P1 (c in validation, "),
        ([{"train": ["a", "b"]}, {"train": ["a", "c"], "val": ["b"]}], "P0 (a in train, b in validation)"),
    ],
)
def test_a_split_file_that_tears_a_patient_apart_is_refused(tmp_path: Path, parts: Any, said: str) -> None:
    found = refused(written(tmp_path, parts), PAIRS, fold=len(parts) - 1 if isinstance(parts, list) else 0)
    assert said in found
    assert "put all cases of a patient into one part" in found


def test_frames_of_one_heart_are_one_patients_in_a_split_file_too(tmp_path: Path) -> None:
    frames = dataset_of("patient007_frame01", "patient007_frame07", "patient010_frame01")
    file = written(tmp_path, {"train": ["patient007_frame01", "patient010_frame01"], "test": ["patient007_frame07"]})
    assert "patient007 (patient007_frame01 in train, patient007_frame07 in test)" in refused(file, frames)


@pytest.mark.parametrize("name", ["acdc", "brats17", "btcv", "btcv_24_6"])
def test_packaged_splits_keep_patients_together(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    content = read_json(find_split(name))
    cases = dataset_of(*content["train"], *content["test"])
    make_split(cases, file=name)
    assert capsys.readouterr().out == ""
    one, two = content["train"][0], content["test"][0]
    same = tuple(replace(case, patient="same" if case.name in (one, two) else "") for case in cases.cases)
    make_split(replace(cases, cases=same), file=name)  # as it was published, whatever a data set says of patients
    shown = " ".join(capsys.readouterr().out.split())
    assert f"Warning: the split '{name}' has cases of" in shown
    assert f"same ({one} in train, {two} in test)" in shown
