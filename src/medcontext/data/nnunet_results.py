"""The results of nnU-Net v2 as they lie: in which of its folders there are predictions, and of which folds.

    nnUNet_results/Dataset004_Hippocampus/nnUNetTrainer__nnUNetPlans__3d_fullres/
        plans.json  dataset.json
        fold_0/     checkpoint_final.pth  debug.json  training_log_*.txt  validation/CASE.nii.gz
        fold_1/ ... fold_all/
        crossval_results_folds_0_1_2_3_4/   CASE.nii.gz, of all folds   postprocessed/CASE.nii.gz

Read against nnU-Net 2.8.1. Nothing is unpickled.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medcontext.data.folders import listed, nifti_files
from medcontext.data.nifti import case_name
from medcontext.errors import InputError

PLANS, DATASET = "plans.json", "dataset.json"
CHECKPOINT = "checkpoint_final.pth"
ALL = "all"  # the fold of all cases
_FOLD = re.compile(r"fold_(\d+|all)")
_TOGETHER = re.compile(r"crossval_results_folds_(\w+)")
_OF_PREDICT = "predict_from_raw_data_args.json"


@dataclass(frozen=True)
class NnunetPredictions:
    """Predictions that nnU-Net wrote.

    Args:
        folders: that they lie in; no case is in two.
        part: that their cases had in the training: `out of fold`, `training`, `validation` or `unknown`.
        declared: the folder whose dataset.json says what their values mean.
        taken: what they are, for a person.
        trainer: the folder of the training; None of `nnUNetv2_predict`, which does not note it.
        folds: `0`, `1`, ..., or `all`, whose networks predicted.
        postprocessed: whether nnU-Net dropped components, by what was best for these very cases.
        remarks: what was left out, a sentence each.
    """

    folders: tuple[Path, ...]
    part: str
    declared: Path
    taken: str
    trainer: Path | None = None
    folds: tuple[str, ...] = ()
    postprocessed: bool = False
    remarks: tuple[str, ...] = ()


def find_nnunet(folder: Path) -> NnunetPredictions | None:
    """The predictions in one of nnU-Net's folders; None where it is not one.

    Args:
        folder: of a training, with all its folds; of a fold; its `validation`; `crossval_results_folds_*`, or what was
            post-processed there; or of `nnUNetv2_predict`.

    Raises:
        InputError: if no fold has predictions, if two folds have one case, or if there are several trainings.
    """
    # Names and what lies around say what a folder is, whichever of the two a link leads to.
    places = dict.fromkeys((folder.resolve(), Path(os.path.abspath(folder))))
    return next((found for place in places if (found := _find(place)) is not None), None)


def is_trainer(folder: Path) -> bool:
    """Whether a folder is that of a training, with its folds inside."""
    described = (folder / PLANS).is_file() and (folder / DATASET).is_file()
    return described and any(_FOLD.fullmatch(item.name) and item.is_dir() for item in folder.iterdir())


def _find(folder: Path) -> NnunetPredictions | None:
    if is_trainer(folder):
        return _all_folds(folder)
    if _is_fold(folder):
        return _one_fold(folder)
    if folder.name == "validation" and _is_fold(folder.parent):
        return _one_fold(folder.parent)
    chosen = folder.name == "postprocessed"
    pooled = folder.parent if chosen else folder
    if (name := _TOGETHER.fullmatch(pooled.name)) and is_trainer(pooled.parent):
        return _together(folder, pooled.parent, tuple(name[1].split("_")), chosen)
    if (folder / _OF_PREDICT).is_file():
        return NnunetPredictions((folder,), "unknown", folder, "what nnUNetv2_predict wrote")
    several = [item.name for item in sorted(folder.iterdir()) if is_trainer(item)] if folder.is_dir() else []
    if several:
        raise InputError(
            f"{folder} holds trainings of nnU-Net: {listed(several)}. Give the folder of one, such as "
            f"{folder / several[0]}."
        )
    return None


def _is_fold(folder: Path) -> bool:
    return _FOLD.fullmatch(folder.name) is not None and is_trainer(folder.parent)


def _all_folds(trainer: Path) -> NnunetPredictions:
    folds = sorted((item for item in trainer.iterdir() if _is_fold(item) and item.is_dir()), key=_number)
    whole = [fold for fold in folds if _predicted(fold)]
    taken = [fold for fold in whole if fold.name != f"fold_{ALL}"] or whole
    if not taken:
        raise InputError(
            f"No fold of {trainer} has predictions: there are {listed([fold.name for fold in folds])}, none with a "
            f"validation/. {_validate(folds[0])}"
        )
    _refuse_doubled(taken)
    remarks = [_without_validation(fold) for fold in folds if fold not in whole]
    remarks += [
        f"{fold.name} is left out: it was trained on the cases that it predicts. Give {fold} to score it alone."
        for fold in whole
        if fold not in taken
    ]
    return _of_folds(taken, remarks)


def _one_fold(fold: Path) -> NnunetPredictions:
    if not _predicted(fold):
        raise InputError(f"{fold} has no predictions in validation/. {_validate(fold)}")
    return _of_folds([fold], [])


def _of_folds(taken: Sequence[Path], remarks: list[str]) -> NnunetPredictions:
    """The validation cases of folds: out of fold, but for those of the fold of all cases."""
    names = [fold.name.removeprefix("fold_") for fold in taken]
    remarks += [
        f"{fold}/validation has no summary.json, which nnU-Net writes last: the validation was interrupted, and cases "
        f"may be missing. {_validate(fold)}"
        for fold in taken
        if not (fold / "validation" / "summary.json").is_file()
    ]
    return NnunetPredictions(
        tuple(fold / "validation" for fold in taken),
        _part(names),
        taken[0].parent,
        f"the validation cases of {', '.join(fold.name for fold in taken)} of {taken[0].parent.name}",
        taken[0].parent,
        tuple(names),
        remarks=tuple(remarks),
    )


def _together(folder: Path, trainer: Path, folds: tuple[str, ...], chosen: bool) -> NnunetPredictions:
    """Of several folds in one folder; what was post-processed was post-processed as was best for these very cases."""
    part = "validation" if chosen and ALL not in folds else _part(folds)
    taken = f"the validation cases of folds {', '.join(folds)} of {trainer.name}{', post-processed' * chosen}"
    return NnunetPredictions((folder,), part, trainer, taken, trainer, folds, chosen)


def _part(folds: Sequence[str]) -> str:
    return "training" if ALL in folds else "out of fold"


def _predicted(fold: Path) -> list[Path]:
    return nifti_files(fold / "validation")


def _number(fold: Path) -> tuple[bool, int]:
    name = fold.name.removeprefix("fold_")
    return (True, 0) if name == ALL else (False, int(name))


def _refuse_doubled(folds: Sequence[Path]) -> None:
    found: dict[str, Path] = {}
    for fold in folds:
        for name in map(case_name, _predicted(fold)):
            other = found.setdefault(name, fold)
            if other != fold:
                raise InputError(
                    f"'{name}' is a validation case of both {other.name} and {fold.name} in {fold.parent}: which of "
                    "its predictions to score is not clear. Give the folder of one fold."
                )


def _without_validation(fold: Path) -> str:
    if (fold / CHECKPOINT).is_file():
        return (
            f"{fold.name} is trained and has no predictions in validation/: its cases are left out. {_validate(fold)}"
        )
    return f"{fold.name} is not trained to its end, and has no predictions in validation/: its cases are left out."


def _validate(fold: Path) -> str:
    """The command that makes a fold's predictions."""
    parts = fold.parent.name.split("__")
    if len(parts) != 3:
        return "nnUNetv2_train with --val makes them."
    trainer, plans, configuration = parts
    dataset, number = fold.parent.parent.name, fold.name.removeprefix("fold_")
    way = "--val" if (fold / CHECKPOINT).is_file() else "--c"
    return f"They come from: nnUNetv2_train {dataset} {configuration} {number} -tr {trainer} -p {plans} {way}"
