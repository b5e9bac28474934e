"""Predicting and writing cases, one after the other; the files are described in `medcontext.commands.predict`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from medcontext.console import track
from medcontext.data.cases import Case
from medcontext.data.dicom.heads import is_dicom_path
from medcontext.data.nifti import image_digest, read_image
from medcontext.data.nifti_write import write_image, write_label
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


@dataclass(frozen=True)
class Predictor:
    """Predicts cases and writes them.

    Args:
        members: networks, whose probabilities are averaged.
        output: folder.
        origin: what the record beside the predictions says.
        tested: names of test cases.
        probabilities: whether to write these, too.
        steps: of post-processing, by structure.
        calibration: of the networks, to say what is expected of each segmentation.
        segments: of cases that come as DICOM, written as DICOM, too; None writes none.
    """

    members: Sequence[Member]
    output: Path
    origin: dict[str, Any]
    tested: Collection[str] = ()
    probabilities: bool = False
    steps: Mapping[str, Keep] = field(default_factory=dict)
    calibration: Calibration | None = None
    segments: Segments | None = None

    def files(self, case: Case) -> list[Path]:
        """Those of a finished case, the segmentation first."""
        folders = [self.output, self.output / "probabilities"] if self.probabilities else [self.output]
        found = [folder / f"{case.name}.nii.gz" for folder in folders]
        return [*found, self.output / f"{case.name}.dcm"] if self._as_dicom(case) else found

    def lacking(self, cases: Sequence[Case]) -> list[Case]:
        """Those that are not all there."""
        return [case for case in cases if not all(map(Path.is_file, self.files(case)))]

    def predict(self, cases: Sequence[Case]) -> list[str]:
        """Predict and write; says which cases failed, and why."""
        problems = {case.name: self._predict(case) for case in track(cases, "predicting")}
        return [f"case '{name}': {problem.removesuffix('.')}" for name, problem in problems.items() if problem]

    def _predict(self, case: Case) -> str:
        """Predict and write one case; says what is wrong with it, or nothing. It keeps no array for the next one."""
        noticed = Noticed() if self.calibration else None
        try:
            try:
                image, affine = read_image(case, self.members[0].run.plan.channels)
                classes, scores = segment(image, affine, self.members, self.probabilities, noticed)
            except InputError as error:
                return str(error)
            part = part_of(case.name, image_digest(image), [member.run for member in self.members], self.tested)
            return self._write(case, classes, scores, affine, part, noticed)
        except Exception as error:
            if not lacks_memory(error):
                raise
            fewer = "fewer networks at once, " if len(self.members) > 1 else ""
            return (
                f"not enough memory{memory_words(error)}. Use {fewer}a machine with more memory, or a smaller scan: "
                "cropped, or with larger voxels"
            )

    def _write(
        self, case: Case, classes: Tensor, scores: Tensor | None, affine: np.ndarray, part: str, noticed: Noticed | None
    ) -> str:
        """Write classes (X, Y, Z) in the user's values and probabilities (K, X, Y, Z), like the case's image.

        The segmentation is written last, but for DICOM's: where it is, the case is done. Says what in a DICOM scan's
        headers hinders the latter, or nothing.
        """
        run = self.members[0].run
        whole = np.array(run.plan.values, np.int32)[classes.numpy()]
        label = processed(whole, affine, run, self.steps)
        taken = dropped(whole, label, affine, run) if self.steps else {}
        write_record(self.output, self.origin, case.name, part, taken)
        if self.calibration and noticed:
            rows = judge(case.name, noticed, volumes(label, affine, run.structures), self.calibration)
            write_expected(self.output, [row for row in read_expected(self.output) if row.case != case.name] + rows)
        path, *rest = self.files(case)
        if scores is not None:
            rest[0].parent.mkdir(exist_ok=True)
            write_image(rest[0], scores.numpy(), affine, case.images[0], keep_single=True)
        write_label(path, label, affine, case.images[0])
        if self.segments and self._as_dicom(case):
            try:
                write_segmentation(rest[-1], label, case.images[0], self.segments, case.name)
            except CannotWrite:
                raise
            except InputError as error:
                return str(error)
        return ""

    def _as_dicom(self, case: Case) -> bool:
        return self.segments is not None and is_dicom_path(case.images[0])


def processed(label: np.ndarray, affine: np.ndarray, run: Run, steps: Mapping[str, Keep]) -> np.ndarray:
    """A label (X, Y, Z) without the components that post-processing drops."""
    return apply_steps(label, steps, run.structures, run.regions, voxel_sizes(affine))


def dropped(whole: np.ndarray, label: np.ndarray, affine: np.ndarray, run: Run) -> dict[str, float]:
    """What post-processing took from a label's (X, Y, Z) structures, in ml; without those that lost nothing."""
    before, after = (volumes(each, affine, run.structures) for each in (whole, label))
    return {name: float(f"{ml - after[name]:.4g}") for name, ml in before.items() if ml > after[name]}


def remove_leftovers(output: Path) -> None:
    """Remove the unfinished files of a prediction that was killed."""
    for folder in (output, output / "probabilities"):
        for file in folder.glob(".tmp-*"):
            file.unlink(missing_ok=True)
