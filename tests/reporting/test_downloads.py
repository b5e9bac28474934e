import base64
import csv
import io
from pathlib import Path

from medcontext.comparison.compare import compare_models
from medcontext.comparison.read import read_study
from medcontext.comparison.write import to_csv, to_latex
from medcontext.reporting.downloads import downloads


def texts(arguments: list[str]) -> dict[str, str]:
    study = read_study(arguments, least=1)
    found = downloads(study, compare_models(study) if len(study.models) > 1 else [])
    return {each.file: base64.b64decode(each.link.partition("base64,")[2]).decode() for each in found}


def test_every_score_of_every_model_and_seed_is_there(evaluated: dict[str, Path]) -> None:
    far, near = evaluated["far"], evaluated["near"]
    rows = list(csv.DictReader(io.StringIO(texts([f"a={far},{near}", f"b={near}"])["scores.csv"])))
    for model, seed, folder in (("a", "0", far), ("a", "1", near), ("b", "0", near)):
        with (folder / "metrics.csv").open(newline="") as file:
            expected = list(csv.DictReader(file))
        found = [row for row in rows if (row["model"], row["seed"]) == (model, seed)]
        assert [{key: row[key] for key in expected[0]} for row in found] == expected
    assert len(rows) == 3 * 16


def test_the_tables_are_those_of_compare(arguments: list[str]) -> None:
    study = read_study(arguments)
    comparisons = compare_models(study)
    found = texts(arguments)
    assert found["comparison.csv"] == to_csv(comparisons)
    assert found["table.tex"] == to_latex(study, comparisons)


def test_a_model_alone_has_a_table_for_a_paper_and_no_differences(evaluated: dict[str, Path]) -> None:
    found = texts([f"only_one={evaluated['near']}"])
    assert "comparison.csv" not in found
    assert "only\\_one & " in found["table.tex"]
    assert "textbf" not in found["table.tex"], "nothing is best where there is nothing to compare"
