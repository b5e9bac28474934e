"""Scans to pretrain on: folders of them and, of data sets, the training part and what has no label."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medcontext.data.cases import Case, Dataset
from medcontext.data.discovery.scans import find_scans
from medcontext.data.discovery.values import is_hounsfield
from medcontext.data.folders import listed
from medcontext.data.formats import is_dataset, read_dataset
from medcontext.data.plan import Plan
from medcontext.data.split_files import draw
from medcontext.data.splits import make_split
from medcontext.data.store import StoredCase
from medcontext.data.unlabelled import Scans, Source, bare, keep_first, prepare_sources
from medcontext.errors import InputError, counted

UNKNOWN = ("image",)  # the one channel of scans of which nothing is known


@dataclass(frozen=True)
class Corpus:
    """Prepared scans, each known by one name.

    Args:
        scans: with where each comes from.
        names: of each.
        held_out: names of those that are not learnt from.
    """

    scans: Scans
    names: tuple[str, ...]
    held_out: frozenset[str]

    @property
    def learnt(self) -> tuple[str, ...]:
        return tuple(name for name in self.names if name not in self.held_out)

    def cases(self, held_out: bool) -> list[StoredCase]:
        """Those that are learnt from, or the others."""
        both = zip(self.names, self.scans.cases, strict=True)
        return [case for name, case in both if (name in self.held_out) == held_out]


def find_corpus(
    sources: Sequence[str],
    channels: Sequence[str] = (),
    *,
    split: str | None = None,
    fold: int = 0,
    seed: int = 0,
) -> list[Source]:
    """What each source has. No label is ever read; of a data set, no validation and no test case is taken.

    Args:
        sources: folders of NIfTI files, or data sets.
        channels: names of the scans' channels; empty for those of the first data set or, where there is none, one
            channel whose intensities tell whether it is CT.
        split: of the one data set among them, as `make_split` takes it; a file's name or a packaged split's.
        fold: of the split.
        seed: of the split, where there is no file.

    Raises:
        InputError: if a source has no scans, or has other channels; if a split is given, and not for one data set.
    """
    datasets = {source: read_dataset(Path(source)) for source in dict.fromkeys(sources) if is_dataset(Path(source))}
    if split and len([each for each in datasets.values() if each.cases]) != 1:
        raise InputError(
            f"--split {split} tells which cases of a data set are for training, and {len(datasets)} of these sources "
            f"are data sets: {listed(list(datasets))}. Give one, and folders beside it; or leave --split out."
        )
    named = tuple(channels) or next((each.channels for each in datasets.values()), ())
    found = []
    for source in dict.fromkeys(sources):
        if source in datasets:
            found.append(_training_part(source, datasets[source], split, fold, seed))
        else:
            scans = find_scans([Path(source)], named or UNKNOWN)
            whole = Dataset(Path(source).resolve().name, Path(source), named or UNKNOWN, {}, scans.cases)
            text = " ".join(f"Warning: {remark}" for remark in scans.remarks)
            found.append(Source(source, bare(whole, whole.name, whole.root, whole.cases), text))
    if not named and is_hounsfield([case for each in found for case in each.dataset.cases]):
        named = ("CT",)
        found = [replace(each, dataset=replace(each.dataset, channels=named)) for each in found]
    for each in found:
        if [name.casefold() for name in each.dataset.channels] != [name.casefold() for name in named or UNKNOWN]:
            raise InputError(
                f"{each.name} has the channels {', '.join(each.dataset.channels)}, where {', '.join(named)} are "
                "expected. Give scans with the same channels in the same order."
            )
    return found


def _training_part(source: str, dataset: Dataset, split: str | None, fold: int, seed: int) -> Source:
    cases: list[Case] = list(dataset.unlabelled)
    passed = ""
    if dataset.cases:
        parts = make_split(dataset, file=split, seed=seed, fold=fold)
        chosen = set(parts.train)
        cases = [case for case in dataset.cases if case.name in chosen] + cases
        passed = (
            f"Of {source} the training part, {counted(len(chosen), 'case')} without their labels, and "
            f"{len(dataset.unlabelled)} that have none; not its {len(parts.validation)} validation and "
            f"{len(parts.test)} test cases."
        )
    if not cases:
        raise InputError(f"The data set {source} has no scans to pretrain on.")
    return Source(source, bare(dataset, dataset.name, dataset.root, cases), passed)


def prepare_corpus(
    found: Sequence[Source],
    plan: Plan,
    *,
    held_out: float,
    seed: int,
    cache: Path | None = None,
    workers: int = 1,
    skip_damaged: bool = False,
) -> Corpus:
    """Prepare the scans, and hold some patients out.

    Args:
        found: from `find_corpus`.
        plan: by which they are prepared.
        held_out: fraction of the patients, at least one if above 0.
        seed: by which these are drawn.
        cache: folder of all stores, see `prepare_dataset`.
        workers: processes, each with one volume in memory.
        skip_damaged: leave out scans that cannot be used, instead of refusing them.

    Raises:
        InputError: naming all scans that cannot be used; if nothing is left to learn from.
    """
    ready, damaged = prepare_sources(found, plan, cache, workers, skip_damaged)
    kept, doubled = keep_first(ready)
    if not kept:
        raise InputError(f"No scan is left of {', '.join(source.name for source in found)}: {listed(damaged)}.")
    often = {name for name in (case.name for _, case in kept) if sum(case.name == name for _, case in kept) > 1}
    places = {source.name: source.dataset.name.removesuffix("-unlabelled") for source in found}
    names = [f"{places[origin]}/{case.name}" if case.name in often else case.name for origin, case in kept]
    owners = {(source.name, case.name): case.owner for source in found for case in source.dataset.cases}
    patients = [(origin, owners[origin, case.name]) for origin, case in kept]
    order = sorted(set(patients), key=lambda patient: draw(seed, "held out", "/".join(patient)))
    count = max(1, round(held_out * len(order))) if held_out else 0
    if count >= len(order):
        raise InputError(
            f"There are scans of {counted(len(order), 'patient')}: to hold {count} out leaves none to learn from. Add "
            "scans, or set --held_out to 0."
        )
    away = set(order[:count])
    scans = Scans(
        sources=tuple(source.name for source in found),
        cases=tuple(case for _, case in kept),
        origins=tuple(origin for origin, _ in kept),
        passed=tuple(source.passed for source in found if source.passed),
        damaged=tuple(damaged),
        doubled=tuple(doubled),
    )
    held = frozenset(name for name, patient in zip(names, patients, strict=True) if patient in away)
    return Corpus(scans, tuple(names), held)
