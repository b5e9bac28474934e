"""What a training says, on the terminal and in its log."""

import io
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

import medcontext as mc
from medcontext.cli import main
from medcontext.method.unlabelled import Unlabelled
from medcontext.training.callbacks import Progress
from medcontext.training.telling import expectation
from tests.training.commands import arguments, logged


@pytest.fixture(scope="module")
def told(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run without a terminal, and all that it said."""
    run = tmp_path_factory.mktemp("told") / "run"
    stdout = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medcontext.training.telling.EVERY", -1)  # seconds: after each step
        patch.setattr("sys.argv", ["/usr/bin/medcontext", "train", "--output", "my run"])
        patch.setattr("sys.stdout", stdout)
        assert main(arguments(balls, run, "--steps=8", "--few_shot=3", "--validate_every=8")) == 0
    return run, stdout.getvalue()


def test_a_line_has_step_losses_and_time_and_after_a_validation_its_dice(told: tuple[Path, str]) -> None:
    run, said = told
    terms = r"\(whole [\d.]+, masked [\d.]+\)"
    lines = re.findall(rf"^step (\d)/8  loss [\d.]+ {terms}  .*s a step  [\d:]+ left$", said, re.M)
    assert lines == list("12345678")
    last = said[said.index("step 8/8") :].splitlines()[0]
    loss, dice = re.search(r"validation loss ([\d.]+)  Dice student ([\d.]+)  teacher [\d.]+", last).groups()
    assert float(loss) == pytest.approx(logged(run, "val/loss")[8], abs=1e-3)
    assert float(dice) == pytest.approx(logged(run, "val/dice_student")[8], abs=1e-3)


def test_it_says_on_what_for_how_long_and_what_is_left_out(told: tuple[Path, str]) -> None:
    _, said = told
    assert re.search(r"^on .*CPU, .*, precision 32-true$", said, re.M)
    assert re.search(
        r"^About 0:\d\d for the 2 steps to go, [\d.]+ s each as measured; "
        r"1 validation of 1 case on top\. "
        r"Memory until now: [\d.]+ of [\d.]+ GiB\.$",
        said,
        re.M,
    )
    unused = "Not used: 2 scans more of the data set. To let them join without labels: --unlabelled rest"
    assert unused in said


def test_the_log_has_all_of_it_behind_command_date_and_versions(told: tuple[Path, str]) -> None:
    run, said = told
    first, versions, *rest = (run / "log.txt").read_text().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  medcontext train --output 'my run'", first)
    assert versions.startswith(f"medcontext {mc.__version__}, torch ")
    for line in said.splitlines():
        assert line in rest
    assert re.fullmatch(r"[-\d]+ [:\d]+  Ended\.", rest[-2])
    assert "" not in [line.strip() for line in rest[: len(said.splitlines())]]


def test_loggers_have_the_settings(told: tuple[Path, str]) -> None:
    run, _ = told
    for name in ("csv", "tensorboard"):
        settings = yaml.safe_load((run / name / "version_0" / "hparams.yaml").read_text())
        assert (settings["few_shot"], settings["optimizer"]["lr"]) == (3, 0.001)


def test_a_run_that_fails_says_so_in_its_log(balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("medcontext.training.task.Task.training_step", defect)
    with pytest.raises(ZeroDivisionError):
        main(arguments(balls, tmp_path / "run", "--steps=1"))
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "ZeroDivisionError: by zero" in log
    assert log.rstrip().endswith("Stopped.")


@pytest.mark.parametrize("scans", [(), (("rest", "a", "digest"),)])
def test_steps_get_longer_only_where_scans_without_labels_will_join(scans: tuple) -> None:
    rule = Unlabelled(start=0.25)
    task = SimpleNamespace(
        step=6,
        learner=SimpleNamespace(step=6, unlabelled=rule, joined=lambda: False),
        settings=SimpleNamespace(steps=100),
        device=torch.device("cpu"),
    )
    facts = SimpleNamespace(unlabelled=SimpleNamespace(scans=scans))
    run = SimpleNamespace(facts=facts, settings=SimpleNamespace(steps=100))
    said = expectation(task, 2.0, Progress(run, None, None, every=10))  # type: ignore[arg-type]
    assert said.startswith("About 3:08 for the 94 steps to go")
    assert ("from step 26 on, with unlabelled scans" in said) == bool(scans)
