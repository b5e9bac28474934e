"""Looking at what networks make of scans with labels: of those that they were not trained on, and of what they know."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medcontext.console import track
from medcontext.data.cases import Case, Dataset
from medcontext.data.labelled import read_labelled
from medcontext.data.nifti import image_digest
from medcontext.data.prepare import prepare_image
from medcontext.errors import InputError
from medcontext.inference.beside import volumes
from medcontext.inference.ensemble import Member, segment
from medcontext.inference.expected import LEAST, learn
from medcontext.inference.known_cases import label_values, map_for, named_cases, read_known
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
    pairs = zip(members, names, strict=True)
    return [Group((member,), dataset, named_cases(own, dataset)) for member, own in pairs if own]


def know(runs: Sequence[Run], dataset: Dataset) -> Known:
    """What the labelled scans of trainings look like, those that were validated on among them.

    Raises:
        InputError: if one is not in the data set, is damaged, or is another scan under its name.
    """
    run = runs[0]
    names, label_map = list(dict.fromkeys(name for each in runs for name in each.facts.cases)), map_for(dataset, run)
    quantiles, extents = [], []
    found: dict[str, list[float]] = {name: [] for name in run.structures}
    for case in track(named_cases(names, dataset), "looking at the labelled scans"):
        image, label, affine = read_known(case, dataset, label_map, runs)
        noticed = Noticed()
        noticed.scan(*prepare_image(image, affine, run.plan))
        quantiles.append(tuple(map(tuple, noticed.quantiles.tolist())))
        extents.append(noticed.extent)
        for name, ml in volumes(label, affine, run.structures).items():
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
    hashes, window = tuple(member.hash for member in members), members[0].window
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
    image, truth, affine = read_labelled(case, dataset, map_for(dataset, run))
    scan = image_digest(image)
    if part_of(case.name, scan, [member.run for member in members]) == "training":
        raise InputError(
            f"{run.folder} was trained on the scan of case '{case.name}', which says nothing of new ones; give --on a "
            "data set without it."
        )
    digest = sha256("".join([scan, image_digest(truth), image_digest(affine)]).encode()).hexdigest()[:16]
    same = [row for row in kept if (row.case, row.patient, row.digest) == (case.name, case.owner, digest)]
    if same:
        yield from same
        return
    classes, _ = segment(image, affine, members, noticed=noticed)
    label = processed(label_values(classes.numpy(), run), affine, run, steps)
    for name, values in run.structures.items():
        own, true = np.isin(label, values), np.isin(label_values(truth, run), values)
        signs, total = noticed.mean(name), int(own.sum()) + int(true.sum())
        if signs and total:
            dsc = 2 * int((own & true).sum()) / total
            yield Observed(case.name, case.owner, name, signs, dsc, digest=digest, scan=scan)
