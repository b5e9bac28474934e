"""The whole way through the command line, with tiny networks on generated scans."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from medcontext.cli import main
from medcontext.errors import InputError
from medcontext.experiments.cells import TableCell, make_cell
from medcontext.experiments.conditions import Conditions
from medcontext.experiments.launch import run_on_cluster
from medcontext.experiments.smoke import split_file, write_data
from medcontext.experiments.tables import Variant
from medcontext.experiments.work import check_whole, failure
from medcontext.extras import need
from medcontext.files import locked
from medcontext.settings import Settings

SMOKE = ("--scale=smoke", "--steps=1")


def command(output: Path, *more: str) -> list[str]:
    return ["reproduce", *more, "--output", str(output), *SMOKE]


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """UNETR's rows of Table 2, both run once; not to be changed."""
    output = tmp_path_factory.mktemp("grid")
    assert main(command(output, "table2", "--only", "model=unetr", "seed=0")) == 0
    return output


def cell_of(output: Path, **more: object) -> TableCell:
    data = output / "data" / "acdc"
    conditions = Conditions({"acdc": data}, output, smoke=True, steps=1, splits={"acdc": split_file(data)}, **more)
    return make_cell(Variant("acdc", "unetr", True), 0, conditions)


@pytest.mark.slow
def test_a_table_is_trained_evaluated_and_compared(grid: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(command(grid, "table2", "--only", "model=unetr")) == 0
    printed = capsys.readouterr().out
    assert "2 cells, 2 done before" in printed
    assert "UNETR + MedContext" in printed
    assert "steps 1 (given by --steps), seeds 0" in printed
    with (grid / "table2-model=unetr.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 4 * 2  # rows, columns, protocols
    summary = json.loads((grid / "cells" / "acdc_unetr-paper-seed0" / "legacy" / "summary.json").read_text())
    for row in rows:
        assert (row["runs"], row["seeds"], row["steps"], row["scale"], row["method"]) == (
            "1",
            "0",
            "1",
            "smoke",
            "paper",
        )
        assert float(row["difference"]) == pytest.approx(float(row["ours"]) - float(row["paper"]), abs=1e-3)
        if (row["row"], row["protocol"]) == ("UNETR + MedContext", "legacy"):
            name = row["column"]
            score = summary["mean"]["dsc"] if name == "dsc" else summary["structures"][name]["dsc"]["mean"]
            assert float(row["ours"]) == pytest.approx(100 * score, abs=1e-3)
    page = (grid / "table2-model=unetr.md").read_text()
    assert "| **UNETR + MedContext** |" in page
    assert "| paper | 84.77 | 75.82 | 81.21 | 80.60 |" in page
    assert "| paper | +6.96 | +3.08 | +1.75 | +3.93 |" in page  # what MedContext adds


@pytest.mark.slow
def test_both_arms_are_what_they_say(grid: Path) -> None:
    arms = {
        name: Settings.read(grid / "cells" / f"acdc_unetr-{name}-seed0" / "run" / "settings.yaml")
        for name in ("none", "paper")
    }
    assert not arms["none"].method.masking
    assert arms["paper"].method.masking
    same = [name for name in vars(arms["none"]) if getattr(arms["none"], name) != getattr(arms["paper"], name)]
    assert same == ["method"]


@pytest.mark.slow
def test_other_settings_are_refused(grid: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([*command(grid, "table2", "--only", "model=unetr"), "--steps=2"]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "acdc_unetr-none-seed0 holds results of other settings: steps was 1, now 2." in message
    assert "choose another --output" in message


@pytest.mark.slow
def test_a_damaged_cell_is_named_and_the_rest_reported(grid: Path, tmp_path: Path, capsys) -> None:
    output = shutil.copytree(grid, tmp_path / "grid")
    for path in output.glob("cells/*/cell.json"):  # as if it had been made there
        path.write_text(path.read_text().replace(str(grid), str(output)))
    for path in output.glob("cells/*/settings.yaml"):
        path.write_text(path.read_text().replace(str(grid), str(output)))
    damaged = output / "cells" / "acdc_unetr-none-seed0"
    (damaged / "cell.json").write_text("{}")
    assert main(command(output, "table2", "--only", "model=unetr")) == 2
    captured = capsys.readouterr()
    assert "2 cells, 1 done before" in captured.out
    assert f"Failed: acdc_unetr-none-seed0: settings.yaml or cell.json in {damaged} is damaged" in captured.out
    assert "1 of 2 cells failed" in captured.err
    page = (output / "table2-model=unetr.md").read_text()
    assert "ours (0 runs)" in page
    assert "ours (1 run)" in page


@pytest.mark.slow
def test_a_checkpoint_that_was_cut_off_is_to_be_deleted_with_its_cell(grid: Path, tmp_path: Path) -> None:
    cell = shutil.copytree(grid / "cells" / "acdc_unetr-none-seed0", tmp_path / "cell")
    check_whole(cell)
    checkpoint = cell / "run" / "checkpoints" / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(InputError, match=f"is not a whole MedContext checkpoint.* Delete {cell}; the same command"):
        check_whole(cell)
    checkpoint.unlink()
    check_whole(cell)


@pytest.mark.slow
def test_a_relative_output_is_the_same_as_an_absolute_one(grid: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(grid.parent)
    assert main(command(Path(grid.name), "table2", "--only", "model=unetr")) == 0
    assert "2 cells, 2 done before" in capsys.readouterr().out


@pytest.mark.slow
def test_other_data_are_refused(grid: Path, tmp_path: Path) -> None:
    cell = cell_of(grid)
    moved = replace(cell, data=tmp_path)
    assert cell.is_done()
    with pytest.raises(InputError, match=r"the data were .*, now "):
        moved.is_done()


@pytest.mark.slow
def test_a_dry_run_lists_cells_and_costs_and_runs_nothing(grid: Path, tmp_path: Path, capsys) -> None:
    assert main(command(grid, "table2", "--only", "model=unetr,swin_unetr", "--dry-run")) == 0
    printed = capsys.readouterr().out
    assert "4 cells, 2 to run" in printed
    assert [line.split()[-1] for line in printed.splitlines() if "seed0" in line] == ["done", "done", "1", "2"]
    assert main(["reproduce", "table1", "--output", str(tmp_path / "none"), "--dry_run", "--seeds", "0", "1"]) == 0
    printed = capsys.readouterr().out
    assert "12 cells, 12 to run" in printed
    assert "210,000" in printed  # 90,000 steps of UNETR at 7/3
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_a_grid_that_is_killed_goes_on_where_it_stopped(tmp_path: Path) -> None:
    arguments = command(tmp_path, "table7", "--only", "model=unetr", "cl=true")
    process = subprocess.Popen([sys.executable, "-m", "medcontext.cli", *arguments], start_new_session=True)
    first, second = (tmp_path / "cells" / f"btcv_unetr-paper{part}-seed0" for part in ("-masked_loss=false", ""))
    deadline = time.monotonic() + 200
    while not (second / "run" / "settings.yaml").is_file() and process.poll() is None:
        assert time.monotonic() < deadline, "the second cell did not start"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = (first / "standard" / "summary.json").stat().st_mtime_ns
    assert not (second / "standard" / "summary.json").exists()
    assert main(arguments) == 0
    assert (first / "standard" / "summary.json").stat().st_mtime_ns == done
    assert (second / "standard" / "summary.json").is_file()
    assert (first / "log.txt").read_text().count("$ ") == 1
    assert (second / "log.txt").read_text().count("$ ") == 2


@pytest.mark.slow
def test_a_cell_that_fails_does_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = command(tmp_path, "table8", "--only", "model=unetr", "mask_ratio=0.3,0.5")
    broken = tmp_path / "cells" / "btcv_unetr-paper-ratio=0.3-seed0" / "run"
    broken.parent.mkdir(parents=True)
    broken.write_text("in the way of a folder")
    assert main(arguments) == 2
    captured = capsys.readouterr()
    printed, error = (" ".join(text.split()) for text in captured)
    assert "Failed: btcv_unetr-paper-ratio=0.3-seed0: Output" in printed
    assert "is a file; give a folder" in printed
    assert "1 of 2 cells failed" in error
    page = (tmp_path / "table8-mask_ratio=0.3,0.5-model=unetr.md").read_text()
    assert "ours (0 runs)" in page
    assert "ours (1 run)" in page


def test_a_cell_that_another_process_runs_is_left_alone(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(InputError, match=rf"^Process {os.getpid()} on .* is at work in {tmp_path}\. Wait for its end"),
        locked(tmp_path),
    ):
        pytest.fail("locked twice")
    with locked(tmp_path):
        pass


def test_a_failures_reason_is_the_last_that_was_said(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("$ once\nError: of the run before\n$ again\nall is well\nError: no space left\nbye\n")
    assert failure(log, 2) == "no space left"
    assert failure(log, -9) == "it was ended by signal 9, for want of memory?"
    log.write_text("$ once\nTraceback\nValueError: odd\n")
    assert failure(log, 1) == "ValueError: odd"


@pytest.mark.slow
def test_submitits_local_executor_runs_cells(tmp_path: Path) -> None:
    data = tmp_path / "data" / "acdc"
    write_data("acdc", data)
    cell = cell_of(tmp_path)
    conditions = Conditions({"acdc": data}, tmp_path, smoke=True, steps=1, splits={"acdc": split_file(data)})
    broken = make_cell(Variant("acdc", "unetr", False), 0, conditions)
    broken.folder.mkdir(parents=True)
    (broken.folder / "run").write_text("in the way of a folder")
    failed = run_on_cluster([cell, broken], tmp_path / "jobs", {"timeout_min": 3, "gpus_per_node": 0}, cluster="local")
    assert cell.is_done()
    assert list(failed) == [broken.name]
    assert "is a file; give a folder" in failed[broken.name]


def test_submitit_is_asked_for_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(InputError, match=r"pip install medcontext\[slurm\]"):
        need("submitit")


def test_a_step_costs_what_the_readme_says() -> None:
    cost = {
        name: make_cell(Variant("btcv", "unetr", used, overrides), 0, Conditions({}, Path())).settings.method.step_cost
        for name, used, overrides in (
            ("none", False, ()),
            ("paper", True, ()),
            ("no teacher", True, (("method.target", "student"),)),
            ("MSL", True, (("method.consistency", "none"),)),
        )
    }
    assert cost == {"none": 1, "paper": 7 / 3, "no teacher": 2, "MSL": 2}


def test_an_override_that_changes_nothing_makes_no_other_cell() -> None:
    ratio = (("method.mask.ratio", 0.4),)
    for method, same in (("paper", True), ("reference", False)):
        conditions = Conditions({}, Path("here"), method)
        one, other = (make_cell(Variant("btcv", "unetr", True, given), 0, conditions) for given in ((), ratio))
        assert (one.name == other.name) == same
        assert (one.settings == other.settings) == same


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["table11"], "Unknown table 'table11'"),
        (["table1"], "Where are the scans? Give --data btcv=DIR."),
        (["table4", "--data", "btcv=."], "Give --data acdc=DIR."),
        (["table1", "--data", "btvc=."], "Unknown data set 'btvc'; did you mean 'btcv'?"),
        (["table1", "--data", "."], "--data takes NAME=VALUE, got '.'."),
        (["table1", "--data", "btcv=nowhere"], "Data set not found: nowhere"),
        (["table1", "--only", "modl=unetr"], "Unknown key of --only 'modl'; did you mean 'model'?"),
        (["table1", "--only", "model=unter"], "Unknown value of --only model 'unter'; did you mean 'unetr'?"),
        (["table1", "--scale", "smoke", "--data", "btcv=."], "--scale smoke generates its data"),
        (["table1", "--dry-run", "--set", "precison=32"], "precison"),
        (["table1", "--dry-run", "--method", "papr"], "Unknown method 'papr'; did you mean 'paper'?"),
        (["table1", "--dry-run", "--steps", "0"], "steps must be at least 1, got 0"),
    ],
)
def test_wrong_options_are_refused(arguments: list[str], words: str, tmp_path: Path, capsys) -> None:
    assert main(["reproduce", *arguments, "--output", str(tmp_path / "out")]) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_a_data_set_without_the_tables_structures_is_refused(official_acdc: Path, tmp_path: Path, capsys) -> None:
    assert main(["reproduce", "table1", "--output", str(tmp_path / "out"), "--data", f"btcv={official_acdc}"]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "has no spleen, right_kidney" in message
    assert not (tmp_path / "out").exists()


@pytest.fixture
def official_acdc(tmp_path: Path) -> Path:
    write_data("acdc", tmp_path / "acdc")
    return tmp_path / "acdc"
