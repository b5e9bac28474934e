"""From the signs of a segmentation to its expected DSC, by a rule that is learnt from cases with labels.

A weighted sum of signs, no weight below 0, with a small offset for each structure: few numbers, for cases are few. How
far it is off is measured on patients that it was not learnt from, one at a time (leave-one-out; the interval is that of
split conformal prediction, Lei et al. 2018, with these residuals in units of the distance from a DSC of 1).

Letters: n observations, m signs.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import lsq_linear

from medcontext.run.calibration import Observed, Rule

LEVEL = 0.9
"""Share of unseen cases that an interval is to hold; fewer where there are too few cases to tell."""

LEAST = 3
"""Patients from which something can be learnt."""

SHRINK = 3.0
"""Observations that speak against a structure's own offset, and so many that all signs weigh alike."""

NEAREST = 0.05
"""From a DSC of 1: no interval is made for less, or segmentations that look perfect would have none."""


def learn(observed: Sequence[Observed]) -> tuple[Rule, tuple[Observed, ...]]:
    """The rule, and the observations with what a rule from the other patients expects of each.

    Args:
        observed: of at least `LEAST` patients.
    """
    rule = _fit(observed)
    patients = list(dict.fromkeys(each.patient for each in observed))
    judged = []
    for patient in patients:
        others = _fit([each for each in observed if each.patient != patient])
        judged += [
            replace(each, expected=expect(others, each.structure, each.signs)[0])
            for each in observed
            if each.patient == patient
        ]
    width, level = _width(judged, len(patients))
    return replace(rule, width=width, level=level), tuple(judged)


def expect(rule: Rule, structure: str, signs: Sequence[float]) -> tuple[float, float, float]:
    """The expected DSC, and its interval.

    >>> rule = Rule(0.8, (0.9,), (2.0,), {"liver": 0.05}, 0.5, 0.9)
    >>> [round(value, 3) for value in expect(rule, "liver", [0.85])]
    [0.75, 0.625, 0.875]
    """
    found = rule.intercept + rule.offsets.get(structure, 0.0)
    found += sum(w * (sign - mean) for w, sign, mean in zip(rule.weights, signs, rule.means, strict=True))
    value = min(1.0, max(0.0, found))
    half = rule.width * max(1 - value, NEAREST)
    return value, max(0.0, value - half), min(1.0, value + half)


def _fit(observed: Sequence[Observed]) -> Rule:
    """Least squares; weights are drawn to equal ones that sum to 1, as if each sign were the DSC itself."""
    signs = np.array([each.signs for each in observed])  # (n, m)
    dsc = np.array([each.dsc for each in observed])
    count, m = signs.shape
    means = signs.mean(axis=0)
    # Signs vary by a tenth or so: as much as SHRINK observations of that size.
    pull = math.sqrt(SHRINK) * 0.1
    rows = np.vstack([np.hstack([signs - means, np.ones((count, 1))]), pull * np.eye(m, m + 1)])
    least = [0.0] * m + [-np.inf]
    solved = lsq_linear(rows, np.append(dsc, np.full(m, pull / m)), bounds=(least, np.inf)).x
    weights, intercept = solved[:m], float(solved[m])
    left = dsc - intercept - (signs - means) @ weights
    offsets = {}
    for structure in dict.fromkeys(each.structure for each in observed):
        own = left[[each.structure == structure for each in observed]]
        offsets[structure] = float(own.sum() / (len(own) + SHRINK))
    return Rule(intercept, tuple(means.tolist()), tuple(weights.tolist()), offsets, math.inf, 0.0)


def _width(judged: Sequence[Observed], patients: int) -> tuple[float, float]:
    """How many distances from 1 an expected DSC is off, at most, in a share of unseen cases; and that share."""
    off = sorted(
        abs(each.dsc - each.expected) / max(1 - each.expected, NEAREST) for each in judged if each.expected is not None
    )
    level = min(LEVEL, patients / (patients + 1))
    share = min(1.0, math.ceil((patients + 1) * level) / patients)  # cases of one patient are no news of others
    return off[math.ceil(share * len(off)) - 1], level
