"""Scans without labels in nnU-Net's folders: `imagesUn` of the raw data set, prepared beside the labelled ones.

Never in the labelled ones' folder: nnU-Net would put them into splits, and it deletes that folder whenever it prepares.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from medcontext.data.folders import listed
from medcontext.errors import InputError, counted, unknown_name
from medcontext.files import read_json, write_json

FOLDER = "imagesUn"
LABELS_ALONE = "nnUNetTrainerMedContextLabelled"
SUFFIX = "_unlabelled"  # of the prepared folder, beside that of the labelled cases


@dataclass(frozen=True)
class Look:
    """What is known of a scan, or of a labelled case.

    Args:
        files: size and time of the last change of each of its files, to tell whether it is still the same.
        image: a digest of the prepared image.
        quantiles: (C, Q) of its intensities.
        problem: why it cannot be used; empty if it can.
    """

    files: list[list[int]]
    image: str = ""
    quantiles: list[list[float]] = field(default_factory=list)
    problem: str = ""


@dataclass
class Index:
    """What is prepared, and by which plan.

    Args:
        plan: a digest of all that preparing depends on.
        scans: by name, those that are ready, and those that were left out.
        labelled: by name, the labelled cases that they were compared with.
    """

    plan: str
    scans: dict[str, Look] = field(default_factory=dict)
    labelled: dict[str, Look] = field(default_factory=dict)

    @property
    def ready(self) -> list[str]:
        return sorted(name for name, look in self.scans.items() if not look.problem)

    @property
    def left_out(self) -> list[str]:
        return sorted(name for name, look in self.scans.items() if look.problem)

    @classmethod
    def read(cls, folder: Path) -> "Index | None":
        file = folder.with_name(f"{folder.name}.json")  # nnU-Net wants nothing but cases in a folder of these
        if not file.is_file():
            return None
        content = read_json(file)
        looks = {part: {name: Look(**each) for name, each in content[part].items()} for part in ("scans", "labelled")}
        return cls(content["plan"], **looks)

    def write(self, folder: Path) -> None:
        write_json(folder.with_name(f"{folder.name}.json"), asdict(self))


@dataclass(frozen=True)
class Place:
    """Where one configuration of one data set lies.

    Args:
        manager: of its plans.
        configuration: such as `3d_fullres`.

    Raises:
        InputError: if the plans have no such configuration.
    """

    manager: PlansManager
    configuration: str

    def __post_init__(self) -> None:
        if self.configuration not in self.manager.available_configurations:
            raise unknown_name("configuration", self.configuration, self.manager.available_configurations)

    @classmethod
    def read(cls, dataset: str, plans: str, configuration: str) -> "Place":
        """By name, such as `Dataset004_Hippocampus`, `nnUNetPlans`, `3d_fullres`.

        Raises:
            InputError: if there are no such plans.
        """
        file = Path(str(nnUNet_preprocessed), dataset, f"{plans}.json")
        if not file.is_file():
            raise InputError(
                f"{file} is missing: run nnUNetv2_plan_and_preprocess for {dataset} first, with the plans '{plans}' or "
                "others, which -p names."
            )
        return cls(PlansManager(str(file)), configuration)

    @property
    def dataset(self) -> str:
        return self.manager.dataset_name

    @property
    def settings(self) -> ConfigurationManager:
        return self.manager.get_configuration(self.configuration)

    @property
    def raw(self) -> Path:
        return Path(str(nnUNet_raw), self.dataset)

    @property
    def prepared(self) -> Path:
        """Of the labelled cases of all configurations, with the plans."""
        return Path(str(nnUNet_preprocessed), self.dataset)

    @property
    def folder(self) -> Path:
        """Of the prepared scans."""
        return self.labelled.with_name(self.labelled.name + SUFFIX)

    @property
    def labelled(self) -> Path:
        """Of the prepared cases with labels."""
        return self.prepared / self.settings.data_identifier


def find_prepared(trainer: Any) -> Any:
    """The prepared scans that a trainer is to use, as nnU-Net's data set; None if there are none to be used.

    Raises:
        InputError: if there are scans in imagesUn that are not prepared, or by another plan.
    """
    say = trainer.print_to_log_file
    place = Place(trainer.plans_manager, trainer.configuration_name)
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
    command = f"medcontext nnunet preprocess {place.dataset} -c {place.configuration} -p {place.manager.plans_name}"
    known = {} if index is None else index.scans
    if new := sorted(
        name for name, files in waiting.items() if name not in known or known[name].files != stamps(files)
    ):
        raise InputError(
            f"{counted(len(new), 'scan')} of {place.raw / FOLDER} must be prepared, being new or changed: "
            f"{listed(new)}. Run {command}, or train without them with -tr {LABELS_ALONE}."
        )
    assert index is not None  # else all that is waiting is new
    if waiting and (gone := sorted(set(known) - set(waiting))):
        raise InputError(
            f"Prepared, but no longer in {place.raw / FOLDER}: {listed(gone)}. Put them back, or run {command}, which "
            "forgets them."
        )
    if index.plan != plan_digest(place):
        raise InputError(f"The scans in {place.folder} were prepared by another plan. Run {command}.")
    if added := sorted(set(cases_in(place.labelled).identifiers) - set(index.labelled)):
        raise InputError(
            f"The scans without labels were not compared with {counted(len(added), 'labelled case')}, which may have "
            f"the same images: {listed(added)}. Run {command}."
        )
    say(f"MedContext: {counted(len(index.ready), 'scan')} without labels, from {place.folder}")
    if index.left_out:
        say(f"MedContext: left out, because they cannot be used: {listed(index.left_out)}")
    return cases_in(place.folder, index.ready)


def cases_in(folder: Path, names: list[str] | None = None) -> Any:
    """Prepared cases as nnU-Net's data set."""
    return infer_dataset_class(str(folder))(str(folder), names)


def stamps(files: Sequence[Path]) -> list[list[int]]:
    """Size and time of the last change of each."""
    return [[found.st_size, found.st_mtime_ns] for found in (file.stat() for file in files)]


def find_raw(raw: Path, ending: str) -> dict[str, list[Path]]:
    """The files of each scan of imagesUn, a channel each, by nnU-Net's names (CASE_0000).

    Raises:
        InputError: naming a file that has another ending, or no channel in its name.
    """
    folder = raw / FOLDER
    files = sorted(file for file in folder.iterdir() if not file.name.startswith(".")) if folder.is_dir() else []
    scans: dict[str, list[Path]] = {}
    for file in files:
        if not file.name.endswith(ending):
            raise InputError(f"{file} does not end in {ending}, as the data set's images do. Convert or remove it.")
        name, _, channel = file.name.removesuffix(ending).rpartition("_")
        if len(channel) != 4 or not channel.isdecimal() or not name:
            raise InputError(
                f"{file} has no channel in its name. nnU-Net's names are CASE_0000{ending}, CASE_0001{ending} for a "
                "second channel."
            )
        scans.setdefault(name, []).append(file)
    return scans


def plan_digest(place: Place) -> str:
    """Of all that nnU-Net's preparing depends on; not of the network, which trainers change in place."""
    of_data = ("transpose_forward", "image_reader_writer", "foreground_intensity_properties_per_channel")
    of_grid = ("preprocessor_name", "spacing", "normalization_schemes", "use_mask_for_norm")
    settings = place.settings.configuration
    content = [{key: place.manager.plans[key] for key in of_data}, {key: settings[key] for key in of_grid}]
    content.append({key: value for key, value in settings.items() if key.startswith("resampling_fn")})
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
