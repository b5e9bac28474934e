"""What ships of the paper is what the paper says, where a copy of its tables and splits is at hand."""

import json
from pathlib import Path

import pytest

from medcontext.data.known import KNOWN
from medcontext.data.split_files import PACKAGED
from medcontext.experiments.tables import PAPER


def test_the_tables_are_the_papers(shared_paper: Path) -> None:
    tables = json.loads((shared_paper / "tables.json").read_text())
    tables = tables.get("tables", tables)
    assert {name: tables[name] for name in PAPER["tables"]} == PAPER["tables"]


@pytest.mark.parametrize("name", ["acdc", "brats17", "btcv"])
def test_the_splits_are_the_papers(shared_paper: Path, name: str) -> None:
    paper = json.loads((shared_paper / "splits.json").read_text())[name]
    ours = json.loads((PACKAGED / f"{name}.json").read_text())
    assert {part: sorted(ours[part]) for part in ("train", "test")} == {
        part: sorted(paper[part]) for part in ("train", "test")
    }
    if "few_shot_5" in paper:
        assert sorted(ours["few_shot"]["5"]) == sorted(paper["few_shot_5"])
    if "organs_8" in paper:
        assert list(KNOWN[name].scored) == paper["organs_8"]


def test_the_split_that_is_a_rule_has_the_papers_sizes(shared_paper: Path) -> None:
    paper = json.loads((shared_paper / "splits.json").read_text())["brats21"]
    ours = json.loads((PACKAGED / "brats21.json").read_text())["seeded"]
    assert (ours["train"], ours["test"]) == (paper["train"], paper["test"])
