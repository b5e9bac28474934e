"""Files in, segmentations out, in each file's own geometry and with the user's own label values.

```
OUTPUT/<case>.nii.gz                  the segmentation, on the grid of the case's (first) image
OUTPUT/<case>.dcm                     of a scan that came as DICOM: the same as a DICOM segmentation
OUTPUT/probabilities/<case>.nii.gz    if asked for: float32, the classes along the last axis
OUTPUT/volumes.csv                    the volume of each structure in each case, in ml
OUTPUT/expected.csv                   of a calibrated network the expected DSC of each, those to look at first on top
OUTPUT/labels.ctbl, labels.txt        names and colours, for 3D Slicer and ITK-SNAP
OUTPUT/dataset.json                   what the values mean, the classes' order, which networks these are from, and which
                                      part each case had in their training
```
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from medcontext.console import console, warn
from medcontext.errors import InputError, counted
from medcontext.files import AnyPath, several


def predict(
    run: AnyPath | Sequence[AnyPath],
    input: AnyPath | Sequence[AnyPath],
    output: AnyPath,
    *,
    image: Sequence[str] = (),
    series: str | Sequence[str] = (),
    checkpoint: str | Sequence[str] = ("last",),
    weights: Literal["student", "teacher"] = "student",
    part: Literal["auto", "train", "validation", "test", "all"] = "auto",
    overlap: float | None = None,
    mirror: bool | None = None,
    probabilities: bool = False,
    device: Literal["auto", "cpu", "gpu"] = "auto",
    postprocess: bool = True,
    expected: bool | None = None,
    codes: AnyPath | None = None,
    anonymous: bool = False,
    resume: bool = False,
) -> list[Path]:
    """Segment scans with a trained run, in their own geometry.

    A case that cannot be predicted does not stop the others; all such cases are in the error at the end.

    Args:
        run: folder of a training run, or of a cross-validation; several runs: ensemble, the mean of their probabilities
        input: NIfTI files or DICOM series, folders of them, nested or not, wildcards in quotes ('scans/*/ct.nii.gz'), a
            JSON list of paths; or a data set
        output: folder of the segmentations, new or empty
        image: in nested folders, which files are meant: a name or glob for each channel, such as ct.nii.gz; default: as
            names suggest
        series: of DICOM folders with several, which are meant: a number, a glob on the description or a UID; for
            several channels one each, in order
        checkpoint: last, best or files; several: ensemble
        weights: the student's, as in the paper, or the EMA teacher's
        part: of the data set that the run was trained on, told by content; auto is its test cases where it has some,
            else, and of other data, all
        overlap: of neighbouring windows, 0 to below 1; default as in the training
        mirror: average over the eight mirrored views; default as in the training
        probabilities: also write every class's probability, float32 (X, Y, Z, K); the classes lie in the order of their
            label values, the background first
        device: where to compute; auto is a GPU where there is one
        postprocess: drop the components that `medcontext postprocess` found better dropped, where it was run for this
            network; probabilities stay as they are
        expected: write the DSC that is to be expected of each segmentation, and what is unlike the labelled scans;
            default: where `medcontext calibrate` was run for this network
        codes: JSON file with codes for DICOM segmentations, structure to value, scheme and meaning; default: private
            ones, made of the names
        anonymous: call cases case_001, ..., with their names in OUTPUT_names.csv beside the output, and leave the
            patient out of DICOM segmentations
        resume: skip the cases that are in the output already; it must come from the same input, networks and options

    Returns:
        The paths of the segmentations.

    Raises:
        InputError: if a run, checkpoint or image cannot be used, or the output cannot be written.
    """
    from medcontext.data.doubts import header_doubts
    from medcontext.data.folders import nifti_files
    from medcontext.files import kept_if_used
    from medcontext.inference.anonymous import key_file, key_if_used, numbered, write_key
    from medcontext.inference.beside import write_colours, write_volumes
    from medcontext.inference.calibrate import applicable_calibration
    from medcontext.inference.dicom_seg import as_dicom
    from medcontext.inference.ensemble import load_members
    from medcontext.inference.judge import most_needed, sort_expected
    from medcontext.inference.origin import check_same_origin, describe_origin, dropped_words
    from medcontext.inference.postprocess import applicable
    from medcontext.inference.predict import Predictor, remove_leftovers
    from medcontext.inference.selection import find_cases
    from medcontext.run import read_runs

    output = Path(output)
    inputs = [Path(input)] if isinstance(input, str | os.PathLike) else [Path(path) for path in input]
    folders = [run] if isinstance(run, str | os.PathLike) else run
    checkpoints, wanted = several(checkpoint), several(series)
    runs = [one for folder in folders for one in read_runs(Path(folder))]
    members = load_members(runs, checkpoints, weights, device=device, overlap=overlap, mirror=mirror)
    named, tested, skipped = find_cases(inputs, runs, part, image, wanted)
    cases = numbered(named, output, resume) if anonymous else list(named)
    tested = frozenset(own.name for own, case in zip(cases, named, strict=True) if case.name in tested)
    segments = as_dicom(named, runs[0].structures, None if codes is None else Path(codes), members[0].hash, anonymous)
    steps, remark = applicable(members, weights) if postprocess else ({}, "")
    calibration, lacking = applicable_calibration(members, weights, expected, steps)
    coded = segments.codes_given() if segments and codes is not None else {}
    chosen = {} if anonymous else {"image": list(image), "series": list(map(str, wanted))}  # the latter maybe a UID
    noted = () if anonymous else inputs
    origin = describe_origin(members, weights, noted, steps, calibration, codes=coded, **chosen)
    predictor = Predictor(members, output, origin, tested, probabilities, steps, calibration, segments)
    if resume:
        check_same_origin(output, origin)
    with kept_if_used(output, resume), key_if_used(output):
        remove_leftovers(output)
        todo = predictor.lacking(cases)
        warn(header_doubts(image for case in todo for image in case.images))
        warn(text for text in (remark, lacking) if text)
        if anonymous:
            write_key(named, cases, output)
        failed = predictor.predict(todo)
        if nifti_files(output):
            write_colours(output, runs[0].plan.labels)
            write_volumes(output, runs[0].structures)
            sort_expected(output)
    warn([skipped] if skipped else [])
    done = len(todo) - len(failed)
    _raise_failed(failed, len(todo), output)
    if segments and not anonymous:
        warn([f"The .dcm files in {output} hold the patients' data, as DICOM wants it; --anonymous leaves them out."])
    there = f", {len(cases) - done} there before" if len(cases) > done else ""
    console.print(f"{counted(done, 'case')} predicted{there}: {output}", soft_wrap=True)
    for line in (*dropped_words(output), *(most_needed(output) if calibration else ())):
        console.print(line, soft_wrap=True)
    if anonymous:
        console.print(f"Which case is which: {key_file(output)}", soft_wrap=True)
    return [predictor.files(case)[0] for case in cases]


def _raise_failed(failed: list[str], count: int, output: Path) -> None:
    """The error at the end, where some of so many cases could not be predicted."""
    from medcontext.data.folders import shortened

    if failed and count == 1:
        raise InputError(f"{failed[0]}.")
    if failed:
        done = count - len(failed)
        raise InputError(
            f"{len(failed)} of {count} cases could not be predicted: {shortened(failed)}. "
            + (f"The other {done} are in {output}; correct these and go on with --resume." if done else "")
        )
