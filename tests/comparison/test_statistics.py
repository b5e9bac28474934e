from itertools import product

import numpy as np
import pytest
from scipy import stats

from medcontext.comparison.statistics import bootstrap_interval, holm, paired_difference, rank_biserial, signed_rank_p


def enumerated(d: np.ndarray) -> float:
    """Every pattern of signs, one by one."""
    ranks = stats.rankdata(np.abs(d))[d != 0]
    observed = ranks[d[d != 0] > 0].sum()
    sums = [sum(r for r, up in zip(ranks, signs, strict=True) if up) for signs in product((0, 1), repeat=len(ranks))]
    middle = ranks.sum() / 2
    return float(np.mean(np.abs(np.array(sums) - middle) >= abs(observed - middle) - 1e-9))


@pytest.mark.parametrize(
    "d",
    [
        [1, -2, 3, 4, -5, 6],  # no ties
        [1, 1, 1, -1, 2, 2, -3],  # ties
        [0, 0, 1, -2, 2, 3, 3],  # zeros too
        [0.1, 0.2, 0.3, 0.1 + 0.2, -0.3],  # ties but for rounding
        [5],
    ],
)
def test_the_signed_rank_test_is_exact(d: list[float]) -> None:
    values = np.array(d, float)
    assert signed_rank_p(values) == pytest.approx(enumerated(np.round(values, 9)))


def test_without_ties_and_zeros_it_is_scipys_exact_test() -> None:
    rng = np.random.default_rng(0)
    for n in (6, 15, 40):
        d = rng.normal(0.3, 1, n)
        assert signed_rank_p(d) == pytest.approx(stats.wilcoxon(d, method="exact").pvalue)


def test_many_pairs_are_close_to_the_exact_result() -> None:
    d = np.random.default_rng(1).normal(0.12, 1, 400)
    assert signed_rank_p(d) == pytest.approx(stats.wilcoxon(d, method="asymptotic").pvalue, rel=0.02)
    assert signed_rank_p(np.append(d, 0.0)) == pytest.approx(signed_rank_p(d), rel=0.05)  # by the approximation


def test_holm_is_as_worked_by_hand() -> None:
    assert holm([0.02, 0.01, 0.2, 0.005]) == pytest.approx([0.04, 0.03, 0.2, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    samples = rng.gamma(2.0, 1.0, (200, 30)) - 2.0  # skewed, with mean 0
    covered = np.mean([low <= 0 <= high for low, high in map(bootstrap_interval, samples)])
    assert 0.88 <= covered <= 0.99


def test_differences_that_rounding_alone_tells_apart_are_equal() -> None:
    d = np.array([0.1, 0.1, 0.1, np.nextafter(0.1, 1)])
    assert np.ptp(d) > 0
    assert bootstrap_interval(d) == (d.mean(), d.mean())
    low, high = bootstrap_interval(np.array([0.1, 0.1, 0.1, 0.1 + 1e-6]))
    assert low < high


def test_false_alarms_without_a_difference_stay_near_five_per_cent() -> None:
    """Runs of 20 cases and 8 structures that differ by noise alone, some scores tied, some cases missed by both."""
    rng = np.random.default_rng(0)
    single, families, tests = 0, 0, 0
    for _ in range(400):
        scores = np.round(np.clip(rng.normal(0.8, 0.1, (2, 8, 20)), 0, 1), 2)
        scores[:, :, :2] = 0.0
        p_values = [signed_rank_p(b - a) for a, b in zip(*scores, strict=True)]
        single += sum(p <= 0.05 for p in p_values)
        tests += len(p_values)
        families += min(holm(p_values)) <= 0.05
    assert 0.03 <= single / tests <= 0.055  # exact tests of few cases are a little careful
    assert families / 400 <= 0.07


def test_a_real_difference_is_found() -> None:
    rng = np.random.default_rng(0)
    found = paired_difference(rng.normal(0.02, 0.02, 30))
    assert found.p < 0.01
    assert 0 < found.low < found.mean < found.high
    assert found.effect > 0.5
    assert paired_difference(rng.normal(0.02, 0.02, 30), seed=0).n == 30


def test_equal_scores_and_single_pairs_are_no_evidence() -> None:
    same = paired_difference([0.0, 0.0, 0.0])
    assert (same.mean, same.low, same.high, same.p, same.effect) == (0, 0, 0, 1, 0)
    one = paired_difference([0.3])
    assert one.p == 1.0
    assert np.isnan(one.low)
    assert np.isnan(one.high)


def test_the_effect_is_bounded_by_its_signs() -> None:
    assert rank_biserial(np.array([1.0, 2.0, 5.0])) == 1
    assert rank_biserial(np.array([-1.0, -2.0, 0.0])) == -1
