"""From a data set's files to a store of prepared cases, and from one file to what a network sees."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from rich.table import Table
from torch import Tensor

from medcontext.console import console
from medcontext.data.cases import Case, Dataset
from medcontext.data.fill import find_fill
from medcontext.data.folders import listed
from medcontext.data.geometry import Geometry, to_ras
from medcontext.data.label_map import map_text
from medcontext.data.labelled import read_labelled
from medcontext.data.nifti import image_digest, read_image
from medcontext.data.normalize import background, foreground_box, normalize
from medcontext.data.plan import Normalization, Plan
from medcontext.data.pool import in_processes
from medcontext.data.store import FileFacts, Store, StoredCase, case_folder, describe_sources, write_case
from medcontext.errors import InputError, unknown_name
from medcontext.files import write_json


def default_cache() -> Path:
    """`$MEDCONTEXT_CACHE`, or `~/.cache/medcontext`."""
    return Path(os.environ.get("MEDCONTEXT_CACHE") or Path.home() / ".cache" / "medcontext")


def prepare_image(image: np.ndarray, affine: np.ndarray, plan: Plan) -> tuple[Tensor, Geometry]:
    """What a network sees of an image: reoriented, cropped, normalised, then resampled.

    Training and prediction both come through here.

    Args:
        image: (C, X, Y, Z), float32, as read from the file.
        affine: the file's, (4, 4).
        plan: made from the training cases.

    Returns:
        The prepared image, float32 (C, H, W, D), and the way back to the file's grid.

    Raises:
        InputError: if a channel whose values are not clipped has a fill value; if the prepared grid makes no sense.
    """
    for name, channel, values in zip(plan.channels, plan.normalization, image, strict=True):
        if channel.kind not in ("ct", "range") and (fill := find_fill(values)):
            raise InputError(
                f"channel {name} has the fill value {fill.value:.6g} in {fill.voxels} voxels, far from all others; "
                f"normalization '{channel.kind}' would leave these no contrast. Replace it by the value of air or "
                "background, or clip it with an intensity_range."
            )
    volume = torch.from_numpy(np.ascontiguousarray(image))
    box = foreground_box(to_ras(volume, affine)) if plan.crop_foreground else None
    x, y, z = volume.shape[1:]
    geometry = Geometry.create((x, y, z), affine, plan.spacing, box)
    normalized = normalize(geometry.crop(volume), plan.normalization)
    return geometry.resample(normalized).contiguous(), geometry


def prepare_dataset(
    dataset: Dataset, names: Sequence[str], plan: Plan, cache: Path | None = None, workers: int = 1
) -> Store:
    """Prepare the named cases, unless they are prepared already from the same files by the same plan.

    Args:
        dataset: whose cases they are.
        names: of the cases to have in the store.
        plan: made from the training cases.
        cache: folder of all stores; `default_cache()` if None.
        workers: processes, each with one volume in memory.

    Raises:
        InputError: if a case is unknown or cannot be used, or the disk is full. Cases finished before stay.
    """
    cases = {case.name: case for case in dataset.cases}
    for name in names:
        if name not in cases:
            raise unknown_name("case", name, cases)
    root = open_store(dataset, plan, cache)
    known = {name: prepared_folder(cases[name], root) for name in dict.fromkeys(names)}
    folders = {name: folder for name, folder in known.items() if folder}
    todo = [cases[name] for name in known if name not in folders]
    bare = replace(dataset, cases=(), unlabelled=())  # sent to the processes with every case
    work = partial(prepare_case, dataset=bare, plan=plan, root=root)
    folders |= {todo[index].name: folder for index, folder in in_processes(work, todo, workers, "preparing the cases")}
    return Store(root, folders)


def open_store(dataset: Dataset, plan: Plan, cache: Path | None) -> Path:
    """The folder of a data set prepared by a plan, there if it was not yet.

    Raises:
        InputError: if it cannot be written.
    """
    root = store_folder(dataset, plan, cache or default_cache())
    try:
        root.mkdir(parents=True, exist_ok=True)
        write_json(root / "plan.json", plan.to_dict())
    except OSError as error:
        raise InputError(f"Cannot write to the cache {root}: {error.strerror}. Choose another cache.") from None
    return root


def store_folder(dataset: Dataset, plan: Plan, cache: Path) -> Path:
    """Where a data set prepared by a plan lies: `<name>-<hash of the plan and of the data set's place>`.

    The place counts because two data sets of the same name may well have the same plan.
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", dataset.name) or "dataset"
    digest = sha256(f"{plan.hash} {dataset.root.resolve()}".encode()).hexdigest()[:10]
    return cache / f"{name}-{digest}"


def print_plan(plan: Plan) -> None:
    """Print what was chosen and why, as a table."""
    table = Table("choice", "value", "why", title=f"Preparing plan {plan.hash}")
    spacing = "each scan's own" if plan.spacing is None else " x ".join(f"{mm:g}" for mm in plan.spacing) + " mm"
    table.add_row("spacing", spacing, plan.reasons.get("spacing", ""))
    crop = "yes" if plan.crop_foreground else "no"
    table.add_row("crop to foreground", crop, plan.reasons.get("crop_foreground", ""))
    for name, channel in zip(plan.channels, plan.normalization, strict=True):
        table.add_row(f"normalization of {name}", _describe(channel), plan.reasons.get(f"normalization of {name}", ""))
    structures = ", ".join(f"{name} {value}" for name, value in plan.labels.items())
    table.add_row("structures", structures, "as declared")
    if plan.label_map:
        table.add_row("label map", map_text(plan.label_map), plan.reasons.get("label_map", ""))
    console.print(table)


def _describe(channel: Normalization) -> str:
    if channel.kind == "ct":
        return f"ct: clip to {channel.lower:g}..{channel.upper:g}, then (x - {channel.mean:g}) / {channel.std:g}"
    if channel.kind == "range":
        return f"range: {channel.lower:g}..{channel.upper:g} to 0..1"
    return "zscore, non-zero voxels" if channel == Normalization("zscore", inside=True) else channel.kind


def prepared_folder(case: Case, root: Path) -> Path | None:
    """Where a store has the case, prepared from the files that are there now; None if it has not."""
    try:
        sources = describe_sources(list(case.files))
    except OSError:  # a source is gone: reading the case will say which
        return None
    folder = case_folder(root, case.name, sources)
    return folder if StoredCase(folder).is_current(sources) else None


def prepare_case(case: Case, dataset: Dataset, plan: Plan, root: Path) -> Path:
    """Prepare one case, with its label or without one, into a store; where it lies there.

    Raises:
        InputError: if it cannot be used, or the disk is full.
    """
    try:
        sources = describe_sources(list(case.files))  # before reading: a change meanwhile is seen the next time
    except OSError as error:
        raise InputError(f"Case '{case.name}': cannot read {error.filename}: {error.strerror}.") from None
    folder = case_folder(root, case.name, sources)
    if StoredCase(folder).is_current(sources):  # prepared by another run, meanwhile
        return folder
    label: np.ndarray | None = None
    if case.label is None:
        image, affine = read_image(case, dataset.channels)
    else:
        image, label, affine = read_labelled(case, dataset, plan.label_map)
    try:
        prepared, geometry = prepare_image(image, affine, plan)
    except InputError as error:
        raise InputError(f"Case '{case.name}': {error}") from None
    indices, lost, outside = None, [], 0
    if label is not None:
        whole = torch.from_numpy(np.ascontiguousarray(label))
        indices = geometry.label_to_prepared(whole)
        lost = sorted(set(whole.unique().tolist()) - set(indices.unique().tolist()) - {0})
        outside = int(whole.count_nonzero() - geometry.crop(whole).count_nonzero())
    empty = background(prepared, plan.normalization)
    digests = image_digest(image), "" if label is None else image_digest(label)
    extremes = [(float(channel.min()), float(channel.max())) for channel in image]
    facts = FileFacts(*digests, lost, outside, extremes)
    write_case(folder, prepared, indices, geometry, empty, sources, facts, case.name)
    return folder


def preparing_remarks(store: Store, names: Sequence[str], training: Sequence[str], plan: Plan) -> list[str]:
    """What preparing took from the labels, and what cannot be learnt, a sentence each.

    Args:
        store: with the cases prepared.
        names: of the labelled cases.
        training: names of those that are trained on.
        plan: by which they were prepared.
    """
    cases = {name: store.case(name) for name in dict.fromkeys([*names, *training])}
    voxels = "each scan's own" if plan.spacing is None else " x ".join(f"{mm:g}" for mm in plan.spacing) + " mm"
    remarks = []
    for index, structure in enumerate(plan.structures, start=1):
        named = f"'{structure}' ({plan.values[index]})"
        lost = [name for name, case in cases.items() if index in case.lost]
        if lost:
            present = len(lost) + sum(index in case.classes for case in cases.values())
            remarks.append(
                f"{named} is lost in preparing {len(lost)} of the {present} cases that have it, no voxel is left: "
                f"{listed(lost)}. It is too small for a spacing of {voxels}, or was cropped away; choose a finer "
                "--prepare.spacing, or none: original."
            )
        if not any(index in cases[name].classes for name in training):
            remarks.append(
                f"{named} is in none of the {len(training)} training cases as they are prepared: it cannot be learnt. "
                "Train on cases that have it, or declare it no longer."
            )
    cropped = [f"{name} ({case.outside} voxels)" for name, case in cases.items() if case.outside]
    if cropped:
        remarks.append(
            f"labelled voxels lie where all around the image is 0, and are cropped away: {listed(cropped)}. Correct "
            "the label or the image, or keep them with --prepare.crop_foreground false."
        )
    return remarks
