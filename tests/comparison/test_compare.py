import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medcontext.cli import main
from medcontext.comparison.compare import compare_models
from medcontext.comparison.text import conclusion, to_latex
from medcontext.errors import InputError
from medcontext.evaluation.metrics import Score
from medcontext.evaluation.protocols import PROTOCOLS
from medcontext.evaluation.scores import read_models
from medcontext.evaluation.summary import make_rows, summarise, to_csv

UNITS = {"dsc": "fraction, 0 to 1", "hd95_pooled": "mm", "hd95_max": "mm"}
Write = Callable[..., str]


def score(structure: str, dsc: float, status: str = "both") -> Score:
    """With an HD95 that follows the DSC, and as many voxels in the label as its status allows."""
    hd95 = math.nan if math.isnan(dsc) else 10 * (1 - dsc)
    return Score(structure, status, dsc, hd95, hd95, label_voxels=100 if status in ("both", "missed") else 0)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write an evaluation: `write("a", {"case": [Score, ...]})` gives its folder."""

    def evaluation(name: str, cases: dict[str, list[Score]], protocol: str = "standard") -> str:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "metrics.csv").write_text(to_csv(make_rows(cases)))
        summary = {"protocol": PROTOCOLS[protocol].name, "units": UNITS, **summarise(cases)}
        (folder / "summary.json").write_text(json.dumps(summary))
        return str(folder)

    return evaluation


def plain(values: list[float], shift: float = 0.0) -> dict[str, list[Score]]:
    return {f"case_{i}": [score("liver", v + shift), score("spleen", v)] for i, v in enumerate(values)}


def test_means_and_differences_are_as_worked_by_hand(write: Write) -> None:
    a = write("a", {"x": [score("liver", 0.5), score("spleen", 0.8)], "y": [score("liver", 0.7), score("spleen", 0.6)]})
    b = write("b", {"x": [score("liver", 0.6), score("spleen", 0.8)], "y": [score("liver", 0.9), score("spleen", 0.5)]})
    rows = {(row.structure, row.metric): row for row in compare_models(read_models([f"A={a}", f"B={b}"]))}
    liver, overall, hd95 = rows["liver", "dsc"], rows["mean", "dsc"], rows["liver", "hd95_max"]
    assert (liver.first, liver.second, liver.difference.n, liver.cases) == ("A", "B", 2, 2)
    assert liver.means == pytest.approx((0.6, 0.75))
    assert liver.difference.mean == pytest.approx(0.15)
    assert overall.means == pytest.approx((0.65, 0.7))
    assert overall.difference.mean == pytest.approx(0.05)
    assert hd95.difference.mean == pytest.approx(-1.5)
    assert liver.better
    assert hd95.better
    assert not rows["spleen", "dsc"].better


def test_a_false_alarm_of_one_model_counts_against_it(write: Write) -> None:
    """The case leaves neither mean: who rightly predicts nothing has DSC 1 there."""
    quiet = {"x": [score("liver", math.nan, "absent")], "y": [score("liver", 0.8)]}
    alarm = {"x": [score("liver", 0.0, "spurious")], "y": [score("liver", 0.8)]}
    row = compare_models(read_models([write("quiet", quiet), write("alarm", alarm)]))[0]
    assert row.means == pytest.approx((0.9, 0.4))
    assert (row.spurious, row.missed) == ((0, 1), (0, 0))
    both = compare_models(read_models([write("a", quiet), write("b", quiet)]))[0]
    assert (both.cases, both.difference.n) == (1, 1)


def test_frames_of_one_patient_are_one_unit(write: Write) -> None:
    names = ("patient001_frame01", "patient001_frame12", "patient002_frame01", "patient002_frame10")
    a = {name: [score("heart", 0.5)] for name in names}
    b = {name: [score("heart", value)] for name, value in zip(names, (0.6, 0.8, 0.5, 0.5), strict=True)}
    row = compare_models(read_models([write("a", a), write("b", b)]))[0]
    assert (row.cases, row.difference.n) == (4, 2)
    assert row.difference.mean == pytest.approx(0.1)


def test_seeds_are_averaged_and_their_spread_is_shown(write: Write) -> None:
    """Seeds may have test cases of their own, if every model was tested on the same."""
    first, second = plain([0.5, 0.6]), {"other": [score("liver", 0.8), score("spleen", 0.8)]}
    raised = {"other": [score("liver", 0.7), score("spleen", 0.8)]}
    a, b = (
        f"A={write('a0', first)},{write('a1', second)}",
        f"B={write('b0', plain([0.5, 0.6], 0.1))},{write('b1', raised)}",
    )
    rows = compare_models(read_models([a, b]))
    liver = next(row for row in rows if row.structure == "liver")
    assert liver.difference.n == 3
    assert liver.seed_differences == pytest.approx((0.1, -0.1))
    assert liver.seed_spreads[0] == pytest.approx(np.std([0.55, 0.8], ddof=1))
    assert "Seed by seed: +5.00, -5.00; not in the same direction with every seed." in conclusion(rows)


def test_the_sentence_says_what_is_shown_and_what_is_not(write: Write) -> None:
    values = list(np.random.default_rng(0).uniform(0.5, 0.8, 20))
    a, b = write("a", plain(values)), write("b", plain(values, 0.05))
    said = conclusion(compare_models(read_models([a, b])))
    assert said.startswith("On these 20 patients b is better than a: +2.50 DSC points (95 % interval +2.50 to +2.50")
    assert "Better, after Holm's correction: liver." in said
    assert "spleen" not in said
    assert "With one training of a model" in said
    assert "no difference between c and a can be shown" in conclusion(
        compare_models(read_models([a, write("c", plain(values))]))
    )


def test_the_latex_table_has_the_best_in_bold_and_stars(write: Write) -> None:
    values = list(np.random.default_rng(0).uniform(0.5, 0.8, 20))
    models = read_models([f"U-Net_1={write('a', plain(values))}", f"B={write('b', plain(values, 0.05))}"])
    lines = to_latex(compare_models(models), UNITS).splitlines()
    assert lines[3] == r"Model & liver & spleen & HD95 (mm) & DSC (\%) \\"
    assert lines[5].startswith(r"U-Net\_1 & ")
    assert r"\textbf{" not in lines[5].split("&")[1]
    assert lines[6].split("&")[1].strip().startswith(r"\textbf{")
    assert lines[6].split("&")[1].strip().endswith("$^{*}$")
    assert "*" not in lines[6].split("&")[2]


def test_the_command_prints_and_writes_everything(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = write("a", plain([0.5, 0.6, 0.7])), write("b", plain([0.5, 0.6, 0.7], 0.1))
    output = tmp_path / "out"
    assert main(["compare", a, f"ours={b}", "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "DSC, %: ours against a, 3 patients" in printed
    assert max(len(line) for line in printed.splitlines() if not line.startswith("Written")) <= 80
    found = json.loads((output / "comparison.json").read_text())
    assert found["models"]["ours"] == [b]
    with (output / "comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9  # two structures and their mean, three metrics
    assert float(rows[0]["difference"]) == pytest.approx(0.1)
    assert "| liver | 60.00 | 70.00 | +10.00 |" in (output / "comparison.md").read_text()
    assert main(["compare", a, b, "--output", str(output)]) == 2
    assert main(["compare", a, b, "--output", str(output), "--overwrite"]) == 0


def test_tables_with_long_names_and_misses_fit_a_terminal(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    name = "portal_and_splenic_veins"
    hits = {f"case_{i}": [score(name, 0.1 * i)] for i in range(5)}
    misses = hits | {"case_4": [score(name, 0.0, "missed")], "other": [score(name, 0.0, "spurious")]}
    hits |= {"other": [score(name, math.nan, "absent")]}
    assert main(["compare", f"baseline={write('a', hits)}", f"medcontext={write('b', misses)}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "missed  false" in next(line for line in lines if "p Holm" in line)
    assert "0 / 1  0 / 1" in next(line for line in lines if line.startswith(" mean"))


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
        model = read_models([argument, f"B={other}"])[0]
        assert (model.name, [str(run.folder) for run in model.evaluations]) == (called, [folder])
    assert [len(model.evaluations) for model in read_models([f"A={other},{other}"], least=1)] == [2]


def test_a_folder_that_is_not_there_is_named_without_its_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^nowhere is not a folder that `medcontext evaluate` wrote"):
        read_models(["A=nowhere,there"], least=1)


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
        read_models([str(path.parent)], least=1)


@pytest.mark.parametrize("column", ["status", "hd95_max", "case"])
def test_a_table_without_a_column_is_named_with_it(write: Write, column: str) -> None:
    path = Path(write("a", plain([0.5, 0.6]))) / "metrics.csv"
    path.write_text(path.read_text().replace(column, "other", 1))
    with pytest.raises(InputError, match=rf"metrics\.csv is damaged or of another version: no column '{column}'"):
        read_models([str(path.parent)], least=1)
