import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from medcontext.cli import main
from medcontext.files import write_json
from medcontext.reporting.trainings import read_curves
from medcontext.training.task import Task
from tests.training.commands import arguments, logged, start

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
def test_an_interrupted_training_says_how_to_go_on(balls: Path, tmp_path: Path) -> None:
    process = start(balls, tmp_path / "run", "--steps=4000", "--validate_every=2", "--validation_cases=0")
    wait_for_step(process, tmp_path / "run", 2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "--resume" in output
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


def test_resuming_with_other_settings_is_refused(balls: Path, tmp_path: Path, capsys) -> None:
    assert main(arguments(balls, tmp_path / "run", "--steps=2")) == 0
    assert main(arguments(balls, tmp_path / "run", "--steps=2")) == 2
    assert "pass --resume" in capsys.readouterr().err
    assert main(arguments(balls, tmp_path / "run", "--steps=3", "--optimizer.lr=0.1", "--resume")) == 2
    message = capsys.readouterr().err
    assert "steps was 2, now 3" in message
    assert "lr=0.1" in message


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

    monkeypatch.setattr("medcontext.inference.run.write_json", full)
    assert main(arguments(balls, tmp_path / "run", "--steps=1")) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "run.json: No space left on device. Free some space, then go on with --resume." in message
    assert state(tmp_path / "run")["learner"]["_extra_state"]["step"] == 1
