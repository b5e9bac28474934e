"""What can be found wrong before anything is trained: data sets, splits, networks and masks."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from medcontext.data.cases import Dataset
from medcontext.data.discovery.scans import find_scans
from medcontext.data.formats import is_dataset
from medcontext.data.known import KNOWN, SPLITS
from medcontext.data.labelled import mapped_labels
from medcontext.data.regions import read_regions
from medcontext.data.splits import Split, make_split
from medcontext.errors import InputError, counted, unknown_name
from medcontext.experiments.cells import TableCell
from medcontext.experiments.pretrainings import PretrainingCell
from medcontext.experiments.tables import CORPORA, plain
from medcontext.pretrain_settings import PretrainSettings
from medcontext.settings import Settings

SPLIT_FILE = '{"train": [...], "validation": [...], "test": [...]}'


def find_data(needed: Sequence[str], given: Mapping[str, str], output: Path, smoke: bool, dry: bool) -> dict[str, Path]:
    """The folder of each split's data set; at the scale of a smoke test, where it is to be generated.

    Raises:
        InputError: for a data set that is missing or unknown.
    """
    corpora = sorted(set(CORPORA.values()))
    for name in given:
        if name not in (*KNOWN, *corpora):
            raise unknown_name("data set", name, [*KNOWN, *corpora])
    if smoke and given:
        raise InputError("--scale smoke generates its data; leave --data out.")
    if smoke:
        return {name: output / "data" / name for name in needed}
    missing = dict.fromkeys(SPLITS[name] for name in needed if SPLITS[name] not in given)
    if missing and not dry:
        raise InputError(f"Where are the scans? Give --data {' '.join(f'{name}=DIR' for name in missing)}.")
    return {name: Path(given[SPLITS[name]]) for name in needed if SPLITS[name] in given}


def find_corpora(needed: Sequence[str], given: Mapping[str, str], pretrain_on: str, dry: bool) -> dict[str, Path]:
    """The folder of each corpus that is to be pretrained on.

    Raises:
        InputError: for one that is missing, has no scans, or is given without being used.
    """
    found = {name: Path(given[name]) for name in needed if name in given}
    if pretrain_on == "train":
        if found:
            raise InputError(
                f"--pretrain_on train pretrains on the training cases of the table's own data set, not on --data "
                f"{' '.join(f'{name}={folder}' for name, folder in found.items())}. Give one of the two."
            )
        return {}
    missing = [name for name in needed if name not in found]
    if missing and not dry:
        raise InputError(
            f"Which scans are to be pretrained on? Give --data {' '.join(f'{name}=DIR' for name in missing)}, folders "
            "of NIfTI scans; or --pretrain_on train for the training cases of the table's own data set, without their "
            "labels."
        )
    for folder in found.values():
        if not is_dataset(folder):  # of which the training cases would be taken, as of any data set
            find_scans([folder], ["CT"])
    return found


def check_kind(name: str, dataset: Dataset, scored: Iterable[str]) -> None:
    """Refuse a data set that is another one than it is given for.

    Args:
        name: one of `KNOWN`.
        dataset: what was given for it.
        scored: structures that it must have.

    Raises:
        InputError: naming the channels or structures that it should have.
    """
    known, found = KNOWN[name], dataset.channels
    wanted = len(known.channels)
    if len(found) != wanted:
        raise InputError(
            f"{dataset.root} has {counted(len(found), 'channel')} ({', '.join(found)}), {name} has "
            f"{wanted}. Give --data {name}=DIR with {name}."
        )
    if known.regions:  # which are in the presets
        return
    structures = {plain(structure) for structure in dataset.structures}
    missing = [structure for structure in scored if structure not in structures]
    if missing:
        raise InputError(
            f"{dataset.root} has no {', '.join(missing)}, which the tables score on {name}; it has "
            f"{', '.join(dataset.structures)}. Give {name}, or name its structures so."
        )


def divide(cells: Sequence[TableCell], datasets: Mapping[str, Dataset]) -> list[TableCell]:
    """The cells with their splits, where their data sets are there.

    Raises:
        InputError: for a split without training or test cases, or a data set without the presets' regions.
    """
    made: dict[tuple[object, ...], Split] = {}
    divided = []
    for cell in cells:
        name, settings = cell.variant.split, cell.settings
        if name in datasets:
            key = (name, settings.split, settings.fold, settings.seed, settings.few_shot)
            if key not in made:
                made[key] = split_of(SPLITS[name], datasets[name], settings)
            labels = mapped_labels(datasets[name], settings.prepare.label_map)
            source = f"--data {SPLITS[name]}={datasets[name].root}"
            read_regions(settings.regions, sorted({0, *labels.values()}), source)
            cell = replace(cell, split=made[key])
        divided.append(cell)
    return divided


def split_of(name: str, dataset: Dataset, settings: Settings) -> Split:
    """Which cases a training and its test have, of a data set by that name.

    Raises:
        InputError: if there are none of either, with what to do.
    """
    remedy = f"give a split file: --set {name}:split=FILE, with {SPLIT_FILE}"
    try:
        split = make_split(
            dataset, file=settings.split or None, seed=settings.seed, few_shot=settings.few_shot, fold=settings.fold
        )
    except InputError as error:
        raise InputError(f"{name}: {error} To use other cases, {remedy}.") from error
    if not set(split.test) & {case.name for case in dataset.cases}:
        lacking = f"none of the {len(split.test)} test cases with a label" if split.test else "no test cases"
        whose = f"the split {settings.split}" if settings.split else "its seeded split"
        raise InputError(
            f"{name}: {dataset.root} has {lacking} in {whose}, and tables are made of test scores. Add them; or, to "
            f"test on others, {remedy}."
        )
    return split


def check_networks(cells: Sequence[TableCell]) -> None:
    """Build each cell's network, mask and adapter, without memory for it.

    Raises:
        InputError: for one that cannot be built, naming the cell.
    """
    from medcontext.listing import sketch

    built: dict[str, nn.Module] = {}
    checked: list[tuple[str, object]] = []
    for cell in cells:
        settings, dataset = cell.settings, cell.variant.dataset
        facts = [settings.network, settings.network_args, settings.crop_size, dataset, settings.regions]
        key = json.dumps(facts, default=str)
        if (key, settings.method) in checked:  # but for its seed, the same
            continue
        checked.append((key, settings.method))
        try:
            if key not in built:
                built[key] = sketch(settings, dataset)
            check_method(settings, dataset, built[key])
        except InputError as error:
            raise InputError(f"{cell.name}: {error}") from error


def check_pretrainings(cells: Iterable[TableCell]) -> None:
    """Put each pretraining's objective around its network, and draw what it draws of a batch.

    Raises:
        InputError: for one that does not fit, naming the pretraining.
    """
    checked: set[str] = set()
    for cell in cells:
        before = cell.after
        if before is None or before.name in checked:
            continue
        checked.add(before.name)
        assert isinstance(before, PretrainingCell)
        try:
            check_objective(before.settings, cell.variant.dataset if before.source in SPLITS else None)
        except InputError as error:
            raise InputError(f"{before.name}: {error}") from error


def check_objective(settings: PretrainSettings, dataset: str | None) -> None:
    """Put an objective around its network, without memory for it.

    Raises:
        InputError: if it does not fit, or the crops do not fit it.
    """
    import torch

    from medcontext.listing import CROP, sketch
    from medcontext.pretraining.build import build_objective

    network = Settings(network=settings.network, network_args=settings.network_args, crop_size=settings.crop_size)
    name = str(settings.objective)
    with torch.device("meta"):
        objective = build_objective(name, sketch(network, dataset), getattr(settings, name))
    crop = CROP if settings.crop_size == "auto" else settings.crop_size
    channels = len(KNOWN[dataset].channels) if dataset else 1
    objective.draw(torch.empty(settings.batch_size, channels, *crop, device="meta"), torch.Generator())


def check_method(settings: Settings, dataset: str, network: nn.Module) -> None:
    """Put the method around a network.

    Raises:
        InputError: if the mask does not fit the crop, or the network has no tokens to hide.
    """
    from medcontext.listing import CROP
    from medcontext.training.assemble import make_learner

    make_learner(
        settings.method,
        network,
        settings.network,
        in_channels=len(KNOWN[dataset].channels),
        crop_size=CROP if settings.crop_size == "auto" else settings.crop_size,
        total_steps=settings.steps,
        steps_per_epoch=1,
    )
