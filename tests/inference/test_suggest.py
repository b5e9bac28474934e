"""Suggested scans take away most of the need that is left."""

import itertools

import numpy as np
import pytest

from medcontext.inference.suggest import SMALL, Description, features, suggest_scans

QUANTILES = np.linspace(-1, 1, 21)[None]


def scan(mm: float, ml: float = 10.0, shift: float = 0.0) -> Description:
    return Description(QUANTILES + shift, (100.0, 100.0, mm), (ml,))


def left_over(need: list[float], scans: list[Description], labelled: list[Description], chosen: list[int]) -> float:
    """The definition, directly."""
    points = features([*scans, *labelled])
    near = [*points[len(scans) :], *points[chosen]]
    return sum(w * min(float(np.linalg.norm(p - q)) for q in near) for w, p in zip(need, points, strict=False))


def test_each_choice_is_the_best_by_the_definition() -> None:
    rng = np.random.default_rng(0)
    scans = [scan(*values) for values in np.stack([rng.uniform(20, 90, 12), rng.uniform(1, 50, 12)], axis=1)]
    labelled, need = [scan(40.0), scan(50.0, 20.0)], rng.uniform(0.1, 0.9, 12).tolist()
    found = [each.scan for each in suggest_scans(need, scans, labelled, 4)]
    assert len(set(found)) == 4
    for count in range(1, 5):
        before = found[: count - 1]
        best = min(set(range(12)) - set(before), key=lambda one: left_over(need, scans, labelled, [*before, one]))
        assert found[count - 1] == best
    exact = min(itertools.combinations(range(12), 2), key=lambda two: left_over(need, scans, labelled, list(two)))
    greedy, whole = left_over(need, scans, labelled, found[:2]), left_over(need, scans, labelled, list(exact))
    assert greedy <= 1.1 * whole


def test_what_is_like_a_labelled_scan_or_well_segmented_is_not_suggested() -> None:
    scans = [scan(40.0), scan(40.5), scan(80.0), scan(81.0), scan(82.0), scan(20.0)]
    (first,) = suggest_scans([0.5, 0.5, 0.5, 0.5, 0.5, 0.01], scans, [scan(40.2)], 1)
    assert first.scan == 3, "in the middle of three that no labelled one is like"
    assert first.stands_for == 3
    assert first.distance > 1
    assert 0.9 < first.gain < 1
    second = suggest_scans([0.5] * 6, scans, [scan(40.2)], 2)[1]
    assert second.scan == 5, "unlike the first one, too"


def test_all_can_be_chosen_also_where_they_are_alike() -> None:
    found = suggest_scans([0.0, 0.0, 0.0], [scan(40.0)] * 3, [scan(40.0)], 3)
    assert sorted(each.scan for each in found) == [0, 1, 2]
    assert {each.gain for each in found} == {0.0}


def test_intensities_extents_and_volumes_weigh_alike() -> None:
    kinds = [scan(40.0), scan(80.0), scan(40.0, shift=3.0), scan(40.0, ml=99.0)]
    points = features(kinds)
    away = np.linalg.norm(points[1:] - points[0], axis=1)
    assert away == pytest.approx(away[0])
    nothing, speck = features([scan(40.0, ml=0.0), scan(40.0, ml=4 * SMALL), scan(40.0), scan(40.0)])[:2]
    assert nothing == pytest.approx(speck), "a speck is as good as nothing"
