"""Files in, segmentations out, in each file's own geometry and with the user's own label values.

```
OUTPUT/<case>.nii.gz                  the segmentation, on the grid of the case's (first) image
OUTPUT/probabilities/<case>.nii.gz    if asked for: float32, the classes along the last axis
OUTPUT/dataset.json                   what the values mean, the classes' order, and which networks this is from
```
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from medcontext.console import console, track
from medcontext.data.cases import Case
from medcontext.data.folders import shortened
from medcontext.data.nifti import read_image, write_image, write_label
from medcontext.data.plan import Plan
from medcontext.errors import InputError, lacks_memory, memory_words
from medcontext.files import output_folder, write_json
from medcontext.inference.ensemble import Device, Member, load_members, segment
from medcontext.inference.origin import RECORD, check_same_origin, describe_origin
from medcontext.inference.run import Weights, read_run
from medcontext.inference.selection import Part, find_cases


def predict(
    runs: Sequence[Path],
    input: Path,
    output: Path,
    *,
    checkpoints: Sequence[str] = ("last",),
    weights: Weights = "student",
    part: Part = "auto",
    overlap: float | None = None,
    mirror: bool | None = None,
    probabilities: bool = False,
    device: Device = "auto",
    resume: bool = False,
) -> list[Path]:
    """Segment images and write `<case>.nii.gz` for each.

    A case that cannot be predicted does not stop the others; all such cases are in the error at the end.

    Args:
        runs: folders of runs; the probabilities of several are averaged.
        input: a file, a folder of files, or a data set.
        output: new or empty folder, unless `resume`.
        checkpoints: `last` and `best` of every run, or the files of one run; their probabilities are averaged.
        weights: the student's or the teacher's.
        part: of a data set that the runs split: `auto` takes the test cases where it has some, else all.
        overlap: of neighbouring windows, 0 to below 1; each run's own setting if None.
        mirror: average over the eight mirrored views; each run's own setting if None.
        probabilities: also write `probabilities/<case>.nii.gz`, float32 (X, Y, Z, K). The classes lie in the order
            of their label values, the background first.
        device: `auto` is a GPU where there is one.
        resume: skip the cases that are there already; the output must come from the same input, networks and
            options.

    Returns:
        The paths of the segmentations.

    Raises:
        InputError: if a run, checkpoint or image cannot be used, or the output cannot be written.
    """
    loaded = [read_run(folder) for folder in runs]
    members = load_members(loaded, checkpoints, weights, device=device, overlap=overlap, mirror=mirror)
    cases = find_cases(input, loaded, part)
    origin = describe_origin(members, weights, input)
    if resume:
        check_same_origin(output, origin)
    with kept_if_used(output, resume):
        remove_leftovers(output)
        todo = [case for case in cases if not all(path.is_file() for path in outputs(output, case, probabilities))]
        failed = predict_cases(todo, members, output, origin, probabilities)
    done = len(todo) - len(failed)
    if failed and len(todo) == 1:
        raise InputError(f"{failed[0]}.")
    if failed:
        raise InputError(
            f"{len(failed)} of {len(todo)} cases could not be predicted: {shortened(failed)}. "
            + (f"The other {done} are in {output}; correct these and go on with --resume." if done else "")
        )
    there = f", {len(cases) - done} there before" if len(cases) > done else ""
    console.print(f"{done} cases predicted{there}: {output}", soft_wrap=True)
    return [outputs(output, case, False)[0] for case in cases]


def predict_cases(
    cases: Sequence[Case], members: Sequence[Member], output: Path, origin: dict[str, Any], probabilities: bool
) -> list[str]:
    """Predict and write; returns which cases failed, and why."""
    failed = []
    for case in track(cases, "predicting"):
        problem = predict_case(case, members, output, origin, probabilities)
        if problem:
            failed.append(f"case '{case.name}': {problem.removesuffix('.')}")
    return failed


def predict_case(
    case: Case, members: Sequence[Member], output: Path, origin: dict[str, Any], probabilities: bool
) -> str:
    """Predict and write one case; says what is wrong with it, or nothing. It keeps no array for the next one."""
    plan = members[0].run.plan
    try:
        try:
            image, affine = read_image(case, plan.channels)
            classes, scores = segment(image, affine, members, probabilities)
        except InputError as error:
            return str(error)
        if not (output / RECORD).is_file():
            write_json(output / RECORD, origin)
        write_case(case, classes, scores, affine, output, plan)
    except Exception as error:
        if not lacks_memory(error):
            raise
        fewer = "fewer networks at once, " if len(members) > 1 else ""
        return (
            f"not enough memory{memory_words(error)}. Use {fewer}a machine with more memory, or a smaller scan: "
            "cropped, or with larger voxels"
        )
    return ""


def outputs(output: Path, case: Case, probabilities: bool) -> list[Path]:
    """The files of a finished case, the segmentation first."""
    folders = [output, output / "probabilities"] if probabilities else [output]
    return [folder / f"{case.name}.nii.gz" for folder in folders]


def write_case(
    case: Case, classes: Tensor, scores: Tensor | None, affine: np.ndarray, output: Path, plan: Plan
) -> None:
    """Write class indices (X, Y, Z) as the user's values, and probabilities (K, X, Y, Z), like the case's image."""
    label, *rest = outputs(output, case, scores is not None)
    if scores is not None:
        rest[0].parent.mkdir(exist_ok=True)
        write_image(rest[0], scores.numpy(), affine, case.images[0])
    write_label(label, np.array(plan.values, np.int32)[classes.numpy()], affine, case.images[0])


@contextmanager
def kept_if_used(output: Path, resume: bool) -> Iterator[None]:
    """Create the output folder; if nothing came into it, take it away again."""
    existed = output.exists()
    output_folder(output, overwrite=resume, flag="--resume")
    try:
        yield
    finally:
        if not existed:
            with suppress(OSError):  # it is not empty
                output.rmdir()


def remove_leftovers(output: Path) -> None:
    """Remove the unfinished files of a prediction that was killed."""
    for folder in (output, output / "probabilities"):
        for file in folder.glob(".tmp-*"):
            file.unlink(missing_ok=True)
