"""Scans without labels: where they come from, what is wrong with them, and their prepared cases."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from medcontext.data.cases import Case, Dataset
from medcontext.data.folders import find_images, shortened
from medcontext.data.formats import is_dataset, read_dataset
from medcontext.data.nifti import image_digest, read_header, read_image
from medcontext.data.plan import Plan
from medcontext.data.pool import in_processes
from medcontext.data.prepare import is_prepared, open_store, prepare_case
from medcontext.data.splits import Split
from medcontext.data.store import Store, StoredCase
from medcontext.errors import CannotWrite, InputError

REST = "rest"  # the name of the training cases that few_shot leaves out, beside folders and data sets
FAR = 0.5  # standard deviations of the prepared intensities; labelled scans of one kind differ by less


@dataclass(frozen=True)
class Scans:
    """Unlabelled scans of several sources, prepared.

    Args:
        sources: as they were given.
        cases: prepared.
        damaged: what is wrong with each scan that was left out, in words.
        labelled: those left out because a training case has the same image.
        doubled: those left out because another scan here has the same image.
        validated: names of those whose image a validation case has.
        tested: names of those whose image a test case has.
        unlike: names of those whose intensities are far from all labelled scans', with the distance.
    """

    sources: tuple[str, ...] = ()
    cases: tuple[StoredCase, ...] = ()
    damaged: tuple[str, ...] = ()
    labelled: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    validated: tuple[str, ...] = ()
    tested: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()

    def facts(self) -> dict[str, object]:
        """Plain values for `run.json`."""
        lists = ("damaged", "labelled", "doubled", "validated", "tested", "unlike")
        return {
            "sources": list(self.sources),
            "scans": {case.name: case.digest for case in self.cases},
            **{name: list(getattr(self, name)) for name in lists if getattr(self, name)},
        }

    def remarks(self) -> list[str]:
        """What a person should know before the training starts, a sentence each."""
        said = []
        if self.damaged:
            said.append(f"Left out, because they cannot be used: {shortened(list(self.damaged))}.")
        if self.labelled:
            said.append(f"Left out, because training cases with a label have the same image: {_listed(self.labelled)}.")
        if self.doubled:
            said.append(f"Left out, because another of these scans has the same image: {_listed(self.doubled)}.")
        for names, part in ((self.validated, "validation"), (self.tested, "test")):
            if names:
                said.append(
                    f"The images, not the labels, of {len(names)} {part} case{'s' * (len(names) > 1)} take part in the "
                    f"training: {_listed(names)}. Scores on them are those of scans that the network has seen."
                )
        if self.unlike:
            said.append(
                f"Intensities far from those of the labelled scans, perhaps another modality: {_listed(self.unlike)}. "
                "Look at them; leave them out if they are something else."
            )
        return said


def find_unlabelled(sources: Sequence[str], dataset: Dataset, rest: Sequence[str]) -> list[Dataset]:
    """What each source has, as data sets whose cases have no label. No image is opened, no label is ever read.

    Args:
        sources: folders of NIfTI files, data sets (their scans without labels), or `rest`.
        dataset: that of the labelled cases; channels are as in it.
        rest: names of its training cases that few_shot leaves out.

    Raises:
        InputError: if a source has none, or has other channels.
    """
    found = []
    for source in dict.fromkeys(sources):
        name, root = Path(source).resolve().name, Path(source)
        if source == REST and not root.exists():
            if not rest:
                raise InputError(
                    "--unlabelled rest takes the training cases that --few_shot leaves out, and it leaves none out. "
                    "Give --few_shot a smaller number, or a folder of scans instead of rest."
                )
            chosen = set(rest)
            cases = tuple(replace(case, label=None) for case in dataset.cases if case.name in chosen)
            name, root = dataset.name, dataset.root
        elif is_dataset(root):
            other = read_dataset(root)
            cases, name, root = other.unlabelled, other.name, other.root
            _check_channels(other, dataset, source)
            if not cases:
                raise InputError(
                    f"The data set {source} has no scans without labels: no imagesTs or imagesUn, and no "
                    '"unlabelled" in its JSON file. To use all its images without their labels, give their folder, '
                    f"such as {Path(source) / 'imagesTr'}; or --unlabelled rest for what --few_shot leaves out."
                )
        else:
            cases = find_images(root, len(dataset.channels))
        found.append(replace(dataset, name=f"{name}-unlabelled", root=root, cases=cases, unlabelled=()))
    return found


def prepare_unlabelled(
    found: Sequence[Dataset],
    sources: Sequence[str],
    dataset: Dataset,
    split: Split,
    labelled: Store,
    plan: Plan,
    *,
    cache: Path | None = None,
    workers: int = 1,
    skip_damaged: bool = False,
) -> Scans:
    """Prepare the scans by the plan of the labelled ones, and look at each.

    Args:
        found: from `find_unlabelled`.
        sources: as given, to be named.
        dataset: of the labelled cases.
        split: their parts.
        labelled: their store, with all training cases.
        plan: made from the training cases.
        cache: folder of all stores, see `prepare_dataset`.
        workers: processes, each with one volume in memory.
        skip_damaged: leave out scans that cannot be used, instead of refusing them.

    Raises:
        InputError: naming all scans that cannot be used; if none is left.
    """
    cases: list[StoredCase] = []
    damaged: list[str] = []
    for each in found:
        root = open_store(each, plan, cache)
        todo = [case for case in each.cases if not is_prepared(case, root)]
        work = partial(_attempt, dataset=replace(each, cases=()), plan=plan, root=root)
        wrong = {}
        if todo:
            done = in_processes(work, todo, workers, "preparing the unlabelled scans")
            wrong = {todo[index].name: problem for index, problem in done if problem}
        damaged += [wrong[case.name] for case in todo if case.name in wrong]
        cases += [StoredCase(root / case.name) for case in each.cases if case.name not in wrong]
    if damaged and not skip_damaged:
        raise InputError(
            f"{len(damaged)} of {len(cases) + len(damaged)} unlabelled scans cannot be used: {shortened(damaged)}. "
            "Correct or remove them, or leave them out with --skip_damaged."
        )
    known = {labelled.case(name).digest for name in split.train}
    kept = [case for case in cases if case.digest not in known]
    if not kept:
        why = shortened(damaged) or "training cases with a label have the same images"
        raise InputError(f"No unlabelled scan is left of {', '.join(sources)}: {why}.")
    first: dict[str, StoredCase] = {}
    for case in kept:
        first.setdefault(case.digest, case)
    once = list(first.values())
    parts = {part: _digests(dataset, getattr(split, part), once) for part in ("validation", "test")}
    return Scans(
        sources=tuple(sources),
        cases=tuple(once),
        damaged=tuple(damaged),
        labelled=tuple(case.name for case in cases if case.digest in known),
        doubled=tuple(case.name for case in kept if case not in once),
        validated=tuple(case.name for case in once if case.digest in parts["validation"]),
        tested=tuple(case.name for case in once if case.digest in parts["test"]),
        unlike=tuple(_unlike(once, [labelled.case(name) for name in split.train])),
    )


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """How far two scans' intensities are apart, from their quantiles (C, Q): the mean distance, the largest channel's.

    The mean distance of quantiles is the distance over which intensities would have to be moved (Wasserstein's).

    >>> distance(np.array([[0.0, 1.0, 2.0]]), np.array([[1.0, 2.0, 3.0]]))
    1.0
    """
    return float(np.abs(first - second).mean(axis=1).max())


def _attempt(case: Case, dataset: Dataset, plan: Plan, root: Path) -> str:
    """Prepare a case; what is wrong with it, or nothing."""
    try:
        prepare_case(case, dataset, plan, root)
    except CannotWrite:
        raise
    except InputError as error:
        return str(error).rstrip(".")
    return ""


def _check_channels(other: Dataset, dataset: Dataset, source: str) -> None:
    if [name.casefold() for name in other.channels] != [name.casefold() for name in dataset.channels]:
        raise InputError(
            f"{source} has the channels {', '.join(other.channels)}, the labelled scans have "
            f"{', '.join(dataset.channels)}. Give scans with these channels in this order."
        )


def _digests(dataset: Dataset, names: Sequence[str], scans: Sequence[StoredCase]) -> set[str]:
    """Digests of a part's images, of those alone that some scan could equal: only they are read."""
    shapes = {tuple(case.geometry.shape) for case in scans}
    chosen = set(names)
    digests = set()
    for case in dataset.cases:
        if case.name in chosen and tuple(read_header(case.images[0]).shape[:3]) in shapes:
            digests.add(image_digest(read_image(case, dataset.channels)[0]))
    return digests


def _unlike(scans: Sequence[StoredCase], labelled: Sequence[StoredCase]) -> list[str]:
    """Scans that are further from the nearest labelled one than these are from one another, and far at all."""
    known = [case.quantiles for case in labelled]
    spread = [min(distance(one, two) for two in known if two is not one) for one in known if len(known) > 1]
    scale = float(np.mean([_deviation(each) for each in known])) or 1.0
    limit = max(2 * max(spread, default=0.0), FAR * scale)
    found = []
    for case in scans:
        nearest = min(distance(case.quantiles, each) for each in known)
        if nearest > limit:
            found.append(f"{case.name} (distance {nearest:.2g}, labelled scans {max(spread, default=0.0):.2g})")
    return found


def _deviation(quantiles: np.ndarray) -> float:
    """The standard deviation that a scan's quantiles (C, Q) stand for, the mean over the channels."""
    return float(quantiles.std(axis=1).mean())


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
