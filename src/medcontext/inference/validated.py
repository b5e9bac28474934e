"""Predictions of cases that a training was not trained on, by which its post-processing is chosen.

A run predicts its validation cases, into its own folder; a cross-validation has predicted every case already.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from medcontext.console import warn
from medcontext.data.cases import Dataset
from medcontext.data.folders import listed, shortened
from medcontext.data.label_map import follow
from medcontext.errors import InputError, counted
from medcontext.evaluation.pairs import match
from medcontext.evaluation.summary import OUT_OF_FOLD
from medcontext.files import file_hash, kept_if_used, read_json
from medcontext.inference.ensemble import load_members
from medcontext.inference.origin import RECORD, check_same_origin, describe_origin
from medcontext.inference.postprocess import choose, validation_cases
from medcontext.inference.predict import Predictor, remove_leftovers
from medcontext.run import PREDICTIONS, Run, Weights
from medcontext.run.postprocessing import FOLDER, Postprocessing, step_text

Predicted = tuple[dict[str, Path], Weights, tuple[str, ...]]
"""Predictions by case, whose weights they are, and the checksums of the networks."""


def choose_by_validation(
    folder: Path, runs: Sequence[Run], dataset: Dataset, checkpoint: str, weights: Weights, workers: int, **where: Any
) -> Postprocessing:
    """What helps on the validation cases of a run, or on what a cross-validation predicted out of fold.

    Args:
        folder: the run's, or the cross-validation's.
        runs: itself, or the folds.
        dataset: of the training.
        checkpoint: of a run.
        weights: of a run, the student's or the teacher's.
        workers: processes that measure.
        where: options of `load_members`, for a run.

    Raises:
        InputError: if there are no such cases, or they cannot be predicted or read.
    """
    if len(runs) == 1:
        files, weights, networks = predict_validation(runs[0], dataset, checkpoint, weights, **where)
    else:
        files, weights, networks = out_of_fold(folder, runs)
    pairs, _ = match(files, dataset)
    label_map = follow(dataset.label_map, runs[0].settings.prepare.label_map)
    choices = choose(pairs, runs[0].structures, runs[0].regions, label_map, workers)
    return Postprocessing(tuple(files), weights, networks, choices)


def predict_validation(run: Run, dataset: Dataset, checkpoint: str, weights: Weights, **options: Any) -> Predicted:
    """Predict those validation cases that are not there yet; predictions of other networks or options make way.

    Args:
        run: a training.
        dataset: that it was trained on.
        checkpoint: of the run.
        weights: the student's or the teacher's.
        options: of `load_members`.

    Raises:
        InputError: if there are no such cases; if one is not in the data set, cannot be predicted, or is another scan
            under that name.
    """
    names = validation_cases(run)
    members = load_members([run], [checkpoint], weights, **options)
    origin = describe_origin(members, weights, [dataset.root])
    output = run.folder / FOLDER
    predictor = Predictor(members, output, origin)
    cases = [case for case in dataset.cases if case.name in set(names)]
    missing = sorted(set(names) - {case.name for case in cases})
    if missing:
        raise InputError(f"{dataset.root} has no labelled case {listed(missing)}, which {run.folder} validates on.")
    try:
        check_same_origin(output, origin)
    except InputError:
        if not (output / RECORD).is_file():  # not ours
            raise
        warn([f"the predictions in {output} are of other weights or options; they are made anew."])
        shutil.rmtree(output)
    with kept_if_used(output, resume=True):
        remove_leftovers(output)
        failed = predictor.predict(predictor.lacking(cases))
    if failed:
        raise InputError(f"{len(failed)} validation cases could not be predicted: {shortened(failed)}.")
    parts = read_json(output / RECORD)["parts"]
    other = [case.name for case in cases if parts.get(case.name) != "validation"]
    if other:
        shutil.rmtree(output)
        raise InputError(
            f"{dataset.root} has other scans than {run.folder} was trained and validated on, under the names "
            f"{listed(other)}. Give the data set of the training: --data DATASET."
        )
    files = {case.name: predictor.files(case)[0] for case in cases}
    return files, weights, (origin["predicted_by"]["networks"][0]["sha256"],)


def out_of_fold(folder: Path, runs: Sequence[Run]) -> Predicted:
    """What a cross-validation predicted of the cases that it scored.

    Args:
        folder: the cross-validation's.
        runs: its folds.

    Raises:
        InputError: if they are not there, or not as the networks made them.
    """
    output = folder / PREDICTIONS
    again = "Go on with the same `medcontext cross_validate`."
    if not (output / RECORD).is_file():
        raise InputError(f"{folder} has no {PREDICTIONS} of its folds yet. {again}")
    record = read_json(output / RECORD)
    made = record["predicted_by"]
    networks = tuple(network["sha256"] for network in made["networks"])
    if networks != tuple(file_hash(run.checkpoint("last")) for run in runs):
        raise InputError(f"{output} is not of the checkpoints that the folds have now. {again}")
    if "postprocessing" in made:
        raise InputError(f"{output} is post-processed already, by a fold's own choice; nothing can be chosen on it.")
    names = [name for name, part in record["parts"].items() if part == OUT_OF_FOLD]
    files = {name: output / f"{name}.nii.gz" for name in names}
    if missing := [name for name, path in files.items() if not path.is_file()]:
        raise InputError(f"{output} lacks the predictions of {listed(missing)}. {again}")
    return files, made["weights"], networks


def choices_table(found: Postprocessing) -> Table:
    """What is kept of each structure, and why: what that does to its Dice, or how many pieces labels have."""
    labels = found.by == "labels"
    kind = "training label" if labels else "out-of-fold case" if len(found.networks) > 1 else "validation case"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=counted(len(found.cases), kind))
    table.add_column("structure", overflow="fold")
    table.add_column("kept", overflow="fold")
    for column in ("in labels", "pieces at most") if labels else ("DSC before", "DSC after"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, choice in found.structures.items():
        kept = step_text(found.steps[name]) if name in found.steps else "all"
        scores = ["-" if dice is None else f"{100 * dice:.2f}" for dice in (choice.dice_before, choice.dice_after)]
        table.add_row(Text(name), kept, *([str(choice.labels), str(choice.pieces)] if labels else scores))
    return table
