"""A rule learns from cases with labels, and is judged on patients that it was not learnt from."""

from dataclasses import replace

import numpy as np
import pytest

from medcontext.inference.expected import LEVEL, NEAREST, SHRINK, expect, learn
from medcontext.run.calibration import Observed


def observations(count: int, noise: float = 0.0, seed: int = 0) -> list[Observed]:
    """Two structures in each of some patients: the DSC follows the first sign alone, the spleen's is 0.1 lower."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(count):
        for structure, lower in (("liver", 0.0), ("spleen", 0.1)):
            signs = tuple(rng.uniform(0.5, 1, 3).tolist())
            dsc = 1.2 * signs[0] - 0.3 - lower + noise * float(rng.normal())
            found.append(Observed(f"case{index}", f"patient{index}", structure, signs, dsc))
    return found


def test_many_cases_teach_what_the_signs_are_worth() -> None:
    rule, judged = learn(observations(400))
    assert rule.weights == pytest.approx((1.2, 0, 0), abs=0.02)
    assert rule.offsets["liver"] - rule.offsets["spleen"] == pytest.approx(0.1, abs=0.005)
    assert expect(rule, "liver", (0.8, 0.6, 0.9))[0] == pytest.approx(0.66, abs=0.01)
    assert max(abs(each.dsc - each.expected) for each in judged) < 0.02


def test_a_sign_that_misleads_gets_no_weight() -> None:
    rows = [replace(each, signs=(*each.signs[:2], 1 - each.dsc)) for each in observations(50)]
    rule, _ = learn([replace(each, signs=(0.7, 0.7, each.signs[2])) for each in rows])
    assert rule.weights[2] == pytest.approx(0, abs=1e-9)
    assert min(rule.weights) >= 0


def test_few_cases_are_drawn_to_the_signs_themselves() -> None:
    rows = observations(4)
    rule, _ = learn([replace(each, signs=(0.8, 0.8, 0.8), dsc=0.6) for each in rows])
    assert rule.weights == pytest.approx((1 / 3,) * 3), "nothing varies: each weighs alike"
    assert expect(rule, "liver", (0.8, 0.8, 0.8))[0] == pytest.approx(0.6)
    assert expect(rule, "liver", (0.7, 0.7, 0.7))[0] == pytest.approx(0.5)


def test_an_offset_of_a_structure_is_shrunk() -> None:
    rows = [replace(each, signs=(0.8, 0.8, 0.8), dsc=0.7 if each.structure == "liver" else 0.5)
            for each in observations(5)]  # fmt: skip
    rule, _ = learn(rows)
    assert rule.offsets["liver"] == pytest.approx(5 * 0.1 / (5 + SHRINK))
    assert expect(rule, "unheard of", (0.8, 0.8, 0.8))[0] == pytest.approx(0.6)


def test_a_patient_is_judged_by_the_others() -> None:
    rows = observations(6, noise=0.05)
    _, judged = learn(rows)
    others, _ = learn([each for each in rows if each.patient != "patient2"])
    own = [each for each in judged if each.patient == "patient2"]
    assert len(own) == 2
    for each in own:
        assert each.expected == pytest.approx(expect(others, each.structure, each.signs)[0])
    changed = [replace(each, dsc=each.dsc - 0.5 * (each.patient == "patient2")) for each in rows]
    again = [each for each in learn(changed)[1] if each.patient == "patient2"]
    assert [each.expected for each in again] == pytest.approx([each.expected for each in own])


@pytest.mark.parametrize("patients", [5, 20])
def test_the_interval_holds_as_many_unseen_cases_as_it_says(patients: int) -> None:
    inside = []
    for seed in range(40):
        rule, _ = learn(observations(patients, noise=0.08, seed=seed))
        for each in observations(20, noise=0.08, seed=1000 + seed):
            _, low, high = expect(rule, each.structure, each.signs)
            inside.append(low <= each.dsc <= high)
        assert rule.level == pytest.approx(min(LEVEL, patients / (patients + 1)))
    assert rule.level - 0.03 < np.mean(inside) < 0.97


def test_what_is_expected_is_a_dsc() -> None:
    rule, _ = learn(observations(30))
    assert expect(rule, "liver", (2.0, 1, 1))[0] == 1
    assert expect(rule, "spleen", (0.0, 0, 0))[0] == 0
    _, low, high = expect(replace(rule, width=0.5), "liver", (2.0, 1, 1))
    assert (low, high) == (1 - 0.5 * NEAREST, 1)
