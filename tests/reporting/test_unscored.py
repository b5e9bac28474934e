"""Predictions without labels, as `medcontext predict` of a calibrated run leaves them."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from medcontext.commands.predict import predict
from medcontext.errors import InputError
from medcontext.inference.judge import read_expected, write_expected
from medcontext.reporting.unscored import PANEL, read_unscored
from tests.reporting.conftest import Predicted


@pytest.fixture
def moved(predicted: Predicted, tmp_path: Path) -> Path:
    """A copy of the predictions, to change."""
    return Path(shutil.copytree(predicted.folder, tmp_path / "moved"))


def test_cases_come_in_the_order_of_the_table_with_their_images(predicted: Predicted) -> None:
    found = read_unscored(predicted.folder)
    with (predicted.folder / "expected.csv").open() as file:
        order = [row["case"] for row in csv.DictReader(file) if row["structure"] == "mean"]
    assert len(order) == 8
    assert [row.case for row in found.cases] == list(found.files) == order
    assert found.notes == []
    assert found.values == {"liver": (200,), "kidney": (500,), "spleen": (600,)}
    for case, files in found.files.items():
        assert files.image == predicted.data / f"images/{case}.nii.gz"
        assert files.truth is None, "there is one, which nobody is to look at"
        assert files.predictions == {PANEL: predicted.folder / f"{case}.nii.gz"}


def test_images_that_are_gone_are_named(predicted: Predicted, moved: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(predicted.data, tmp_path / "data"))
    record = json.loads((moved / "dataset.json").read_text())
    record["predicted_by"]["input"] = str(data / "images")
    (moved / "dataset.json").write_text(json.dumps(record))
    (data / "images/c.nii.gz").unlink()
    found = read_unscored(moved)
    assert set(found.files) == set("abdefgh")
    assert found.notes == ["Without pictures, for their files are not where they were: c."]
    shutil.rmtree(data)
    found = read_unscored(moved)
    assert not found.files
    assert "No pictures, for the images are not found" in found.notes[0]
    assert len(found.cases) == 8, "the table is whole"


def test_a_run_that_is_gone_takes_only_the_pictures_away(moved: Path) -> None:
    record = json.loads((moved / "dataset.json").read_text())
    for networks, said in (([{"checkpoint": "/gone/checkpoints/last.ckpt"}], "not found"), (None, "does not say")):
        record["predicted_by"]["networks"] = networks
        (moved / "dataset.json").write_text(json.dumps(record))
        found = read_unscored(moved)
        assert not found.files
        assert said in found.notes[0]


def test_images_of_nested_folders_are_found_as_they_were(predicted: Predicted, tmp_path: Path) -> None:
    nested = tmp_path / "nested"
    for case in "ab":
        for name, source in (("mr.nii.gz", "images"), ("other.nii.gz", "labels")):
            (nested / case).mkdir(parents=True, exist_ok=True)
            shutil.copy(predicted.data / source / f"{case}.nii.gz", nested / case / name)
    record = json.loads((predicted.folder / "dataset.json").read_text())
    run = Path(record["predicted_by"]["networks"][0]["checkpoint"]).parent.parent
    predict(run, nested, tmp_path / "out", image=["mr.nii.gz"])
    assert json.loads((tmp_path / "out/dataset.json").read_text())["predicted_by"]["image"] == ["mr.nii.gz"]
    found = read_unscored(tmp_path / "out")
    assert found.notes == []
    assert {case: files.image for case, files in found.files.items()} == {
        case: nested / case / "mr.nii.gz" for case in "ab"
    }


def test_images_that_are_not_noted_are_not_looked_for(moved: Path) -> None:
    record = json.loads((moved / "dataset.json").read_text())
    record["predicted_by"]["input"] = "not noted (--anonymous)"
    (moved / "dataset.json").write_text(json.dumps(record))
    found = read_unscored(moved)
    assert (dict(found.files), found.notes) == ({}, ["No pictures: dataset.json does not say where the images are."])


def test_what_is_no_calibrated_prediction_is_refused(predicted: Predicted, moved: Path, tmp_path: Path) -> None:
    rows = read_expected(moved)
    write_expected(moved, [row for row in rows if row.case not in "ab"])
    with pytest.raises(InputError, match=r"expected\.csv is not of these predictions: it lacks 2 of 8 cases, a, b"):
        read_unscored(moved)
    (moved / "expected.csv").unlink()
    with pytest.raises(InputError, match=r"has no expected\.csv.*medcontext calibrate"):
        read_unscored(moved)
    with pytest.raises(InputError, match=r"is not a folder that `medcontext predict` or `medcontext suggest` wrote"):
        read_unscored(predicted.data)
    with pytest.raises(InputError, match=r"is not a folder that `medcontext predict` or `medcontext suggest` wrote"):
        read_unscored(tmp_path / "nowhere")
