"""nnU-Net's trainings on the page: facts for the methods section, and curves."""

import json
from pathlib import Path

import numpy as np
import pytest

from medcontext.commands.evaluate import evaluate
from medcontext.comparison.read import read_study
from medcontext.errors import InputError
from medcontext.reporting.content import make_page, methods, read_content
from medcontext.reporting.figures import training_figures
from medcontext.reporting.nnunet import read_epochs, read_nnunet
from medcontext.reporting.trainings import Training, find_trainings
from tests.nnunet import CASES, LABELS, NAME, label_of, prediction_of, save, write_log, write_raw, write_results
from tests.reporting.evaluations import make_training


@pytest.fixture
def trainer(tmp_path: Path) -> Path:
    return write_results(tmp_path, {"0": [0, 1], "1": [2, 3]})


@pytest.fixture
def scores(tmp_path: Path, trainer: Path) -> Path:
    return evaluate(trainer, write_raw(tmp_path), tmp_path / "scores", workers=1).folder


def test_the_page_has_a_column_for_every_fold(scores: Path) -> None:
    content = read_content([f"nnunet={scores}"])
    assert not content.unknown
    page = make_page(content, [])
    assert page.subtitle == (
        f"{NAME} · 4 out-of-fold cases of 4 patients · trained on 4 scans · PlainConvUNet · 1 seed"
    )
    assert page.methods["columns"] == ["nnunet, fold 0", "nnunet, fold 1"]
    rows = {name: values[0] for name, values in page.methods["rows"]}
    sha256 = json.loads((scores / "summary.json").read_text())["nnunet"]["folds"]["0"]
    assert rows == {
        "method": "nnU-Net v2, nnUNetTrainer",
        "data set": NAME,
        "cases": "4 training, 2 validation",
        "fold": "0",
        "configuration": "3d_fullres, nnUNetPlans",
        "network": "PlainConvUNet, 4 stages of 32 to 256 features",
        "steps": "750 of batch 9, in 3 epochs of 250",
        "crop": "40 x 56 x 40 voxels, in nnU-Net's order of the axes",
        "spacing": "2 x 1 x 1 mm, in nnU-Net's order of the axes",
        "intensities": "ZScoreNormalization",
        "loss": "DC_and_CE_loss, deep supervision",
        "optimizer": "SGD, learning rate 0.01 (PolyLRScheduler), momentum 0.99, nesterov, weight decay 3e-05",
        "weights scored": f"checkpoint_final.pth ({sha256[:8]}), or the best by --val_best",
        "hardware": "NVIDIA H100 80GB HBM3",
        "time": "0:30:00 of training, 0.50 GPU hours",
        "versions": "torch 2.13.0+cu129",
    }
    assert '"patch_size"' in page.methods["settings"][1][1]


def test_a_training_with_medcontext_says_so_and_how_many_scans_had_no_label(scores: Path, trainer: Path) -> None:
    file = trainer / "fold_0" / "debug.json"
    more = {"told": "method medcontext, tubes, ratio 0.4", "unlabelled_scans": "20"}
    file.write_text(json.dumps(json.loads(file.read_text()) | more))
    page = make_page(read_content([f"nnunet={scores}"]), [])
    rows = dict(page.methods["rows"])
    assert rows["method"][0] == "nnU-Net v2, nnUNetTrainer; MedContext's method medcontext, tubes, ratio 0.4"
    assert rows["cases"] == ["4 training, 2 validation, 20 without labels", "4 training, 2 validation"]


def test_beside_ours_the_folds_of_nnunet_are_named_alone(scores: Path, tmp_path: Path) -> None:
    ours = Training("ours", make_training(tmp_path / "run"), {}, {})
    theirs, _ = find_trainings(read_study([f"nnunet={scores}"], least=1))
    assert methods([*theirs, ours])["columns"] == ["nnunet, fold 0", "nnunet, fold 1", "ours, seed 0"]
    assert methods([theirs[1], ours])["columns"] == ["nnunet", "ours, seed 0"]


def test_the_viewer_shows_nothing_where_nothing_was_scored(tmp_path: Path) -> None:
    labels = LABELS | {"ignore": 3}
    raw, trainer = write_raw(tmp_path, labels), write_results(tmp_path, {"0": [1]}, labels)
    truth = label_of(1)
    truth[:, 5:] = 3
    save(raw / "labelsTr" / "block_1.nii.gz", truth)
    scores = evaluate(trainer, raw, tmp_path / "scores", workers=1)
    files = read_content([str(scores.folder)]).files["block_1"]
    assert set(np.unique(files.read_truth())) == {0, 1, 2}
    (shown,) = files.read_predictions()
    assert (shown == np.where(truth == 3, 0, prediction_of(1))).all()
    assert not (shown == prediction_of(1)).all()


def test_the_curves_are_drawn_by_step(scores: Path) -> None:
    trainings, _ = find_trainings(read_study([str(scores)], least=1))
    assert trainings[0].drawn == {
        "lr": [(250, 0.01), (500, 0.008), (750, 0.006)],
        "train/nnunet_loss": [(250, 0.5), (500, 0.25), (750, 0.0)],
        "val/nnunet_loss": [(250, 0.5), (500, 0.375), (750, 0.25)],
        "val/nnunet_dice": [(250, 0.0), (500, 0.2), (750, 0.4)],
    }
    figures = training_figures(trainings)
    assert list(figures) == ["curve_train_nnunet_loss", "curve_val_nnunet_loss", "curve_val_nnunet_dice", "curve_lr"]
    (axes,) = figures["curve_val_nnunet_dice"].axes
    assert len(axes.lines) == 2
    assert axes.get_ylim() == (0, 100)


def test_epochs_that_were_done_twice_count_once(trainer: Path) -> None:
    fold = trainer / "fold_0"
    write_log(fold, (2026, 10, 1, 8, 0, 0), range(2, 4), loss=5.0)  # after 9-30, though its name sorts before
    write_log(fold, (2026, 10, 1, 9, 0, 0), [])  # a validation alone
    cut = write_log(fold, (2026, 10, 2, 8, 0, 0), range(3, 5), loss=7.0)
    cut.write_text(cut.read_text().partition("Pseudo dice")[0])  # killed in its first epoch
    epochs, split = read_epochs(fold)
    assert [said["train_loss"] for said in epochs.values()] == [0.5, 0.25, 4.5, 4.25]
    assert split == (4, 2)


def sentence(scores: Path) -> str:
    found, unknown = find_trainings(read_study([str(scores)], least=1))
    assert len(found) + len(unknown) == 2
    return " ".join(unknown)


def test_a_fold_that_was_trained_anew_or_is_damaged_is_not_shown(scores: Path, trainer: Path) -> None:
    debug, checkpoint = (trainer / "fold_0" / name for name in ("debug.json", "checkpoint_final.pth"))
    assert not sentence(scores)
    content = json.loads(debug.read_text())
    debug.write_text(json.dumps({key: value for key, value in content.items() if key != "num_epochs"}))
    assert "debug.json does not say num_epochs" in sentence(scores)
    debug.write_text("[]")
    assert "debug.json is damaged" in sentence(scores)
    debug.unlink()
    assert "debug.json is not there" in sentence(scores)
    checkpoint.write_bytes(b"others")
    assert "not the file that was there when its predictions were evaluated" in sentence(scores)
    (trainer / "fold_1").rename(trainer / "away")
    assert sentence(scores).count("the training is not shown") == 2


def test_without_what_is_not_certain_the_rest_is_shown(trainer: Path) -> None:
    fold = trainer / "fold_0"
    debug = json.loads((fold / "debug.json").read_text())
    for key in ("gpu_name", "network", "optimizer", "lr_scheduler", "loss", "torch_version"):
        del debug[key]
    (fold / "debug.json").write_text(json.dumps(debug | {"device": "cpu", "is_ddp": "True"}))
    (fold / "checkpoint_final.pth").unlink()
    known = read_nnunet("a", trainer, "0", None).known
    assert known["hardware"] == "CPU"
    assert known["time"] == "0:30:00 of training"
    assert known["optimizer"] == "learning rate 0.01"
    assert not {"weights scored", "loss", "versions"} & set(known)
    for log in fold.glob("*.txt"):
        log.unlink()
    training = read_nnunet("a", trainer, "0", None)
    assert training.drawn == {}
    assert training.scans is None
    assert "cases" not in training.known
    (trainer / "plans.json").write_text("{}")
    assert read_nnunet("a", trainer, "0", None).known["steps"] == "750 of batch 9, in 3 epochs of 250"


def test_post_processing_is_said(tmp_path: Path, trainer: Path) -> None:
    predictions = trainer / "crossval_results_folds_0_1" / "postprocessed"
    for number in range(4):
        save(predictions / f"{CASES[number]}.nii.gz", prediction_of(number))
    scores = evaluate(predictions, write_raw(tmp_path), tmp_path / "scores", workers=1)
    trainings, _ = find_trainings(read_study([str(scores.folder)], least=1))
    assert [each.known["post-processing"] for each in trainings] == ["nnU-Net's, chosen on the scored cases"] * 2


def test_a_configuration_takes_over_from_another(trainer: Path) -> None:
    fold = trainer / "fold_0"
    debug = json.loads((fold / "debug.json").read_text())
    (fold / "debug.json").write_text(json.dumps(debug | {"configuration_name": "3d_lowres"}))
    configuration = read_nnunet("a", trainer, "0", None).configuration
    assert configuration["spacing"] == [3.0, 1.5, 1.5]
    assert configuration["patch_size"] == [40, 56, 40]


def test_what_nnunet_predicted_has_no_training(tmp_path: Path) -> None:
    raw, predicted = write_raw(tmp_path), tmp_path / "predicted"
    for number, name in enumerate(CASES):
        save(predicted / f"{name}.nii.gz", prediction_of(number))
    (predicted / "predict_from_raw_data_args.json").write_text("{}")
    scores = evaluate(predicted, raw, tmp_path / "scores", workers=1)
    found, (unknown,) = find_trainings(read_study([str(scores.folder)], least=1))
    assert not found
    assert "nnUNetv2_predict, which does not note by which training" in unknown


def test_a_damaged_note_of_the_training_is_refused(scores: Path) -> None:
    summary = json.loads((scores / "summary.json").read_text())
    (scores / "summary.json").write_text(json.dumps(summary | {"nnunet": {"trainer": 1}}))
    with pytest.raises(InputError, match="nnunet is damaged"):
        read_study([str(scores)], least=1)
