"""Preparing the scans of imagesUn by the plan of the labelled cases: `medcontext nnunet preprocess`."""

import errno
import filecmp
import glob
import gzip
import hashlib
import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import load_pickle, write_pickle

from medcontext.console import console
from medcontext.data.folders import listed, shortened
from medcontext.data.pool import in_processes
from medcontext.data.store import quantiles
from medcontext.data.unlike import unlike
from medcontext.errors import InputError, counted
from medcontext.files import read_json
from medcontext.integrations.nnunet.scans import FOLDER, Index, Look, Place, cases_in, find_raw, plan_digest, stamps

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # nothing is wrong with the scan


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
    if not place.labelled.is_dir():
        raise InputError(
            f"{place.labelled} is missing: prepare the labelled cases first, with nnUNetv2_preprocess -c "
            f"{place.configuration}."
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
        shutil.rmtree(folder, ignore_errors=True)
        index = Index(plan)
    folder.mkdir(parents=True, exist_ok=True)
    for name in set(index.scans) - set(found):
        _forget(index, folder, name)
    files = {name: stamps(scan) for name, scan in found.items()}
    todo = [name for name in found if name not in index.ready or index.scans[name].files != files[name]]
    for name in todo:
        _forget(index, folder, name)
    index.write(folder)
    work = partial(_prepare, place=place, dataset=dataset, folder=folder)
    for number, look in in_processes(work, [(name, found[name]) for name in todo], workers, "preparing the scans"):
        index.scans[todo[number]] = look
        index.write(folder)
    _compare(place, index, workers)
    index.write(folder)
    _finish(place, index, skip_damaged)


def _compare(place: Place, index: Index, workers: int) -> None:
    """Look at the labelled cases that are new, and let no scan have the image of one: folds would share it."""
    cases = cases_in(place.labelled)
    files = {name: stamps([place.labelled / f"{name}.pkl"]) for name in cases.identifiers}
    index.labelled = {name: look for name, look in index.labelled.items() if files.get(name) == look.files}
    new = [name for name in files if name not in index.labelled]
    for number, look in in_processes(partial(_look, place.labelled), new, workers, "looking at the labelled cases"):
        index.labelled[new[number]] = replace(look, files=files[new[number]])
    images = {look.image: name for name, look in index.labelled.items()}
    for name in index.ready:
        if twin := images.get(index.scans[name].image):
            problem = f"{name} has the image of the labelled case {twin}"
            look = index.scans[name]
            _forget(index, place.folder, name)
            index.scans[name] = Look(look.files, problem=problem)


def _finish(place: Place, index: Index, skip_damaged: bool) -> None:
    """Refuse what must not be used, and say what is ready."""
    problems = [index.scans[name].problem for name in index.left_out]
    if problems and not skip_damaged:
        for name in index.left_out:  # still to be dealt with: training refuses it
            del index.scans[name]
        index.write(place.folder)
        raise InputError(
            f"{len(problems)} of {len(problems) + len(index.scans)} scans cannot be used: {shortened(problems)}. "
            "Correct or remove them, or leave them out with --skip_damaged."
        )
    if not index.ready:
        raise InputError(f"No scan of {place.raw / FOLDER} is left: {shortened(problems)}.")
    console.print(f"{counted(len(index.ready), 'scan')} ready in {place.folder}", soft_wrap=True)
    if problems:
        console.print(f"Left out: {shortened(problems)}.", soft_wrap=True)
    if tested := _tested(place, index.ready):
        console.print(
            f"The images of {counted(len(tested), 'scan')} of imagesTs take part in the training: {listed(tested)}. "
            "Say so where you report scores on them.",
            soft_wrap=True,
        )
    known = [np.array(look.quantiles) for look in index.labelled.values()]
    if others := unlike({name: np.array(index.scans[name].quantiles) for name in index.ready}, known):
        named = listed([f"{name} ({how})" for name, how in others.items()])
        console.print(
            f"Intensities far from those of the labelled scans, perhaps another modality: {named}. Look at them; "
            "remove them if they are something else.",
            soft_wrap=True,
        )


def _tested(place: Place, names: list[str]) -> list[str]:
    """Scans that are also among the raw data set's test images, file by file."""
    sizes: dict[int, list[Path]] = {}
    for file in (place.raw / "imagesTs").glob("*_0000.*"):
        sizes.setdefault(file.stat().st_size, []).append(file)
    found = {name: next((place.raw / FOLDER).glob(f"{glob.escape(name)}_0000.*")) for name in names}
    return [
        name
        for name, file in found.items()
        if any(filecmp.cmp(file, other, shallow=False) for other in sizes.get(file.stat().st_size, []))
    ]


def _check_channels(found: dict[str, list[Path]], channels: int) -> None:
    wanted = [f"{number:04d}" for number in range(channels)]
    for name, files in found.items():
        have = [file.name[len(name) + 1 :][:4] for file in files]
        if have != wanted:
            raise InputError(
                f"The scan {name} in {files[0].parent} has the channels {', '.join(have)}, the labelled ones have "
                f"{', '.join(wanted)}. Add or remove files."
            )


def _prepare(item: tuple[str, list[Path]], place: Place, dataset: dict[str, Any], folder: Path) -> Look:
    """Prepare one scan, whole or not at all; what became of it."""
    name, files = item
    stamp = stamps(files)
    preprocessor = place.settings.preprocessor_class(verbose=False)
    unfinished = folder / f".{name}.part"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        for file in files:
            check_whole(file)
        preprocessor.run_case_save(
            str(unfinished / name), [str(file) for file in files], None, place.manager, place.settings, dataset
        )
        properties = unfinished / f"{name}.pkl"
        write_pickle({**load_pickle(str(properties)), "class_locations": {}}, str(properties))
        look = _look(unfinished, name)
        for file in sorted(unfinished.iterdir(), key=lambda file: file == properties):
            os.replace(file, folder / file.name)
        return replace(look, files=stamp)
    except Exception as error:  # whatever a reader makes of a damaged file
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        said = str(error).strip() or type(error).__name__
        return Look(stamp, problem=f"{name}: {said.splitlines()[-1]}")  # where SimpleITK says what is wrong
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def check_whole(file: Path) -> None:
    """Read a compressed file to its end: SimpleITK takes zeros for what is missing.

    Raises:
        EOFError, OSError: if it is truncated or damaged.
    """
    if file.suffix == ".gz":
        with gzip.open(file) as stream:
            while stream.read(1 << 24):
                pass


def _look(folder: Path, name: str) -> Look:
    """At a prepared case."""
    image = np.ascontiguousarray(cases_in(folder, [name]).load_case(name)[0][:])
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    digest.update(image.data)
    return Look([], digest.hexdigest(), quantiles(torch.from_numpy(image)).tolist())


def _forget(index: Index, folder: Path, name: str) -> None:
    """Remove what is there of a scan, if anything."""
    index.scans.pop(name, None)
    for file in (f"{name}.pkl", f"{name}.b2nd", f"{name}_seg.b2nd", f"{name}.npz"):
        (folder / file).unlink(missing_ok=True)
