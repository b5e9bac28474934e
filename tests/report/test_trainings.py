import json
import shutil
from pathlib import Path

from medcontext.evaluation.scores import read_models
from medcontext.report.trainings import find_trainings, methods_rows, read_curves
from tests.report.evaluations import make_training, write_log


def test_a_training_is_found_from_its_predictions(arguments: list[str]) -> None:
    trainings, unknown = find_trainings(read_models(arguments))
    assert [each.model for each in trainings] == ["far", "near"]
    assert not unknown
    assert trainings[0].curves["train/loss"][:2] == [(1, 3.0), (2, 1.5)]
    assert trainings[0].curves["val/dice_student"] == [(50, 0.05), (100, 0.1)]


def test_predictions_of_another_tool_have_no_training_and_say_so(evaluated: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "far"
    shutil.copytree(evaluated["far"].parent, folder)
    (folder / "predictions" / "dataset.json").unlink()
    summary = json.loads((folder / "scores" / "summary.json").read_text())
    (folder / "scores" / "summary.json").write_text(json.dumps(summary | {"predictions": str(folder / "predictions")}))
    trainings, unknown = find_trainings(read_models([str(folder / "scores")], least=1))
    assert not trainings
    assert "does not say what predicted it" in unknown[0]


def test_a_run_that_was_moved_away_is_said_not_to_be_there(evaluated: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "far"
    shutil.copytree(evaluated["far"].parent, folder)
    record = json.loads((folder / "predictions" / "dataset.json").read_text())
    record["predicted_by"]["networks"][0]["checkpoint"] = str(tmp_path / "gone" / "checkpoints" / "last.ckpt")
    (folder / "predictions" / "dataset.json").write_text(json.dumps(record))
    summary = json.loads((folder / "scores" / "summary.json").read_text())
    (folder / "scores" / "summary.json").write_text(json.dumps(summary | {"predictions": str(folder / "predictions")}))
    _, unknown = find_trainings(read_models([str(folder / "scores")], least=1))
    assert "gone" in unknown[0]


def test_steps_that_were_done_twice_count_once(tmp_path: Path) -> None:
    write_log(tmp_path, 0, [{"step": step, "train/loss": 1.0} for step in range(1, 11)])
    write_log(tmp_path, 1, [{"step": step, "train/loss": 2.0} for step in range(8, 13)])
    write_log(tmp_path, 10, [{"step": 12, "train/loss": 3.0}])
    curve = read_curves(tmp_path)["train/loss"]
    assert curve == [(s, 1.0) for s in range(1, 8)] + [(s, 2.0) for s in range(8, 12)] + [(12, 3.0)]


def test_a_row_that_is_still_being_written_does_no_harm(tmp_path: Path) -> None:
    write_log(tmp_path, 0, [{"step": 1, "train/loss": 1.0}])
    with (tmp_path / "csv" / "version_0" / "metrics.csv").open("a") as file:
        file.write("2,0.")
    assert read_curves(tmp_path)["train/loss"] == [(1, 1.0), (2, 0.0)]
    with (tmp_path / "csv" / "version_0" / "metrics.csv").open("a") as file:
        file.write("5\n3")
    assert read_curves(tmp_path)["train/loss"] == [(1, 1.0), (2, 0.5)]
    assert read_curves(tmp_path / "nothing") == {}


def test_the_methods_section_has_hardware_hours_and_versions(arguments: list[str]) -> None:
    trainings, _ = find_trainings(read_models(arguments))
    rows = dict(methods_rows(trainings))
    assert rows["time"] == ["2:00:00, 2.00 GPU hours"] * 2
    assert rows["hardware"] == ["1 x NVIDIA H200"] * 2
    assert rows["network"][0] == "torch.nn.Conv3d, 1,234 parameters"
    assert rows["method"][0].startswith("medcontext: mask ratio 0.4, patches of 16, beta 0.5")
    assert rows["weights scored"][0] == "student's, last.ckpt (01234567)"


def test_a_run_of_before_these_facts_still_has_its_page(tmp_path: Path) -> None:
    run = make_training(tmp_path / "run")
    for fact in ("parameters", "hardware", "seconds", "devices"):
        del run.facts[fact]
    run.write()
    assert (tmp_path / "run" / "run.json").is_file()
    from medcontext.report.trainings import Training

    rows = dict(methods_rows([Training("a", run, {}, {})]))
    assert "time" not in rows
