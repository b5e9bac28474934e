import json
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import medcontext as mc
from medcontext.cli import main
from medcontext.data.formats import read_dataset
from medcontext.data.splits import make_split
from medcontext.files import LOCK, locked, write_json
from medcontext.reporting.trainings import read_curves
from medcontext.training.task import Task
from tests.conftest import write_blobs
from tests.test_bad_input import edit_manifest, image, label, put, rewrite
from tests.training.commands import arguments, interrupt, logged, start

STEPS = ("--steps=40", "--validate_every=4", "--seed=3")


def state(output: Path) -> dict:
    return torch.load(output / "checkpoints" / "last.ckpt", weights_only=True)


def wait_for_step(process: subprocess.Popen, output: Path, step: int) -> None:
    last = output / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 200
    while not last.exists() or state(output)["learner"]["_extra_state"]["step"] < step:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_says_how_to_go_on(balls: Path, tmp_path: Path, number: signal.Signals) -> None:
    process = start(balls, tmp_path / "run", "--steps=4000", "--validate_every=2", "--validation_cases=0")
    wait_for_step(process, tmp_path / "run", 2)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, output
    assert f"Interrupted. Go on with: medcontext train --output {tmp_path / 'run'} --resume" in output
    assert "Traceback" not in output


@pytest.mark.slow
def test_a_killed_training_goes_on_as_if_it_had_never_stopped(balls: Path, tmp_path: Path, capsys) -> None:
    assert main(arguments(balls, tmp_path / "whole", *STEPS)) == 0

    killed = tmp_path / "killed"
    process = start(balls, killed, *STEPS)
    wait_for_step(process, killed, 8)
    process.send_signal(signal.SIGKILL)
    process.wait()
    step = state(killed)["learner"]["_extra_state"]["step"]
    assert 8 <= step < 40, "killed too late"

    assert main(arguments(balls, killed, *STEPS, "--resume")) == 0
    losses, expected = logged(killed, "train/loss"), logged(tmp_path / "whole", "train/loss")
    assert min(losses) == step + 1
    assert losses == {number: expected[number] for number in range(step + 1, 41)}
    assert dict(read_curves(killed)["train/loss"]) == expected, "no step's curve was lost"
    ours, theirs = state(killed), state(tmp_path / "whole")
    assert ours["best"] == theirs["best"]
    for key, value in theirs["learner"].items():
        if key != "_extra_state":
            assert torch.equal(ours["learner"][key], value), key
    assert not list(killed.rglob("*.tmp*"))


def test_a_run_is_one_processes_at_a_time(balls: Path, tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / LOCK).touch()  # of a process that was killed before it wrote anything
    assert main(arguments(balls, run, "--steps=2")) == 0
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with locked(run):
        assert main(["train", "--output", str(run), "--resume", "--steps=4"]) == 2
    assert f"at work in {run}. Wait for its end" in " ".join(capsys.readouterr().err.split())
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert main(["train", "--output", str(run), "--resume", "--steps=4"]) == 0


def test_resuming_with_other_settings_is_refused(balls: Path, tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    assert main(arguments(balls, run, "--steps=2")) == 0
    assert main(arguments(balls, run, "--steps=2")) == 2
    assert "pass --resume" in capsys.readouterr().err
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(arguments(balls, run, "--steps=3", "--optimizer.weight_decay=0.1", "--seed=5", "--resume")) == 2
    message = capsys.readouterr().err
    assert "optimizer.weight_decay was 1e-05, now 0.1" in message
    assert "seed was 0, now 5" in message
    assert "steps was" not in message
    assert main(["train", "--output", str(run), "--resume", "--steps=1"]) == 2
    assert "started for 2 steps, and --steps 1 are fewer" in capsys.readouterr().err
    assert main(["train", "--output", str(run), "--resume", "--init", str(tmp_path)]) == 2
    assert "was started from nothing" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_run_goes_on_by_its_folder_alone(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From another folder than the one it was started in, with its data, scans without labels, cache and settings."""
    shutil.copytree(balls, tmp_path / "here" / "data")
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    own = ("--few_shot=2", "--unlabelled", "rest", "--cache", "store", "--steps=4", "--validate_every=2")
    run = tmp_path / "my run"
    with monkeypatch.context() as patch:
        interrupt(patch, "validate", 4)
        assert main(arguments(Path("data"), run, *own)) == 130
    told = capsys.readouterr().err
    assert f"Interrupted. Go on with: medcontext train --output '{run}' --resume" in " ".join(told.split())
    monkeypatch.chdir(tmp_path / "there")
    command = shlex.split(told[told.index("train --output") :])
    assert main(command) == 0
    assert state(run)["learner"]["_extra_state"]["step"] == 4
    assert json.loads((run / "run.json").read_text())["unlabelled"]["sources"] == ["rest"]
    assert not list((tmp_path / "there").iterdir())
    assert mc.train(output=run, resume=True).settings.few_shot == 2
    log = (run / "log.txt").read_text()
    assert [log.count(text) for text in ("Interrupted. Go on with", "Stopped.", "Ended.", "step 4/4 ")] == [1, 1, 2, 1]


def test_a_run_may_go_on_for_more_steps_at_another_rate(balls: Path, tmp_path: Path, capsys) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    assert main(arguments(balls, run, "--steps=2")) == 0
    capsys.readouterr()
    assert main(["train", "--output", str(run), "--resume", "--steps=6", "--optimizer.lr=0.01"]) == 0
    said = capsys.readouterr().out
    assert main(arguments(balls, whole, "--steps=6", "--optimizer.lr=0.01")) == 0
    rates, expected = logged(run, "lr"), logged(whole, "lr")
    assert rates == {step: expected[step] for step in (3, 4, 5, 6)}, "as if it had been asked for from the start"
    for text in ("steps was 2, now 6", "optimizer.lr was 0.001, now 0.01"):
        assert f"Goes on with another setting: {text}" in said
        assert [2, text] in json.loads((run / "run.json").read_text())["changes"]
    assert mc.Settings.read(run / "settings.yaml").steps == 6


def test_a_training_stopped_while_it_prepares_goes_on_and_one_that_is_refused_leaves_nothing(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    for refusal, code in ((mc.InputError("Too damaged."), 2), (KeyboardInterrupt(), 130)):

        def stop(*_: object, refusal: BaseException = refusal, **__: object) -> None:
            raise refusal

        with monkeypatch.context() as patch:
            patch.setattr("medcontext.training.fit.prepare_dataset", stop)
            assert main(arguments(balls, run, "--steps=1")) == code
        if code == 2:
            assert not run.exists()
    assert main(["train", "--output", str(run), "--resume"]) == 0
    assert mc.Settings.read(run / "settings.yaml").steps == 1


def test_what_a_run_is_cannot_be_guessed(tmp_path: Path, capsys) -> None:
    for given, words in (
        (["--output", "run", "--resume"], "There is no run in run to go on with"),
        (["--output", "run"], "Give the scans to train on: --data DATASET"),
        (["--data", "data"], "--output RUN"),
        (["--data", "data", "--output", "run", "--init", "nowhere"], "--init nowhere not found"),
    ):
        assert main(["train", *given]) == 2
        assert words in capsys.readouterr().err


def test_resuming_a_finished_run_changes_nothing(balls: Path, tmp_path: Path) -> None:
    assert main(arguments(balls, tmp_path / "run", "--steps=2")) == 0
    before = (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes()
    assert main(arguments(balls, tmp_path / "run", "--steps=2", "--resume")) == 0
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes() == before


def test_the_time_of_a_killed_run_is_not_lost(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed after step 2 of 4: its seconds are in the checkpoint, and count when it goes on."""
    run, same = tmp_path / "run", ("--steps=4", "--validate_every=2")
    step = Task._step

    def die(self: Task) -> None:
        if self.learner.step == 3:
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Task, "_step", die)
        assert main(arguments(balls, run, *same)) == 130
    facts = json.loads((run / "run.json").read_text())
    assert (facts["step"], facts["devices"]) == (2, 1)
    assert facts["seconds"] == state(run)["seconds"] > 0
    assert "CPU" in facts["hardware"]
    assert "peak_gpu_memory_gib" not in facts

    values = state(run)
    torch.save(values | {"seconds": 1000.0}, run / "checkpoints" / "last.ckpt")
    assert main(arguments(balls, run, *same, "--resume")) == 0
    facts = json.loads((run / "run.json").read_text())
    assert facts["step"] == 4
    assert 1000 < facts["seconds"] == state(run)["seconds"] < 1100
    assert main(arguments(balls, run, *same, "--resume")) == 0
    assert json.loads((run / "run.json").read_text()) == facts


def test_a_run_does_not_go_on_with_another_number_of_devices(
    balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its batches were shared among them: others would follow, from another place in their order."""
    run = tmp_path / "run"
    assert main(arguments(balls, run, "--steps=1")) == 0
    facts = json.loads((run / "run.json").read_text()) | {"devices": 4}
    (run / "run.json").write_text(json.dumps(facts))
    assert main(["train", "--output", str(run), "--resume", "--steps=2"]) == 2
    assert "was trained on 4 devices, which shared its batches, and here it would go on with 1" in (
        " ".join(capsys.readouterr().err.split())
    )
    assert json.loads((run / "run.json").read_text()) == facts


def test_a_checkpoint_of_before_the_time_was_kept_goes_on(balls: Path, tmp_path: Path) -> None:
    run, same = tmp_path / "run", ("--steps=2", "--validate_every=1")
    assert main(arguments(balls, run, *same)) == 0
    values = state(run)
    del values["seconds"]
    torch.save(values, run / "checkpoints" / "last.ckpt")
    facts = json.loads((run / "run.json").read_text()) | {"seconds": 77.0}
    (run / "run.json").write_text(json.dumps(facts))
    assert main(arguments(balls, run, *same, "--resume")) == 0
    assert json.loads((run / "run.json").read_text())["seconds"] == 77.0


def test_facts_that_cannot_be_written_are_one_clear_error(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, value: object) -> None:
        if path.name == "run.json" and "seconds" in value:  # type: ignore[operator]
            raise OSError(28, "No space left on device")
        write_json(path, value)

    monkeypatch.setattr("medcontext.run.folder.write_json", full)
    assert main(arguments(balls, tmp_path / "run", "--steps=1")) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "run.json: No space left on device. Free some space, then go on with --resume." in message
    assert state(tmp_path / "run")["learner"]["_extra_state"]["step"] == 1


@pytest.fixture
def begun(tmp_path: Path) -> tuple[Path, Path]:
    """A data set of six cases, and a run of one step on it."""
    data = write_blobs(tmp_path / "data", 6)
    assert main(arguments(data, tmp_path / "run", "--steps=1", "--seed=4")) == 0
    return data, tmp_path / "run"


def resumed(data: Path, run: Path) -> int:
    return main(arguments(data, run, "--steps=1", "--seed=4", "--resume"))


def test_a_run_keeps_its_split_when_the_data_grow(begun: tuple[Path, Path], capsys) -> None:
    """Drawn anew, training cases of before would be test cases now."""
    data, run = begun
    before = (run / "split.json").read_text()
    write_blobs(data, 13)
    capsys.readouterr()
    assert resumed(data, run) == 0
    assert "Not in this run's split, and so not used: 7 cases" in capsys.readouterr().out
    assert (run / "split.json").read_text() == before
    drawn_anew = make_split(read_dataset(data), seed=4)
    assert set(json.loads(before)["train"]) & set(drawn_anew.test), "else this test shows nothing"


def test_a_run_goes_on_without_its_test_cases_and_in_another_folder(begun: tuple[Path, Path], tmp_path: Path) -> None:
    data, run = begun
    tested = json.loads((run / "split.json").read_text())["test"]
    shutil.copytree(data, tmp_path / "moved")
    edit_manifest(
        tmp_path / "moved",
        lambda m: m.update(training=[entry for entry in m["training"] if Path(entry["image"]).name[:6] not in tested]),
    )
    assert resumed(tmp_path / "moved", run) == 0


def test_a_run_refuses_other_cases(begun: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    data, run = begun
    split = json.loads((run / "split.json").read_text())
    trained, checked = int(split["train"][0][-1]), int(split["validation"][0][-1])
    changes = {
        f"other images of ball_{trained}": lambda d: rewrite(image(d, trained), put(77.0)),
        f"other labels of ball_{trained}": lambda d: rewrite(label(d, trained), put(200, np.int16)),
        f"other images of ball_{checked}": lambda d: rewrite(image(d, checked), put(77.0)),
        f"no longer has ball_{trained} with a label": lambda d: edit_manifest(d, lambda m: m["training"].pop(trained)),
        "labels were {'left': 200, 'right': 500}, now": lambda d: edit_manifest(
            d, lambda m: m["labels"].update({"500": "other side"})
        ),
        "channels were MRI, now CT": lambda d: edit_manifest(d, lambda m: m.update(modality={"0": "CT"})),
    }
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for number, (words, change) in enumerate(changes.items()):
        changed = Path(shutil.copytree(data, tmp_path / f"data{number}"))
        change(changed)
        capsys.readouterr()
        assert resumed(changed, run) == 2
        message = " ".join(capsys.readouterr().err.split())
        assert words in message
        assert "Resume with the cases as they were" in message
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_run_stopped_before_its_files_were_written_starts_anew(begun: tuple[Path, Path]) -> None:
    data, run = begun
    shutil.rmtree(run / "checkpoints")
    (run / "run.json").unlink()
    assert resumed(data, run) == 0
    assert state(run)["learner"]["_extra_state"]["step"] == 1
