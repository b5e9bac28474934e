"""The labelled cases that trainings know, read again."""

from collections.abc import Mapping, Sequence

import numpy as np

from medcontext.data.cases import Case, Dataset
from medcontext.data.folders import listed
from medcontext.data.label_map import LabelMap, follow_in_training
from medcontext.data.labelled import Labelled, mapped_labels, read_labelled
from medcontext.data.nifti import image_digest
from medcontext.errors import InputError
from medcontext.inference.parts import part_of
from medcontext.run import Run


def named_cases(names: Sequence[str], dataset: Dataset) -> tuple[Case, ...]:
    """Labelled cases of a data set.

    Raises:
        InputError: if one is not there.
    """
    cases = {case.name: case for case in dataset.cases}
    if missing := [name for name in names if name not in cases]:
        raise InputError(f"{dataset.root} has no labelled case {listed(missing)}. Give the data set of the training.")
    return tuple(cases[name] for name in names)


def map_for(dataset: Dataset, run: Run) -> LabelMap:
    """How a data set's label values are to be read for a run.

    Raises:
        InputError: if they then mean something else than what the run segments.
    """
    label_map = follow_in_training(dataset.label_map, run.settings.prepare.label_map)
    labels = mapped_labels(dataset, label_map)
    if labels != run.plan.labels:
        raise InputError(
            f"{dataset.root} has the labels {_text(labels)}, and {run.folder} segments {_text(run.plan.labels)}: names "
            'and values must be the same. Describe the data set with these, by a "label_map" if its files have others.'
        )
    return label_map


def read_known(case: Case, dataset: Dataset, label_map: LabelMap, runs: Sequence[Run]) -> Labelled:
    """A case that one of the runs was trained or validated with; its label as values.

    Raises:
        InputError: if it is damaged, or another scan or label under its name.
    """
    image, label, affine = read_labelled(case, dataset, label_map)
    known = {run.facts.cases[case.name][1] for run in runs if case.name in run.facts.cases} - {""}  # once not noted
    other = "scan" if part_of(case.name, image_digest(image), runs) == "unknown" else ""
    if not other and known and image_digest(label) not in known:
        other = "label"
    if other:
        raise InputError(
            f"{dataset.root} has another {other} under the name {case.name} than {runs[0].folder} was trained with. "
            "Give the data set of the training: --data DATASET."
        )
    return Labelled(image, label_values(label, runs[0]), affine)


def label_values(classes: np.ndarray, run: Run) -> np.ndarray:
    """Class indices as label values."""
    return np.array(run.plan.values, np.int32)[classes]


def _text(labels: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in labels.items())
