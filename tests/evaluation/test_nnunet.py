"""nnU-Net's results as they lie: which predictions are scored, as what, and that the scores are nnU-Net's."""

import json
import math
import shutil
from pathlib import Path

import pytest

from medcontext.commands.compare import compare
from medcontext.commands.evaluate import evaluate
from medcontext.data.formats import read_dataset
from medcontext.errors import InputError
from medcontext.evaluation.summary import Scores
from tests.nnunet import (
    CASES,
    LABELS,
    dice_by_nnunet,
    label_of,
    prediction_of,
    save,
    write_dataset,
    write_raw,
    write_results,
)

ROOT = Path(__file__).parents[2]
FOLDS = {"0": [0, 1], "1": [2, 3], "2": [4, 5]}


def score(predictions: Path, labels: Path, output: str = "scores") -> Scores:
    return evaluate(predictions, labels, labels.parents[1] / output, workers=1, overwrite=True)


def parts(scores: Scores) -> dict[str, str]:
    return {case["name"]: case["part"] for case in scores.summary["cases"]}


def dice(scores: Scores, values: dict[str, str] | None = None) -> dict[tuple[str, str], float]:
    values = values or {"left": "1", "right": "2"}
    return {(row["case"], values[row["structure"]]): row["dsc"] for row in scores.rows}


def assert_same(ours: dict[tuple[str, str], float], theirs: dict[tuple[str, str], float]) -> None:
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert ours[key] == pytest.approx(value, abs=1e-6, nan_ok=True), key


def test_all_folds_are_scored_out_of_fold_as_nnunet_scores_them(tmp_path: Path, capsys) -> None:
    raw, trainer = write_raw(tmp_path), write_results(tmp_path, FOLDS)
    scores = score(trainer, raw)
    assert parts(scores) == dict.fromkeys(CASES, "out of fold")
    theirs = [dice_by_nnunet(trainer / f"fold_{fold}" / "validation" / "summary.json") for fold in FOLDS]
    assert_same(dice(scores), {**theirs[0], **theirs[1], **theirs[2]})
    told = capsys.readouterr().out
    assert "the validation cases of fold_0, fold_1, fold_2 of nnUNetTrainer__nnUNetPlans__3d_fullres, 6 cases" in told
    assert "6 of 6 scored cases are out of fold" in told
    assert "without a prediction" not in told  # labelsTs is for test predictions
    assert scores.summary["cases"][0]["images"] == [str(raw / "imagesTr" / "block_0_0000.nii.gz")]
    assert list(scores.summary["structures"]) == ["left", "right"]


@pytest.mark.parametrize("inside", ["fold_1", "fold_1/validation"])
def test_one_fold_has_the_means_that_nnunet_has(tmp_path: Path, inside: str) -> None:
    raw, trainer = write_raw(tmp_path), write_results(tmp_path, FOLDS)
    scores = score(trainer / inside, raw)
    assert parts(scores) == {"block_2": "out of fold", "block_3": "out of fold"}
    theirs = json.loads((trainer / "fold_1" / "validation" / "summary.json").read_text())
    assert scores.summary["mean"]["dsc"] == pytest.approx(theirs["foreground_mean"]["Dice"], abs=1e-6)
    assert scores.summary["structures"]["left"]["dsc"]["mean"] == pytest.approx(theirs["mean"]["1"]["Dice"], abs=1e-6)


def test_the_fold_of_all_cases_is_never_mixed_in(tmp_path: Path, capsys) -> None:
    raw, trainer = write_raw(tmp_path), write_results(tmp_path, {"0": [0, 1], "all": range(6)})
    assert list(parts(score(trainer, raw))) == ["block_0", "block_1"]
    assert "Warning: fold_all is left out: it was trained on the cases that it predicts" in capsys.readouterr().out
    assert set(parts(score(trainer / "fold_all", raw)).values()) == {"training"}
    assert "6 of 6 scored cases were trained on" in " ".join(capsys.readouterr().out.split())
    shutil.rmtree(trainer / "fold_0")
    assert set(parts(score(trainer, raw)).values()) == {"training"}


def test_what_nnunet_pooled_is_out_of_fold_and_what_it_chose_on_it_is_not(tmp_path: Path) -> None:
    raw, trainer = write_raw(tmp_path), write_results(tmp_path, FOLDS)
    pooled = trainer / "crossval_results_folds_0_1"
    for folder in (pooled, pooled / "postprocessed"):
        for number in (0, 1, 2, 3):
            save(folder / f"{CASES[number]}.nii.gz", prediction_of(number))
    assert set(parts(score(pooled, raw)).values()) == {"out of fold"}
    assert set(parts(score(pooled / "postprocessed", raw)).values()) == {"validation"}
    assert score(trainer, raw).summary["mean"]["n"] > score(pooled, raw).summary["mean"]["n"]  # not doubled


def test_links_and_relative_paths_lead_to_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, trainer = write_raw(tmp_path), write_results(tmp_path, FOLDS)
    (tmp_path / "link").symlink_to(trainer)
    monkeypatch.chdir(trainer / "fold_0" / "validation")
    noted = [score(given, raw).summary["nnunet"] for given in (tmp_path / "link", Path("../.."), Path())]
    assert {each["trainer"] for each in noted} == {str(trainer)}
    assert [list(each["folds"]) for each in noted] == [["0", "1", "2"], ["0", "1", "2"], ["0"]]


def test_what_is_missing_is_named(tmp_path: Path, capsys) -> None:
    raw, trainer = write_raw(tmp_path), write_results(tmp_path, {"0": [0, 1], "1": [], "2": [], "3": [4]})
    (trainer / "fold_2" / "checkpoint_final.pth").unlink()
    (trainer / "fold_3" / "validation" / "summary.json").unlink()
    assert list(parts(score(trainer, raw))) == ["block_0", "block_1", "block_4"]
    told = capsys.readouterr().out
    assert "fold_1 is trained and has no predictions" in told
    assert "nnUNetv2_train Dataset007_Blocks 3d_fullres 1 -tr nnUNetTrainer -p nnUNetPlans --val" in told
    assert "fold_2 is not trained to its end" in told
    assert f"{trainer / 'fold_3' / 'validation'} has no summary.json" in told
    assert "3 labels without a prediction are not scored: block_2, block_3, block_5" in told


def refused(predictions: Path, labels: Path) -> str:
    with pytest.raises(InputError) as error:
        score(predictions, labels)
    assert not (labels.parents[1] / "scores").exists()
    return str(error.value)


def test_folders_that_say_too_little_or_too_much_are_refused(tmp_path: Path) -> None:
    raw, trainer = write_raw(tmp_path), write_results(tmp_path, {"0": [0, 1], "1": [1, 2], "4": []})
    message = refused(trainer, raw)
    assert "'block_1' is a validation case of both fold_0 and fold_1" in message
    assert "fold_4 has no predictions in validation/" in refused(trainer / "fold_4", raw)
    assert f"such as {trainer}" in refused(trainer.parent, raw)
    for fold in ("fold_0", "fold_1"):
        shutil.rmtree(trainer / fold)
    assert "there are fold_4, none with a validation/" in refused(trainer, raw)


def write_predicted(folder: Path, case: str, number: int) -> Path:
    """As `nnUNetv2_predict --save_probabilities` leaves it."""
    save(folder / f"{case}.nii.gz", prediction_of(number))
    write_dataset(folder)
    for name in ("plans.json", "predict_from_raw_data_args.json"):
        (folder / name).write_text("{}")
    for name in (f"{case}.npz", f"{case}.pkl"):
        (folder / name).touch()
    return folder


def test_predictions_of_test_cases_are_scored_by_labelsts(tmp_path: Path, capsys) -> None:
    raw = write_raw(tmp_path)
    scores = score(write_predicted(tmp_path / "predicted", "test_0", 1), raw)
    assert parts(scores) == {"test_0": "unknown"}
    assert scores.summary["cases"][0]["label"] == str(raw / "labelsTs" / "test_0.nii.gz")
    assert scores.summary["cases"][0]["images"] == [str(raw / "imagesTs" / "test_0_0000.nii.gz")]
    told = capsys.readouterr().out
    assert "what nnUNetv2_predict wrote, 1 case" in told
    assert "Warning" not in told
    assert [case.name for case in read_dataset(raw).cases] == CASES  # no training sees the test case's label


def test_predictions_of_training_cases_are_said_to_be_that(tmp_path: Path, capsys) -> None:
    raw = write_raw(tmp_path)
    assert parts(score(write_predicted(tmp_path / "predicted", "block_1", 1), raw)) == {"block_1": "unknown"}
    told = capsys.readouterr().out
    assert "of 1 case that nnUNetv2_predict was given" in told
    assert "has training labels (block_1)" in told


REGIONS = {"background": 0, "both": [1, 2], "right": 2}


def test_regions_are_scored_as_nnunet_declares_them(tmp_path: Path) -> None:
    order = {"regions_class_order": [1, 2]}
    raw, trainer = write_raw(tmp_path, REGIONS, **order), write_results(tmp_path, FOLDS, REGIONS, **order)
    scores = score(trainer, raw)
    assert list(scores.summary["structures"]) == ["both", "right"]
    truth, answer = label_of(1) > 0, prediction_of(1) > 0
    expected = 2 * (truth & answer).sum() / (truth.sum() + answer.sum())
    assert dice(scores, {"both": "both", "right": "right"})["block_1", "both"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("labels", "more"), [(LABELS, {}), (REGIONS, {"regions_class_order": [1, 2]})], ids=["labels", "regions"]
)
def test_what_is_labelled_ignore_counts_neither_in_label_nor_prediction(
    tmp_path: Path, labels: dict, more: dict, capsys
) -> None:
    labels = labels | {"ignore": 3}
    raw, trainer = write_raw(tmp_path, labels, **more), write_results(tmp_path, FOLDS, labels, **more)
    truth = label_of(1)
    truth[:, 5:, :] = 3  # through both blocks
    save(raw / "labelsTr" / "block_1.nii.gz", truth)
    scores = score(trainer, raw)
    use, right = truth != 3, (prediction_of(1) == 2)
    tp, fp, fn = (truth == 2) & right, (truth != 2) & right & use, (truth == 2) & ~right
    found = {(row["case"], row["structure"]): row for row in scores.rows}["block_1", "right"]
    assert found["dsc"] == pytest.approx(2 * tp.sum() / (2 * tp.sum() + fp.sum() + fn.sum()))
    assert found["label_voxels"] == (truth == 2).sum()
    assert found["prediction_voxels"] == (right & use).sum()
    assert math.isfinite(found["hd95_max"])
    assert "voxels labelled 3 count neither" in capsys.readouterr().out
    assert "ignore label" in scores.summary["conventions"]
    with pytest.raises(InputError, match=r"the 'ignore' label of voxels that are not scored"):
        evaluate(trainer, raw, tmp_path / "other", workers=1, structures={"x": 3})
    with pytest.raises(InputError, match=r"the label 'ignore' \(3\) is not supported"):
        read_dataset(raw)  # as trainings and `check` do


def test_evaluations_with_and_without_ignored_voxels_are_not_compared(tmp_path: Path) -> None:
    raw, trainer = write_raw(tmp_path), write_results(tmp_path, FOLDS)
    whole = score(trainer, raw, "whole")
    for folder in (raw, trainer):
        write_dataset(folder, LABELS | {"ignore": 3})
    with pytest.raises(InputError, match=r"has ignored 3, .* has None"):
        compare({"a": whole, "b": score(trainer, raw, "partly")})


@pytest.mark.parametrize("ending", [".nrrd", ".png", ".mha"])
def test_other_file_endings_are_refused_in_a_sentence(tmp_path: Path, ending: str) -> None:
    raw = write_raw(tmp_path, file_ending=ending)
    trainer = write_results(tmp_path, FOLDS, file_ending=ending)
    expected = f'"file_ending": got "{ending}"; medcontext reads .nii.gz and .nii.'
    assert expected in refused(trainer, raw)
    with pytest.raises(InputError, match="file_ending"):
        read_dataset(raw)
