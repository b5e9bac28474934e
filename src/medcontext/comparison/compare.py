"""Is one model better than another, for which structures, and is it more than chance?"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from medcontext.comparison.statistics import Difference, holm, paired_difference
from medcontext.errors import InputError
from medcontext.evaluation.scores import Model, Seeds, count, paired_values
from medcontext.evaluation.summary import METRICS

ALL = "mean"
LEVEL = 0.05

Cases = dict[str, list[Seeds]]
"""For each case, for both models, the score of each seed."""


@dataclass(frozen=True)
class Comparison:
    """Two models on one structure and metric.

    Args:
        first: name of the model compared with.
        second: name of the other.
        structure: or `mean`: of each case the mean over its structures.
        metric: `dsc` (fraction, more is better), `hd95_pooled` or `hd95_max` (less is better).
        means: of both, over patients.
        difference: second less first, patient by patient.
        p_holm: corrected for all structures of this metric; of the mean, its own p.
        cases: that count; patients are `difference.n`.
        missed: cases in which each missed the structure, on average over the seeds.
        spurious: and in which each saw it where it is not.
        seed_spreads: standard deviation of each model's mean from seed to seed; None with one seed.
        seed_differences: the difference with each seed, where both models have the same number of seeds.
    """

    first: str
    second: str
    structure: str
    metric: str
    means: tuple[float, float]
    difference: Difference
    p_holm: float
    cases: int
    missed: tuple[float, float]
    spurious: tuple[float, float]
    seed_spreads: tuple[float | None, float | None]
    seed_differences: tuple[float, ...]

    @property
    def better(self) -> bool:
        """Whether the second model's mean is the better one."""
        return (self.difference.mean > 0) == (self.metric == "dsc") and self.difference.mean != 0

    @property
    def significant(self) -> bool:
        return self.p_holm <= LEVEL


def compare_models(models: Sequence[Model]) -> list[Comparison]:
    """Every other model against the first one, for every metric and structure and for the mean over structures.

    The unit is the patient: cases of one patient, such as two frames of a heart, are averaged first, and so are the
    seeds of a model. All comparisons of a structure are on the same cases, those that it counts in for any model. Tests
    of the structures are corrected with Holm's method, for each pair of models and metric.

    Args:
        models: at least two, from `read_models`.
    """
    found: list[Comparison] = []
    structures = list(dict.fromkeys(name for _, name in models[0].evaluations[0].rows))
    for metric in METRICS:
        of_all = {name: paired_values(models, name, metric) for name in structures}
        for position, other in enumerate(models[1:], start=1):
            pair = (models[0], other)
            values = {
                name: {case: [sides[0], sides[position]] for case, sides in cases.items()}
                for name, cases in of_all.items()
            }
            rows = [_compare(pair, name, metric, cases) for name, cases in values.items() if cases]
            if not rows:
                raise InputError("No structure occurs in any label or prediction; there is nothing to compare.")
            corrected = holm([row.difference.p for row in rows])
            found += [replace(row, p_holm=p) for row, p in zip(rows, corrected, strict=True)]
            found.append(_compare(pair, ALL, metric, mean_over_structures(values)))
    return found


def _compare(pair: tuple[Model, Model], structure: str, metric: str, cases: Cases) -> Comparison:
    owners = pair[0].owners
    means = [patient_means(cases, side, owners) for side in (0, 1)]
    difference = paired_difference([after - before for before, after in zip(*means, strict=True)])
    names = list(pair[0].evaluations[0].summary["structures"]) if structure == ALL else [structure]
    seeds = _by_seed(cases, 0), _by_seed(cases, 1)
    first, second = pair
    return Comparison(
        first=first.name,
        second=second.name,
        structure=structure,
        metric=metric,
        means=(statistics.fmean(means[0]), statistics.fmean(means[1])),
        difference=difference,
        p_holm=difference.p,
        cases=len(cases),
        missed=(_total(first, names, "missed"), _total(second, names, "missed")),
        spurious=(_total(first, names, "spurious"), _total(second, names, "spurious")),
        seed_spreads=(_spread(seeds[0]), _spread(seeds[1])),
        seed_differences=_pairwise(*seeds) if len(seeds[0]) == len(seeds[1]) else (),
    )


def patient_means(cases: Cases, side: int, owners: Mapping[str, str]) -> list[float]:
    """The mean score of each patient over cases and seeds, for the model of that position; patients in order.

    Args:
        cases: their scores.
        side: position of the model.
        owners: whose each case is.
    """
    scores: dict[str, list[float]] = {}
    for case in sorted(cases, key=lambda case: owners[case]):
        scores.setdefault(owners[case], []).extend(cases[case][side].values())
    return [statistics.fmean(each) for each in scores.values()]


def _total(model: Model, structures: Sequence[str], status: str) -> float:
    return sum(count(model, name, status) for name in structures)


def _by_seed(cases: Cases, side: int) -> list[float]:
    """The mean over the cases of each seed."""
    scores: dict[int, list[float]] = {}
    for both in cases.values():
        for seed, score in both[side].items():
            scores.setdefault(seed, []).append(score)
    return [statistics.fmean(scores[seed]) for seed in sorted(scores)]


def _spread(means: Sequence[float]) -> float | None:
    return statistics.stdev(means) if len(means) > 1 else None


def _pairwise(first: Sequence[float], second: Sequence[float]) -> tuple[float, ...]:
    return tuple(after - before for before, after in zip(first, second, strict=True))


def mean_over_structures(values: dict[str, Cases]) -> Cases:
    """Of each case the mean over the structures that count in it, for every model and seed."""
    by_case: dict[str, list[list[Seeds]]] = {}
    for cases in values.values():
        for case, scores in cases.items():
            by_case.setdefault(case, []).append(scores)
    return {case: [_mean_by_seed(side) for side in zip(*listed, strict=True)] for case, listed in by_case.items()}


def _mean_by_seed(rows: Sequence[Seeds]) -> Seeds:
    return {seed: statistics.fmean(row[seed] for row in rows) for seed in rows[0]}
