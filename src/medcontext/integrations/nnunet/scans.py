"""Scans without labels in nnU-Net's folders: `imagesUn` of the raw data set, prepared beside the labelled ones.

Never in the labelled ones' folder: nnU-Net would put them into splits, and it deletes that folder whenever it prepares.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import load_pickle, write_pickle
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from medcontext.console import console
from medcontext.data.folders import listed, shortened
from medcontext.data.pool import in_processes
from medcontext.data.store import quantiles
from medcontext.data.unlabelled import unlike
from medcontext.errors import InputError, counted, first_line, unknown_name
from medcontext.files import read_json, write_json

FOLDER = "imagesUn"
SUFFIX = (
    "_unlabelled"  # of the prepared folder, beside the labelled cases' own, and of the file that says what is ready
)


@dataclass
class Index:
    """What is prepared, and by which plan.

    Args:
        plan: a digest of all that preparing depends on.
        scans: the names of those that are ready, each with a digest of its files.
        left_out: those that cannot be used, and why.
    """

    plan: str
    scans: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "Index | None":
        file = folder.with_name(f"{folder.name}.json")  # nnU-Net wants nothing but cases in a folder of these
        return cls(**read_json(file)) if file.is_file() else None

    def write(self, folder: Path) -> None:
        write_json(folder.with_name(f"{folder.name}.json"), asdict(self))


@dataclass(frozen=True)
class Place:
    """One configuration of one data set.

    Args:
        dataset: such as `Dataset004_Hippocampus`.
        plans: nnU-Net's name of the plans, such as `nnUNetPlans`.
        configuration: such as `3d_fullres`.
    """

    dataset: str
    plans: str
    configuration: str

    @property
    def raw(self) -> Path:
        return Path(str(nnUNet_raw), self.dataset)

    @property
    def prepared(self) -> Path:
        """Of the labelled cases of all configurations, with the plans."""
        return Path(str(nnUNet_preprocessed), self.dataset)

    @property
    def manager(self) -> PlansManager:
        file = self.prepared / f"{self.plans}.json"
        if not file.is_file():
            raise InputError(
                f"{file} is missing: run nnUNetv2_plan_and_preprocess for {self.dataset} first, with the plans "
                f"'{self.plans}' or others, which -p names."
            )
        return PlansManager(str(file))

    @property
    def folder(self) -> Path:
        """Of the prepared scans."""
        return self.labelled.with_name(self.labelled.name + SUFFIX)

    @property
    def labelled(self) -> Path:
        """Of the prepared cases with labels."""
        return self.prepared / self.settings.data_identifier

    @property
    def settings(self) -> ConfigurationManager:
        """The configuration's.

        Raises:
            InputError: if the plans have none of this name.
        """
        manager = self.manager
        if self.configuration not in manager.available_configurations:
            raise unknown_name("configuration", self.configuration, manager.available_configurations)
        return manager.get_configuration(self.configuration)


def find_prepared(trainer: Any) -> Any:
    """The prepared scans that a trainer is to use, as nnU-Net's data set; None if there are none to be used.

    Raises:
        InputError: if there are scans in imagesUn that are not prepared, or by another plan.
    """
    say = trainer.print_to_log_file
    place = Place(trainer.plans_manager.dataset_name, trainer.plans_manager.plans_name, trainer.configuration_name)
    ending = trainer.dataset_json["file_ending"]
    waiting = find_raw(place.raw, ending) if nnUNet_raw.is_set() else {}
    index = Index.read(place.folder)
    if trainer.settings.unlabelled.view == "none" or trainer.is_cascaded:
        if index or waiting:
            why = "a cascade's second stage cannot" if trainer.is_cascaded else f"{type(trainer).__name__} does not"
            say(f"MedContext: scans without labels are there, and not used: {why} learn from them")
        return None
    if index is None and not waiting:
        say("MedContext: no scans without labels; those in imagesUn of the raw data set would join")
        return None
    command = f"medcontext nnunet preprocess {place.dataset} -c {place.configuration} -p {place.plans}"
    done = set() if index is None else {*index.scans, *index.left_out}
    if new := sorted(set(waiting) - done):
        raise InputError(
            f"{counted(len(new), 'scan')} of {place.raw / FOLDER} {'is' if len(new) == 1 else 'are'} not prepared: "
            f"{listed(new)}. Run {command}, or train without them with -tr nnUNetTrainerMedContextLabelled."
        )
    assert index is not None  # else all that is waiting is new
    if waiting and (gone := sorted(set(index.scans) - set(waiting))):
        raise InputError(
            f"Prepared, but no longer in {place.raw / FOLDER}: {listed(gone)}. Put them back, or run {command}, which "
            "forgets them."
        )
    if index.plan != plan_digest(place):
        raise InputError(f"The scans in {place.folder} were prepared by another plan. Run {command}.")
    scans = infer_dataset_class(str(place.folder))(str(place.folder), sorted(index.scans))
    say(f"MedContext: {counted(len(index.scans), 'scan')} without labels, from {place.folder}")
    if index.left_out:
        say(f"MedContext: left out, because they cannot be used: {listed(sorted(index.left_out))}")
    return scans


def find_raw(raw: Path, ending: str) -> dict[str, list[Path]]:
    """The files of each scan of imagesUn, a channel each, by nnU-Net's names (CASE_0000)."""
    files = sorted((raw / FOLDER).glob(f"*{ending}"))
    scans: dict[str, list[Path]] = {}
    for file in files:
        name, _, channel = file.name.removesuffix(ending).rpartition("_")
        if len(channel) != 4 or not channel.isdecimal() or not name:
            raise InputError(
                f"{file} has no channel in its name. nnU-Net's names are CASE_0000{ending}, CASE_0001{ending} for a "
                "second channel."
            )
        scans.setdefault(name, []).append(file)
    return scans


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


def plan_digest(place: Place) -> str:
    """Of all that nnU-Net's preparing depends on."""
    manager = place.manager
    plans = {key: value for key, value in manager.plans.items() if key != "configurations"}
    content = [plans, place.settings.configuration]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


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
    manager = place.manager
    preprocessor = place.settings.preprocessor_class(verbose=False)
    partial_folder = folder / f".{name}.part"
    shutil.rmtree(partial_folder, ignore_errors=True)
    partial_folder.mkdir()
    try:
        preprocessor.run_case_save(
            str(partial_folder / name), [str(file) for file in files], None, manager, place.settings, dataset
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
