"""The list of what to label next, and finding it again."""

import csv
from pathlib import Path

import pytest

from medcontext.errors import InputError
from medcontext.inference.suggested_table import TABLE, SuggestedRow, find_suggested, read_suggested, suggested_csv

ROWS = [
    SuggestedRow('b, "x"', "/scans/b_0.nii /scans/b_1.nii", 0.4783, 1.25, 7, 0.5, "expected DSC 48 %; likely bad"),
    SuggestedRow("a", "/scans/a.nii.gz", None, 2.0, 1, 0.0, "stands for 1 scan"),
]


def test_the_list_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / TABLE).write_text(suggested_csv(ROWS))
    assert read_suggested(tmp_path) == ROWS
    with (tmp_path / TABLE).open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["expected_dsc"], first["distance"], first["stands_for"]) == ("0.4783", "1.2500", "7")
    assert second["expected_dsc"] == ""


@pytest.mark.parametrize("text", ["", "case,mine\na,b\n", suggested_csv(ROWS).replace(",7,", ",many,"), "\x00"])
def test_a_damaged_list_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / TABLE).write_text(text)
    with pytest.raises(InputError, match=r"suggested\.csv is damaged: .*Run `medcontext suggest` again"):
        read_suggested(tmp_path)


def test_the_list_belongs_to_the_predictions_beside_it_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictions, others = tmp_path / "predictions", tmp_path / "others"
    predictions.mkdir()
    others.mkdir()
    assert find_suggested(predictions) == (predictions, None), "predict alone"
    assert find_suggested(tmp_path) == (tmp_path, None)
    (tmp_path / TABLE).write_text(suggested_csv(ROWS))
    assert find_suggested(tmp_path) == find_suggested(predictions) == (predictions, tmp_path)
    assert find_suggested(others) == (others, None)
    monkeypatch.chdir(predictions)
    assert find_suggested(Path()) == (Path(), tmp_path)
    assert find_suggested(Path("..")) == (Path("../predictions"), Path(".."))
