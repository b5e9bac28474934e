"""`medcontext cross_validate`: every labelled scan as a test, by a network that was not trained on it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from medcontext.commands.evaluate import evaluate
from medcontext.console import warn
from medcontext.data.cases import Dataset
from medcontext.data.doubts import data_doubts
from medcontext.data.folders import listed
from medcontext.data.folds import write_folds
from medcontext.data.formats import read_dataset
from medcontext.data.splits import take_few
from medcontext.data.unlabelled import REST, find_unlabelled
from medcontext.errors import InputError, counted
from medcontext.evaluation.summary import Scores
from medcontext.experiments.cells import sort_out
from medcontext.experiments.folds import Fold, find_folds, pool
from medcontext.experiments.launch import job_parameters, report_failures, run_cells, say
from medcontext.files import AnyPath, output_folder, several
from medcontext.run import FOLDS, PREDICTIONS, Run, fold_folder
from medcontext.settings import Settings


@dataclass(frozen=True)
class CrossValidation:
    """What a cross-validation left; a path, too: its folder, which `predict` takes as an ensemble of all folds.

    Args:
        folder: everything of it.
        runs: the trainings, one for each fold.
        scores: of all cases, each predicted by the run of its fold; `compare` and `report` take them.
    """

    folder: Path
    runs: tuple[Run, ...]
    scores: Scores

    def __fspath__(self) -> str:
        return str(self.folder)


def cross_validate(
    data: AnyPath,
    output: AnyPath,
    settings: Settings = Settings(),  # noqa: B008 (frozen)
    *,
    folds: int = 5,
    unlabelled: Sequence[str | Path] = (),
    series: str | Sequence[str] = (),
    skip_damaged: bool = False,
    cache: AnyPath | None = None,
    launcher: Literal["local", "slurm"] = "local",
    slurm: Sequence[str] = (),
) -> CrossValidation:
    """Train on all folds but one, in turn, and score every labelled scan by the network that was not trained on it.

    What is done already is not run again: the same command goes on where it was stopped. From a script, call it under
    `if __name__ == "__main__":`, as anything that starts processes.

    Args:
        data: data set: a Decathlon, nnU-Net, BTCV, ACDC or BraTS folder, or a JSON list
        output: folder of everything; the same command goes on there
        settings: of every training. The test cases of a --split stay out of all folds; one with several folds, as
            nnU-Net's, has these folds
        folds: how many; a patient's cases are in one
        unlabelled: scans without labels that join every training, as in `medcontext train`
        series: of such DICOM folders, which are meant: a number, a glob on the description or a UID
        skip_damaged: leave out unlabelled scans that cannot be used, and say so
        cache: folder of prepared cases; default $MEDCONTEXT_CACHE or ~/.cache
        launcher: here, one after the other, or as jobs on a cluster
        slurm: of those jobs: partition=gpu timeout_min=600 ...

    Returns:
        Its folder, runs and scores.

    Raises:
        InputError: if anything that the user gave cannot be used; if a fold failed, after all others.
    """
    from medcontext.training.fit import check_names
    from medcontext.training.loop import preparing_workers

    root, data = Path(output).resolve(), Path(data)
    jobs = job_parameters(launcher, slurm)
    sources = tuple(str(source if source == REST else Path(source).resolve()) for source in unlabelled)
    check_names(settings, sources)
    if settings.fold:
        raise InputError(f"--fold {settings.fold} chooses one fold, and cross_validate trains all; leave it out.")
    if settings.patience:
        raise InputError(
            f"--patience {settings.patience} ends a training by its validation cases, and in a cross-validation these "
            "are the cases that are scored: they would look better than new ones. Leave it out."
        )
    dataset = read_dataset(data)
    splits = find_folds(root, dataset, folds, settings.seed, settings.split)
    cells = [
        Fold(
            f"fold{number}",
            fold_folder(root, number),
            data,
            replace(settings, split=str(root / FOLDS), fold=number),
            None if cache is None else Path(cache).resolve(),
            take_few(split, settings.few_shot, settings.seed),
            sources,
            several(series),
            skip_damaged,
        )
        for number, split in enumerate(splits)
    ]
    check_data(dataset, cells)
    output_folder(root, overwrite=True)
    write_folds(root / FOLDS, splits)
    todo, failed = sort_out(cells)
    done = len(cells) - len(todo) - len(failed)
    say(
        f"{dataset.name}: {counted(len(cells), 'fold')}, {done} done before. The same command goes on where this stops."
    )
    failed |= run_cells(todo, root / "jobs", jobs)
    report_failures(failed, counted(len(cells), "fold"), root)
    pool(cells, root / PREDICTIONS)
    workers = preparing_workers(settings)
    scores = evaluate(root / PREDICTIONS, data, root / "scores", workers=workers, overwrite=True)
    runs = tuple(cell.run() for cell in cells)
    warn(seen_images(runs))
    say(f"Their ensemble: medcontext predict --run {root} --input DIR --output DIR")
    return CrossValidation(root, runs, scores)


def check_data(dataset: Dataset, cells: Sequence[Fold]) -> None:
    """Find scans without labels, and say what is doubtful of all scans.

    Raises:
        InputError: if a source has none.
    """
    found = [find_unlabelled(cell.unlabelled, dataset, cell.split.rest, cell.series) for cell in cells if cell.split]
    names = [name for cell in cells for name in cell.held_out]
    warn(data_doubts(dataset, names, [source.dataset for source in found[0]]))


def seen_images(runs: Sequence[Run]) -> list[str]:
    """What to say where the images of scored cases were among the scans without labels."""
    names = sorted({name for run in runs for name in run.facts.unlabelled.validated})
    if not names:
        return []
    return [
        f"scans without labels have the images of cases that were held out: {listed(names)}. The scores of these cases "
        "are those of scans that the network has seen, though not their labels."
    ]
