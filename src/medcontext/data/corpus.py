"""Scans to pretrain on: folders of them and, of data sets, the training part and what has no label."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from medcontext.data.cases import Case, Dataset
from medcontext.data.discovery.scans import find_scans, series_of_sources
from medcontext.data.discovery.values import is_hounsfield
from medcontext.data.folders import listed
from medcontext.data.formats import is_dataset, read_dataset
from medcontext.data.known import KNOWN, SPLITS
from medcontext.data.plan import Plan
from medcontext.data.split_files import draw
from medcontext.data.splits import make_split
from medcontext.data.store import StoredCase
from medcontext.data.unlabelled import Scans, Source, bare, keep_first, kept, prepare_sources
from medcontext.errors import InputError, counted

UNKNOWN = ("image",)  # the one channel of scans of which nothing is known


@dataclass(frozen=True)
class Corpus:
    """Prepared scans, each known by a name of its own.

    Args:
        scans: with where each comes from.
        names: of each.
        held_out: of each, whether it is not learnt from.
    """

    scans: Scans
    names: tuple[str, ...]
    held_out: tuple[bool, ...]

    def named(self, held_out: bool) -> tuple[str, ...]:
        """The names of those that are learnt from, or of the others."""
        return tuple(name for name, away in zip(self.names, self.held_out, strict=True) if away == held_out)

    def cases(self, held_out: bool) -> list[StoredCase]:
        """Those that are learnt from, or the others."""
        return [case for case, away in zip(self.scans.cases, self.held_out, strict=True) if away == held_out]


def find_corpus(
    sources: Sequence[str],
    channels: Sequence[str] = (),
    *,
    split: str | None = None,
    fold: int = 0,
    seed: int = 0,
    chosen: Mapping[Path, Collection[str]] = MappingProxyType({}),
    official: str | None = None,
    before: Sequence[tuple[str, str, str]] = (),
    series: Sequence[str] = (),
) -> list[Source]:
    """What each source has. No label is ever read; of a data set, no validation and no test case is taken.

    Args:
        sources: folders of NIfTI files or DICOM series, or data sets.
        channels: names of the scans' channels; empty for those of the first data set or, where there is none, one
            channel whose intensities tell whether it is CT.
        split: of the one data set among them, as `make_split` takes it; a file's name or a packaged split's.
        fold: of the split.
        seed: of the split, where there is no file.
        chosen: the training cases of some data sets, by their folders, where these are known.
        official: a packaged split, for its own data set where none is given.
        before: source, name and digest of the scans of a pretraining that goes on: it keeps these, whatever the split.
        series: of DICOM, which are meant, see `find_dicom`.

    Raises:
        InputError: if a source has no scans, or has other channels; if a split is given, and not for one data set, or a
            fold and for none.
    """
    datasets = {source: read_dataset(Path(source)) for source in dict.fromkeys(sources) if is_dataset(Path(source))}
    divided = [each for each in datasets.values() if each.cases]
    if fold and not before and not divided:
        raise InputError(f"--fold {fold} is of a data set with labels, and none of these sources is one. Leave it out.")
    if split and not before and len(divided) != 1:
        raise InputError(
            f"--split {split} tells which cases of a data set are for training, and {len(datasets)} of these sources "
            f"are data sets: {listed(list(datasets))}. Give one, and folders beside it; or leave --split out."
        )
    named = tuple(channels) or next((each.channels for each in datasets.values()), ())
    found = []
    wanted = series_of_sources(sources, series)
    for source in dict.fromkeys(sources):
        if source in datasets:
            dataset = datasets[source]
            if before:
                whole = bare(dataset, dataset.name, dataset.root, [*dataset.cases, *dataset.unlabelled])
                found.append(Source(source, whole))
            else:
                known = chosen.get(dataset.root.resolve())
                file = split or (official if official and KNOWN[SPLITS[official]].name == dataset.name else None)
                found.append(_training_part(source, dataset, known, file, fold, seed))
        else:
            scans = find_scans([Path(source)], named or UNKNOWN, series=wanted[source])
            whole = Dataset(Path(source).resolve().name, Path(source), named or UNKNOWN, {}, scans.cases)
            if not named and is_hounsfield(whole.cases):
                whole = replace(whole, channels=("CT",))
            text = " ".join(f"Warning: {remark}" for remark in scans.remarks)
            found.append(Source(source, bare(whole, whole.name, whole.root, whole.cases), text))
    named = named or found[0].dataset.channels
    for each in found:
        if [name.casefold() for name in each.dataset.channels] != [name.casefold() for name in named]:
            raise InputError(
                f"{each.name} has the channels {', '.join(each.dataset.channels)}, where {', '.join(named)} are "
                "expected. Give scans with the same channels in the same order; --channels names those of folders."
            )
    return kept(found, before)


def _training_part(
    source: str, dataset: Dataset, known: Collection[str] | None, split: str | None, fold: int, seed: int
) -> Source:
    cases: list[Case] = list(dataset.unlabelled)
    said = [f"Warning: {remark}" for remark in dataset.remarks]
    if dataset.cases:
        chosen = set(known or make_split(dataset, file=split, seed=seed, fold=fold).train)
        training = [case for case in dataset.cases if case.name in chosen]
        said.append(
            f"Of {source} the training part, {counted(len(training), 'case')} without their labels, and "
            f"{len(cases)} that have none; not its {len(dataset.cases) - len(training)} validation and test cases."
        )
        cases = training + cases
    if not cases:
        raise InputError(f"The data set {source} has no scans to pretrain on.")
    return Source(source, bare(dataset, dataset.name, dataset.root, cases), " ".join(said))


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
    owners = {(source.name, case.name): case.owner for source in found for case in source.dataset.cases}
    patients = [(origin, owners[origin, case.name]) for origin, case in kept]
    marks: dict[tuple[str, str], str] = {}  # of each patient one image, wherever it lies and whatever it is called
    for patient, (_, case) in zip(patients, kept, strict=True):
        marks[patient] = min(case.digest, marks.get(patient, case.digest))
    order = sorted(marks, key=lambda patient: draw(seed, "held out", marks[patient]))
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
    return Corpus(scans, _names(found, kept), tuple(patient in away for patient in patients))


def _names(found: Sequence[Source], scans: Sequence[tuple[str, StoredCase]]) -> tuple[str, ...]:
    """A name for each scan; of those called alike, behind its folder's, which has a number where that is alike, too."""
    folders = [source.dataset.name.removesuffix("-unlabelled") for source in found]
    places = {
        source.name: folder if folders.count(folder) == 1 else f"{folder}_{number}"
        for number, (source, folder) in enumerate(zip(found, folders, strict=True), start=1)
    }
    count = Counter(case.name for _, case in scans)
    return tuple(case.name if count[case.name] == 1 else f"{places[origin]}/{case.name}" for origin, case in scans)
