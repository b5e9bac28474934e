"""Predicting and writing cases, one after the other; the files are described in `medcontext.commands.predict`."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from torch import Tensor

from medcontext.console import track
from medcontext.data.cases import Case
from medcontext.data.dicom.heads import is_dicom_path
from medcontext.data.nifti import image_digest, read_image, write_image, write_label
from medcontext.data.placement import voxel_sizes
from medcontext.errors import CannotWrite, InputError, lacks_memory, memory_words
from medcontext.inference.beside import volumes
from medcontext.inference.components import apply_steps
from medcontext.inference.dicom_seg import Segments, write_segmentation
from medcontext.inference.ensemble import Member, segment
from medcontext.inference.judge import judge, read_expected, write_expected
from medcontext.inference.origin import write_record
from medcontext.inference.parts import part_of
from medcontext.inference.signs import Noticed
from medcontext.run import Run
from medcontext.run.calibration import Calibration
from medcontext.run.postprocessing import Keep


def predict_cases(
    cases: Sequence[Case],
    members: Sequence[Member],
    output: Path,
    origin: dict[str, Any],
    tested: Collection[str],
    probabilities: bool,
    steps: Mapping[str, Keep] = MappingProxyType({}),
    calibration: Calibration | None = None,
    segments: Segments | None = None,
) -> list[str]:
    """Predict and write; returns which cases failed, and why.

    Args:
        cases: to predict.
        members: networks, whose probabilities are averaged.
        output: folder.
        origin: what the record beside the predictions says.
        tested: names of test cases.
        probabilities: whether to write these, too.
        steps: of post-processing, by structure.
        calibration: of the networks, to say what is expected of each segmentation.
        segments: of cases that come as DICOM, written as DICOM, too; None writes none.
    """
    failed = []
    for case in track(cases, "predicting"):
        problem = predict_case(case, members, output, origin, tested, probabilities, steps, calibration, segments)
        if problem:
            failed.append(f"case '{case.name}': {problem.removesuffix('.')}")
    return failed


def predict_case(
    case: Case,
    members: Sequence[Member],
    output: Path,
    origin: dict[str, Any],
    tested: Collection[str],
    probabilities: bool,
    steps: Mapping[str, Keep] = MappingProxyType({}),
    calibration: Calibration | None = None,
    segments: Segments | None = None,
) -> str:
    """Predict and write one case; says what is wrong with it, or nothing. It keeps no array for the next one."""
    run, noticed = members[0].run, Noticed() if calibration else None
    try:
        try:
            image, affine = read_image(case, run.plan.channels)
            classes, scores = segment(image, affine, members, probabilities, noticed)
        except InputError as error:
            return str(error)
        part = part_of(case.name, image_digest(image), [member.run for member in members], tested)
        whole = np.array(run.plan.values, np.int32)[classes.numpy()]
        label = processed(whole, affine, run, steps)
        write_record(output, origin, case.name, part, dropped(whole, label, affine, run) if steps else {})
        if calibration and noticed:
            rows = judge(case.name, noticed, volumes(label, affine, run.structures), calibration)
            write_expected(output, [row for row in read_expected(output) if row.case != case.name] + rows)
        write_case(case, label, scores, affine, output)
        if segments and is_dicom_path(case.images[0]):
            return _as_dicom(case, label, output, segments)
    except Exception as error:
        if not lacks_memory(error):
            raise
        fewer = "fewer networks at once, " if len(members) > 1 else ""
        return (
            f"not enough memory{memory_words(error)}. Use {fewer}a machine with more memory, or a smaller scan: "
            "cropped, or with larger voxels"
        )
    return ""


def outputs(output: Path, case: Case, probabilities: bool, segments: Segments | None = None) -> list[Path]:
    """The files of a finished case, the segmentation first."""
    folders = [output, output / "probabilities"] if probabilities else [output]
    found = [folder / f"{case.name}.nii.gz" for folder in folders]
    return [*found, output / f"{case.name}.dcm"] if segments and is_dicom_path(case.images[0]) else found


def processed(label: np.ndarray, affine: np.ndarray, run: Run, steps: Mapping[str, Keep]) -> np.ndarray:
    """A label (X, Y, Z) without the components that post-processing drops."""
    return apply_steps(label, steps, run.structures, run.regions, voxel_sizes(affine))


def dropped(whole: np.ndarray, label: np.ndarray, affine: np.ndarray, run: Run) -> dict[str, float]:
    """What post-processing took from a label's (X, Y, Z) structures, in ml; without those that lost nothing."""
    before, after = (volumes(each, affine, run.structures) for each in (whole, label))
    return {name: float(f"{ml - after[name]:.4g}") for name, ml in before.items() if ml > after[name]}


def write_case(case: Case, label: np.ndarray, scores: Tensor | None, affine: np.ndarray, output: Path) -> None:
    """Write a label (X, Y, Z) in the user's values, and probabilities (K, X, Y, Z), like the case's image."""
    path, *rest = outputs(output, case, scores is not None)
    if scores is not None:
        rest[0].parent.mkdir(exist_ok=True)
        write_image(rest[0], scores.numpy(), affine, case.images[0], keep_single=True)
    write_label(path, label, affine, case.images[0])


def _as_dicom(case: Case, label: np.ndarray, output: Path, segments: Segments) -> str:
    """Write a label (X, Y, Z) as a DICOM segmentation; says what in the scan's headers hinders that, or nothing."""
    try:
        write_segmentation(output / f"{case.name}.dcm", label, case.images[0], segments, case.name)
    except CannotWrite:
        raise
    except InputError as error:
        return str(error)
    return ""


def remove_leftovers(output: Path) -> None:
    """Remove the unfinished files of a prediction that was killed."""
    for folder in (output, output / "probabilities"):
        for file in folder.glob(".tmp-*"):
            file.unlink(missing_ok=True)
