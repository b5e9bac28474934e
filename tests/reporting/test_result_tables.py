from pathlib import Path

import pytest

from medcontext.comparison.compare import compare_models
from medcontext.comparison.read import read_study
from medcontext.reporting.result_tables import ResultTable, result_tables


def tables(arguments: list[str]) -> dict[str, ResultTable]:
    study = read_study(arguments, least=1)
    comparisons = compare_models(study) if len(study.models) > 1 else []
    return {table.metric: table for table in result_tables(study, comparisons)}


def test_the_page_shows_the_numbers_of_the_comparison(arguments: list[str]) -> None:
    shown = {row.structure: row for row in tables(arguments)["dsc"].rows}
    found = {(row.structure, row.metric): row for row in compare_models(read_study(arguments))}
    for structure in ("left", "right", "mean"):
        row, expected = shown[structure], found[structure, "dsc"]
        assert [text for text, _ in row.means] == [f"{100 * mean:.1f}" for mean in expected.means]
        assert row.differences[0].mean == f"{100 * expected.difference.mean:+.1f}"
        assert row.differences[0].significant == expected.significant
    assert [best for _, best in shown["left"].means] == [False, True]
    assert shown["mean"].overall


def test_the_best_distance_is_the_smallest(arguments: list[str]) -> None:
    row = tables(arguments)["hd95_max"].rows[0]
    far, near = row.means
    assert float(far[0]) > float(near[0])
    assert not far[1]
    assert near[1]


def test_misses_stand_beside_the_means_and_empty_columns_do_not(arguments: list[str]) -> None:
    table = tables(arguments)["dsc"]
    assert table.counts == [("missed", "missed")]
    assert [row.missed for row in table.rows] == ["", "0 / 1", "0 / 1"]


def test_one_model_alone_has_means_and_no_differences(evaluated: dict[str, Path]) -> None:
    (left, right, mean) = tables([str(evaluated["far"])])["dsc"].rows
    assert left.differences == right.differences == []
    assert float(mean.means[0][0]) == pytest.approx((float(left.means[0][0]) + float(right.means[0][0])) / 2, abs=0.1)
    assert not mean.means[0][1], "nothing is best where there is nothing to compare"


def test_seeds_of_a_model_are_averaged(evaluated: dict[str, Path]) -> None:
    both = tables([f"a={evaluated['far']},{evaluated['near']}"])["dsc"].rows[0].means[0][0]
    each = [float(tables([str(folder)])["dsc"].rows[0].means[0][0]) for folder in evaluated.values()]
    assert float(both) == pytest.approx(sum(each) / 2, abs=0.11)
