"""The public functions, as Python users call them."""

import inspect
import math
import subprocess
import sys
from pathlib import Path

import pytest

import medcontext as mc
from medcontext.cli import COMMANDS, make_parser

TINY = {
    "network_args": {"channels": [4, 8], "strides": [2], "num_res_units": 0},
    "crop_size": (16, 16, 16),
    "method.mask.patch_size": 8,
}


@pytest.mark.slow
def test_every_name_is_there_whatever_was_imported_before() -> None:
    code = (
        "import medcontext.reporting.make, medcontext.training.fit, medcontext.comparison.compare, medcontext as mc\n"
        "import medcontext.experiments.reproduce, medcontext.commands.check\n"
        "print(*(name for name in mc.__all__ if getattr(mc, name) is None or 'module' in str(type(getattr(mc, name)))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.slow
def test_from_scans_to_a_report_each_step_takes_what_the_one_before_returned(balls: Path, tmp_path: Path) -> None:
    settings = mc.Settings.preset(method="medcontext", steps=4, few_shot=2, batch_size=1, workers=0, **TINY)
    baseline = mc.Settings.preset(method="none", steps=4, few_shot=2, batch_size=1, workers=0, **TINY)
    assert mc.check(balls, workers=1).dataset.cases
    scores = {}
    for name, chosen in {"a": baseline, "b": settings}.items():
        run = mc.train(balls, tmp_path / name, chosen, cache=tmp_path / "cache")
        assert isinstance(run, mc.Run)
        paths = mc.predict(run, balls, tmp_path / name / "predictions")
        assert all(path.is_file() for path in paths)
        scores[name] = mc.evaluate(paths, balls, tmp_path / name / "scores", workers=1)
        assert {row["case"] for row in scores[name].rows} == {path.name.removesuffix(".nii.gz") for path in paths}
        values = [row["dsc"] for row in scores[name].rows]
        assert all(math.isnan(value) or 0 <= value <= 1 for value in values), "numbers, not text"
    found = mc.compare({"a": [scores["a"]], "b": [scores["b"]]})
    assert found == mc.compare([f"a={tmp_path / 'a' / 'scores'}", f"b={tmp_path / 'b' / 'scores'}"])
    page = mc.report(scores, tmp_path / "report.html", cases=["0"])
    assert page == tmp_path / "report.html"
    assert page.stat().st_size > 1000


def test_wrong_input_is_an_input_error_with_the_remedy(tmp_path: Path) -> None:
    for call in (
        lambda: mc.train(tmp_path / "nothing", tmp_path / "run"),
        lambda: mc.predict(tmp_path / "nothing", tmp_path, tmp_path / "out"),
        lambda: mc.evaluate([], tmp_path, tmp_path / "out"),
        lambda: mc.evaluate([tmp_path / "a" / "x.nii", tmp_path / "b" / "y.nii"], tmp_path, tmp_path / "out"),
        lambda: mc.compare({"a": tmp_path}),
        lambda: mc.compare("one"),
        lambda: mc.report(),
        lambda: mc.Settings.preset("unter"),
        lambda: mc.Settings.preset(stpes=3),
        lambda: mc.Settings.preset(steps=0),
        lambda: mc.Settings.preset(method={"unlabelled": {"share": 2}}),
    ):
        with pytest.raises(mc.InputError):
            call()


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if not command.foreign])
def test_every_parameter_is_an_option_with_a_text(name: str) -> None:
    module = __import__(COMMANDS[name].module, fromlist=[name])
    function = getattr(module, name)
    parser = make_parser(name, function)
    options = {action.dest: action for action in parser._actions}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in options:
            assert options[parameter.name].help
        else:  # settings, each an option of its own
            assert parameter.name in ("settings", "prepare")
            assert "steps" in options or "prepare.spacing" in options
    assert "<class" not in parser.format_help()


def test_help_imports_nothing_that_takes_seconds() -> None:
    code = "import sys; from medcontext.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_dashes_mean_underscores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from medcontext.cli import main

    assert main(["train", "--data", str(tmp_path / "none"), "--output", str(tmp_path / "run"), "--skip-damaged"]) == 2
    assert "none" in capsys.readouterr().err


def test_a_folder_called_rest_is_not_the_word_rest() -> None:
    from medcontext.commands.train import train

    parser = make_parser("train", train)
    assert parser.parse_args(["--data=d", "--output=o", "--unlabelled", "./rest"]).unlabelled == ["./rest"]
