"""Which segmentations are to be scored: ours, nnU-Net's as they lie, or anybody's."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medcontext.console import console, warn
from medcontext.data.cases import Dataset
from medcontext.data.folders import listed, nifti_files, passed_over, passed_over_text
from medcontext.data.formats import MANIFEST
from medcontext.data.nifti import case_name
from medcontext.data.nnunet_results import CHECKPOINT, NnunetPredictions, find_nnunet
from medcontext.errors import InputError, counted
from medcontext.evaluation.pairs import by_name, nothing_in
from medcontext.files import file_hash, read_json

BESIDE = (".npz", ".pkl", ".dcm")  # nnU-Net's probabilities and our DICOM segmentations lie beside the others


@dataclass(frozen=True)
class Predictions:
    """Segmentations, each of a case.

    Args:
        files: by case name, sorted.
        declared: the folder whose dataset.json, if there is one, says what their values mean.
        parts: that cases had in the training, as far as that is known.
        nnunet: what nnU-Net says of them, where it wrote them.
    """

    files: dict[str, Path]
    declared: Path
    parts: dict[str, str] = field(default_factory=dict)
    nnunet: NnunetPredictions | None = None


def find_predictions(folder: Path) -> Predictions:
    """The predicted segmentations in a folder; in one of nnU-Net's, also those of its folds.

    Raises:
        InputError: if there are none, or two are of one case; see also `find_nnunet`.
    """
    if not folder.is_dir():
        found = "a file" if folder.exists() else "not there"
        raise InputError(f"The predictions folder {folder} is {found}; give a folder of .nii.gz files.")
    nnunet = find_nnunet(folder)
    if nnunet is None:
        return Predictions(_segmentations(folder), folder, read_parts(folder))
    files = {name: file for each in nnunet.folders for name, file in _segmentations(each).items()}
    console.print(f"{folder}: {nnunet.taken}, {counted(len(files), 'case')}.", soft_wrap=True)
    warn(nnunet.remarks)
    parts = {} if nnunet.part == "unknown" else dict.fromkeys(files, nnunet.part)
    return Predictions(dict(sorted(files.items())), nnunet.declared, parts, nnunet)


def chosen(found: Predictions, files: Sequence[Path]) -> dict[str, Path]:
    """Of segmentations those that these files hold, by case name; all where no file is named.

    Raises:
        InputError: if a file is not among them.
    """
    if not files:
        return found.files
    asked = {path.parent.resolve() / path.name: path for path in files}
    there = {path.parent.resolve() / path.name: name for name, path in found.files.items()}
    if lacking := [str(path) for place, path in asked.items() if place not in there]:
        raise InputError(f"Predictions not found: {listed(lacking)}. Give .nii.gz files, or their folder.")
    return {name: found.files[name] for place, name in there.items() if place in asked}


def read_parts(predictions: Path) -> dict[str, str]:
    """Which part each case had in the training, as `medcontext predict` noted it; nothing where it did not."""
    record = read_json(predictions / MANIFEST) if (predictions / MANIFEST).is_file() else {}
    parts = record.get("parts") if isinstance(record, dict) else None
    return {name: part for name, part in parts.items() if isinstance(part, str)} if isinstance(parts, dict) else {}


def warn_of_training_cases(predictions: Predictions, labels: Dataset | dict[str, Path]) -> None:
    """Say where `nnUNetv2_predict` was given cases of imagesTr: it does not note which of them it was trained on."""
    if predictions.nnunet is None or predictions.parts or not isinstance(labels, Dataset):
        return
    names = [case.name for case in labels.cases if case.name in predictions.files]
    if names:
        text = (
            f"of {counted(len(names), 'case')} that nnUNetv2_predict was given {labels.root} has training labels "
            f"({listed(names)}). Whether the network was trained on them is not noted; if so, the scores say little "
            "about new patients. The folder of the training has such cases out of fold."
        )
        warn([text])


def provenance(nnunet: NnunetPredictions) -> dict[str, Any]:
    """What `summary.json` notes for reports: the training's folder, its folds, and their checkpoints by content."""
    if nnunet.trainer is None:
        return {"trainer": None, "folds": {}}
    hashes: dict[str, str | None] = dict.fromkeys(nnunet.folds)
    for fold in nnunet.folds:
        with suppress(OSError):  # deleted since, or not ours to read: scores do not need it
            hashes[fold] = file_hash(nnunet.trainer / f"fold_{fold}" / CHECKPOINT)
    return {"trainer": str(nnunet.trainer), "folds": hashes, "postprocessed": nnunet.postprocessed}


def _segmentations(folder: Path) -> dict[str, Path]:
    files = nifti_files(folder)
    if not files:
        raise nothing_in(folder, "predictions", "Give the folder that `medcontext predict` wrote.")
    known = {case_name(file) for file in files}
    others = [
        name
        for name in passed_over(folder)
        if name != "probabilities/" and not (name.endswith(BESIDE) and name[:-4] in known)  # `predict` writes the first
    ]
    warn([passed_over_text(folder, others)] if others else [])
    return by_name(files, folder)
