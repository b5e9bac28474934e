import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from medcontext.cli import main
from medcontext.comparison.compare import compare_models
from medcontext.comparison.read import read_study
from medcontext.comparison.text import conclusion
from medcontext.comparison.write import to_latex
from tests.comparison.evaluations import Write, plain, score


def test_means_and_differences_are_as_worked_by_hand(write: Write) -> None:
    a = write("a", {"x": [score("liver", 0.5), score("spleen", 0.8)], "y": [score("liver", 0.7), score("spleen", 0.6)]})
    b = write("b", {"x": [score("liver", 0.6), score("spleen", 0.8)], "y": [score("liver", 0.9), score("spleen", 0.5)]})
    rows = {(row.structure, row.metric): row for row in compare_models(read_study([f"A={a}", f"B={b}"]))}
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
    row = compare_models(read_study([write("quiet", quiet), write("alarm", alarm)]))[0]
    assert row.means == pytest.approx((0.9, 0.4))
    assert (row.spurious, row.missed) == ((0, 1), (0, 0))
    both = compare_models(read_study([write("a", quiet), write("b", quiet)]))[0]
    assert (both.cases, both.difference.n) == (1, 1)


def test_frames_of_one_patient_are_one_unit(write: Write) -> None:
    names = ("patient001_frame01", "patient001_frame12", "patient002_frame01", "patient002_frame10")
    a = {name: [score("heart", 0.5)] for name in names}
    b = {name: [score("heart", value)] for name, value in zip(names, (0.6, 0.8, 0.5, 0.5), strict=True)}
    row = compare_models(read_study([write("a", a), write("b", b)]))[0]
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
    rows = compare_models(read_study([a, b]))
    liver = next(row for row in rows if row.structure == "liver")
    assert liver.difference.n == 3
    assert liver.seed_differences == pytest.approx((0.1, -0.1))
    assert liver.seed_spreads[0] == pytest.approx(np.std([0.55, 0.8], ddof=1))
    assert "Seed by seed: +5.00, -5.00; not in the same direction with every seed." in conclusion(rows)


def test_the_sentence_says_what_is_shown_and_what_is_not(write: Write) -> None:
    values = list(np.random.default_rng(0).uniform(0.5, 0.8, 20))
    a, b = write("a", plain(values)), write("b", plain(values, 0.05))
    said = conclusion(compare_models(read_study([a, b])))
    assert said.startswith("On these 20 patients b is better than a: +2.50 DSC points (95 % interval +2.50 to +2.50")
    assert "Better, after Holm's correction: liver." in said
    assert "spleen" not in said
    assert "With one training of a model" in said
    assert "no difference between c and a can be shown" in conclusion(
        compare_models(read_study([a, write("c", plain(values))]))
    )


def test_one_patient_gives_a_sentence_and_no_nan(write: Write, tmp_path: Path, capsys) -> None:
    a, b = write("a", plain([0.5])), write("b", plain([0.5], shift=0.1))
    assert main(["compare", f"A={a}", f"B={b}", "--output", str(tmp_path / "out")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "On this one patient B has +5.00 DSC points against A. One patient says nothing of others" in printed
    assert "against A, 1 patient " in printed
    for text in (printed, *(path.read_text() for path in (tmp_path / "out").glob("comparison.[mjt]*"))):
        assert "nan" not in text.casefold()


def test_the_latex_table_has_the_best_in_bold_and_stars(write: Write) -> None:
    values = list(np.random.default_rng(0).uniform(0.5, 0.8, 20))
    study = read_study([f"U-Net_1={write('a', plain(values))}", f"B={write('b', plain(values, 0.05))}"])
    lines = to_latex(study, compare_models(study)).splitlines()
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
