"""Files in, segmentations out, in each file's own geometry and with the user's own label values."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from medcontext.console import console, track
from medcontext.data.cases import Case
from medcontext.data.folders import find_images
from medcontext.data.formats import read_dataset
from medcontext.data.nifti import read_image, write_image, write_label
from medcontext.data.normalize import background
from medcontext.data.prepare import prepare_image
from medcontext.errors import InputError
from medcontext.files import output_folder, read_json, write_json
from medcontext.inference.run import Run, Weights, load_network, read_run
from medcontext.inference.window import predict_volume
from medcontext.settings import WindowSettings

Part = Literal["auto", "train", "validation", "test", "all"]


@dataclass(frozen=True)
class Member:
    """One trained network of an ensemble.

    Args:
        run: where it comes from.
        network: in evaluation mode, on its device.
    """

    run: Run
    network: nn.Module


def predict(
    runs: Sequence[Path],
    input: Path,
    output: Path,
    *,
    checkpoints: Sequence[str] = ("last",),
    weights: Weights = "student",
    part: Part = "auto",
    overlap: float | None = None,
    mirror: bool = False,
    probabilities: bool = False,
    device: Literal["auto", "cpu", "gpu"] = "auto",
    resume: bool = False,
) -> list[Path]:
    """Segment images and write `<case>.nii.gz` for each.

    Args:
        runs: folders of runs; the probabilities of several are averaged.
        input: a file, a folder of files, or a data set.
        output: new or empty folder, unless `resume`.
        checkpoints: `last`, `best` or paths; those of all runs are averaged.
        weights: the student's or the teacher's.
        part: of a data set that the first run split: `auto` takes the test cases where it has some, else all.
        overlap: of neighbouring windows, 0 to below 1; the run's own setting if None.
        mirror: average over the eight mirrored views.
        probabilities: also write `probabilities/<case>.nii.gz`, float32 with the classes last.
        device: `auto` is a GPU where there is one.
        resume: skip the cases that are there already; the folder must come from the same networks.

    Returns:
        The paths of the segmentations.

    Raises:
        InputError: if a run, checkpoint or image cannot be used.
    """
    members = load_members(runs, checkpoints, weights, device)
    first = members[0].run
    cases = find_cases(input, first, part)
    output_folder(output, overwrite=resume, flag="--resume")
    origin = {
        "name": first.facts["dataset"],
        "labels": first.plan.labels,
        "predicted_by": {
            "runs": [str(run.resolve()) for run in runs],
            "checkpoints": list(checkpoints),
            "weights": weights,
        },
    }
    record = output / "dataset.json"
    if record.is_file() and read_json(record) != origin:
        raise InputError(f"{output} holds predictions of other networks (see its dataset.json); choose another folder.")
    write_json(record, origin)
    todo = [case for case in cases if not (output / f"{case.name}.nii.gz").is_file()]
    window = first.settings.window
    window = WindowSettings(window.overlap if overlap is None else overlap, mirror, window.batch_size)
    for case in track(todo, "predicting"):
        predict_case(case, members, output, window, probabilities)
    console.print(f"{len(todo)} cases predicted, {len(cases) - len(todo)} there before: {output}", highlight=False)
    return [output / f"{case.name}.nii.gz" for case in cases]


def load_members(
    runs: Sequence[Path], checkpoints: Sequence[str], weights: Weights, device: Literal["auto", "cpu", "gpu"]
) -> list[Member]:
    """Load every network of the ensemble.

    Raises:
        InputError: if they do not segment the same structures in the same channels.
    """
    if device == "gpu" and not torch.cuda.is_available():
        raise InputError("No GPU found; use --device cpu.")
    place = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    loaded = [read_run(folder) for folder in runs]
    for run in loaded[1:]:
        if (run.plan.labels, run.plan.channels) != (loaded[0].plan.labels, loaded[0].plan.channels):
            raise InputError(
                f"{run.folder} and {loaded[0].folder} cannot be averaged: their channels or labels differ "
                f"({run.plan.channels}, {run.plan.labels} and {loaded[0].plan.channels}, {loaded[0].plan.labels})."
            )
    return [Member(run, load_network(run, name, weights).to(place)) for run in loaded for name in checkpoints]


def find_cases(input: Path, run: Run, part: Part) -> tuple[Case, ...]:
    """The cases to predict, and a word on which they are.

    Raises:
        InputError: if there are none.
    """
    is_dataset = input.suffix == ".json" or (input / "dataset.json").is_file()
    if not is_dataset:
        if part not in ("auto", "all"):
            raise InputError(f"--part {part} needs a data set as --input; {input} has no dataset.json.")
        return find_images(input, len(run.plan.channels))
    dataset = read_dataset(input)
    cases = dataset.cases + dataset.unlabelled
    known = {name: getattr(run.split, name) for name in ("train", "validation", "test")}
    if part == "auto":
        part = "test" if {case.name for case in cases} & set(known["test"]) else "all"
    chosen = cases if part == "all" else tuple(case for case in cases if case.name in known[part])
    if not chosen:
        raise InputError(f"{input} has no {part} case of {run.folder}; see its split.json, or use --part all.")
    console.print(f"{dataset.name}: {part} cases, {len(chosen)} of {len(cases)}", highlight=False)
    return chosen


def predict_case(
    case: Case, members: Sequence[Member], output: Path, window: WindowSettings, probabilities: bool = False
) -> None:
    """Predict one case and write it, voxel for voxel on the grid of its first file."""
    plan = members[0].run.plan
    image, affine = read_image(case, plan.channels)
    classes, scores = segment(image, affine, members, window, probabilities)
    if scores is not None:
        folder = output / "probabilities"
        folder.mkdir(exist_ok=True)
        write_image(folder / f"{case.name}.nii.gz", scores.movedim(0, -1).numpy(), affine, case.images[0])
    values = np.array(plan.values)[classes.numpy()]
    write_label(output / f"{case.name}.nii.gz", values, affine, case.images[0])


def segment(
    image: np.ndarray,
    affine: np.ndarray,
    members: Sequence[Member],
    window: WindowSettings,
    probabilities: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Class indices, and if asked for the probabilities, of one image.

    Networks whose images are prepared alike are averaged on the prepared grid, others on the file's.

    Args:
        image: (C, X, Y, Z), as read from the file.
        affine: the file's.
        members: the ensemble.
        window: overlap and mirroring.
        probabilities: whether to return them.

    Returns:
        Class indices (X, Y, Z), and float32 (K, X, Y, Z) or None.
    """
    plans = {member.run.plan.hash: member.run.plan for member in members}
    total: Tensor | None = None
    for key, plan in plans.items():
        alike = [member for member in members if member.run.plan.hash == key]
        prepared, geometry = prepare_image(image, affine, plan)
        padding = background(prepared, plan.normalization)
        scores = torch.zeros(())
        for member in alike:
            device = next(member.network.parameters()).device
            scores = scores + predict_volume(
                member.network, prepared.to(device), member.run.crop_size, window, padding
            ) / len(members)
        if len(plans) == 1 and not probabilities:
            return geometry.to_original(scores), None
        original = geometry.probabilities_to_original(scores * (len(members) / len(alike)))
        total = original * (len(alike) / len(members)) + (0 if total is None else total)
    assert total is not None
    return total.argmax(0), total if probabilities else None
