"""Means by hand, with what they leave out beside them."""

import csv
import io
import json
import math
import re

import pytest
from rich.console import Console

from medcontext.evaluation.metrics import Score, Status, absent
from medcontext.evaluation.protocols import PROTOCOLS
from medcontext.evaluation.summary import make_rows, make_table, summarise, to_csv

STANDARD = PROTOCOLS["standard"]


def score(structure: str, dsc: float, hd95: float, status: Status = "both") -> Score:
    return Score(structure, status, dsc, hd95, 2 * hd95, 10, 20, 30.0, 60.0)


CASES = {
    "a": [score("liver", 0.9, 2), score("spleen", 0, 100, "missed"), absent("aorta", STANDARD)],
    "b": [score("liver", 0.8, 4), score("spleen", 0.6, 10), absent("aorta", STANDARD)],
    "c": [score("liver", 0.4, 9), absent("spleen", STANDARD), absent("aorta", STANDARD)],
    "d": [score("liver", 0.5, 9), score("spleen", 0, 100, "spurious"), absent("aorta", STANDARD)],
}


def test_means_count_misses_and_false_alarms_and_leave_out_what_is_absent() -> None:
    summary = summarise(CASES)
    liver, spleen = summary["structures"]["liver"], summary["structures"]["spleen"]
    assert liver["n"] == 4
    assert liver["dsc"]["mean"] == pytest.approx(0.65)
    assert liver["dsc"]["median"] == pytest.approx(0.65)
    assert liver["dsc"]["std"] == pytest.approx(math.sqrt((0.25**2 + 0.15**2 + 0.25**2 + 0.15**2) / 3))
    assert liver["hd95_pooled"]["median"] == 6.5
    assert [spleen[key] for key in ("n", "missed", "spurious", "absent")] == [3, 1, 1, 1]
    assert spleen["dsc"]["mean"] == pytest.approx(0.2)
    assert spleen["hd95_pooled"]["mean"] == 70
    assert spleen["hd95_max"]["mean"] == 140


def test_the_overall_mean_is_that_of_the_structures_means() -> None:
    overall = summarise(CASES)["mean"]
    assert overall["dsc"] == pytest.approx((0.65 + 0.2) / 2)
    assert overall["hd95_pooled"] == pytest.approx((6 + 70) / 2)
    assert [overall[key] for key in ("structures", "n", "missed", "spurious", "absent")] == [2, 7, 1, 1, 5]


def test_a_structure_that_no_case_has_is_null_in_valid_json() -> None:
    summary = summarise(CASES)
    assert summary["structures"]["aorta"]["dsc"] == {"mean": None, "std": None, "median": None}
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    nothing = summarise({"a": [absent("aorta", STANDARD)]})["mean"]
    assert nothing["dsc"] is None
    assert nothing["structures"] == 0


def test_one_case_has_no_standard_deviation() -> None:
    assert summarise({"a": CASES["a"]})["structures"]["liver"]["dsc"] == {"mean": 0.9, "std": None, "median": 0.9}


def test_the_csv_has_a_row_for_each_case_and_structure() -> None:
    rows = list(csv.DictReader(to_csv(make_rows(CASES)).splitlines()))
    assert [(row["case"], row["structure"]) for row in rows[:4]] == [
        ("a", "liver"),
        ("a", "spleen"),
        ("a", "aorta"),
        ("b", "liver"),
    ]
    assert len(rows) == 12
    assert math.isnan(float(rows[2]["dsc"]))
    assert (rows[1]["status"], float(rows[1]["hd95_max"]), rows[1]["label_mm3"]) == ("missed", 200, "30.0")


def test_the_csv_keeps_full_precision_and_awkward_names() -> None:
    (row,) = csv.DictReader(to_csv(make_rows({'x, "1"': [score("aorta, left", 1 / 3, 2)]})).splitlines())
    assert float(row["dsc"]) == 1 / 3
    assert (row["case"], row["structure"]) == ('x, "1"', "aorta, left")


def printed(width: int, cases: dict[str, list[Score]]) -> str:
    text = io.StringIO()
    Console(width=width, file=text).print(make_table(summarise(cases), STANDARD, len(cases)))
    return text.getvalue()


def test_the_table_says_per_cent_units_and_counts() -> None:
    text = printed(120, CASES)
    rows = {cells[0]: cells[1:] for line in text.splitlines() if (cells := re.split(r"\s{2,}", line.strip()))}
    assert rows["liver"] == ["4", "0", "0", "65.00 ± 23.8", "6.00 ± 3.6", "12.00 ± 7.1"]
    assert rows["spleen"][:3] == ["3", "1", "1"]
    assert rows["aorta"] == ["0", "0", "0", "-", "-", "-"]
    assert rows["mean"] == ["7", "1", "1", "42.50", "38.00", "76.00"]
    assert "mm" in text
    headings = [column.header for column in make_table(summarise(CASES), PROTOCOLS["legacy"], 4).columns]
    assert headings[-1] == "HD95 max\nvoxels"


def test_a_narrow_terminal_folds_names_and_no_numbers() -> None:
    cases = {name: [score("inferior vena cava", dsc, 123.4)] for name, dsc in (("a", 0.0), ("b", 1.0))}
    text = printed(80, cases | {"c": [absent("inferior vena cava", STANDARD)]})
    assert "n: cases that have the structure" in text
    assert "inferior" in text
    (line,) = (line for line in text.splitlines() if line.count("±") == 3)
    assert line.split()[-3:] == ["246.80", "±", "0.0"]
