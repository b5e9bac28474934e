"""What to label next, from scans to a list and a picture."""

import csv
import re
import shlex
from pathlib import Path

import pytest
from matplotlib.image import imread

from medcontext.cli import main
from medcontext.commands.calibrate import calibrate
from medcontext.commands.suggest import suggest
from medcontext.data.splits import Split
from medcontext.errors import InputError
from medcontext.inference.suggested_table import PICTURE, TABLE
from medcontext.run import Run
from tests.inference.faint import faint_run, scan, write_data
from tests.inference.runs import save


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


@pytest.fixture
def run(tmp_path: Path, data: Path) -> Run:
    run = faint_run(tmp_path / "run", data, Split(("a",), tuple("bcd"), ()))
    calibrate(run)
    return run


def test_scans_that_are_labelled_are_not_suggested(
    run: Run, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    arguments = [f"--run={run.folder}", f"--input={data}", f"--output={tmp_path / 'next'}", "--count=3"]
    assert main(["suggest", *arguments]) == 0
    shown = capsys.readouterr().out
    assert "3 scans to label next" in shown
    with (tmp_path / "next" / TABLE).open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert {row["case"] for row in rows} < set("efgh")
    assert all(Path(row["image"]).is_file() for row in rows)
    assert f"  1 {rows[0]['case']}: {rows[0]['reason']}" in shown
    assert float(rows[0]["gain"]) >= float(rows[1]["gain"]) * 0.99
    assert imread(tmp_path / "next" / PICTURE).shape[0] > 300
    assert len(list((tmp_path / "next/predictions").glob("*.nii.gz"))) == 8
    told = re.search(r"medcontext (report .*) --serve", shown)
    assert told
    assert main([*shlex.split(told[1]), f"--output={tmp_path / 'page.html'}", "--cases=1"]) == 0

    (tmp_path / "next" / TABLE).unlink()
    before = (tmp_path / "next/predictions/h.nii.gz").stat().st_mtime_ns
    assert suggest(run, data, tmp_path / "next", count=3) == [row["case"] for row in rows]
    assert (tmp_path / "next/predictions/h.nii.gz").stat().st_mtime_ns == before, "what is predicted stays"


def test_scans_are_known_by_content_not_by_name(data: Path, tmp_path: Path) -> None:
    run = faint_run(tmp_path / "run", data, Split(("a",), (), ()))
    other = write_data(tmp_path / "other", "defg")
    save(other / "images/g.nii.gz", scan(6)[0] + 1)
    calibrate(run, on=other)
    found = suggest(run, [data / "images" / f"{name}.nii.gz" for name in "defgh"], tmp_path / "next", count=2)
    assert sorted(found) == ["g", "h"], "d, e and f were calibrated on, and g is another scan of that name"


def test_of_files_alone_too(run: Run, data: Path, tmp_path: Path) -> None:
    found = suggest(run, [data / "images" / f"{name}.nii.gz" for name in "gh"], tmp_path / "next", count=2)
    assert sorted(found) == ["g", "h"]


def test_too_few_scans_are_said(run: Run, data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--count 5, but there are 4 scans of 8 that the network was neither"):
        suggest(run, data, tmp_path / "next")
    with pytest.raises(InputError, match="--count is 0"):
        suggest(run, data, tmp_path / "next", count=0)


def test_a_run_must_be_calibrated(data: Path, tmp_path: Path) -> None:
    run = faint_run(tmp_path / "run", data, Split(("a",), tuple("bcd"), ()))
    with pytest.raises(InputError, match="--expected needs what `medcontext calibrate` learns"):
        suggest(run, data, tmp_path / "next")
    assert not (tmp_path / "next").exists()
