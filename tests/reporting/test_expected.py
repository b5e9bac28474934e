"""What was expected of evaluated predictions, beside what came true."""

from pathlib import Path

import pytest

from medcontext.comparison.read import read_study
from medcontext.reporting.content import make_page, read_content
from medcontext.reporting.expected import read_foreseen
from medcontext.reporting.page import render
from tests.reporting.expectations import foreseen


def test_each_case_is_paired_by_the_structures_that_were_found(evaluated: dict[str, Path], tmp_path: Path) -> None:
    near = foreseen(evaluated["near"], tmp_path / "near")
    study = read_study([f"far={evaluated['far']}", f"near={near}"])
    (found,), unfit = read_foreseen(study)
    assert unfit == []
    assert (found.model, found.index) == ("near", 1)
    assert len(found.pairs) == 8
    for case, pair in found.pairs.items():
        assert pair.true - pair.expected == pytest.approx(0.1, abs=1e-4), "rounded in the file"
        assert pair.low < pair.expected < pair.high, case
    left = study.paired["left", "dsc"].case_means["ball_3"][1]
    assert found.pairs["ball_3"].true == pytest.approx(left), "its right ball was not found"
    assert [row.case for row in found.cases[:2]] == ["ball_5", "ball_3"], "what has a remark, then the worst"


def test_cases_that_were_not_scored_are_left_out(evaluated: dict[str, Path], tmp_path: Path) -> None:
    scores = foreseen(evaluated["far"], tmp_path / "far")
    table = scores / "metrics.csv"
    table.write_text("".join(line for line in table.open() if not line.startswith("ball_5,")))
    (found,), _ = read_foreseen(read_study([str(scores)], least=1))
    assert len(found.cases) == len(found.pairs) == 7


@pytest.mark.parametrize(
    ("lacking", "said"), [("ball_4", "it lacks 1 of 8 cases, ball_4"), ("left", "it lacks 1 of 2 structures, left")]
)
def test_what_is_of_other_predictions_is_not_shown(
    lacking: str, said: str, evaluated: dict[str, Path], tmp_path: Path
) -> None:
    content = read_content([str(foreseen(evaluated["far"], tmp_path / "far", leave_out=[lacking]))])
    assert not content.foreseen
    (sentence,) = content.unfit
    assert said in sentence
    text = render(make_page(content, []))
    assert "is not of these predictions" in text
    assert '<table class="expected' not in text


def test_a_damaged_file_does_not_end_the_page(evaluated: dict[str, Path], tmp_path: Path) -> None:
    scores = foreseen(evaluated["far"], tmp_path / "far")
    (tmp_path / "far/predictions/expected.csv").write_text("case,mine\n")
    assert "is damaged" in read_content([str(scores)]).unfit[0]


def test_of_several_seeds_a_case_is_the_first_ones(evaluated: dict[str, Path], tmp_path: Path) -> None:
    seeds = [foreseen(evaluated["far"], tmp_path / str(off), off) for off in (0.1, 0.3)]
    (found,), _ = read_foreseen(read_study([f"m={seeds[0]},{seeds[1]}"], least=1))
    assert len(found.cases) == 8
    assert all(pair.true - pair.expected == pytest.approx(0.1, abs=1e-4) for pair in found.pairs.values())


def test_without_expectations_the_page_is_as_it_was(arguments: list[str]) -> None:
    page = make_page(read_content(arguments), [])
    assert (page.expected, page.expected_notes) == ([], [])
    assert 'id="expected"' not in render(page)
