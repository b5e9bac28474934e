"""Which folder holds which cell, and whether its results can be trusted. Nothing is trained here."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from medcontext.data.known import KNOWN
from medcontext.data.splits import Split
from medcontext.errors import InputError
from medcontext.experiments.cells import SCORED_BY, DamagedCellError, TableCell, make_cell, sort_out
from medcontext.experiments.conditions import Conditions
from medcontext.experiments.tables import Variant

SPLIT = Split(("patient001_frame01",), (), ("patient002_frame01",))
MEANS = {name: {"dsc": {"mean": 0.5}, "hd95_pooled": {"mean": 3.0}} for name in KNOWN["acdc"].scored}


def started(output: Path, *settings: str, seed: int = 0) -> TableCell:
    """A cell whose training has begun."""
    conditions = Conditions({"acdc": output / "data"}, output, settings=settings)
    cell = replace(make_cell(Variant("acdc", "unetr", True), seed, conditions), split=SPLIT)
    cell.write()
    (cell.folder / "run").mkdir()
    cell.settings.write(cell.folder / "run" / "settings.yaml")
    return cell


def finished(output: Path, *settings: str, seed: int = 0) -> TableCell:
    cell = started(output, *settings, seed=seed)
    for protocol in SCORED_BY:
        (cell.folder / protocol).mkdir()
        (cell.folder / protocol / "summary.json").write_text(json.dumps({"structures": MEANS}))
    assert cell.is_done()
    return cell


def changed(cell: TableCell, **settings: object) -> TableCell:
    return replace(cell, settings=replace(cell.settings, **settings))


def test_other_settings_are_refused_once_a_training_began(tmp_path: Path) -> None:
    cell = started(tmp_path)
    assert not cell.is_done()
    with pytest.raises(InputError, match="holds results of other settings: steps was 90000, now 7"):
        changed(cell, steps=7).is_done()
    assert not changed(cell, workers=1).is_done()


def test_a_cell_that_failed_before_its_training_may_be_corrected(tmp_path: Path) -> None:
    cell = started(tmp_path)
    (cell.folder / "run" / "settings.yaml").unlink()
    corrected = changed(cell, steps=7)
    assert not corrected.is_done()
    corrected.write()
    (cell.folder / "settings.yaml").write_text("damaged, which does not matter")
    assert not corrected.is_done()


def test_other_cases_are_refused(tmp_path: Path) -> None:
    cell = finished(tmp_path)
    other = replace(cell, split=Split(("patient009_frame01",), (), SPLIT.test))
    with pytest.raises(InputError, match="the split's 1 train cases were not all those of now"):
        other.is_done()


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"structures": {}}', '{"structures": {"myocardium": {}}}'])
def test_scores_that_cannot_be_read_are_measured_again(tmp_path: Path, text: str) -> None:
    cell = finished(tmp_path)
    (cell.folder / "legacy" / "summary.json").write_text(text)
    assert not cell.is_done()
    assert cell.scores("legacy") is None
    assert sort_out([cell]) == ([cell], {})


@pytest.mark.parametrize("file", ["cell.json", "settings.yaml"])
@pytest.mark.parametrize("text", [None, "", "{}", "[]", "network: unetr\n", "{"])
def test_a_cell_that_does_not_say_what_it_is_is_named_and_the_others_go_on(
    tmp_path: Path, file: str, text: str | None
) -> None:
    cells = [finished(tmp_path, seed=0), started(tmp_path, seed=1)]
    path = cells[0].folder / file
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(DamagedCellError):
        cells[0].is_done()
    todo, damaged = sort_out(cells)
    assert todo == cells[1:]
    assert list(damaged) == [cells[0].name]
    assert f"cell.json in {cells[0].folder} is damaged" in damaged[cells[0].name]
    assert "Delete that folder" in damaged[cells[0].name]


def test_settings_that_are_cut_off_are_damaged_not_other_ones(tmp_path: Path) -> None:
    cell = finished(tmp_path)
    path = cell.folder / "settings.yaml"
    text = path.read_text()
    path.write_text(text[: text.index("steps:")])
    with pytest.raises(DamagedCellError, match=r"settings\.yaml lacks steps"):
        cell.is_done()
