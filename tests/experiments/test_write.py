import csv
from pathlib import Path

from medcontext.experiments import results
from medcontext.experiments.cells import make_cell
from medcontext.experiments.conditions import Conditions
from medcontext.experiments.only import choose
from medcontext.experiments.tables import Variant, get_grid
from medcontext.experiments.write import facts, file_stem, remarks

ACDC, BTCV = Variant("acdc", "unetr", True, (), 5), Variant("btcv", "unetr", True, (), 5)


def test_no_table_is_written_over_another() -> None:
    grid = get_grid("table2")

    def stem(seeds: list[int], filters: dict[str, str], **conditions: object) -> str:
        return file_stem(grid, Conditions({}, Path(), **conditions), choose([grid], seeds, filters))

    assert stem([0], {}) == "table2"
    assert stem([0, 1], {}) == "table2-seeds=0,1"
    assert stem([0, 1], {"seed": "0"}) == "table2"
    assert stem([1], {"model": "nnformer,unetr"}) == "table2-model=unetr,nnformer-seeds=1"
    assert stem([0], {}, method="reference", few_shot=3) == "table2-reference-3cases"


def test_the_settings_and_the_resolved_steps_are_with_the_result() -> None:
    def said(*given: str, **more: object) -> str:
        conditions = Conditions({}, Path(), settings=given, **more)
        return " ".join(remarks([make_cell(variant, 0, conditions) for variant in (ACDC, BTCV)], conditions))

    assert "steps 90,000 (the presets'), seeds 0" in said()
    assert "steps 5 (given by --set)" in said("steps=5", smoke=True)
    assert "Further settings: --set steps=5 acdc:split=x.json" in said("steps=5", "acdc:split=x.json")
    assert "steps 5 to 90,000 (the presets', for acdc given by --set)" in said("acdc:steps=5")
    assert "steps 5 (given by --steps)" in said(steps=5)
    assert "steps 2 (a smoke test's)" in said(smoke=True)


def test_the_csv_has_numbers_for_steps_and_all_settings() -> None:
    conditions = Conditions({}, Path(), settings=("acdc:steps=5", "precision=32"))
    grid = get_grid("table4")
    entries = [entry for entry in grid.entries if entry.variant in (ACDC, BTCV)]
    cells = {variant: [make_cell(variant, 0, conditions)] for variant in (ACDC, BTCV)}
    text = results.to_csv(grid, results.measure(entries, cells), facts(conditions))
    rows = {row["dataset"]: row for row in csv.DictReader(text.splitlines())}
    assert {name: (row["steps"], row["few_shot"]) for name, row in rows.items()} == {
        "acdc": ("5", "5"),
        "btcv": ("90000", "5"),
    }
    assert rows["btcv"]["settings"] == "acdc:steps=5 precision=32"
