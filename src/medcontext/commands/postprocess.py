"""Which components of each structure are kept in predictions, found on validation cases.

Its files are those of `medcontext.run.postprocessing`.
"""

from pathlib import Path
from typing import Literal

from medcontext.errors import InputError
from medcontext.files import AnyPath


def postprocess(
    run: AnyPath,
    data: AnyPath | None = None,
    *,
    checkpoint: str = "last",
    weights: Literal["student", "teacher"] = "student",
    overlap: float | None = None,
    mirror: bool | None = None,
    device: Literal["auto", "cpu", "gpu"] = "auto",
    workers: int = 1,
) -> Path:
    """Find out whether dropping small components helps a run, or a cross-validation's ensemble, as nnU-Net does.

    Predicts the run's validation cases, and tries for each structure to keep its largest component alone, or components
    from a smallest size on. A step is kept where it raises the structure's mean Dice on these cases, and written to
    `RUN/postprocessing.json`; `predict` then applies it. A cross-validation has predicted every case by a network that
    was not trained on it, and its ensemble gets what helps there; its own scores stay as they are. Test cases are not
    looked at. Interrupted, it goes on when called again: what was predicted stays.

    Args:
        run: folder of a training run, or of a cross-validation
        data: the data set that it was trained on; default: where it was then
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
            cross-validation is not finished, or is to be predicted otherwise than it was.
    """
    from medcontext.console import console
    from medcontext.data.formats import read_dataset
    from medcontext.data.label_map import follow
    from medcontext.evaluation.pairs import match
    from medcontext.inference.postprocess import choose
    from medcontext.inference.validated import choices_table, out_of_fold, predict_validation
    from medcontext.run import read_runs
    from medcontext.run.postprocessing import FILE, Postprocessing, write_postprocessing

    runs, folder = read_runs(Path(run)), Path(run)
    dataset = read_dataset(Path(data if data is not None else runs[0].facts.data))
    if len(runs) == 1:
        where = {"device": device, "overlap": overlap, "mirror": mirror}
        files, weights, networks = predict_validation(runs[0], dataset, checkpoint, weights, **where)
    elif (checkpoint, weights, overlap, mirror) == ("last", "student", None, None):
        files, weights, networks = out_of_fold(folder, runs)
    else:
        raise InputError(
            f"{folder} is a cross-validation, whose predictions are there already: of checkpoint last, by the student, "
            "with the training's windows. Leave out --checkpoint, --weights, --overlap and --mirror."
        )
    pairs, _ = match(files, dataset)
    label_map = follow(dataset.label_map, runs[0].settings.prepare.label_map)
    choices = choose(pairs, runs[0].structures, runs[0].regions, label_map, workers)
    checked = Postprocessing(tuple(files), weights, networks, choices)
    write_postprocessing(folder, checked)
    console.print(choices_table(checked))
    console.print(f"Written: {folder / FILE}", soft_wrap=True)
    return folder / FILE
