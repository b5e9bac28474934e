"""Score a folder of predictions against labels."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import medcontext
from medcontext.console import console
from medcontext.data.cases import Dataset
from medcontext.data.nifti import read_label
from medcontext.data.pool import in_processes
from medcontext.errors import InputError
from medcontext.evaluation.metrics import Score, absent, along_memory, locate, score_located
from medcontext.evaluation.pairs import Pair, find_labels, find_predictions, match
from medcontext.evaluation.protocols import HD95_DEFINITIONS, Protocol, get_protocol
from medcontext.evaluation.structures import Structures, by_value, declared, from_user, refuse_undeclared
from medcontext.evaluation.summary import Cases, make_table, summarise, to_csv
from medcontext.files import atomic_path, output_folder, write_json, write_text


def evaluate_folder(
    predictions: Path,
    labels: Path,
    output: Path,
    *,
    protocol: Literal["standard", "legacy"] = "standard",
    structures: Mapping[str, int | list[int]] | None = None,
    images: Path | None = None,
    workers: int | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Score segmentations: DSC and both HD95, for every case and structure, in the labels' own geometry.

    Writes `metrics.csv` (one row per case and structure; `dsc` is a fraction from 0 to 1) and `summary.json`, both
    or neither, and prints a table. Labels that have no prediction are listed in the summary, not scored.

    From a script, call it under `if __name__ == "__main__":` or with `workers=1`, as anything that starts processes.

    Args:
        predictions: folder of segmentations, named by case
        labels: folder of label files with the same names, or a data set (folder or JSON file)
        output: folder of the scores, new or empty
        protocol: standard: millimetres, a miss or a false alarm gets the worst score; legacy: the paper's conventions
        structures: names and values, such as {"liver": 1, "tumour": [2, 3]}; default: as declared by a dataset.json
        images: folder of the images, named by case, to be listed in the summary for reports
        workers: processes; default: one for each processor
        overwrite: replace the scores that the output folder holds

    Returns:
        What `summary.json` holds.

    Raises:
        InputError: if there are no predictions, or one has no label or lies on another grid; if a file is damaged or
            holds fractional, negative or undeclared values; if the output cannot be written.
    """
    rules = get_protocol(protocol)
    if predictions.resolve() == labels.resolve():
        raise InputError(f"Predictions and labels are the same folder, {predictions}; give two.")
    found = find_labels(labels)
    pairs, unpredicted = match(find_predictions(predictions), found, images)
    names, source = _structures(structures, labels, found, predictions)
    output_folder(output, overwrite=overwrite)
    cases = score_pairs(pairs, names, rules, _processors() if workers is None else workers)
    summary = {
        "medcontext": medcontext.__version__,
        **_conventions(rules),
        "predictions": str(predictions.resolve()),
        "labels": str(labels.resolve()),
        "images": None if images is None else str(images.resolve()),
        "structures_from": source,
        "values": {score.structure: _values(score.structure, names) for score in next(iter(cases.values()))},
        **summarise(cases),
        "cases": [_paths(pair) for pair in pairs],
        "labels_without_prediction": unpredicted,
    }
    with atomic_path(output / "metrics.csv") as table, atomic_path(output / "summary.json") as report:
        write_text(table, to_csv(cases))
        write_json(report, summary)
    _show(summary, rules, output)
    return summary


def score_pairs(pairs: list[Pair], structures: Structures | None, protocol: Protocol, workers: int) -> Cases:
    """The scores of each case by name, in the order of the pairs, whatever the order in which they are done.

    Args:
        pairs: the cases.
        structures: None takes each value that occurs in any of the cases.
        protocol: the conventions.
        workers: processes, each with one case in memory.

    Raises:
        InputError: from `score_pair`.
    """
    work = partial(score_pair, structures=structures, protocol=protocol)
    done = dict(in_processes(work, pairs, workers, "evaluating"))
    cases = {pair.name: done[index] for index, pair in enumerate(pairs)}
    if structures is not None:
        return cases
    names = sorted({score.structure for scores in cases.values() for score in scores}, key=int)
    if not names:
        raise InputError("Neither labels nor predictions hold any structure, all is background; nothing to score.")
    by_name = {case: {score.structure: score for score in scores} for case, scores in cases.items()}
    return {case: [scores.get(name, absent(name, protocol)) for name in names] for case, scores in by_name.items()}


def score_pair(pair: Pair, structures: Structures | None, protocol: Protocol) -> list[Score]:
    """Read and score one case.

    Raises:
        InputError: if a file is damaged, or holds values that are not declared.
    """
    label, prediction, spacing = along_memory(read_label(pair.label)[0], read_label(pair.prediction)[0], pair.spacing)
    boxes = locate(label), locate(prediction)
    if structures is None:
        structures = by_value(boxes, (pair.label, pair.prediction))
    refuse_undeclared(label, boxes[0], structures, pair.label)
    refuse_undeclared(prediction, boxes[1], structures, pair.prediction)
    return score_located(label, prediction, *boxes, spacing, structures, protocol)


def _structures(
    given: Mapping[str, int | list[int]] | None, labels: Path, found: Dataset | dict[str, Path], predictions: Path
) -> tuple[Structures | None, str]:
    return declared(labels, found, predictions) if given is None else (from_user(given), "the user")


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _conventions(protocol: Protocol) -> dict[str, Any]:
    unit = protocol.hd95_unit
    return {
        "protocol": protocol.name,
        "conventions": protocol.conventions,
        "hd95_definitions": HD95_DEFINITIONS,
        "units": {"dsc": "fraction, 0 to 1", "hd95_pooled": unit, "hd95_max": unit, "volumes": "mm3"},
        "spacing_from": "the label's affine: the lengths of its columns, in mm",
    }


def _values(structure: str, names: Structures | None) -> list[int]:
    return [int(structure)] if names is None else list(names[structure])


def _paths(pair: Pair) -> dict[str, Any]:
    return {
        "name": pair.name,
        "prediction": str(pair.prediction.resolve()),
        "label": str(pair.label.resolve()),
        "images": [str(image.resolve()) for image in pair.images],
        "spacing": list(pair.spacing),
    }


def _show(summary: Mapping[str, Any], protocol: Protocol, output: Path) -> None:
    console.print(make_table(summary, protocol, len(summary["cases"])))
    missing = summary["labels_without_prediction"]
    if missing:
        some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        text = f"{len(missing)} labels without a prediction are not scored: {some}"
        console.print(text, soft_wrap=True)
    console.print(f"Written: {output / 'metrics.csv'}, {output / 'summary.json'}", soft_wrap=True)
