import json
from pathlib import Path

import pytest

from medcontext.cli import main
from medcontext.comparison.read import read_study
from medcontext.errors import InputError
from tests.comparison.evaluations import Write, plain, score


def refused(capsys: pytest.CaptureFixture[str], *models: str) -> str:
    assert main(["compare", *models]) == 2
    return " ".join(capsys.readouterr().err.split())


def test_evaluations_that_cannot_be_compared_are_refused(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write("a", plain([0.5, 0.6]))
    assert "a comparison needs at least two" in refused(capsys, a)
    assert "lacks 1 case of" in (message := refused(capsys, a, write("fewer", plain([0.5]))))
    assert "case_1" in message
    other = {case: scores[:1] for case, scores in plain([0.5, 0.6]).items()}
    assert "lacks 1 structure of" in refused(capsys, a, write("other", other))
    assert "has protocol legacy" in refused(capsys, a, write("legacy", plain([0.5, 0.6]), "legacy"))
    labels = plain([0.5, 0.6]) | {"case_1": [score("liver", 0.5), score("spleen", 0.0, "spurious")]}
    assert "scored against different labels: in case 'case_1', 'spleen'" in refused(capsys, a, write("labels", labels))
    assert "not a folder that `medcontext evaluate` wrote" in refused(capsys, a, str(tmp_path))
    assert "Two models are called 'x'" in refused(capsys, f"x={a}", f"x={a}")
    broken = Path(write("broken", plain([0.5, 0.6])))
    (broken / "metrics.csv").write_text("case,structure\nx,liver\n")
    assert "is damaged or of another version" in refused(capsys, a, str(broken))


@pytest.mark.parametrize("name", ["lr=0.1", "a,b", "x=a,b"])
def test_a_folder_may_have_the_signs_of_the_command_line_in_its_name(write: Write, name: str) -> None:
    folder, other = write(name, plain([0.5, 0.6])), write("other", plain([0.5, 0.6]))
    for argument, called in ((folder, name), (f"A={folder}", "A"), (f"b=1={folder}", "b=1")):
        model = read_study([argument, f"B={other}"]).models[0]
        assert (model.name, [str(run.folder) for run in model.evaluations]) == (called, [folder])
    assert [len(model.evaluations) for model in read_study([f"A={other},{other}"], least=1).models] == [2]


def test_a_folder_that_is_not_there_is_named_without_its_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^nowhere is not a folder that `medcontext evaluate` wrote"):
        read_study(["A=nowhere,there"], least=1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("protocol", None),
        ("units", {"dsc": "fraction"}),
        ("structures", ["liver"]),
        ("values", {"liver": 1}),
        ("values", {"liver": ["1"]}),
        ("cases", ["case_0"]),
        ("cases", [{"name": "case_0", "label": "a.nii.gz"}]),
        ("cases", [{"name": "case_0", "label": "a.nii.gz", "prediction": "b.nii.gz", "images": "c.nii.gz"}]),
        ("conventions", ["none"]),
        ("predictions", None),
    ],
)
def test_a_damaged_summary_is_named_with_its_field(write: Write, field: str, value: object) -> None:
    path = Path(write("a", plain([0.5, 0.6]))) / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(InputError, match=rf"summary\.json: {field} is damaged; it must be"):
        read_study([str(path.parent)], least=1)


@pytest.mark.parametrize("column", ["status", "hd95_max", "case"])
def test_a_table_without_a_column_is_named_with_it(write: Write, column: str) -> None:
    path = Path(write("a", plain([0.5, 0.6]))) / "metrics.csv"
    path.write_text(path.read_text().replace(column, "other", 1))
    with pytest.raises(InputError, match=rf"metrics\.csv is damaged or of another version: no column '{column}'"):
        read_study([str(path.parent)], least=1)


def test_scores_alone_are_called_by_their_folder(write: Write, tmp_path: Path) -> None:
    (tmp_path / "cv").mkdir()
    Path(write("scores", plain([0.5, 0.6]))).rename(tmp_path / "cv" / "scores")
    assert read_study([str(tmp_path / "cv" / "scores")], least=1).names == ["cv"]
