"""Overlapping regions from the data set to the scores, through the command line."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medcontext.cli import main
from medcontext.run import read_run
from tests.training.commands import arguments, logged

REGIONS = '{"both": [200, 500], "right": [500]}'


@pytest.mark.slow
def test_regions_are_trained_predicted_and_scored(balls: Path, tmp_path: Path) -> None:
    run, predictions, scores = tmp_path / "run", tmp_path / "predictions", tmp_path / "scores"
    more = ["--steps=150", "--optimizer.lr=0.02", "--crop_size=[24,24,16]", "--validate_every=150", "--seed=1"]
    network = ["--network_args.channels=[8,16,32]", "--network_args.strides=[2,2]"]
    assert main(arguments(balls, run, *more, *network, f"--regions={REGIONS}")) == 0
    assert logged(run, "val/dice_student")[150] > 0.7
    assert set(logged(run, "val/dice/right")) == {150}
    assert read_run(run).network_description()["out_channels"] == 2

    command = ["predict", "--run", str(run), "--input", str(balls), "--output", str(predictions), "--probabilities"]
    assert main(command) == 0
    record = json.loads((predictions / "dataset.json").read_text())
    assert record["regions"] == {"both": [200, 500], "right": [500]}
    assert record["probability_classes"] == ["both", "right"]
    name = next(predictions.glob("ball_*.nii.gz")).name
    labels = np.asanyarray(nib.load(predictions / name).dataobj)
    assert set(np.unique(labels)) == {0, 200, 500}
    probabilities = np.asanyarray(nib.load(predictions / "probabilities" / name).dataobj)
    assert probabilities.shape == (*labels.shape, 2)
    assert np.array_equal(labels == 500, probabilities[..., 1] > 0.5)
    assert np.array_equal(labels > 0, (probabilities > 0.5).any(-1))

    command = ["evaluate", "--predictions", str(predictions), "--labels", str(balls), "--output", str(scores)]
    assert main(command) == 0
    with (scores / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["structure"] for row in rows} == {"both", "right"}
    row = next(row for row in rows if row["case"] == name.removesuffix(".nii.gz") and row["structure"] == "both")
    truth = np.asanyarray(nib.load(balls / "labelsTr" / name).dataobj)
    expected = 2 * ((truth > 0) & (labels > 0)).sum() / ((truth > 0).sum() + (labels > 0).sum())
    assert float(row["dsc"]) == pytest.approx(expected, abs=1e-6)


def test_regions_that_the_data_set_lacks_are_refused(
    balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(balls, tmp_path / "run", "--steps=1", '--regions={"both": [1, 2]}')) == 2
    assert "give some of the label values [200, 500]" in " ".join(capsys.readouterr().err.split())


def test_an_ensemble_of_classes_and_regions_is_refused(
    balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, more in (("a", []), ("b", [f"--regions={REGIONS}"])):
        assert main(arguments(balls, tmp_path / name, "--steps=1", *more)) == 0
    runs = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert main(["predict", "--run", *runs, "--input", str(balls), "--output", str(tmp_path / "out")]) == 2
    assert "labels or regions differ" in " ".join(capsys.readouterr().err.split())
