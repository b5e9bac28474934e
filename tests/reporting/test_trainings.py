import json
from pathlib import Path

import pytest

from medcontext.comparison.read import read_study
from medcontext.files import file_hash
from medcontext.reporting.trainings import Training, find_trainings, methods_rows, read_curves
from tests.reporting.evaluations import evaluate_moved, make_training, write_log


def test_a_training_is_found_from_its_predictions(arguments: list[str]) -> None:
    trainings, unknown = find_trainings(read_study(arguments))
    assert [each.model for each in trainings] == ["far", "near"]
    assert not unknown
    assert trainings[0].curves["train/loss"][:2] == [(1, 3.0), (2, 1.5)]
    assert trainings[0].curves["val/dice_student"] == [(50, 0.05), (100, 0.1)]


@pytest.fixture
def scores(balls: Path, tmp_path: Path) -> Path:
    """An evaluation of a run, all in a folder that the test may change."""
    return evaluate_moved(balls, tmp_path, 2, run=make_training(tmp_path / "run"))


def not_shown(scores: Path) -> str:
    """The one sentence on a training that is not shown."""
    found, unknown = find_trainings(read_study([str(scores)], least=1))
    assert not found
    (sentence,) = unknown
    return sentence


def change(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_predictions_of_another_tool_have_no_training_and_say_so(scores: Path) -> None:
    (scores.parent / "predictions" / "dataset.json").unlink()
    assert "does not say what predicted it" in not_shown(scores)


def test_a_run_that_was_moved_away_is_said_not_to_be_there(scores: Path) -> None:
    (scores.parent / "run").rename(scores.parent / "away")
    assert f"{scores.parent / 'run'} is not a folder" in not_shown(scores)


def test_a_run_that_was_trained_on_does_not_pass_for_what_predicted(scores: Path) -> None:
    checkpoint = scores.parent / "run" / "checkpoints" / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes() + b"more")
    assert "has been trained on since these predictions were made" in not_shown(scores)
    checkpoint.unlink()
    assert "is not there any more" in not_shown(scores)


def test_of_an_ensemble_the_runs_that_are_as_they_were_are_shown(scores: Path) -> None:
    record = scores.parent / "predictions" / "dataset.json"
    networks = json.loads(record.read_text())["predicted_by"]["networks"]
    gone = {"checkpoint": "/gone/checkpoints/last.ckpt", "sha256": "0"}
    change(record, predicted_by={"weights": "student", "networks": [gone, *networks]})
    found, unknown = find_trainings(read_study([str(scores)], least=1))
    assert len(found) == len(unknown) == 1


@pytest.mark.parametrize(
    "prediction",
    [
        {"weights": "student", "networks": ["last.ckpt"]},
        {"weights": "student", "networks": "last.ckpt"},
        {"weights": "student", "networks": [{"checkpoint": "a/b/last.ckpt"}]},
        {"weights": "student", "networks": [{"sha256": "0"}]},
        {"networks": [{"checkpoint": "a/b/last.ckpt", "sha256": "0"}]},
    ],
)
def test_a_damaged_record_is_said(scores: Path, prediction: dict[str, object]) -> None:
    change(scores.parent / "predictions" / "dataset.json", predicted_by=prediction)
    assert "is damaged or of another version; its training is not shown" in not_shown(scores)


def test_a_fact_that_is_null_is_left_out_and_a_damaged_one_is_said(scores: Path) -> None:
    facts = scores.parent / "run" / "run.json"
    change(facts, parameters=None, versions=None, devices=None, seconds=None)
    trainings, _ = find_trainings(read_study([str(scores)], least=1))
    assert "versions" not in dict(methods_rows(trainings))
    change(facts, seconds="long")
    assert "run.json is damaged" in not_shown(scores)


def test_the_methods_section_says_how_many_unlabelled_scans_there_were(scores: Path) -> None:
    facts = scores.parent / "run" / "run.json"
    trainings, _ = find_trainings(read_study([str(scores)], least=1))
    assert "scans without labels" not in dict(methods_rows(trainings))
    change(
        facts,
        unlabelled={
            "sources": ["more"],
            "scans": [["more", "a", "1"], ["more", "b", "2"]],
            "tested": ["b"],
            "labelled": ["c"],
        },
    )
    trainings, _ = find_trainings(read_study([str(scores)], least=1))
    rows = dict(methods_rows(trainings))
    assert rows["scans without labels"] == ["2; 1 test image seen without labels; 1 more scan left out"]
    assert "unlabelled scans filled into one another, tubes of 16 voxels" in rows["method"][0]


def test_the_methods_section_says_how_many_steps_were_made(scores: Path) -> None:
    def told() -> str:
        trainings, _ = find_trainings(read_study([str(scores)], least=1))
        return dict(methods_rows(trainings))["steps"][0]

    facts = scores.parent / "run" / "run.json"
    assert told() == "100 of batch 2, 10,000 were planned."
    change(facts, ended="Stopped at step 100.")
    assert told() == "100 of batch 2, 10,000 were planned. Stopped at step 100."
    change(facts, step=10_000)
    assert told() == "10,000 of batch 2"


def test_a_table_that_was_emptied_leaves_the_curves_of_earlier_starts(tmp_path: Path) -> None:
    for version, text in enumerate(("step,train/loss\n10,1.0\n20,0.5\n", "", "step,train/loss\n")):
        (tmp_path / "csv" / f"version_{version}").mkdir(parents=True)
        (tmp_path / "csv" / f"version_{version}" / "metrics.csv").write_text(text)
    assert read_curves(tmp_path)["train/loss"] == [(10, 1.0), (20, 0.5)]


def test_the_methods_section_says_what_a_resume_changed(scores: Path) -> None:
    facts = scores.parent / "run" / "run.json"
    change(facts, changes=[[60, "steps was 60, now 66"], [60, "optimizer.lr was 0.001, now 0.0003"]])
    trainings, _ = find_trainings(read_study([str(scores)], least=1))
    assert dict(methods_rows(trainings))["changed on the way"] == [
        "steps was 60, now 66 from step 60 on; optimizer.lr was 0.001, now 0.0003 from step 60 on"
    ]


def test_steps_that_were_done_twice_count_once(tmp_path: Path) -> None:
    write_log(tmp_path, 0, [{"step": step, "train/loss": 1.0} for step in range(1, 11)])
    write_log(tmp_path, 1, [{"step": step, "train/loss": 2.0} for step in range(8, 13)])
    write_log(tmp_path, 10, [{"step": 12, "train/loss": 3.0}])
    curve = read_curves(tmp_path)["train/loss"]
    assert curve == [(s, 1.0) for s in range(1, 8)] + [(s, 2.0) for s in range(8, 12)] + [(12, 3.0)]


def test_what_is_no_table_of_a_start_is_passed_over(tmp_path: Path) -> None:
    write_log(tmp_path, 0, [{"step": 1, "train/loss": 1.0}, {"step": "x", "train/loss": 1.0}])
    (tmp_path / "csv" / "version_0").rename(tmp_path / "csv" / "version_x")
    write_log(tmp_path, 0, [{"step": 1, "train/loss": 1.0}, {"step": "x", "train/loss": 1.0}])
    assert read_curves(tmp_path) == {"train/loss": [(1, 1.0)]}


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
    trainings, _ = find_trainings(read_study(arguments))
    rows = dict(methods_rows(trainings))
    assert rows["time"] == ["2:00:00, 2.00 GPU hours"] * 2
    assert rows["hardware"] == ["1 x NVIDIA H200"] * 2
    assert rows["network"][0] == "torch.nn.Conv3d, 1,234 parameters"
    assert rows["method"][0].startswith(
        "medcontext: tubes of 16 voxels, ratio 0.4, filled with other labelled crops, no consistency"
    )
    sha256 = file_hash(trainings[0].run.checkpoint("last"))
    assert rows["weights scored"][0] == f"student's, last.ckpt ({sha256[:8]})"


def test_a_run_of_before_these_facts_still_has_its_page(tmp_path: Path) -> None:
    run = make_training(tmp_path / "run")
    for fact in ("parameters", "hardware", "seconds", "devices"):
        setattr(run.facts, fact, None)
    run.write()
    assert (tmp_path / "run" / "run.json").is_file()
    rows = dict(methods_rows([Training("a", run, {}, {})]))
    assert "time" not in rows
