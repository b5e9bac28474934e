import json
from pathlib import Path

import pytest

from medcontext.cli import main
from medcontext.training import fit
from medcontext.training.validation import Validation
from tests.training.commands import arguments, logged


def test_a_training_stops_when_its_patience_ends_and_goes_on_with_more(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The Dice rises once, at step 2; then it falls."""
    dice = {1: 0.3, 2: 0.5, 3: 0.4, 4: 0.5, 5: 0.1, 6: 0.1}

    def measured(self: Validation, trainer: object, task: object) -> dict[str, float]:
        names = ("val/dice_student", "val/dice_teacher", "val/loss")
        return dict.fromkeys(names, dice[task.learner.step])  # type: ignore[attr-defined]

    monkeypatch.setattr(Validation, "run", measured)
    run = tmp_path / "run"
    assert main(arguments(balls, run, "--steps=6", "--validate_every=1", "--patience=2")) == 0
    assert max(logged(run, "val/dice_student")) == 4
    said = "Stopped at step 4 of 6: 2 validations in a row without a higher Dice than 0.500, which checkpoint best has"
    assert said in capsys.readouterr().out
    resume = ["train", "--output", str(run), "--resume"]
    assert main(resume) == 0
    assert said in capsys.readouterr().out
    assert main([*resume, "--patience=3"]) == 0
    assert list(logged(run, "val/dice_student")) == [5]
    begun = []
    monkeypatch.setattr(fit, "run_steps", lambda *_: begun.append(json.loads((run / "run.json").read_text())))
    assert main([*resume, "--patience=0"]) == 0
    assert "ended" not in begun[0], "while it goes on, the page must not say that it has ended"
    monkeypatch.undo()
    monkeypatch.setattr(Validation, "run", measured)
    assert main([*resume, "--patience=0"]) == 0
    assert list(logged(run, "val/dice_student")) == [6]


def test_patience_needs_validation_cases(balls: Path, tmp_path: Path, capsys) -> None:
    assert main(arguments(balls, tmp_path / "run", "--steps=1", "--patience=2", "--validation_cases=0")) == 2
    assert "--patience 2 needs validation cases" in capsys.readouterr().err
