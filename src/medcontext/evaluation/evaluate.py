"""Scoring pairs of predictions and labels, and what is said about it."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.text import Text

from medcontext.console import console
from medcontext.data.cases import Dataset
from medcontext.data.label_map import LabelMap, apply_map, map_text
from medcontext.data.nifti import read_label
from medcontext.data.pool import in_processes
from medcontext.errors import InputError
from medcontext.evaluation.metrics import Score, absent, along_memory, locate, score_located
from medcontext.evaluation.pairs import Pair
from medcontext.evaluation.protocols import HD95_DEFINITIONS, Protocol
from medcontext.evaluation.structures import (
    Structures,
    by_value,
    declared,
    from_user,
    refuse_mapped,
    refuse_undeclared,
)
from medcontext.evaluation.summary import Cases, held_out, make_table, seen_in_training, summarise


def score_pairs(
    pairs: list[Pair],
    structures: Structures | None,
    protocol: Protocol,
    workers: int,
    label_map: LabelMap,
    ignored: int | None = None,
) -> Cases:
    """The scores of each case by name, in the order of the pairs, whatever the order in which they are done.

    Args:
        pairs: the cases.
        structures: None takes each value that occurs in any of the cases.
        protocol: the conventions.
        workers: processes, each with one case in memory.
        label_map: applied to the labels, not to the predictions.
        ignored: see `score_pair`.

    Raises:
        InputError: from `score_pair`.
    """
    work = partial(score_pair, structures=structures, protocol=protocol, label_map=label_map, ignored=ignored)
    done = dict(in_processes(work, pairs, workers, "evaluating"))
    cases = {pair.name: done[index] for index, pair in enumerate(pairs)}
    if structures is not None:
        return cases
    names = sorted({score.structure for scores in cases.values() for score in scores}, key=int)
    if not names:
        raise InputError("Neither labels nor predictions hold any structure, all is background; nothing to score.")
    by_name = {case: {score.structure: score for score in scores} for case, scores in cases.items()}
    return {case: [scores.get(name, absent(name, protocol)) for name in names] for case, scores in by_name.items()}


def score_pair(
    pair: Pair, structures: Structures | None, protocol: Protocol, label_map: LabelMap, ignored: int | None
) -> list[Score]:
    """Read and score one case.

    Where the label has the value `ignored`, neither it nor the prediction has any structure: the DSC is then nnU-Net's.

    Raises:
        InputError: if a file is damaged, or holds values that are not declared.
    """
    truth, answer = read_label(pair.label)[0], read_label(pair.prediction)[0]
    if ignored is not None:
        unlabelled = truth == ignored
        truth, answer = (np.where(unlabelled, 0, values) for values in (truth, answer))
    label, prediction, spacing = along_memory(apply_map(truth, label_map), answer, pair.spacing)
    boxes = locate(label), locate(prediction)
    if structures is None:
        structures = by_value(boxes, (pair.label, pair.prediction))
    refuse_undeclared(label, boxes[0], structures, pair.label)
    refuse_undeclared(prediction, boxes[1], structures, pair.prediction)
    return score_located(label, prediction, *boxes, spacing, structures, protocol)


def named_structures(
    given: Mapping[str, int | list[int]] | None,
    labels: Path,
    found: Dataset | dict[str, Path],
    predictions: Path,
    label_map: LabelMap,
    ignored: int | None,
) -> tuple[Structures | None, str]:
    """The structures to score, None for every value that occurs, and who says so."""
    if given is None:
        return declared(labels, found, predictions, label_map)
    structures = from_user(given)
    refuse_mapped(structures, label_map, ignored)
    return structures, "the user"


def describe(
    cases: Cases,
    pairs: Sequence[Pair],
    names: Structures | None,
    protocol: Protocol,
    label_map: LabelMap,
    ignored: int | None = None,
) -> dict[str, Any]:
    """What `summary.json` says about the scores: conventions, means, and the files of every case."""
    unit = protocol.hd95_unit
    scored = [score.structure for score in next(iter(cases.values()))]
    return {
        "protocol": protocol.name,
        "conventions": protocol.conventions | _ignoring(ignored),
        "hd95_definitions": HD95_DEFINITIONS,
        "units": {"dsc": "fraction, 0 to 1", "hd95_pooled": unit, "hd95_max": unit, "volumes": "mm3"},
        "spacing_from": "the label's affine: the lengths of its columns, in mm",
        "values": {name: [int(name)] if names is None else list(names[name]) for name in scored},
        "label_map": {str(value): target for value, target in label_map.items()},
        "ignored": ignored,
        **summarise(cases),
        "cases": [
            {
                "name": pair.name,
                "patient": pair.patient,
                "part": pair.part,
                "prediction": str(pair.prediction.resolve()),
                "label": str(pair.label.resolve()),
                "images": [str(image.resolve()) for image in pair.images],
                "spacing": list(pair.spacing),
            }
            for pair in pairs
        ],
    }


def _ignoring(ignored: int | None) -> dict[str, str]:
    if ignored is None:
        return {}
    return {"ignore label": f"voxels labelled {ignored} count neither in the label nor in the prediction"}


def show(summary: Mapping[str, Any], protocol: Protocol, output: Path) -> None:
    """Print the means, what is wrong with them, which labels have no prediction, and where all is written."""
    console.print(make_table(summary, protocol, len(summary["cases"])))
    parts = {case["name"]: case["part"] for case in summary["cases"]}
    if remark := seen_in_training(parts):
        console.print(Text(remark, "bold red"), soft_wrap=True)
    if remark := held_out(parts):
        console.print(remark, soft_wrap=True)
    if summary["label_map"]:
        console.print(f"Label values mapped: {map_text(summary['label_map'])}", soft_wrap=True)
    for text in _ignoring(summary["ignored"]).values():
        console.print(f"Ignore label: {text}.", soft_wrap=True)
    missing = summary["labels_without_prediction"]
    if missing:
        some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        text = f"{len(missing)} labels without a prediction are not scored: {some}"
        console.print(text, soft_wrap=True)
    console.print(f"Written: {output / 'metrics.csv'}, {output / 'summary.json'}", soft_wrap=True)
