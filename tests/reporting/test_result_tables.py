from pathlib import Path

import pytest

from medcontext.comparison.compare import compare_models
from medcontext.comparison.read import read_study
from medcontext.reporting.result_tables import ResultTable, result_tables
from tests.comparison.evaluations import Write, plain, score


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


def test_what_no_model_finds_is_one_line_and_counts_in_the_mean(write: Write) -> None:
    folders = [
        write(name, {f"case_{i}": [score("liver", 0.8), score("duct", 0.0, "missed")] for i in range(3)})
        for name in ("a", "b")
    ]
    for table in tables(folders).values():
        assert table.unfound == ["duct"]
        assert [row.structure for row in table.rows] == ["liver", "mean"]
    assert tables(folders)["dsc"].rows[-1].means == [("40.0", False)] * 2


def test_p_alone_stands_where_the_correction_contradicts_the_interval(write: Write) -> None:
    names = [f"structure_{i}" for i in range(10)]
    gains = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]
    a, b = (
        write(key, {f"case_{i}": [score(name, 0.5 + shift * gain) for name in names] for i, gain in enumerate(gains)})
        for key, shift in (("a", 0), ("b", 1))
    )
    row = tables([a, b])["dsc"].rows[0].differences[0]
    assert (row.p, row.alone, row.significant) == ("0.312", "0.031", False)
    assert row.interval.startswith("+")


def test_p_stands_once_where_both_say_the_same(write: Write) -> None:
    values = [0.5, 0.6, 0.7, 0.8, 0.4, 0.3, 0.2]
    higher = [value + 0.1 + 0.01 * index for index, value in enumerate(values)]
    table = tables([write("a", plain(values)), write("b", plain(higher))])["dsc"]
    assert [each.alone for row in table.rows for each in row.differences] == [""] * len(table.rows)
