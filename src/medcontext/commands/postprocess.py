"""Which components of each structure are kept in predictions, found on validation cases or in labels.

Its files are those of `medcontext.run.postprocessing`.
"""

from contextlib import suppress
from pathlib import Path
from typing import Literal, get_args

from medcontext.errors import InputError
from medcontext.files import AnyPath


def postprocess(
    run: AnyPath,
    data: AnyPath | None = None,
    *,
    by: Literal["validation", "labels"] = "validation",
    checkpoint: str = "last",
    weights: Literal["student", "teacher"] = "student",
    overlap: float | None = None,
    mirror: bool | None = None,
    device: Literal["auto", "cpu", "gpu"] = "auto",
    workers: int = 1,
) -> Path:
    """Find out which components to drop from what a run, or a cross-validation's ensemble, predicts, as nnU-Net does.

    By validation: predicts the run's validation cases, and tries for each structure to keep its largest component
    alone, or components from a smallest size on. A step is kept where it raises the structure's mean Dice on these
    cases, and written to `RUN/postprocessing.json`; `predict` then applies it. A cross-validation has predicted every
    case by a network that was not trained on it, and its ensemble gets what helps there; its own scores stay as they
    are. Test cases are not looked at. Interrupted, it goes on when called again: what was predicted stays.

    By labels, where few labelled scans leave none to validate on: of each structure that is one piece in every label
    that was trained on, `predict` keeps the largest component, and those that lie with it in a box no longer than the
    structure is in any of these labels; whatever the checkpoint.

    Args:
        run: folder of a training run, or of a cross-validation
        data: the data set that it was trained on; default: where it was then
        by: what decides: predictions of validation cases, or the labels that were trained on
        checkpoint: last, best or a file; predictions of others are left as they are
        weights: the student's, or the EMA teacher's
        overlap: of neighbouring windows, 0 to below 1; default as in the training
        mirror: average over the eight mirrored views; default as in the training
        device: where to compute; auto is a GPU where there is one
        workers: processes that measure, each with one case in memory

    Returns:
        The path of `postprocessing.json`.

    Raises:
        InputError: if the run has no validation cases, or the data set has not the scans that it was trained on; if a
            cross-validation is not finished, or is to be predicted otherwise than it was; if labels decide, and there
            are options of predictions.
    """
    from medcontext.console import console
    from medcontext.data.formats import read_dataset
    from medcontext.inference.one_piece import choose_by_labels
    from medcontext.inference.validated import choices_table, choose_by_validation
    from medcontext.run import read_runs
    from medcontext.run.postprocessing import FILE, By, read_postprocessing, write_postprocessing

    runs, folder = read_runs(Path(run)), Path(run)
    dataset = read_dataset(Path(data if data is not None else runs[0].facts.data))
    plain = (checkpoint, weights, overlap, mirror) == ("last", "student", None, None)
    if by not in get_args(By):
        raise InputError(f"by is one of {', '.join(get_args(By))}; got {by!r}.")
    if not plain and (by == "labels" or len(runs) > 1):
        why = (
            "Labels decide, and nothing is predicted"
            if by == "labels"
            else f"{folder} is a cross-validation, whose predictions are there already: of checkpoint last, by the "
            "student, with the training's windows"
        )
        raise InputError(f"{why}. Leave out --checkpoint, --weights, --overlap and --mirror.")
    if by == "labels":
        found = choose_by_labels(runs, dataset, workers)
    else:
        where = {"device": device, "overlap": overlap, "mirror": mirror}
        found = choose_by_validation(folder, runs, dataset, checkpoint, weights, workers, **where)
    with suppress(InputError):  # a damaged file makes way
        if (before := read_postprocessing(folder)) and before.by != by:
            console.print(f"This replaces what {'validation cases' if by == 'labels' else 'labels'} had decided.")
    write_postprocessing(folder, found)
    console.print(choices_table(found))
    console.print(f"Written: {folder / FILE}", soft_wrap=True)
    return folder / FILE
