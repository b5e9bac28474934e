"""Predictions without labels: what is expected of each, and the files of every case."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medcontext.data.folders import listed, nifti_files
from medcontext.data.nifti import case_name
from medcontext.errors import InputError, counted
from medcontext.evaluation.predictions import read_parts
from medcontext.evaluation.structures import declared
from medcontext.files import read_json
from medcontext.inference.judge import FILE, Judged, by_need, read_expected
from medcontext.inference.origin import RECORD
from medcontext.inference.selection import find_cases
from medcontext.inference.suggested_table import TABLE, find_suggested
from medcontext.reporting.content import named_values
from medcontext.reporting.suggestions import Suggestions, read_suggestions
from medcontext.reporting.volumes import CaseFiles
from medcontext.run import read_run

PANEL = "Segmentation"


@dataclass(frozen=True)
class Unscored:
    """A folder that `medcontext predict` wrote, with or without `medcontext suggest` around it, read.

    Args:
        folder: of the predictions.
        name: of the data set that the network was trained on.
        origin: what predicted them, as recorded: `input`, `weights`, `networks` and more.
        rows: of `expected.csv`.
        values: that the segmentations hold, by the name of what they mean.
        files: of each case whose image is still there: those to label next, then in the order of their need of a look.
        notes: a sentence on what cannot be shown.
        trained: cases that the network was trained on.
        suggested: what to label next, if `suggest` was asked.
    """

    folder: Path
    name: str
    origin: Mapping[str, Any]
    rows: Sequence[Judged]
    values: Mapping[str, tuple[int, ...]]
    files: Mapping[str, CaseFiles]
    notes: Sequence[str]
    trained: Sequence[str]
    suggested: Suggestions | None = None

    @property
    def cases(self) -> list[Judged]:
        """The row of each case's mean, those first that a person should look at first."""
        return by_need(self.rows)


def read_unscored(folder: Path) -> Unscored:
    """Read predictions, and find the images that they were made from.

    Args:
        folder: that `predict` or `suggest` wrote, see `find_suggested`.

    Raises:
        InputError: if neither wrote the folder, or without a calibration; if its `expected.csv` lacks a segmentation;
            if its `suggested.csv` is of other predictions.
    """
    folder, around = find_suggested(folder)
    record = read_json(folder / RECORD) if (folder / RECORD).is_file() else None
    origin = record.get("predicted_by") if isinstance(record, dict) else None
    if not isinstance(record, dict) or not isinstance(origin, dict):
        raise InputError(
            f"{folder} is not a folder that `medcontext predict` or `medcontext suggest` wrote: it has no {RECORD} "
            f"that says so, and no {TABLE}."
        )
    rows = read_expected(folder)
    segmentations = {case_name(path): path for path in nifti_files(folder)}
    if not rows:
        raise InputError(
            f"{folder} has no {FILE}: nothing is known of what its network's segmentations are worth. Run `medcontext "
            "calibrate`, then predict again into another folder; or evaluate these against labels."
        )
    if lacking := [name for name in segmentations if name not in {row.case for row in rows}]:
        raise InputError(
            f"{folder / FILE} is not of these predictions: it lacks {len(lacking)} of "
            f"{counted(len(segmentations), 'case')}, {listed(lacking)}. Predict again into another folder."
        )
    images, note = _find_images(origin)
    means = by_need(rows)
    suggested = read_suggestions(around, means) if around else None
    order = list(dict.fromkeys([*(suggested.cases if suggested else []), *(row.case for row in means)]))
    files = {
        case: CaseFiles(case, images[case], None, {PANEL: segmentations[case]})
        for case in order
        if case in images and case in segmentations
    }
    gone = [case for case in order if case not in files]
    notes = [f"Without pictures, for their files are not where they were: {listed(gone)}."] if gone and files else []
    values = named_values(declared(folder, {}, folder)[0] or {})
    trained = [case for case, part in read_parts(folder).items() if part == "training"]
    name = str(record.get("name", ""))
    return Unscored(folder, name, origin, rows, values, files, [note] if note else notes, trained, suggested)


def inputs_of(origin: Mapping[str, Any]) -> list[str]:
    """The paths that were predicted."""
    given = origin.get("input", [])
    return [str(path) for path in ([given] if isinstance(given, str) else given)]


def _find_images(origin: Mapping[str, Any]) -> tuple[dict[str, Path], str]:
    """The image of each case that was predicted, of several channels the first; and why there are none."""
    inputs = inputs_of(origin)
    if not inputs or not all(Path(path).is_absolute() for path in inputs):
        return {}, f"No pictures: {RECORD} does not say where the images are."  # `predict --anonymous`
    try:
        runs = [read_run(Path(network["checkpoint"]).parent.parent) for network in origin["networks"]]
        chosen = origin.get("image", ()), origin.get("series", ())
        cases = find_cases([Path(path) for path in inputs], runs, "all", *chosen).cases
    except InputError as error:
        return {}, f"No pictures, for the images are not found: {error}"
    except (KeyError, TypeError):
        return {}, f"No pictures: {RECORD} does not say which networks predicted them."
    images = {case.name: case.images[0] for case in cases if case.images[0].exists()}
    return images, "" if images else f"No pictures: the images are no longer in {listed(inputs)}."
