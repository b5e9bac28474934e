"""A study: evaluated models, and their scores paired case by case."""

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from medcontext.comparison.paired import Paired, mean_over
from medcontext.data.regions import MEAN
from medcontext.evaluation.scores import Evaluation
from medcontext.evaluation.summary import METRICS, held_out, seen_in_training

ALL = MEAN
"""Stands for a structure: of each case the mean over its structures."""


@dataclass(frozen=True)
class Model:
    """One model, trained with one or several seeds.

    Args:
        name: in tables.
        evaluations: one for each seed.
    """

    name: str
    evaluations: tuple[Evaluation, ...]

    @property
    def remark(self) -> str:
        """What to say loudly where cases are scored that the model was trained on; else nothing."""
        said = [seen_in_training(run.parts) for run in self.evaluations]
        return next((f"{self.name}: {text}" for text in said if text), "")

    @cached_property
    def parts(self) -> dict[str, str]:
        """Which part each case had in the training; of several seeds the first's that has the case."""
        return {case: part for run in reversed(self.evaluations) for case, part in run.parts.items()}

    @cached_property
    def counts(self) -> Counter[tuple[str, str]]:
        """Cases by structure and status, such as `missed`, over all seeds."""
        return Counter((name, row["status"]) for run in self.evaluations for (_, name), row in run.rows.items())


@dataclass(frozen=True)
class Study:
    """Evaluated models with the same structures, on the same cases, by the same protocol. Its scores are paired once.

    The unit is the patient: cases of one patient, such as two frames of a heart, are averaged first, and so are the
    seeds of a model.

    Args:
        models: one or more, from `read_study`.
    """

    models: tuple[Model, ...]

    @property
    def names(self) -> list[str]:
        return [model.name for model in self.models]

    @property
    def summary(self) -> dict[str, Any]:
        """What `summary.json` of the first evaluation says; protocol, units and structures are those of all."""
        return self.models[0].evaluations[0].summary

    @property
    def units(self) -> dict[str, str]:
        """Of each metric."""
        return self.summary["units"]

    @property
    def seeds(self) -> int:
        """Of the model that has most."""
        return max(len(model.evaluations) for model in self.models)

    @property
    def remarks(self) -> list[str]:
        """What to say loudly of the models."""
        return [model.remark for model in self.models if model.remark]

    @property
    def notes(self) -> list[str]:
        """What else to say of how they were scored."""
        scored = [f"{model.name}: {text}" for model in self.models if (text := held_out(model.parts))]
        counts = {model.name: len(model.evaluations) for model in self.models}
        if len(set(counts.values())) == 1:
            return scored
        several = ", ".join(f"{name} {count}" for name, count in counts.items())
        return [
            *scored,
            f"The models have different numbers of trainings ({several}): a difference may come from "
            "chance in single ones. Compare them by the same seeds.",
        ]

    @property
    def folders(self) -> dict[str, list[str]]:
        """The evaluations of each model, whole paths."""
        return {model.name: [str(run.folder.resolve()) for run in model.evaluations] for model in self.models}

    @cached_property
    def structures(self) -> list[str]:
        """That are scored, in their order; `mean`, which stands for all, is not among them."""
        return self.models[0].evaluations[0].structures

    @cached_property
    def owners(self) -> dict[str, str]:
        """Whose scan each case of any seed is, those that do not count among them."""
        return {case: owner for run in self.models[0].evaluations for case, owner in run.owners.items()}

    @cached_property
    def paired(self) -> dict[tuple[str, str], Paired]:
        """The scores by structure, the mean over them (`mean`) the last, and metric."""
        found: dict[tuple[str, str], Paired] = {}
        for metric in METRICS:
            listed = {name: self._pair(name, metric) for name in self.structures}
            found |= {(name, metric): paired for name, paired in listed.items()}
            found[ALL, metric] = mean_over(listed.values(), self.owners)
        return found

    def _pair(self, structure: str, metric: str) -> Paired:
        """
        A structure that the label does not have and that some run predicts has the worst score there. Runs that
        rightly predict nothing then have the best one, DSC 1 and HD95 0; else false alarms would leave the comparison
        together with the case. Where no run predicts anything, the case does not count.
        """
        best = 1.0 if metric == "dsc" else 0.0
        found = {}
        for case in self.owners:
            values = [
                {
                    seed: run.value((case, structure), metric)
                    for seed, run in enumerate(model.evaluations)
                    if (case, structure) in run.rows
                }
                for model in self.models
            ]
            if not all(math.isnan(value) for scores in values for value in scores.values()):
                found[case] = [
                    {seed: best if math.isnan(value) else value for seed, value in scores.items()} for scores in values
                ]
        return Paired(found, self.owners)

    def lost(self, structure: str) -> dict[str, list[bool]]:
        """Of each case, whether each model missed the structure there, or saw it where it is not, with any seed."""

        def is_lost(model: Model, case: str) -> bool:
            rows = (run.rows.get((case, structure), {}) for run in model.evaluations)
            return any(row.get("status") in ("missed", "spurious") for row in rows)

        return {case: [is_lost(model, case) for model in self.models] for case in self.owners}

    @cached_property
    def unfound(self) -> list[str]:
        """Structures that are there, and that no model finds a voxel of in any case."""
        means = {name: self.paired[name, "dsc"].means for name in self.structures}
        return [name for name, each in means.items() if each and not any(each)]

    def count(self, structure: str, status: str) -> list[float]:
        """Of every model the cases of a status, such as `missed`, on average over its seeds.

        Args:
            structure: or `mean`, for the sum over all.
            status: one of a score's.
        """
        names = self.structures if structure == ALL else [structure]
        return [sum(model.counts[name, status] / len(model.evaluations) for name in names) for model in self.models]
