"""What a person should look at is named, and nothing else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medcontext.errors import InputError
from medcontext.inference.judge import (
    COLUMNS,
    FILE,
    Judged,
    judge,
    lowest,
    most_needed,
    read_expected,
    sort_expected,
    write_expected,
)
from medcontext.inference.signs import SIGNS, Noticed
from medcontext.run.calibration import Calibration, Known, Observed, Rule

RULE = Rule(0.8, (0.9, 0.9, 0.9), (1.0, 0.0, 0.0), {}, 0.5, 0.9)
QUANTILES = (tuple(np.linspace(-1, 1, 21).tolist()),)
KNOWN = Known(
    (QUANTILES,) * 2, ((100.0, 100.0, 50.0), (120.0, 100.0, 60.0)), {"liver": (10.0, 20.0), "spleen": (5.0, 0.0)}
)
OBSERVED = tuple(
    Observed(f"c{i}", f"p{i}", structure, (0.9, 0.9, 0.9), 0.8, 0.5 + 0.04 * i)
    for i in range(11)
    for structure in ("liver", "spleen")
)
CALIBRATION = Calibration("student", ("abc",), 0.5, False, SIGNS, KNOWN, OBSERVED, RULE)
VOLUMES = {"liver": 15.0, "spleen": 5.0}


def noticed(liver: float | None = 0.95, spleen: float | None = 0.95) -> Noticed:
    signs = {"liver": liver, "spleen": spleen}
    rows = {name: [None if value is None else (value, 0.9, 0.9)] for name, value in signs.items()}
    return Noticed(rows, np.array(QUANTILES), (110.0, 100.0, 55.0))  # type: ignore[arg-type]


def test_a_case_like_the_others_gets_no_remark() -> None:
    mean, liver, spleen = judge("x", noticed(), VOLUMES, CALIBRATION)
    assert (mean.structure, mean.remarks, liver.remarks, spleen.remarks) == ("mean", "", "", "")
    assert liver.expected == pytest.approx((0.85, 0.775, 0.925))
    assert mean.expected == pytest.approx((0.85, 0.775, 0.925))
    assert liver.signs == (0.95, 0.9, 0.9)


def test_likely_bad_is_what_is_expected_worse_than_four_of_five_cases() -> None:
    assert lowest(CALIBRATION) == pytest.approx({"mean": 0.58, "liver": 0.54, "spleen": 0.54})
    mean, liver, spleen = judge("x", noticed(0.67, 0.67), VOLUMES, CALIBRATION)
    assert (mean.expected or (1,))[0] == pytest.approx(0.57)
    assert (mean.remarks, liver.remarks, spleen.remarks) == ("likely bad", "", "")
    mean, liver, spleen = judge("x", noticed(0.60, 0.95), VOLUMES, CALIBRATION)
    assert (mean.remarks, liver.remarks, spleen.remarks) == ("liver: likely bad", "likely bad", "")


def test_a_structure_that_all_labelled_scans_have_is_missed() -> None:
    mean, liver, spleen = judge("x", noticed(None, None), VOLUMES, CALIBRATION)
    assert liver == Judged("x", "liver", (0, 0, 0), None, "not found")
    assert spleen == Judged("x", "spleen"), "one of two labelled scans has none either"
    assert mean.expected == (0, 0, 0)
    assert mean.remarks == "likely bad; liver: not found"


def test_what_is_unlike_the_labelled_scans_is_named() -> None:
    strange = noticed()
    strange.quantiles, strange.extent = np.array(QUANTILES) * 5 + 3, (110.0, 100.0, 200.0)
    mean, liver, _ = judge("x", strange, {"liver": 90.0, "spleen": 5.0}, CALIBRATION)
    assert liver.remarks == "90 ml, 10 to 20 ml in the labelled scans"
    assert mean.remarks == (
        "intensities unlike those of the labelled scans; 200 mm from bottom to top, 50 to 60 mm in the labelled scans; "
        "liver: 90 ml, 10 to 20 ml in the labelled scans"
    )


def test_without_a_rule_no_dsc_is_expected() -> None:
    mean, liver, _ = judge("x", noticed(0.1), VOLUMES, replace(CALIBRATION, observed=(), rule=None))
    assert mean.expected is liver.expected is None
    assert liver.signs == (0.1, 0.9, 0.9)
    assert mean.remarks == ""


def test_the_file_is_read_as_it_was_written_and_sorted_by_need(tmp_path: Path) -> None:
    rows = [
        *judge("good", noticed(), VOLUMES, CALIBRATION),
        *judge('odd, "name"', noticed(0.7, 0.6), VOLUMES, CALIBRATION),
        *judge("missed", noticed(None, 0.95), VOLUMES, CALIBRATION),
        *judge("fair", noticed(0.9), VOLUMES, CALIBRATION),
    ]
    write_expected(tmp_path, rows)
    assert (tmp_path / FILE).read_text().splitlines()[0] == ",".join(COLUMNS)
    assert [(row.case, row.structure, row.remarks) for row in read_expected(tmp_path)] == [
        (row.case, row.structure, row.remarks) for row in rows
    ]
    assert read_expected(tmp_path)[1].expected == pytest.approx(rows[1].expected, abs=1e-4)
    assert read_expected(tmp_path)[7].signs is None
    sort_expected(tmp_path)
    assert list(dict.fromkeys(row.case for row in read_expected(tmp_path))) == [
        "missed", 'odd, "name"', "fair", "good",
    ]  # fmt: skip
    assert most_needed(tmp_path, count=1) == [
        f"Look first at 2 of 4 cases, the first 1 of them; all in {tmp_path / FILE}:",
        "  missed (expected DSC 42 %): likely bad; liver: not found",
    ]


def test_nothing_to_look_at_is_said(tmp_path: Path) -> None:
    write_expected(tmp_path, judge("good", noticed(), VOLUMES, CALIBRATION))
    assert most_needed(tmp_path) == [
        f"None of 1 case stands out; what is expected of each: {tmp_path / FILE}"
    ]  # fmt: skip
    assert read_expected(tmp_path / "elsewhere") == []


@pytest.mark.parametrize("text", ["", "case,structure\na,b\n", ",".join(COLUMNS) + "\na,b,c,d,e,f,g,h,i\n"])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(InputError, match=r"expected\.csv is damaged"):
        read_expected(tmp_path)
