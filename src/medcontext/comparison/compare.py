"""Is one model better than another, for which structures, and is it more than chance?"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from medcontext.comparison.statistics import Difference, holm, paired_difference
from medcontext.comparison.study import ALL, Study
from medcontext.errors import InputError
from medcontext.evaluation.summary import METRICS

LEVEL = 0.05


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


def compare_models(study: Study) -> list[Comparison]:
    """Every other model against the first one, for every metric and structure and for the mean over structures.

    All comparisons of a structure are on the same cases, those that it counts in for any model. Tests of the structures
    are corrected with Holm's method, for each pair of models and metric.

    Args:
        study: of at least two models.
    """
    found: list[Comparison] = []
    for metric in METRICS:
        counted = [name for name in study.structures if study.paired[name, metric].scores]
        if not counted:
            raise InputError("No structure occurs in any label or prediction; there is nothing to compare.")
        for other in range(1, len(study.models)):
            rows = [_compare(study, other, name, metric) for name in counted]
            corrected = holm([row.difference.p for row in rows])
            found += [replace(row, p_holm=p) for row, p in zip(rows, corrected, strict=True)]
            found.append(_compare(study, other, ALL, metric))
    return found


def _compare(study: Study, other: int, structure: str, metric: str) -> Comparison:
    paired = study.paired[structure, metric]
    difference = paired_difference([means[other] - means[0] for means in paired.patient_means.values()])
    missed, spurious = (study.count(structure, status) for status in ("missed", "spurious"))
    seeds = paired.seed_means[0], paired.seed_means[other]
    return Comparison(
        first=study.names[0],
        second=study.names[other],
        structure=structure,
        metric=metric,
        means=(paired.means[0], paired.means[other]),
        difference=difference,
        p_holm=difference.p,
        cases=len(paired.scores),
        missed=(missed[0], missed[other]),
        spurious=(spurious[0], spurious[other]),
        seed_spreads=(_spread(seeds[0]), _spread(seeds[1])),
        seed_differences=tuple(b - a for a, b in zip(*seeds, strict=True)) if len(seeds[0]) == len(seeds[1]) else (),
    )


def _spread(means: Sequence[float]) -> float | None:
    return statistics.stdev(means) if len(means) > 1 else None
