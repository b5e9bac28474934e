"""Which structures are one piece in every label of a training: predictions keep the largest component of these alone.

The rule of nnU-Net's first version (Isensee et al. 2018, arXiv:1809.10486, "Postprocessing"). It looks at no
prediction, and so needs no case beside those that were trained on.
"""

from collections.abc import Sequence
from functools import partial

from medcontext.data.cases import Case, Dataset
from medcontext.data.label_map import LabelMap
from medcontext.data.pool import in_processes
from medcontext.inference.components import components
from medcontext.inference.known_cases import map_for, named_cases, read_known
from medcontext.run import Run
from medcontext.run.postprocessing import Choice, Postprocessing


def choose_by_labels(runs: Sequence[Run], dataset: Dataset, workers: int = 1) -> Postprocessing:
    """What is kept of each structure, or region: the largest component, or all where a label has several.

    Args:
        runs: a training, or the folds of a cross-validation; all of their training cases decide.
        dataset: that they were trained on.
        workers: processes, each with one case in memory.

    Raises:
        InputError: if a case is not in the data set, is damaged, or is another scan under its name.
    """
    names = list(dict.fromkeys(name for run in runs for name in run.split.train if name in run.facts.cases))
    work = partial(count_pieces, dataset=dataset, label_map=map_for(dataset, runs[0]), runs=runs)
    counts = [found for _, found in in_processes(work, named_cases(names, dataset), workers, "looking at the labels")]
    most = {name: max(count[name] for count in counts) for name in runs[0].structures}
    choices = {name: Choice("largest" if pieces == 1 else "all", pieces=pieces) for name, pieces in most.items()}
    return Postprocessing(tuple(names), "", (), choices, by="labels")


def count_pieces(case: Case, dataset: Dataset, label_map: LabelMap, runs: Sequence[Run]) -> dict[str, int]:
    """The components of each structure in a case's label."""
    label = read_known(case, dataset, label_map, runs).label
    located = {name: components(label, values) for name, values in runs[0].structures.items()}
    return {name: int(found[0].max()) if found else 0 for name, found in located.items()}
