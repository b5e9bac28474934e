"""How good a network's segmentations are, learnt where labels say so, to be expected where there are none.

Its file is that of `medcontext.run.calibration`.
"""

from pathlib import Path
from typing import Literal

from medcontext.files import AnyPath


def calibrate(
    run: AnyPath,
    data: AnyPath | None = None,
    *,
    on: AnyPath | None = None,
    checkpoint: str = "last",
    weights: Literal["student", "teacher"] = "student",
    overlap: float | None = None,
    mirror: bool | None = None,
    device: Literal["auto", "cpu", "gpu"] = "auto",
) -> Path:
    """Learn to tell good segmentations of a run, or of a cross-validation's ensemble, from bad ones without labels.

    Predicts cases with labels that the network was not trained on: of a run its validation cases, of a
    cross-validation every case by the network of the fold that it was held out of. From how sure the network was of
    each structure, and how good it then was, a rule is learnt and written to `RUN/calibration.json`; `predict` then
    writes the DSC that is to be expected of each segmentation, and says which to look at first. Without such cases it
    still learns what the labelled scans look like. Interrupted, it goes on when called again.

    Args:
        run: folder of a training run, or of a cross-validation
        data: the data set that it was trained on; default: where it was then
        on: another data set with labels to learn from, of whose cases the network was trained on none
        checkpoint: last, best or a file
        weights: the student's, or the EMA teacher's
        overlap: of neighbouring windows, 0 to below 1; default as in the training
        mirror: average over the eight mirrored views; default as in the training
        device: where to compute; auto is a GPU where there is one

    Returns:
        The path of `calibration.json`.

    Raises:
        InputError: if the run or a data set cannot be used, or has other scans than the training had.
    """
    from medcontext.console import console, warn
    from medcontext.data.formats import read_dataset
    from medcontext.inference.calibrate import calibration_of, find_groups, know, observe
    from medcontext.inference.ensemble import load_members
    from medcontext.inference.postprocess import applicable
    from medcontext.inference.worth import remarks, table
    from medcontext.run import read_runs
    from medcontext.run.calibration import FILE, UNFINISHED, write_calibration

    runs, folder = read_runs(Path(run)), Path(run)
    dataset = read_dataset(Path(data if data is not None else runs[0].facts.data))
    other = None if on is None else read_dataset(Path(on))
    members = load_members(runs, [checkpoint], weights, device=device, overlap=overlap, mirror=mirror)
    groups = find_groups(members, dataset, other)
    steps, remark = applicable(members, weights)
    warn([remark] if remark else [])
    found = observe(groups, calibration_of(members, weights, know(runs, dataset), steps), folder, steps)
    write_calibration(folder / FILE, found)
    (folder / UNFINISHED).unlink(missing_ok=True)
    warn(remarks(found))
    console.print(table(found))
    console.print(f"Written: {folder / FILE}", soft_wrap=True)
    return folder / FILE
