"""Preparing the scans of imagesUn by the plan of the labelled cases: `medcontext nnunet preprocess`."""

import hashlib
import os
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import load_pickle, write_pickle
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

from medcontext.console import console
from medcontext.data.folders import listed, shortened
from medcontext.data.pool import in_processes
from medcontext.data.store import quantiles
from medcontext.data.unlabelled import unlike
from medcontext.errors import InputError, counted, first_line
from medcontext.files import read_json
from medcontext.integrations.nnunet.scans import FOLDER, Index, Place, find_raw, plan_digest


def prepare(place: Place, *, workers: int = 8, skip_damaged: bool = False) -> None:
    """Prepare the scans of imagesUn by the plan of the labelled ones; what is ready stays, also after an interruption.

    Raises:
        InputError: if there are none, some have not the labelled ones' channels, have a labelled case's image or cannot
            be read; for the second stage of a cascade.
    """
    if place.settings.previous_stage_name is not None:
        raise InputError(
            f"{place.configuration} is a cascade's second stage, which sees the first one's segmentation, and scans "
            "without labels have none. Prepare them for another configuration."
        )
    dataset = read_json(place.prepared / "dataset.json")
    found = find_raw(place.raw, dataset["file_ending"])
    if not found:
        raise InputError(f"No scans in {place.raw / FOLDER}: put them there, named CASE_0000{dataset['file_ending']}.")
    _check_channels(found, len(dataset["channel_names"]))
    folder, plan = place.folder, plan_digest(place)
    index = Index.read(folder) or Index(plan)
    if index.plan != plan:
        console.print("The plan has changed: all scans are prepared anew.")
        shutil.rmtree(folder)
        index = Index(plan)
    folder.mkdir(parents=True, exist_ok=True)
    for name in set(index.scans) - set(found):
        _remove(folder, name)
        del index.scans[name]
    index.left_out = {}
    digests = {name: files_digest(files) for name, files in found.items()}
    todo = [name for name, digest in digests.items() if index.scans.get(name) != digest]
    index.write(folder)
    work = partial(_prepare, place=place, dataset=dataset, folder=folder)
    for number, problem in in_processes(work, [(name, found[name]) for name in todo], workers, "preparing the scans"):
        name = todo[number]
        if problem:
            index.left_out[name] = problem
        else:
            index.scans[name] = digests[name]
        index.write(folder)
    _finish(place, index, folder, skip_damaged)


def _finish(place: Place, index: Index, folder: Path, skip_damaged: bool) -> None:
    """Refuse what must not be used, and say what is ready."""
    labelled = _labelled_twins(place, index, folder)
    for name in labelled:
        index.left_out[name] = f"{name} has the image of the labelled case {labelled[name]}"
        _remove(folder, name)
        del index.scans[name]
    problems = list(index.left_out.values())
    if problems and not skip_damaged:
        index.left_out = {}  # still to be dealt with: training refuses them
        index.write(folder)
        raise InputError(
            f"{len(problems)} of {len(problems) + len(index.scans)} scans cannot be used: {shortened(problems)}. "
            "Correct or remove them, or leave them out with --skip_damaged."
        )
    index.write(folder)
    if not index.scans:
        raise InputError(f"No scan of {place.raw / FOLDER} is left: {shortened(problems)}.")
    console.print(f"{counted(len(index.scans), 'scan')} ready in {folder}", soft_wrap=True)
    if problems:
        console.print(f"Left out: {shortened(problems)}.", soft_wrap=True)
    others = unlike(_quantiles(folder, list(index.scans)), list(_quantiles(place.labelled).values()))
    if others:
        console.print(
            f"Intensities far from those of the labelled scans, perhaps another modality: {listed(others)}. Look at "
            "them; remove them if they are something else.",
            soft_wrap=True,
        )


def files_digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _check_channels(found: dict[str, list[Path]], channels: int) -> None:
    wanted = [f"{number:04d}" for number in range(channels)]
    for name, files in found.items():
        have = [file.name[len(name) + 1 :][:4] for file in files]
        if have != wanted:
            raise InputError(
                f"The scan {name} in {files[0].parent} has the channels {', '.join(have)}, the labelled ones have "
                f"{', '.join(wanted)}. Add or remove files."
            )


def _prepare(item: tuple[str, list[Path]], place: Place, dataset: dict[str, Any], folder: Path) -> str:
    """Prepare one scan, whole or not at all; what is wrong with it, or nothing."""
    name, files = item
    preprocessor = place.settings.preprocessor_class(verbose=False)
    partial_folder = folder / f".{name}.part"
    shutil.rmtree(partial_folder, ignore_errors=True)
    partial_folder.mkdir()
    try:
        preprocessor.run_case_save(
            str(partial_folder / name), [str(file) for file in files], None, place.manager, place.settings, dataset
        )
    except OSError as error:
        if error.errno is not None and error.filename is None:  # a full disk, not a damaged scan
            raise
        return f"{name}: {first_line(error)}"
    except Exception as error:  # whatever a reader makes of a damaged file
        return f"{name}: {first_line(error)}"
    else:
        properties = partial_folder / f"{name}.pkl"
        write_pickle({**load_pickle(str(properties)), "class_locations": {}}, str(properties))
        for file in sorted(partial_folder.iterdir(), key=lambda file: file == properties):
            os.replace(file, folder / file.name)
        return ""
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)


def _remove(folder: Path, name: str) -> None:
    for file in (f"{name}.pkl", f"{name}.b2nd", f"{name}_seg.b2nd", f"{name}.npz"):
        (folder / file).unlink(missing_ok=True)


def _labelled_twins(place: Place, index: Index, folder: Path) -> dict[str, str]:
    """Scans with the image of a labelled case, each with that case's name: training and validation would share it."""
    cases, scans = _dataset(place.labelled), _dataset(folder, list(index.scans))
    sizes: dict[Any, list[str]] = {}
    for name in cases.identifiers:
        sizes.setdefault(tuple(cases.load_case(name)[0].shape), []).append(name)
    twins = {}
    for name in scans.identifiers:
        image = scans.load_case(name)[0]
        for other in sizes.get(tuple(image.shape), []):
            if np.array_equal(image[:], cases.load_case(other)[0][:]):
                twins[name] = other
    return twins


def _dataset(folder: Path, names: list[str] | None = None) -> Any:
    return infer_dataset_class(str(folder))(str(folder), names)


def _quantiles(folder: Path, names: list[str] | None = None) -> dict[str, np.ndarray]:
    """Of each prepared scan, (C, Q)."""
    cases = _dataset(folder, names)
    return {name: quantiles(torch.from_numpy(cases.load_case(name)[0][:])) for name in cases.identifiers}
