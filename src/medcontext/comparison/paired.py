"""Scores of several models on the same cases, and their means over seeds, cases and patients."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

Seeds = dict[int, float]
"""A score by the number of its seed, in the order given."""


@dataclass(frozen=True)
class Paired:
    """The scores of one structure with one metric, in the metric's unit; a DSC is a fraction. Each mean is taken once.

    Args:
        scores: of each case that counts: for every model, its score with each seed that the case was scored with.
        owners: whose scan each case is.
    """

    scores: Mapping[str, Sequence[Seeds]]
    owners: Mapping[str, str]

    @cached_property
    def case_means(self) -> dict[str, list[float]]:
        """Of each case, for every model, the mean over its seeds."""
        return {
            case: [statistics.fmean(seeds.values()) for seeds in by_model] for case, by_model in self.scores.items()
        }

    @cached_property
    def patient_means(self) -> dict[str, list[float]]:
        """Of each patient, for every model, the mean over cases and seeds; patients in order."""
        of: dict[str, list[Sequence[Seeds]]] = {}
        for case in sorted(self.scores, key=lambda case: self.owners[case]):
            of.setdefault(self.owners[case], []).append(self.scores[case])
        return {
            patient: [
                statistics.fmean(score for seeds in cases for score in seeds.values())
                for cases in zip(*listed, strict=True)
            ]
            for patient, listed in of.items()
        }

    @cached_property
    def means(self) -> list[float]:
        """Of every model the mean over the patients; empty where no case counts."""
        return [statistics.fmean(patients) for patients in zip(*self.patient_means.values(), strict=True)]

    @cached_property
    def seed_means(self) -> list[list[float]]:
        """Of every model, the mean over the cases of each seed."""
        return [_by_seed(cases) for cases in zip(*self.scores.values(), strict=True)]


def mean_over(structures: Iterable[Paired], owners: Mapping[str, str]) -> Paired:
    """Of each case the mean over the structures that count in it, for every model and seed."""
    of: dict[str, list[Sequence[Seeds]]] = {}
    for paired in structures:
        for case, by_model in paired.scores.items():
            of.setdefault(case, []).append(by_model)
    return Paired({case: [_mean(rows) for rows in zip(*listed, strict=True)] for case, listed in of.items()}, owners)


def _mean(rows: Sequence[Seeds]) -> Seeds:
    return {seed: statistics.fmean(row[seed] for row in rows) for seed in rows[0]}


def _by_seed(cases: Iterable[Seeds]) -> list[float]:
    scores: dict[int, list[float]] = {}
    for seeds in cases:
        for seed, score in seeds.items():
            scores.setdefault(seed, []).append(score)
    return [statistics.fmean(scores[seed]) for seed in sorted(scores)]
