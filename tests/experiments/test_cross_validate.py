"""Cross-validation through the command line, as docs/training.md has it, with tiny networks."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import medcontext as mc
from medcontext.cli import main
from medcontext.data.folds import make_folds, write_folds
from medcontext.data.formats import read_dataset
from medcontext.experiments import launch
from medcontext.experiments.folds import Fold, find_folds
from medcontext.experiments.pace import Pace
from medcontext.experiments.work import run_cell
from medcontext.files import read_json
from medcontext.run import read_run, read_runs
from tests.dicom import MR, datasets, write
from tests.training.commands import TINY, interrupt

DOCS = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
SECTION = DOCS.partition("\n## Cross-validation\n")[2].partition("\n## ")[0]
SMALL = (*TINY, "--loggers=[csv]", "--validation_cases=1", "--method=none", "--workers=0")


@pytest.fixture(scope="module", autouse=True)
def _in_this_process() -> Iterator[None]:
    """A fold's process of its own takes seconds to import what is here already; a slow test has real ones."""

    def run(folder: Path, _: Callable[[], None]) -> None:
        with (folder / "log.txt").open("a") as log:
            log.write("$ \n")
        run_cell(folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "run_in_process", run)
        yield


def command(data: Path, output: Path, *more: str) -> list[str]:
    return ["cross_validate", "--data", str(data), "--output", str(output), "--folds=2", "--steps=2", *SMALL, *more]


@pytest.fixture(scope="module")
def written(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands of the docs left, with two folds and two steps; not to be changed."""
    output = tmp_path_factory.mktemp("docs")
    (output / "SCANS").mkdir()
    shutil.copy(balls / "imagesTr" / "ball_0.nii.gz", output / "SCANS" / "new.nii.gz")
    block = re.search(r"```sh\n(.*?)```", SECTION, re.DOTALL)
    assert block
    for line in block[1].splitlines():
        words = shlex.split(line, comments=True)[1:]
        words = [re.sub("^(CV|SCANS|PREDICTIONS|report.html)", str(output / r"\1"), word) for word in words]
        words = [str(balls) if word == "DATASET" else word for word in words]
        if words[0] == "cross_validate":
            words = [{"4": "2", "2000": "2"}.get(word, word) for word in words] + list(SMALL)
        assert main(words) == 0, line
    return output


def test_every_case_is_scored_by_a_network_that_was_not_trained_on_it(written: Path, balls: Path) -> None:
    record, scores = (
        read_json(written / "CV" / "predictions" / "dataset.json"),
        read_json(written / "CV" / "scores" / "summary.json"),
    )
    names = [f"ball_{number}" for number in range(8)]
    assert [case["name"] for case in scores["cases"]] == names
    assert {case["part"] for case in scores["cases"]} == set(record["parts"].values()) == {"out of fold"}
    folds = read_json(written / "CV" / "splits_final.json")
    assert sorted(name for fold in folds for name in fold["val"]) == names
    for number, (fold, network) in enumerate(zip(folds, record["predicted_by"]["networks"], strict=True)):
        run = read_run(written / "CV" / f"fold{number}" / "run")
        assert Path(network["checkpoint"]) == run.checkpoint("last")
        assert network["cases"] == fold["val"] == list(run.split.validation)
        assert set(run.split.train) == set(run.facts.cases) - set(fold["val"]) == set(fold["train"])
        for name in fold["val"]:
            own = written / "CV" / f"fold{number}" / "predictions" / f"{name}.nii.gz"
            assert own.read_bytes() == (written / "CV" / "predictions" / own.name).read_bytes()


def test_report_and_comparison_call_the_cases_out_of_fold(written: Path, tmp_path: Path, capsys) -> None:
    said = "8 of 8 scored cases are out of fold: each predicted by a network of a cross-validation that was not trained"
    page = (written / "report.html").read_text(encoding="utf-8")
    assert "8 out-of-fold cases of 8 patients · trained on 4 scans" in page
    assert said in page
    assert "CV, seed 0, fold 1" in page
    assert "test case" not in page
    assert '<p class="alarm">' not in page
    found = mc.compare({"a": written / "CV" / "scores", "b": written / "CV" / "scores"}, tmp_path)
    assert f"a: {said}" in " ".join(capsys.readouterr().out.split())
    assert found["notes"][1].startswith(f"b: {said}")
    assert not found["remarks"]


def test_predict_takes_it_as_one_run_and_says_what_its_networks_were_trained_on(
    written: Path, balls: Path, tmp_path: Path, capsys
) -> None:
    record = read_json(written / "PREDICTIONS" / "dataset.json")
    assert [Path(each["checkpoint"]).parts[-4] for each in record["predicted_by"]["networks"]] == ["fold0", "fold1"]
    assert record["parts"] == {"new": "training"}, "the same scan under another name"
    paths = mc.predict(written / "CV", balls, tmp_path / "p")
    assert len(paths) == 8
    mc.evaluate(paths, balls, tmp_path / "scores", workers=1)
    assert "8 of 8 scored cases were trained on" in capsys.readouterr().out
    mixed = mc.report({"cv": written / "CV" / "scores", "mean": tmp_path / "scores"}, tmp_path / "x.html", cases=["0"])
    assert mixed is not None
    assert "8 cases of 8 patients (cv: 8 out of fold; mean: 8 training)" in mixed.read_text(encoding="utf-8")


def test_the_same_command_runs_nothing_again(written: Path, balls: Path, tmp_path: Path, capsys) -> None:
    before = {path: path.stat().st_mtime_ns for path in (written / "CV").glob("fold*/run/checkpoints/*")}
    assert len(before) >= 2
    assert main(command(balls, written / "CV")) == 0
    assert "2 folds, 2 done before" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for change, said in (
        ("--steps=3", "holds results of other settings: steps was 2, now 3"),
        ("--folds=3", "has other folds than --folds 3, --seed 0 and no --split make of its cases"),
        ("--seed=4", "has other folds than --folds 2, --seed 4"),
    ):
        assert main(command(balls, written / "CV", change)) == 2
        assert said in " ".join(capsys.readouterr().err.split())


def test_one_that_is_interrupted_goes_on_with_the_fold_it_was_at(balls: Path, tmp_path: Path, capsys) -> None:
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, "save", 2)
        assert main(command(balls, tmp_path / "cv", "--validate_every=1")) == 130
    last = tmp_path / "cv" / "fold0" / "run" / "checkpoints" / "last.ckpt"
    assert last.is_file()
    with pytest.raises(mc.InputError, match="is a cross-validation of which 0 of 2 folds are trained to the end"):
        read_runs(tmp_path / "cv")
    assert not (tmp_path / "cv" / "scores").exists()
    capsys.readouterr()
    assert main(command(balls, tmp_path / "cv", "--validate_every=1")) == 0
    assert "steps 1 to 2" in capsys.readouterr().out, "from the checkpoint of the first step"
    assert [run.facts.step for run in read_runs(tmp_path / "cv")] == [2, 2]


@pytest.mark.slow
def test_one_that_is_killed_with_its_folds_process_goes_on(balls: Path, tmp_path: Path, capsys) -> None:
    arguments = command(balls, tmp_path / "cv")
    process = subprocess.Popen([sys.executable, "-m", "medcontext.cli", *arguments], start_new_session=True)
    deadline = time.monotonic() + 400
    try:
        while not (tmp_path / "cv" / "fold1" / "run" / "settings.yaml").is_file() and process.poll() is None:
            assert time.monotonic() < deadline, "the second fold did not start"
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "cv" / "scores").exists()
    assert main(arguments) == 0
    assert "2 folds, 1 done before" in capsys.readouterr().out
    assert len(read_json(tmp_path / "cv" / "scores" / "summary.json")["cases"]) == 8
    logs = [(tmp_path / "cv" / f"fold{number}" / "log.txt").read_text() for number in range(2)]
    assert [log.count("$ ") for log in logs] == [1, 2]


@pytest.mark.slow
def test_folds_are_jobs_of_a_cluster(balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """submitit's processes on this machine stand for a cluster's."""
    monkeypatch.setattr(launch, "run_on_cluster", partial(launch.run_on_cluster, cluster="local"))
    cluster = ("--launcher=slurm", "--slurm", "timeout_min=9", "gpus_per_node=0")
    assert main(command(balls, tmp_path / "cv", *cluster)) == 0
    assert re.search(r"^job \d+: fold1: done", capsys.readouterr().out, re.MULTILINE)
    assert len(list((tmp_path / "cv" / "jobs").glob("[0-9]*"))) == 2
    assert len(read_json(tmp_path / "cv" / "scores" / "summary.json")["cases"]) == 8


def test_what_is_wrong_is_said_before_anything_is_written(balls: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "notes.txt").write_text("mine")
    for output, more, said in (
        ("cv", ["--folds=9"], "--folds is 9, and Balls has 8 patients with labels"),
        ("cv", ["--fold=1"], "chooses one fold, and cross_validate trains all"),
        ("cv", ["--patience=2"], "--patience 2 ends a training by its validation cases"),
        ("cv", ["--few_shot=5"], "few_shot is 5, but the training part has 4 cases"),
        ("cv", ["--unlabelled", "rest"], "--method none has no use for --unlabelled"),
        (
            "cv",
            ["--unlabelled", "rest", "--method=medcontext", "--method.mask.patch_size=8"],
            "--few_shot leaves out, and it leaves none out",
        ),
        ("cv", ["--slurm", "partition=gpu"], "is only used with --launcher slurm"),
        ("there", [], "is no folder of a cross-validation, and not empty"),
    ):
        assert main(command(balls, tmp_path / output, *more)) == 2
        assert said in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / "cv").exists()
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["notes.txt"]


def test_the_docs_python_and_scans_without_labels_of_every_kind(
    written: Path, balls: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    """With a test part, `rest`, and a folder in which a held-out case is under another name."""
    block = re.search(r"```python\n(.*?)```", SECTION, re.DOTALL)
    assert block
    names = [f"ball_{number}" for number in range(8)]
    (tmp_path / "split.json").write_text(json.dumps({"train": names[:6], "validation": [], "test": names[6:]}))
    options = 'folds=2, unlabelled=["rest", "SCANS"]'
    settings = f'split="{tmp_path / "split.json"}", few_shot=2, **SMALL'
    code = block[1].replace("folds=4", options).replace("steps=2000", f"steps=2, {settings}")
    code = code.replace("mc.Settings(", 'mc.Settings.preset(method="medcontext", ')
    for name in ("CV", "PREDICTIONS"):
        code = code.replace(f'"{name}"', repr(str(tmp_path / name)))
    code = code.replace('"DATASET"', repr(str(balls))).replace('"SCANS"', repr(str(written / "SCANS")))
    code = code.replace('"BASELINE/scores"', repr(str(tmp_path / "CV" / "scores")))
    small = {
        "network_args": {"channels": [4, 8], "strides": [2]},
        "crop_size": (16, 16, 8),
        "method.mask.patch_size": 8,
        "accelerator": "cpu",
        "workers": 0,
        "watch_cases": 0,
        "loggers": ["csv"],
    }
    known: dict[str, object] = {"mc": mc, "SMALL": small}
    exec(code, known)
    found = known["found"]
    assert isinstance(found, mc.CrossValidation)
    assert {row["case"] for row in found.scores.rows} == set(names[:6]), "test cases are kept out"
    for run in found.runs:
        assert run.split.test == ("ball_6", "ball_7")
        seen = {name for source, name, _ in run.facts.unlabelled.scans if source == "rest"}
        assert seen
        assert seen.isdisjoint(run.split.validation + run.split.test)
        assert set(run.facts.rest) | set(run.split.train) | set(run.split.validation) == set(names[:6])
    # ball_0 is in SCANS, as new.nii.gz
    holder = next(run for run in found.runs if "ball_0" in run.split.validation)
    assert holder.facts.unlabelled.validated == ("new",)
    assert "scans without labels have the images of cases that were held out: new." in capsys.readouterr().out
    mc.predict(found, balls, tmp_path / "test")
    assert set(read_json(tmp_path / "test" / "dataset.json")["parts"].values()) == {"test"}


def test_of_a_dicom_study_the_series_that_is_meant_joins(balls: Path, tmp_path: Path, capsys) -> None:
    voxels = np.random.default_rng(0).integers(0, 900, (16, 18, 9)).astype(np.uint16)
    for number in (3, 4):
        write(tmp_path / "scans" / f"SE{number}", datasets(voxels, kind=MR, number=number, study="1.2.3"))
    more = (f"--unlabelled={tmp_path / 'scans'}", "--method=medcontext", "--method.mask.patch_size=8")
    assert main(command(balls, tmp_path / "CV", *more)) == 2
    assert "--series" in capsys.readouterr().err
    assert not (tmp_path / "CV").exists()
    assert main(command(balls, tmp_path / "CV", *more, "--series=4")) == 0
    for run in read_runs(tmp_path / "CV"):
        assert [name for _, name, _ in run.facts.unlabelled.scans] == ["scans"]
    capsys.readouterr()
    assert main(command(balls, tmp_path / "CV", *more, "--series=3")) == 2
    assert "--series was 4, now 3" in " ".join(capsys.readouterr().err.split())


def test_cases_that_come_later_are_named_and_not_used(balls: Path, tmp_path: Path, capsys) -> None:
    now = read_dataset(balls)
    made = make_folds(replace(now, cases=now.cases[:6]), 3)
    write_folds(tmp_path / "splits_final.json", made)
    assert find_folds(tmp_path, now, 3, 0, None) == made
    assert (
        "came to the data set after the folds were made, and are not used: ball_6, ball_7." in capsys.readouterr().out
    )
    with pytest.raises(mc.InputError, match="names 1 case that the data set does not have"):
        find_folds(tmp_path, replace(now, cases=now.cases[1:]), 3, 0, None)


def test_the_estimate_is_of_all_that_is_left(tmp_path: Path, monkeypatch, capsys) -> None:
    cells = [Fold(f"fold{n}", tmp_path / str(n), None, mc.Settings.preset(method="none", steps=100)) for n in range(3)]
    steps, clock = dict.fromkeys((cell.name for cell in cells), 0), [0.0]
    steps["fold0"] = 40  # of an earlier start, whose time is not counted here
    monkeypatch.setattr("medcontext.experiments.pace.steps_of", lambda cell: steps[cell.name])
    monkeypatch.setattr("medcontext.experiments.pace.time.monotonic", lambda: clock[0])
    pace = Pace(cells)
    assert pace.left() == "no estimate yet"
    clock[0], steps["fold0"] = 29, 50
    pace.look(cells[0])
    assert not capsys.readouterr().out, "not yet time for a line"
    clock[0], steps["fold0"] = 60, 60
    pace.look(cells[0])
    assert capsys.readouterr().out == "fold0: step 60 of 100; about 0:12:00 left in all\n"  # 240 steps, 3 s each
    pace.end(cells[0])  # failed
    assert pace.left() == "about 0:10:00 left in all"
