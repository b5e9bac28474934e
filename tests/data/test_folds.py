"""Folds: each case held out of one, patients together, the same for good."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medcontext.data.cases import Case, Dataset
from medcontext.data.folds import make_folds, read_folds, write_folds
from medcontext.data.splits import Split, make_split
from medcontext.errors import InputError
from medcontext.files import write_json


def dataset_of(**patients: str) -> Dataset:
    cases = tuple(
        Case(name, (Path(f"{name}.nii.gz"),), Path(f"l/{name}.nii.gz"), who) for name, who in patients.items()
    )
    return Dataset("set", Path(), ("CT",), {"background": 0, "liver": 1}, cases)


EIGHT = dataset_of(a="1", b="1", c="2", d="3", e="4", f="5", g="6", h="7")  # a and b are one patient's
NAMES = [case.name for case in EIGHT.cases]


@pytest.mark.parametrize("folds", [2, 3, 7])
def test_each_case_is_held_out_of_one_fold_with_all_of_its_patient(folds: int) -> None:
    found = make_folds(EIGHT, folds)
    assert sorted(name for fold in found for name in fold.validation) == NAMES
    owner = {case.name: case.owner for case in EIGHT.cases}
    for fold in found:
        assert sorted(fold.train + fold.validation) == NAMES
        assert {owner[name] for name in fold.train}.isdisjoint(owner[name] for name in fold.validation)
        assert not fold.test
    sizes = [len({owner[name] for name in fold.validation}) for fold in found]
    assert max(sizes) - min(sizes) <= 1


def test_folds_stay_the_same_for_good() -> None:
    # Published scores refer to seeds: this must never change, on any machine or version.
    backwards = replace(EIGHT, cases=EIGHT.cases[::-1])
    assert make_folds(EIGHT, 3, seed=5) == make_folds(backwards, 3, seed=5) != make_folds(EIGHT, 3, seed=6)
    assert [fold.validation for fold in make_folds(EIGHT, 3)] == [("d", "f", "g"), ("e", "h"), ("a", "b", "c")]


def test_a_file_of_folds_is_a_split_file_of_each(tmp_path: Path) -> None:
    file = tmp_path / "splits_final.json"
    found = make_folds(EIGHT, 3)
    write_folds(file, found)
    assert read_folds(file, NAMES) == found
    assert [make_split(EIGHT, file=file, fold=number) for number in range(3)] == found


def test_test_cases_of_a_split_stay_out_of_all_folds(tmp_path: Path) -> None:
    write_json(tmp_path / "split.json", {"train": ["a", "b", "c", "d"], "validation": ["e"], "test": ["f", "g"]})
    found = make_folds(EIGHT, 2, file=tmp_path / "split.json")
    assert {fold.test for fold in found} == {("f", "g")}
    assert sorted(name for fold in found for name in fold.validation) == ["a", "b", "c", "d", "e"], "h is in no part"
    write_folds(tmp_path / "splits_final.json", found)
    again = read_folds(tmp_path / "splits_final.json", NAMES)
    assert [fold.test for fold in again] == [("f", "g")] * 2


@pytest.mark.parametrize("parts", [{"train": ["a", "c"], "test": ["b"]}, {"train": ["c"], "val": ["a"], "test": ["b"]}])
def test_a_patient_of_the_test_cases_is_in_no_fold(parts: dict[str, list[str]], tmp_path: Path) -> None:
    write_json(tmp_path / "split.json", parts)
    with pytest.raises(InputError, match=r"1 patient in several parts: 1 \(a in (train|validation), b in test\)"):
        make_folds(EIGHT, 2, file=tmp_path / "split.json")
    write_json(tmp_path / "folds.json", [{"train": [x], "val": [y], "test": ["b"]} for x, y in ("ac", "ca")])
    with pytest.raises(InputError, match="b is in the test part of a fold that uses another case of the same patient"):
        make_folds(EIGHT, 2, file=tmp_path / "folds.json")


def nnunet(folder: Path, *held: list[str], **more: Any) -> Path:
    parts = [{"train": [name for name in NAMES if name not in names], "val": names, **more} for names in held]
    write_json(folder / "theirs.json", parts)
    return folder / "theirs.json"


def test_nnunets_folds_are_taken_as_they_are(tmp_path: Path) -> None:
    file = nnunet(tmp_path, ["a", "b", "h"], ["c", "d", "e", "f", "g"])
    assert make_folds(EIGHT, 2, seed=9, file=file)[0] == Split(("c", "d", "e", "f", "g"), ("a", "b", "h"), ())


@pytest.mark.parametrize(
    ("folds", "held", "said"),
    [
        (5, [["a", "b"], NAMES[2:]], "has 2 folds, and --folds is 5; give --folds 2."),
        (2, [["a", "b", "c"], NAMES[2:]], "no cross-validation: c is in the validation part of several folds"),
        (2, [["a", "b"], NAMES[4:]], "c, d are in the validation part of no fold"),
        (
            2,
            [["a"], NAMES[1:]],
            "a, b are in the validation part of a fold that trains on another case of the same",
        ),
    ],
)
def test_a_file_that_is_no_cross_validation_is_refused(
    folds: int, held: list[list[str]], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as error:
        make_folds(EIGHT, folds, file=nnunet(tmp_path, *held))
    assert said in str(error.value)


def test_a_case_is_a_test_case_in_every_fold_or_in_none(tmp_path: Path) -> None:
    whole = [{"train": ["c", "d"], "val": ["e"], "test": ["f"]}, {"train": ["e", "f"], "val": ["c", "d"]}]
    write_json(tmp_path / "x.json", whole)
    with pytest.raises(InputError, match="f is"):
        make_folds(EIGHT, 2, file=tmp_path / "x.json")


@pytest.mark.parametrize(
    ("folds", "said"), [(1, "--folds is 1; give at least 2."), (8, "--folds is 8, and set has 7 patients with labels:")]
)
def test_too_few_or_too_many_folds_are_one_error(folds: int, said: str) -> None:
    with pytest.raises(InputError) as error:
        make_folds(EIGHT, folds)
    assert said in str(error.value)
