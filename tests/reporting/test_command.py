"""`medcontext report` as a user types it, rightly and wrongly."""

import json
import re
import shutil
from pathlib import Path

import matplotlib.image
import pytest

from medcontext.cli import main
from medcontext.reporting import make, niivue

FIGURES = {"differences", "cases", "dsc", "hd95_pooled", "curve_train_loss", "curve_train_consistency"}


@pytest.mark.slow
def test_figures_are_written_as_svg_and_png(arguments: list[str], tmp_path: Path) -> None:
    assert main(["report", *arguments, "--figures", str(tmp_path / "figures")]) == 0
    files = {path.name for path in (tmp_path / "figures").iterdir()}
    for name in FIGURES | {"mosaic"}:
        assert {f"{name}.svg", f"{name}.png"} <= files
    picture = matplotlib.image.imread(tmp_path / "figures" / "mosaic.png")[..., :3]
    assert picture.std() > 0.1, "not blank"


@pytest.mark.slow
def test_figures_are_the_same_each_time(arguments: list[str], tmp_path: Path) -> None:
    for folder in ("a", "b"):
        assert main(["report", *arguments, "--figures", str(tmp_path / folder)]) == 0
    for path in (tmp_path / "a").glob("*.svg"):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_one_model_alone_has_a_page(evaluated: dict[str, Path], tmp_path: Path) -> None:
    assert main(["report", str(evaluated["far"]), "--output", str(tmp_path / "a.html"), "--cases", "2"]) == 0
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "One model alone" in text
    assert "2 of 8 cases" in text


def test_two_seeds_and_three_models_have_a_page(evaluated: dict[str, Path], tmp_path: Path) -> None:
    far, near = evaluated.values()
    models = [f"a={far},{near}", f"b={near},{far}", f"c={near},{near}"]
    assert main(["report", *models, "--output", str(tmp_path / "a.html"), "--cases", "1"]) == 0
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "b difference" in text
    assert "c difference" in text
    assert "2 seeds of each model" in text


def test_a_case_whose_files_are_gone_does_not_stop_the_page(
    balls: Path, evaluated: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = tmp_path / "scores"
    shutil.copytree(evaluated["far"], scores)
    summary = json.loads((scores / "summary.json").read_text())
    summary["cases"][0]["prediction"] = str(tmp_path / "gone.nii.gz")
    (scores / "summary.json").write_text(json.dumps(summary))
    assert main(["report", str(scores), "--output", str(tmp_path / "a.html"), "--cases", "all"]) == 0
    assert "7 cases in the viewer" in capsys.readouterr().out
    assert "gone.nii.gz" in (tmp_path / "a.html").read_text(encoding="utf-8"), "the page says what it lacks"


@pytest.mark.slow
def test_a_page_stays_of_a_size_that_a_browser_opens_unless_cases_are_named(
    evaluated: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(make, "LARGEST", 40_000)
    far = str(evaluated["far"])
    assert main(["report", far, "--output", str(tmp_path / "a.html")]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "name cases, or use --serve" in told
    assert 0 < int(re.findall(r"(\d+) cases in the viewer", told)[0]) < 8
    for number, cases in enumerate((["all"], ["ball_0", "ball_1", "ball_2", "ball_3", "ball_4"])):
        assert main(["report", far, "--output", str(tmp_path / f"{number}.html"), "--cases", *cases]) == 0
        assert f"{8 if cases == ['all'] else 5} cases in the viewer" in capsys.readouterr().out


def test_names_cannot_break_out_of_the_page(evaluated: dict[str, Path], tmp_path: Path) -> None:
    name = "<script>alert(1)</script>"
    assert main(["report", f"{name}={evaluated['far']}", "--output", str(tmp_path / "a.html"), "--cases", "1"]) == 0
    assert name not in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_without_niivue_the_error_names_the_extra_and_the_way_without(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(niivue, "PACKAGE", "not_ipyniivue")
    page = tmp_path / "a.html"
    assert main(["report", *arguments, "--output", str(page)]) == 2
    assert "pip install medcontext[report]" in capsys.readouterr().err
    assert not list(tmp_path.iterdir()), "nothing half written"
    assert main(["report", *arguments, "--output", str(page), "--cases", "0"]) == 0
    assert 'id="viewer"' not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Give one or more folders"),
        (["EVAL"], "--output report.html"),
        (["EVAL", "--output", "report.pdf"], "must be an HTML file"),
        (["EVAL", "--output", "a.html", "--cases", "bal_1"], "did you mean 'ball_1'"),
        (["nowhere", "--output", "a.html"], "nowhere is not a folder that `medcontext evaluate` wrote"),
        (["EVAL", "--live", "RUN"], "--live shows one training"),
        (["--live", "nowhere"], "nowhere is not a folder that `medcontext train` wrote"),
        (["EVAL", "--output", "here.html"], "exists already"),
        (["EVAL", "--serve", "--port", "99999999"], "cannot be used"),
    ],
)
def test_wrong_input_gets_one_clear_error(
    options: list[str],
    message: str,
    evaluated: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here.html").write_text("mine")
    assert main(["report", *(str(evaluated["far"]) if each == "EVAL" else each for each in options)]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert Path("here.html").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here.html"]
