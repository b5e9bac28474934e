"""Which structures are one piece in every label of a training: of these, predictions keep nothing that lies far apart.

nnU-Net's first version kept the largest component alone (Isensee et al. 2018, arXiv:1809.10486, "Postprocessing"). Here
those stay, too, that lie with it in a box as long as the structure is in the labels: networks tear thin structures
apart. No prediction is looked at, and so no case is needed beside those that were trained on.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from medcontext.data.cases import Case, Dataset
from medcontext.data.label_map import LabelMap
from medcontext.data.placement import voxel_sizes
from medcontext.data.pool import in_processes
from medcontext.errors import InputError
from medcontext.inference.components import components, longest_side
from medcontext.inference.known_cases import map_for, named_cases, read_known
from medcontext.run import Run
from medcontext.run.postprocessing import Choice, Postprocessing

LEAST = 2
"""Labels that must have a structure: what one alone has in one piece may be two in the next, as a tumour."""


class Seen(NamedTuple):
    """Of a structure in a label: its components, and the longest side of their box in mm."""

    pieces: int
    longest: float


def choose_by_labels(runs: Sequence[Run], dataset: Dataset, workers: int = 1) -> Postprocessing:
    """What is kept of each structure, or region: the largest component and what lies near it, or all.

    Args:
        runs: a training, or the folds of a cross-validation; all of their training cases decide.
        dataset: that they were trained on.
        workers: processes, each with one case in memory.

    Raises:
        InputError: if a case is not in the data set, is damaged, or is another scan or label than was trained on.
    """
    names = list(dict.fromkeys(name for run in runs for name in run.split.train if name in run.facts.cases))
    if not names:
        raise InputError(f"{runs[0].folder} notes no case that it was trained on, whose label could be looked at.")
    work = partial(look, dataset=dataset, label_map=map_for(dataset, runs[0]), runs=runs)
    seen = [found for _, found in in_processes(work, named_cases(names, dataset), workers, "looking at the labels")]
    choices = {name: _choice([case[name] for case in seen]) for name in runs[0].structures}
    return Postprocessing(tuple(names), "", (), choices, by="labels")


def _choice(seen: Sequence[Seen]) -> Choice:
    pieces, labels = max(each.pieces for each in seen), sum(each.pieces > 0 for each in seen)
    if pieces > 1 or labels < LEAST:
        return Choice("all", pieces=pieces, labels=labels)
    return Choice("together", pieces=pieces, labels=labels, within_mm=max(each.longest for each in seen))


def look(case: Case, dataset: Dataset, label_map: LabelMap, runs: Sequence[Run]) -> dict[str, Seen]:
    """What a case's label has of each structure."""
    _, label, affine = read_known(case, dataset, label_map, runs)
    found = {}
    for name, values in runs[0].structures.items():
        located = components(label, values)
        if located is None:
            found[name] = Seen(0, 0.0)
            continue
        parts, box = located
        sides = [side.stop - side.start for side in box]
        found[name] = Seen(int(parts.max()), longest_side(sides, voxel_sizes(affine)))
    return found
