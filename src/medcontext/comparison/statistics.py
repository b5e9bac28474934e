"""Is a difference between paired scores more than chance?

Letters: n pairs, d their differences.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 9_999
ROUNDING = 1e-12  # relative: differences of equal scores differ in their last digits
MOST_EXACT = 400  # pairs; above, the normal approximation is as good and the exact one slow


@dataclass(frozen=True)
class Difference:
    """Paired differences, summed up.

    Args:
        mean: of d.
        low: of the 95 % interval of the mean.
        high: likewise; both equal the mean where all d are equal, and are NaN for a single pair.
        p: two-sided, of the signed-rank test.
        effect: the matched-pairs rank-biserial correlation, from -1 (all pairs fall) to 1 (all rise).
        n: pairs.
    """

    mean: float
    low: float
    high: float
    p: float
    effect: float
    n: int


def paired_difference(differences: Sequence[float], seed: int = 0) -> Difference:
    """Mean, interval, test and effect size of paired differences.

    Args:
        differences: d, at least one, finite.
        seed: of the bootstrap.

    >>> found = paired_difference([1.0, 2.0, 0.0, 3.0, 2.5])
    >>> found.mean, found.p, found.effect
    (1.7, 0.125, 1.0)
    """
    d = np.asarray(differences, float)
    low, high = bootstrap_interval(d, seed)
    return Difference(float(d.mean()), low, high, signed_rank_p(d), rank_biserial(d), len(d))


def bootstrap_interval(differences: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of the mean of d: bias-corrected and accelerated bootstrap (Efron, 1987), SciPy's."""
    if len(differences) < 2:
        return np.nan, np.nan
    mean = float(differences.mean())
    if np.ptp(differences) <= ROUNDING * np.abs(differences).max():
        return mean, mean
    found = stats.bootstrap(
        (differences,), np.mean, method="BCa", n_resamples=RESAMPLES, rng=np.random.default_rng(seed)
    ).confidence_interval
    return float(found.low), float(found.high)


def signed_rank_p(differences: np.ndarray) -> float:
    """Wilcoxon's signed-rank test, two-sided, exact also with ties and zeros.

    Zeros are ranked with the others and then take no part (Pratt, 1959); tied sizes get their mean rank; then every
    pattern of signs is as likely as any other. Above `MOST_EXACT` pairs it is SciPy's normal approximation.

    >>> signed_rank_p(np.array([1.0, 1.0, 1.0, 1.0])), signed_rank_p(np.array([0.0, 0.0]))
    (0.125, 1.0)
    """
    if not differences.any():
        return 1.0
    if len(differences) > MOST_EXACT:
        return float(stats.wilcoxon(differences, zero_method="pratt", method="asymptotic").pvalue)
    ranks = _signed_ranks(differences)
    sizes = np.rint(2 * np.abs(ranks[ranks != 0])).astype(int)  # mean ranks are multiples of a half
    chance = np.ones(1)  # of every sum of the positive ranks, doubled
    for size in sizes:
        longer = np.zeros(len(chance) + size)
        longer[: len(chance)] += 0.5 * chance
        longer[size:] += 0.5 * chance
        chance = longer
    middle = sizes.sum() / 2
    observed = abs(2 * ranks[ranks > 0].sum() - middle)
    return float(min(1.0, chance[np.abs(np.arange(len(chance)) - middle) >= observed - 1e-6].sum()))


def rank_biserial(differences: np.ndarray) -> float:
    """The sum of the positive ranks less that of the negative ones, over both (Kerby, 2014); 0 without a difference.

    >>> rank_biserial(np.array([3.0, -1.0, 2.0]))
    0.66...
    """
    ranks = _signed_ranks(differences)
    total = np.abs(ranks).sum()
    return float(ranks.sum() / total) if total else 0.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction (1979): with these, the chance of any false alarm among all tests stays at the level chosen.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    corrected = np.empty(len(order))
    highest = 0.0
    for position, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - position) * p_values[index]))
        corrected[index] = highest
    return corrected.tolist()


def _signed_ranks(differences: np.ndarray) -> np.ndarray:
    """The rank of each size among all, with the sign of its difference."""
    # Means of the same scores in another order differ in their last digits; these are ties.
    sizes = np.abs(differences)
    sizes = np.round(sizes / max(sizes.max(), np.finfo(float).tiny), 12)
    return stats.rankdata(sizes) * np.sign(np.where(sizes > 0, differences, 0.0))
