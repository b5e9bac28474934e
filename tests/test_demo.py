"""`make demo`, with a few steps."""

import json
from pathlib import Path

import pytest

from medcontext.cli import main


@pytest.mark.slow
def test_the_demo_ends_with_a_table_a_picture_and_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "demo"
    assert main(["demo", f"--output={output}", "--steps=8"]) == 0
    shown = capsys.readouterr().out
    assert "DSC in per cent, 16 test scans" in shown
    assert "myocardium" in shown
    assert (output / "demo.png").stat().st_size > 10_000
    assert (output / "report.html").stat().st_size > 100_000
    plain, ours = (json.loads((output / arm / "run" / "run.json").read_text()) for arm in ("baseline", "medcontext"))
    assert plain["step"] == 8
    assert ours["step"] == 7, "each costs as much"
    assert len(ours["unlabelled"]["scans"]) == 20
    assert "unlabelled" not in plain
    split = json.loads((output / "data" / "split.json").read_text())
    assert len(split["few_shot"]["5"]) == 5
