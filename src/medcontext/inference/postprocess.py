"""Finding out for which structures it helps to drop small components, on a run's validation cases.

As nnU-Net does it (Isensee et al. 2021), structure by structure; what is tried is the largest component alone, and
components from a share of the structure's median volume on.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from medcontext.data.folders import listed
from medcontext.data.label_map import LabelMap, apply_map
from medcontext.data.nifti import read_label
from medcontext.data.pool import in_processes
from medcontext.data.regions import Regions
from medcontext.errors import InputError
from medcontext.evaluation.pairs import Pair
from medcontext.evaluation.structures import Structures
from medcontext.inference.components import ALL, apply_steps, components, kept, with_all
from medcontext.inference.ensemble import Member
from medcontext.run import Run, home
from medcontext.run.postprocessing import FILE, BySize, Choice, Keep, chosen_steps, read_postprocessing, step_text

SHARES = (0.01, 0.03, 0.1, 0.3)
"""Of the median volume that a structure has in the validation labels: the smallest sizes that are tried."""

ROUNDING = 1e-9


class Parts(NamedTuple):
    """The components of a predicted structure in one case, and what they hold; all in ml.

    Args:
        sizes: of each component.
        predicted: of the structure and of each region inside it, how much of it each component holds.
        right: likewise, as far as the label agrees.
        truth: of the same, the volume in the label.
    """

    sizes: np.ndarray
    predicted: dict[str, np.ndarray]
    right: dict[str, np.ndarray]
    truth: dict[str, float]

    def dice(self, name: str, keep: BySize | None = None) -> float:
        """With what is kept of the components; NaN where neither label nor prediction has the structure.

        A false alarm that is dropped whole counts as 1, as it counts as 0 before.
        """
        predicted, right, truth = self.predicted[name], self.right[name], self.truth[name]
        if not truth and not predicted.sum():
            return float("nan")
        if keep is not None and self.sizes.size:
            chosen = kept(self.sizes, keep)
            predicted, right = predicted[chosen], right[chosen]
        total = float(predicted.sum()) + truth
        return 2 * float(right.sum()) / total if total else 1.0


def choose(
    pairs: Sequence[Pair], structures: Structures, regions: Regions, label_map: LabelMap, workers: int = 1
) -> dict[str, Choice]:
    """What is kept of each structure.

    Regions are decided one after the other, from the outside in: what is dropped of one is dropped of those inside it,
    and none of these may lose by it. Of structures all together come first, as in nnU-Net, and then each by itself,
    which does not touch the others.

    Args:
        pairs: predictions of the validation cases, and their labels.
        structures: names and label values; of regions, larger ones first.
        regions: the same, where they overlap; else empty.
        label_map: of the label files.
        workers: processes, each with one case in memory.

    Raises:
        InputError: if a file cannot be read.
    """
    found: dict[str, Choice] = {}
    structures, apart = with_all(structures, regions), list(structures)
    together = [[ALL]] if ALL in structures else []
    for group in [[name] for name in regions] or [*together, apart]:
        steps = chosen_steps(found)
        work = partial(measure, group=group, structures=structures, regions=regions, label_map=label_map, steps=steps)
        cases = [case for _, case in sorted(in_processes(work, pairs, workers, f"measuring {', '.join(group):.40}"))]
        found |= {name: decide(name, [case[name] for case in cases]) for name in group}
    return found


def decide(name: str, cases: Sequence[Parts]) -> Choice:
    """What is kept of one structure: what raises its mean Dice most, and lowers that of no region inside it.

    Of steps that are equally good the one that drops least.
    """
    volumes = [case.truth[name] for case in cases if case.truth[name]]
    sizes = [float(f"{share * float(np.median(volumes)):.3g}") for share in SHARES] if volumes else []
    before = {each: _mean(cases, each) for each in cases[0].truth}
    if np.isnan(before[name]):
        return Choice("all")
    best: BySize | Literal["all"] = "all"
    dice, tried = before[name], {}
    steps: list[BySize] = ["largest"] if name == ALL else [*sizes, "largest"]
    for keep in steps:
        after = {each: _mean(cases, each, keep) for each in before}
        tried[step_text(keep)] = after[name]
        loses = any(after[each] < before[each] - ROUNDING for each in before)
        if after[name] > dice + ROUNDING and not loses:
            best, dice = keep, after[name]
    return Choice(best, before[name], dice, tried)


def measure(
    pair: Pair,
    group: Sequence[str],
    structures: Structures,
    regions: Regions,
    label_map: LabelMap,
    steps: Mapping[str, Keep],
) -> dict[str, Parts]:
    """The components of some structures in one case, after what was decided before."""
    truth, prediction = apply_map(read_label(pair.label)[0], label_map), read_label(pair.prediction)[0]
    ml = float(np.prod(pair.spacing)) / 1000
    prediction = apply_steps(prediction, steps, structures, regions, np.array(pair.spacing))
    found = {}
    for name in group:
        affected = [each for each, values in structures.items() if each == name or set(values) < set(structures[name])]
        volumes = {each: ml * int(np.isin(truth, structures[each]).sum()) for each in affected}
        located = components(prediction, structures[name])
        if located is None:
            nothing = {each: np.zeros(0) for each in affected}
            found[name] = Parts(np.zeros(0), nothing, nothing, volumes)
            continue
        parts, box = located
        count = int(parts.max()) + 1
        predicted, right = {}, {}
        for each in affected:
            mask = np.isin(prediction[box], structures[each])
            agreed = mask & np.isin(truth[box], structures[each])
            predicted[each] = ml * np.bincount(parts[mask], minlength=count)[1:]
            right[each] = ml * np.bincount(parts[agreed], minlength=count)[1:]
        found[name] = Parts(ml * np.bincount(parts.ravel())[1:], predicted, right, volumes)
    return found


def applicable(members: Sequence[Member], weights: str) -> tuple[dict[str, Keep], str]:
    """The steps for the predictions of these networks; and why there are none although some were found, or nothing.

    Args:
        members: the networks.
        weights: which are used.
    """
    runs = [member.run for member in members]
    folder = home(runs)
    if folder is None:
        each = [read_postprocessing(run.folder) for run in runs]
        if len(said := [one for one in each if one and one.by == "labels"]) == len(runs):
            if all(one.steps == said[0].steps for one in said):
                return said[0].steps, ""
            return {}, "no post-processing is applied: the labels of these networks differ in what is one piece."
        others = [run.folder for run, one in zip(runs, each, strict=True) if one and one.steps]
        where = f"the post-processing of {listed([str(folder) for folder in others])} is not applied"
        return {}, f"{where}: it was found for one network, not for several." if others else ""
    found = read_postprocessing(folder)
    if found is None or not found.steps:
        return {}, ""
    if not found.holds_for([member.hash for member in members], weights):
        return {}, (
            f"{folder / FILE} is not applied: it was found for other checkpoints, or for the other weights. Run "
            "`medcontext postprocess` again with these."
        )
    return found.steps, ""


def validation_cases(run: Run) -> tuple[str, ...]:
    """Names of the cases that may decide.

    Raises:
        InputError: if there are none.
    """
    names = tuple(name for name in run.split.validation if name in run.facts.cases)
    if not names:
        raise InputError(
            f"{run.folder} has no validation cases, on which it could be tried. Let the labels that it was trained on "
            "say what is one piece: --by labels; or train with validation cases: a --split FILE with 'validation'."
        )
    return names


def _mean(cases: Sequence[Parts], name: str, keep: BySize | None = None) -> float:
    known = [dice for case in cases if not np.isnan(dice := case.dice(name, keep))]
    return float(np.mean(known)) if known else float("nan")
