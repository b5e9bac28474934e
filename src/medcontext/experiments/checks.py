"""What can be found wrong before anything is trained: data sets, splits, networks and masks."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from medcontext.data.cases import Dataset
from medcontext.data.known import KNOWN
from medcontext.data.labelled import mapped_labels
from medcontext.data.regions import read_regions
from medcontext.data.splits import Split, make_split
from medcontext.errors import InputError, counted, unknown_name
from medcontext.experiments.cells import TableCell
from medcontext.experiments.tables import plain
from medcontext.settings import Settings

SPLIT_FILE = '{"train": [...], "validation": [...], "test": [...]}'


def find_data(needed: Sequence[str], given: Mapping[str, str], output: Path, smoke: bool, dry: bool) -> dict[str, Path]:
    """The folder of each data set; at the scale of a smoke test, where it is to be generated.

    Raises:
        InputError: for a data set that is missing or unknown.
    """
    for name in given:
        if name not in KNOWN:
            raise unknown_name("data set", name, KNOWN)
    if smoke and given:
        raise InputError("--scale smoke generates its data; leave --data out.")
    if smoke:
        return {name: output / "data" / name for name in needed}
    missing = [name for name in needed if name not in given]
    if missing and not dry:
        raise InputError(f"Where are the scans? Give --data {' '.join(f'{name}=DIR' for name in missing)}.")
    return {name: Path(given[name]) for name in needed if name in given}


def check_kind(name: str, dataset: Dataset) -> None:
    """Refuse a data set that is another one than it is given for.

    Args:
        name: one of `KNOWN`.
        dataset: what was given for it.

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
    missing = [structure for structure in known.scored if structure not in structures]
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
        name, settings = cell.variant.dataset, cell.settings
        if name in datasets:
            key = (name, settings.split, settings.fold, settings.seed, settings.few_shot)
            if key not in made:
                made[key] = split_of(name, datasets[name], settings)
            labels = mapped_labels(datasets[name], settings.prepare.label_map)
            read_regions(settings.regions, sorted({0, *labels.values()}), f"--data {name}={datasets[name].root}")
            cell = replace(cell, split=made[key])
        divided.append(cell)
    return divided


def split_of(name: str, dataset: Dataset, settings: Settings) -> Split:
    """Which cases a training and its test have.

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
