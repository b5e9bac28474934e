"""How far the expected DSC lie from the true ones."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from medcontext.inference.worth import pairs, remarks, table
from medcontext.run.calibration import Calibration, Known, Observed, Rule

OBSERVED = tuple(
    Observed(case, case, structure, (0.9,), dsc, expected)
    for case, structure, dsc, expected in (
        ("a", "liver", 0.9, 0.8), ("a", "spleen", 0.7, 0.8), ("b", "liver", 0.6, 0.7), ("c", "spleen", 0.2, 0.5),
    )
)  # fmt: skip
RULE = Rule(0.5, (0.9,), (1.0,), {}, 0.5, 0.75)
FOUND = Calibration("student", ("abc",), 0.5, False, ("confidence",), Known((), (), {}), OBSERVED, RULE)


def test_cases_are_means_over_what_they_have() -> None:
    found = pairs(FOUND)
    assert list(found) == ["mean", "liver", "spleen"]
    assert found["mean"][0] == pytest.approx([0.8, 0.7, 0.5])
    assert found["mean"][1] == pytest.approx([0.8, 0.6, 0.2])
    assert found["spleen"][1] == pytest.approx([0.7, 0.2])


def test_the_table_says_how_far_it_is_off() -> None:
    shown = Console(file=io.StringIO(), width=100)
    shown.print(table(FOUND))
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    assert "3 patients not trained on" in text
    lines = {line.split()[0]: line.split()[1:] for line in text.splitlines()[4:] if line.split()}
    assert lines["mean"] == ["3", "53.3", "13.3", "1.00"]
    assert lines["liver"] == ["2", "75.0", "10.0", "-"]


def test_too_few_patients_are_said() -> None:
    assert remarks(FOUND) == []
    (text,) = remarks(replace(FOUND, observed=(), rule=None))
    assert "medcontext cross_validate" in text
