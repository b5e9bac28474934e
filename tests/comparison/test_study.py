import math
from collections import Counter

import pytest

from medcontext.comparison.compare import compare_models
from medcontext.comparison.read import read_study
from medcontext.comparison.study import ALL
from medcontext.evaluation.metrics import Score
from medcontext.evaluation.scores import Evaluation
from medcontext.evaluation.summary import METRICS
from tests.comparison.evaluations import UNITS, Write, plain, score


def heart(*values: float) -> dict[str, list[Score]]:
    """Three frames of one patient and one of another."""
    names = ("patient001_frame01", "patient001_frame05", "patient001_frame12", "patient002_frame01")
    return {name: [score("heart", value)] for name, value in zip(names, values, strict=True)}


def test_the_units_are_patients(write: Write) -> None:
    study = read_study([f"A={write('a', heart(0.6, 0.7, 0.8, 0.9))}", f"B={write('b', heart(0.5, 0.5, 0.5, 0.9))}"])
    paired = study.paired["heart", "dsc"]
    assert set(study.owners.values()) == set(paired.patient_means) == {"patient001", "patient002"}
    assert paired.patient_means["patient001"] == pytest.approx([0.7, 0.5])
    assert paired.means == pytest.approx([0.8, 0.7]), "of two patients, not of four frames"
    assert paired.case_means["patient001_frame05"] == [0.7, 0.5]


def test_a_patient_weighs_the_same_however_many_seeds_have_seen_it(write: Write) -> None:
    first, second = {"x": [score("liver", 0.5)]}, {"x": [score("liver", 0.7)], "y": [score("liver", 0.8)]}
    model = f"{write('0', first)},{write('1', second)}"
    study = read_study([f"A={model}", f"B={model}"])
    paired = study.paired["liver", "dsc"]
    assert study.seeds == 2
    assert paired.scores["x"] == [{0: 0.5, 1: 0.7}] * 2
    assert paired.case_means == {"x": pytest.approx([0.6, 0.6]), "y": [0.8, 0.8]}
    assert paired.means == pytest.approx([0.7, 0.7])
    assert paired.seed_means[0] == pytest.approx([0.5, 0.75])


def test_models_of_different_numbers_of_trainings_are_noted(write: Write) -> None:
    cases = {"x": [score("liver", 0.5)]}
    many, one = f"A={write('0', cases)},{write('1', cases)}", f"B={write('2', cases)}"
    assert "different numbers of trainings (A 2, B 1)" in read_study([many, one]).notes[-1]
    assert not any("trainings" in note for note in read_study([many, many.replace("A", "C", 1)]).notes)


def test_a_case_that_no_structure_counts_in_is_known_and_not_scored(write: Write) -> None:
    absent = math.nan, "absent"
    cases = {
        "healthy": [score("liver", *absent), score("tumour", *absent)],
        "half": [score("liver", 0.6), score("tumour", *absent)],
        "ill": [score("liver", 0.8), score("tumour", 0.4)],
    }
    study = read_study([write("a", cases)], least=1)
    assert list(study.owners) == ["healthy", "half", "ill"]
    assert list(study.paired["tumour", "dsc"].scores) == ["ill"]
    assert study.paired[ALL, "dsc"].case_means == {"half": [0.6], "ill": pytest.approx([0.6])}
    assert study.count("tumour", "absent") == [2]
    assert study.count(ALL, "absent") == [3]


def test_a_structure_that_no_case_counts_in_has_no_mean(write: Write) -> None:
    cases = {"x": [score("liver", 0.6), score("tumour", math.nan, "absent")]}
    study = read_study([f"A={write('a', cases)}", f"B={write('b', cases)}"])
    assert (study.structures, study.paired["tumour", "dsc"].means) == (["liver", "tumour"], [])
    assert [row.structure for row in compare_models(study) if row.metric == "dsc"] == ["liver", ALL]


def test_counts_are_averages_over_the_seeds(write: Write) -> None:
    hit, miss = {"x": [score("liver", 0.5)]}, {"x": [score("liver", 0.0, "missed")]}
    study = read_study([f"A={write('0', hit)},{write('1', miss)}", f"B={write('2', hit)}"])
    assert study.count("liver", "missed") == study.count(ALL, "missed") == [0.5, 0]


def test_every_score_is_looked_up_once(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: Counter[tuple] = Counter()
    value = Evaluation.value

    def counted(self: Evaluation, key: tuple[str, str], metric: str) -> float:
        looked_up[self.folder, key, metric] += 1
        return value(self, key, metric)

    monkeypatch.setattr(Evaluation, "value", counted)
    study = read_study([write(name, plain([0.5, 0.6])) for name in "abc"])
    assert compare_models(study) == compare_models(study)
    assert study.paired["liver", "dsc"] is study.paired["liver", "dsc"]
    assert len(looked_up) == 3 * 2 * 2 * len(METRICS)
    assert set(looked_up.values()) == {1}


def test_a_study_says_what_its_evaluations_have_in_common(write: Write) -> None:
    a, b = write("a", plain([0.5])), write("b", plain([0.6]))
    study = read_study({"A": a, "B": [b, b]})
    assert (study.names, study.units, study.summary["protocol"]) == (["A", "B"], UNITS, "standard")
    assert study.folders == {"A": [a], "B": [b, b]}
    assert study.remarks == []
