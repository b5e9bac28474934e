"""Looking at what networks make of scans with labels: of those that they were not trained on, and of what they know."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medcontext.console import track
from medcontext.data.cases import Case, Dataset
from medcontext.data.folders import listed
from medcontext.data.label_map import LabelMap, follow_in_training
from medcontext.data.labelled import mapped_labels, read_labelled
from medcontext.data.nifti import image_digest
from medcontext.data.prepare import prepare_image
from medcontext.errors import InputError
from medcontext.files import file_hash
from medcontext.inference.beside import volumes
from medcontext.inference.ensemble import Member, segment
from medcontext.inference.expected import LEAST, learn
from medcontext.inference.parts import part_of
from medcontext.inference.predict import processed
from medcontext.inference.selection import check_channels
from medcontext.inference.signs import SIGNS, Noticed
from medcontext.run import Run, Weights, home
from medcontext.run.calibration import (
    FILE,
    UNFINISHED,
    Calibration,
    Known,
    Observed,
    read_calibration,
    write_calibration,
)
from medcontext.run.postprocessing import Keep, step_text


class Group(NamedTuple):
    """Networks that predict together, and labelled cases of a data set that none of them was trained on."""

    members: tuple[Member, ...]
    dataset: Dataset
    cases: tuple[Case, ...]


def find_groups(members: Sequence[Member], dataset: Dataset, on: Dataset | None) -> list[Group]:
    """Who predicts what: all networks another data set, or each its validation cases, those of its fold.

    Args:
        members: the networks.
        dataset: of the training.
        on: another one.

    Raises:
        InputError: if a validation case is not in the data set, or the other data set has other channels.
    """
    if on is not None:
        check_channels(on, members[0].run.plan.channels, on.root)
        return [Group(tuple(members), on, on.cases)]
    names = [[name for name in member.run.split.validation if name in member.run.facts.cases] for member in members]
    return [Group((member,), dataset, _named(own, dataset)) for member, own in zip(members, names, strict=True) if own]


def know(runs: Sequence[Run], dataset: Dataset) -> Known:
    """What the labelled scans of trainings look like, those that were validated on among them.

    Raises:
        InputError: if one is not in the data set, is damaged, or is another scan under its name.
    """
    run = runs[0]
    names, label_map = list(dict.fromkeys(name for each in runs for name in each.facts.cases)), _map(dataset, run)
    quantiles, extents = [], []
    found: dict[str, list[float]] = {name: [] for name in run.structures}
    for case in track(_named(names, dataset), "looking at the labelled scans"):
        image, label, affine = read_labelled(case, dataset, label_map)
        if part_of(case.name, image_digest(image), runs) == "unknown":
            raise InputError(
                f"{dataset.root} has another scan under the name {case.name} than {run.folder} was trained with. Give "
                "the data set of the training: --data DATASET."
            )
        noticed = Noticed()
        noticed.scan(*prepare_image(image, affine, run.plan))
        quantiles.append(tuple(map(tuple, noticed.quantiles.tolist())))
        extents.append(noticed.extent)
        for name, ml in volumes(_values(label, run), affine, run.structures).items():
            found[name].append(ml)
    return Known(tuple(quantiles), tuple(extents), {name: tuple(each) for name, each in found.items()})


def applicable_calibration(
    members: Sequence[Member], weights: Weights, wanted: bool | None, steps: Mapping[str, Keep]
) -> tuple[Calibration | None, str]:
    """What is known of these networks; and why nothing is although there is something, or nothing.

    Args:
        members: the networks.
        weights: which are used.
        wanted: whether there must be something; None takes what there is.
        steps: of post-processing that predictions get.

    Raises:
        InputError: if there must be something and nothing is.
    """
    folder = home([member.run for member in members])
    found = read_calibration(folder / FILE) if folder and wanted is not False else None
    why = "of these networks nothing is known together" if folder is None else f"{folder} is not calibrated"
    if found and not found.holds_for(calibration_of(members, weights, found.known, steps)):
        found = None
        why = f"{folder} is calibrated for other checkpoints, weights, overlap, mirroring or post-processing"
        if wanted is None:
            again = "Run `medcontext calibrate` again with these; it applies the run's post-processing."
            return None, f"no DSC is expected: {why}. {again}"
    if wanted and found is None:
        raise InputError(f"--expected needs what `medcontext calibrate` learns, but {why}.")
    return found, ""


def calibration_of(members: Sequence[Member], weights: Weights, known: Known, steps: Mapping[str, Keep]) -> Calibration:
    """What is known of networks, whose predictions get these steps, before any case was looked at."""
    hashes, window = tuple(file_hash(member.checkpoint) for member in members), members[0].window
    done = {name: step_text(keep) for name, keep in steps.items()}
    return Calibration(weights, hashes, window.overlap, window.mirror, SIGNS, known, postprocessing=done)


def observe(groups: Sequence[Group], empty: Calibration, folder: Path, steps: Mapping[str, Keep]) -> Calibration:
    """Look at what networks make of cases, and learn from it where these are enough.

    What an interrupted call has looked at already is not predicted anew, if image and label are the same.

    Args:
        groups: networks and cases.
        empty: from `calibration_of`.
        folder: where that call left its file, and this one leaves it until the result is written.
        steps: of post-processing, those of all networks together: their ensemble is what will be predicted with.

    Raises:
        InputError: if a case cannot be read or predicted, or a network was trained on it.
    """
    before = read_calibration(folder / UNFINISHED)
    kept = before.observed if before and before.holds_for(empty) else ()
    found: list[Observed] = []
    todo = [(case, number) for number, group in enumerate(groups) for case in group.cases]
    for case, number in track(todo, "predicting"):
        members, dataset, _ = groups[number]
        found += _observe_case(case, dataset, members, steps, kept)
        seen = {row.case for row in found}
        rest = [row for row in kept if row.case not in seen]  # their turn may be yet to come
        write_calibration(folder / UNFINISHED, replace(empty, observed=(*found, *rest)))
    if len({row.patient for row in found}) < LEAST:
        return empty
    rule, judged = learn(found)
    return replace(empty, observed=judged, rule=rule)


def _observe_case(
    case: Case, dataset: Dataset, members: Sequence[Member], steps: Mapping[str, Keep], kept: Collection[Observed]
) -> Iterator[Observed]:
    """A row for each structure that the networks find in a case; those that were kept of it, where it is the same."""
    run, noticed = members[0].run, Noticed()
    image, truth, affine = read_labelled(case, dataset, _map(dataset, run))
    if part_of(case.name, image_digest(image), [member.run for member in members]) == "training":
        raise InputError(
            f"{run.folder} was trained on the scan of case '{case.name}', which says nothing of new ones; give --on a "
            "data set without it."
        )
    digest = sha256("".join(map(image_digest, (image, truth, affine))).encode()).hexdigest()[:16]
    same = [row for row in kept if (row.case, row.patient, row.digest) == (case.name, case.owner, digest)]
    if same:
        yield from same
        return
    classes, _ = segment(image, affine, members, noticed=noticed)
    label = processed(_values(classes.numpy(), run), affine, run, steps)
    for name, values in run.structures.items():
        own, true = np.isin(label, values), np.isin(_values(truth, run), values)
        signs, total = noticed.mean(name), int(own.sum()) + int(true.sum())
        if signs and total:
            dsc = 2 * int((own & true).sum()) / total
            yield Observed(case.name, case.owner, name, signs, dsc, digest=digest)


def _named(names: Sequence[str], dataset: Dataset) -> tuple[Case, ...]:
    """Labelled cases of a data set.

    Raises:
        InputError: if one is not there.
    """
    cases = {case.name: case for case in dataset.cases}
    if missing := [name for name in names if name not in cases]:
        raise InputError(f"{dataset.root} has no labelled case {listed(missing)}. Give the data set of the training.")
    return tuple(cases[name] for name in names)


def _map(dataset: Dataset, run: Run) -> LabelMap:
    """How a data set's label values are to be read for a run.

    Raises:
        InputError: if they then mean something else than what the run segments.
    """
    label_map = follow_in_training(dataset.label_map, run.settings.prepare.label_map)
    labels = mapped_labels(dataset, label_map)
    if labels != run.plan.labels:
        raise InputError(
            f"{dataset.root} has the labels {_text(labels)}, and {run.folder} segments {_text(run.plan.labels)}: names "
            'and values must be the same. Describe the data set with these, by a "label_map" if its files have others.'
        )
    return label_map


def _text(labels: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in labels.items())


def _values(classes: np.ndarray, run: Run) -> np.ndarray:
    """Class indices as label values."""
    return np.array(run.plan.values, np.int32)[classes]
