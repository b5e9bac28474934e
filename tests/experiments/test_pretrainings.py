"""Pretrainings as cells. Nothing is trained here but in the slow tests at the end."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medcontext.cli import main
from medcontext.errors import InputError
from medcontext.experiments import launch
from medcontext.experiments.cells import Cell, TableCell, make_cell
from medcontext.experiments.checks import check_networks, check_pretrainings, find_corpora, find_data
from medcontext.experiments.conditions import Conditions
from medcontext.experiments.only import choose, pairs
from medcontext.experiments.pretrainings import (
    PretrainingCell,
    add_pretrainings,
    in_order,
    pretrainings,
    voxels_seen,
)
from medcontext.experiments.reproduce import cost_table, sort_all
from medcontext.experiments.smoke import split_file, write_data
from medcontext.experiments.tables import Variant, get_grid
from medcontext.experiments.work import check_start
from medcontext.experiments.write import remarks
from medcontext.pretrain_settings import PretrainSettings
from medcontext.settings import Settings


@cache
def planned(
    table: str, output: Path = Path("out"), seeds: tuple[int, ...] = (0,), rows: str = "", **more: Any
) -> tuple[TableCell, ...]:
    """A table's cells, or those of rows with a fact, with scans that are not there."""
    names = ("btcv", "btcv_24_6", "acdc", "brats21", "covid19", "luna16")
    conditions = Conditions({name: output / name for name in names}, output, **more)
    entries = choose([get_grid(table)], seeds, pairs(rows.split(), "--only")).entries[0]
    variants = dict.fromkeys(entry.variant for entry in entries)
    cells = [make_cell(variant, seed, conditions) for seed in seeds for variant in variants]
    return tuple(add_pretrainings(cells, conditions))


def before(cells: Sequence[TableCell]) -> list[PretrainingCell]:
    found = [cell for cell in pretrainings(cells) if isinstance(cell, PretrainingCell)]
    assert len(found) == len(pretrainings(cells))
    return found


def finish(cell: Cell) -> None:
    """As if it had been run to its end."""
    cell.write()
    (cell.folder / "run").mkdir()
    cell.settings.write(cell.folder / "run" / "settings.yaml")
    record = {"step": cell.settings.steps}
    (cell.folder / "run" / "pretraining.json").write_text(json.dumps(record))


def test_presets_say_what_was_published() -> None:
    mae, simmim, simclr = (PretrainSettings.preset(f"btcv_{name}") for name in ("mae", "simmim", "simclr"))
    tuned = Settings.preset("btcv_24_6_unetr")
    for settings in (mae, simmim, simclr):
        assert (settings.network, settings.crop_size, settings.batch_size) == ("unetr", (96, 96, 96), 16)
        assert settings.steps == 3000 * 24 // 4  # epochs, scans, scans a step
        assert settings.prepare == tuned.prepare
        assert settings.network_args == tuned.network_args == {"feature_size": 16}
    assert (tuned.prepare.spacing, tuned.prepare.intensity_range) == ((1.5, 1.5, 2.0), (-175, 250))
    assert (mae.objective, mae.mae.ratio, mae.mae.decoder_width, mae.mae.decoder_depth) == ("mae", 0.75, 512, 8)
    rates = [(s.optimizer.lr, s.optimizer.lr_end, s.optimizer.weight_decay) for s in (mae, simmim, tuned)]
    assert rates == [(3e-4, 1e-4, 0.05), (1e-4, 0, 1e-5), (3e-4, 1e-4, 0.05)]
    assert (mae.optimizer.warmup, tuned.optimizer.warmup, simmim.optimizer.schedule) == (0.1, 0.1, "constant")
    assert (tuned.foreground, tuned.augment.flip_probability) == (0.5, 0.1)
    assert (tuned.augment.shift, tuned.augment.shift_probability) == (0.1, 0.5)
    luna = PretrainSettings.preset("luna16_pcrlv2")
    assert (luna.prepare.spacing, luna.prepare.intensity_range) == ((1, 1, 1), (-1000, 1000))
    assert (luna.batch_size, luna.steps) == (32, 240 * 623 * 16 // 32)
    assert (luna.optimizer.name, luna.optimizer.lr, luna.optimizer.momentum) == ("sgd", 1e-3, 0.9)


def test_a_pretraining_is_for_a_seed_and_for_all_rows_that_need_it() -> None:
    for place, count in (("corpus", 1), ("train", 3)):
        cells = planned("table6", seeds=(0, 1), rows="pretrained=yes", pretrain_on=place)
        found = before(cells)
        assert len(found) == 2 * count
        assert sorted({cell.settings.seed for cell in found}) == [0, 1]
        assert all(cell.after is None or cell.after.settings.seed == cell.seed for cell in cells)
        assert sum(cell.after is not None for cell in cells) == 2 * 3
    assert {cell.name for cell in before(planned("table5"))} == {
        f"pretrain-{name}-covid19-seed0" for name in ("mae", "simmim", "simclr")
    }


def test_both_stages_see_the_same_images_by_the_same_network() -> None:
    given = ("prepare.spacing=[2,2,3]", "crop_size=[64,64,64]", "network_args.hidden_size=96", "precision=32")
    for place in ("corpus", "train"):
        for cell in planned("table5", rows="method=mae,simclr", settings=given, pretrain_on=place):
            if cell.after is None:
                continue
            for name in ("network", "network_args", "prepare", "crop_size", "precision", "seed"):
                assert getattr(cell.after.settings, name) == getattr(cell.settings, name), name
            assert cell.after.settings.split == (None if place == "corpus" else "btcv_24_6")
            assert cell.after.data == Path("out") / ("covid19" if place == "corpus" else "btcv_24_6")


def test_pcrlv2s_has_crops_of_its_own_and_luna16_its_spacing_and_intensities() -> None:
    given = ("acdc:prepare.spacing=original", "acdc:split=mine.json")
    (luna,) = before(planned("table6", rows="pretrained=yes", settings=given))
    assert luna.settings.prepare == PretrainSettings.preset("luna16_pcrlv2").prepare
    found = {
        cell.source: cell.settings
        for cell in before(planned("table6", rows="pretrained=yes", settings=given, pretrain_on="train"))
    }
    acdc = found["acdc"]
    assert (acdc.prepare.spacing, acdc.prepare.normalization) == ("original", "zscore")
    assert Path(str(acdc.split)).name == "mine.json"
    for name in ("btcv", "brats21"):
        assert found[name].prepare == Settings.preset(f"{name}_pcrlv2").prepare
    assert all(settings.crop_size == (128, 128, 96) for settings in found.values())


def test_settings_of_pretrainings_alone() -> None:
    given = ("pretrain:batch_size=8", "pretrain:mae.ratio=0.5", "pretrain:steps=7", "foreground=0.3")
    cells = planned("table5", rows="method=mae", settings=given, steps=5)
    assert {(cell.settings.steps, cell.settings.batch_size) for cell in before(cells)} == {(7, 8)}
    assert {(cell.settings.steps, cell.settings.batch_size) for cell in cells} == {(5, 4)}
    assert {cell.settings.steps for cell in before(planned("table5", rows="method=mae", steps=5))} == {5}
    for wrong, words in (("pretrain:seed=1", "--seeds is meant"), ("pretrain:objective=mae", "--only method=")):
        with pytest.raises(InputError, match=words):
            Conditions({}, Path(), settings=(wrong,))
    with pytest.raises(InputError, match="foreground"):
        planned("table5", rows="method=mae", settings=("pretrain:foreground=0.3",))


def test_data_sets_that_share_a_pretraining_must_agree_on_it() -> None:
    given = ("acdc:network_args.width=8",)
    with pytest.raises(InputError, match=r"pretrain-pcrlv2-luna16-seed0 is one .* different network_args\. Give these"):
        planned("table6", rows="pretrained=yes", settings=given)
    planned("table6", rows="pretrained=yes", settings=given, pretrain_on="train")


def test_a_steps_cost_is_what_the_encoder_sees() -> None:
    cost = {cell.settings.objective: cell.cost for cell in before(planned("table5")) + before(planned("table6"))}
    views = 2 * 64 * 64 * 32 + 6 * 16**3
    assert cost == {"mae": 1, "simmim": 4, "simclr": 8, "pcrlv2": pytest.approx(32 * views / (4 * 96**3))}
    small = PretrainSettings(objective="mae", crop_size=(32, 32, 16), batch_size=2, accumulate=3)
    assert voxels_seen(small) == 6 * 32 * 32 * 16 / 4


def test_the_cost_has_a_pretraining_once(capsys: pytest.CaptureFixture) -> None:
    assert main(["reproduce", "table6", "--output", "none", "--dry-run", "--only", "pretrained=yes"]) == 0
    printed = capsys.readouterr().out
    lines = [line.split() for line in printed.splitlines() if "seed0" in line]
    assert (len(lines), lines[0][0], lines[0][-1]) == (4, "pretrain-pcrlv2-luna16-seed0", "193,822")
    assert "4 cells, 4 to run" in printed
    assert f"{193_822 + 25_000 + 2 * 90_000:,}" in printed


@pytest.mark.slow
def test_every_objective_fits_its_network_and_crops() -> None:
    check_pretrainings(planned("table5"))
    for place in ("corpus", "train"):
        check_pretrainings(planned("table6", rows="pretrained=yes", pretrain_on=place))


@pytest.mark.slow
def test_those_of_a_smoke_test_fit_theirs() -> None:
    for table in ("table5", "table6"):
        cells = planned(table, rows="pretrained=yes", smoke=True, pretrain_on="train")
        check_networks(cells)
        check_pretrainings(cells)


def test_an_objective_that_does_not_fit_is_named() -> None:
    for given in ("pretrain:mae.cube=20", "pretrain:crop_size=[40,96,96]"):
        with pytest.raises(InputError, match="pretrain-mae-covid19-seed0: "):
            check_pretrainings(planned("table5", rows="method=mae", settings=(given,)))


def test_each_pretraining_is_right_before_the_first_that_needs_it() -> None:
    cells = planned("table5") + planned("table6")
    ordered = [cell.name for cell in in_order(cells, pretrainings(cells))]
    assert len(ordered) == len(set(ordered)) == len(cells) + 4
    for cell in cells:
        assert cell.after is None or ordered.index(cell.after.name) < ordered.index(cell.name)
    assert ordered[0] == "btcv_24_6_unetr-none-seed0"
    assert ordered[1:3] == ["pretrain-simclr-covid19-seed0", "btcv_24_6_unetr-none-simclr-covid19-seed0"]


def test_a_pretraining_that_is_done_is_not_run_again(tmp_path: Path) -> None:
    cells = planned("table5", tmp_path)
    first = before(cells)[0]
    assert [cell.name for cell in sort_all(cells)[0]].count(first.name) == 1
    finish(first)
    todo, failed = sort_all(cells)
    assert first.name not in [cell.name for cell in todo]
    assert (len(todo), failed) == (7, {})
    printed = [str(text) for text in cost_table([first, *cells], todo, {}).columns[3].cells]
    assert printed[0] == "done"


def test_one_that_nothing_waits_for_any_more_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TableCell, "has_results", lambda _: True)
    assert sort_all(planned("table5")) == ([], {})


def test_another_pretraining_is_refused(tmp_path: Path) -> None:
    (cell,), (changed,), (machine,) = (
        planned("table5", tmp_path, rows="method=mae", settings=given)
        for given in ((), ("pretrain:mae.ratio=0.5",), ("workers=3",))
    )
    assert cell.after is not None
    finish(cell.after)
    assert changed.after is not None
    with pytest.raises(InputError, match=r"pretrain-mae-covid19-seed0 holds results of other settings: mae was"):
        changed.after.is_done()
    cell.write()
    (cell.folder / "run").mkdir()
    cell.settings.write(cell.folder / "run" / "settings.yaml")
    cell.check_same()
    with pytest.raises(InputError, match="it started from another pretraining than pretrain-mae-covid19-seed0"):
        changed.check_same()
    machine.check_same()
    elsewhere = replace(cell, after=replace(cell.after, data=tmp_path / "luna16"))
    with pytest.raises(InputError, match="it started from another pretraining"):
        elsewhere.check_same()


def test_cells_after_a_damaged_pretraining_are_named(tmp_path: Path) -> None:
    cells = planned("table5", tmp_path)
    first = before(cells)[0]
    finish(first)
    (first.folder / "cell.json").write_text("{")
    todo, failed = sort_all(cells)
    (after,) = (cell.name for cell in cells if cell.after == first)
    assert list(failed) == [first.name, after]
    assert "is damaged" in failed[first.name]
    assert failed[after] == f"It starts from {first.name}, which is damaged."
    assert len(todo) == 6


def test_cells_wait_for_their_pretraining_and_its_failure_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    cells = planned("table5", tmp_path)
    run: list[str] = []

    def run_in_process(folder: Path, look: object) -> None:
        record = json.loads((folder / "cell.json").read_text())
        run.append(folder.name)
        if folder.name.startswith("pretrain-mae"):
            raise InputError("no space left")
        if folder.name.startswith("pretrain"):
            finished = folder / "run" / "pretraining.json"
            finished.parent.mkdir()
            finished.write_text('{"step": 18000}')
        check_start(record)

    monkeypatch.setattr(launch, "run_in_process", run_in_process)
    todo, _ = sort_all(cells)
    failed = launch.run_local(todo)
    assert run == [cell.name for cell in todo]
    assert failed == {
        "pretrain-mae-covid19-seed0": "no space left",
        "btcv_24_6_unetr-none-mae-covid19-seed0": (
            "It starts from pretrain-mae-covid19-seed0, which has not come to its end; see "
            f"{tmp_path / 'cells' / 'pretrain-mae-covid19-seed0' / 'log.txt'}."
        ),
    }
    assert "[8/8]" in capsys.readouterr().out


class Executor:
    """What `submit` needs of submitit's: one array for each batch."""

    def __init__(self) -> None:
        self.arrays: list[list[str]] = []
        self.dependencies: list[str] = []
        self.dependency = ""

    def update_parameters(self, slurm_dependency: str) -> None:
        self.dependency = slurm_dependency

    def batch(self) -> "Executor":
        return self

    def __enter__(self) -> None:
        self.arrays.append([])
        self.dependencies.append(self.dependency)

    def __exit__(self, *error: object) -> None:
        pass

    def submit(self, job: launch.Job) -> SimpleNamespace:
        assert (job.folder / "cell.json").is_file()
        self.arrays[-1].append(job.folder.name)
        return SimpleNamespace(job_id=f"{len(self.arrays)}_{len(self.arrays[-1]) - 1}")


def test_a_cluster_holds_cells_back_until_their_pretraining_has_ended(tmp_path: Path) -> None:
    todo, _ = sort_all(planned("table6", tmp_path))
    executor = Executor()
    jobs = launch.submit(todo, executor, "slurm")
    assert sorted(cell.name for cell, _ in jobs) == sorted(cell.name for cell in todo)
    first, waiting = executor.arrays
    assert "pretrain-pcrlv2-luna16-seed0" in first
    assert sorted(waiting) == sorted(cell.name for cell in todo if cell.after)
    place = first.index("pretrain-pcrlv2-luna16-seed0")
    assert executor.dependencies == ["", f"afterany:1_{place}"]
    finish(before(planned("table6", tmp_path))[0])
    executor = Executor()
    launch.submit(sort_all(planned("table6", tmp_path))[0], executor, "slurm")
    assert (len(executor.arrays), executor.dependencies) == (1, [""])


def test_a_corpus_is_any_folder_of_scans(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "one.nii.gz").touch()
    given = {"covid19": str(tmp_path / "scans")}
    assert find_corpora(["covid19"], given, "corpus", dry=False) == {"covid19": tmp_path / "scans"}
    assert find_corpora(["covid19"], {}, "corpus", dry=True) == find_corpora(["luna16"], {}, "train", dry=False) == {}
    with pytest.raises(InputError, match=r"Give --data luna16=DIR, .*; or --pretrain_on train for the training cases"):
        find_corpora(["covid19", "luna16"], given, "corpus", dry=False)
    with pytest.raises(InputError, match=r"--pretrain_on train pretrains on .* Give one of the two\."):
        find_corpora(["covid19"], given, "train", dry=False)
    (tmp_path / "empty").mkdir()
    for place in ("nowhere", "empty"):
        with pytest.raises(InputError, match=place):
            find_corpora(["luna16"], {"luna16": str(tmp_path / place)}, "corpus", dry=False)
    with pytest.raises(InputError, match="Unknown data set 'covid'; did you mean 'covid19'"):
        find_data([], {"covid": "x"}, tmp_path, smoke=False, dry=False)


def test_other_scans_than_the_papers_are_said_with_the_table() -> None:
    def said(place: Any) -> str:
        return " ".join(remarks(planned("table5", pretrain_on=place), Conditions({}, Path(), pretrain_on=place)))

    assert "pretrain-mae-covid19-seed0: mae on covid19 (out/covid19), 18,000 steps of 16 crops." in said("corpus")
    assert "Different from the paper" not in said("corpus")
    assert "mae on the training cases of the split btcv_24_6, 18,000 steps" in said("train")
    assert "Different from the paper: pretrained on the training cases" in said("train")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MAE's row of Table 5, run once; not to be changed."""
    output = tmp_path_factory.mktemp("smoke")
    assert main(["reproduce", "table5", "--output", str(output), "--scale=smoke", "--only", "method=mae"]) == 0
    return output


@pytest.mark.slow
def test_a_row_that_starts_from_a_pretraining_is_reproduced(smoke: Path, capsys: pytest.CaptureFixture) -> None:
    run = smoke / "cells" / "btcv_24_6_unetr-none-mae-btcv_24_6-seed0" / "run"
    split = json.loads((run / "split.json").read_text())
    assert (len(split["train"]), len(split["test"])) == (24, 6)
    with next(smoke.glob("table5*.csv")).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 14 * 2  # columns, protocols
    assert {(row["row"], row["pretrained_on"], row["pretraining_steps"]) for row in rows} == {("MAE", "btcv_24_6", "2")}
    page = next(smoke.glob("table5*.md")).read_text()
    assert "Different from the paper" in page
    assert main(["reproduce", "table5", "--output", str(smoke), "--scale=smoke", "--only", "method=mae"]) == 0
    assert "2 cells, 2 done before" in capsys.readouterr().out


@pytest.mark.slow
def test_submitits_local_executor_runs_a_pretraining_before_its_cell(tmp_path: Path) -> None:
    data = tmp_path / "data" / "acdc"
    write_data("acdc", data)
    splits = {"acdc": split_file(data)}
    conditions = Conditions({"acdc": data}, tmp_path, smoke=True, splits=splits, pretrain_on="train")
    variant = Variant("acdc", "pcrlv2", False, objective="pcrlv2")
    todo, _ = sort_all(add_pretrainings([make_cell(variant, 0, conditions)], conditions))
    first, cell = todo
    jobs = {"timeout_min": 5, "gpus_per_node": 0}
    (first.folder / "run").parent.mkdir(parents=True)
    (first.folder / "run").write_text("in the way of a folder")
    failed = launch.run_on_cluster(todo, tmp_path / "jobs", jobs, cluster="local")
    assert list(failed) == [first.name, cell.name]
    assert "is a file; give a folder" in failed[first.name]
    assert failed[cell.name].startswith(f"It starts from {first.name}, which has not come to its end")
    (first.folder / "run").unlink()
    assert launch.run_on_cluster(todo, tmp_path / "jobs", jobs, cluster="local") == {}
    assert first.is_done()
    assert cell.is_done()
    assert first.name in json.loads((cell.folder / "run" / "inputs.json").read_text())["init"]
