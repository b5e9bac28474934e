"""Scans without labels: where they come from, what is wrong with them, and their prepared cases."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

from medcontext.data.cases import Case, Dataset
from medcontext.data.discovery.scans import find_scans, series_of_sources
from medcontext.data.folders import listed, shortened
from medcontext.data.formats import is_dataset, read_dataset
from medcontext.data.nifti import image_digest, read_header, read_image
from medcontext.data.plan import Plan
from medcontext.data.pool import in_processes
from medcontext.data.prepare import open_store, prepare_case, prepared_folder
from medcontext.data.splits import Split
from medcontext.data.store import Store, StoredCase, shapes_by_digest
from medcontext.data.unlike import below_zero, unlike
from medcontext.errors import CannotWrite, InputError, NotEnoughMemory, counted

REST = "rest"  # the name of the training cases that few_shot leaves out, beside folders and data sets


@dataclass(frozen=True)
class ScanLists:
    """Unlabelled scans of several sources, and what is special about some of them.

    Args:
        sources: as they were given.
        damaged: what is wrong with each scan that was left out, in words.
        labelled: those left out because a training case has the same image.
        doubled: those left out because another scan here has the same image.
        validated: names of those whose image a validation case has.
        tested: names of those whose image a test case has.
        unread: validation and test cases that cannot be read, so that nobody knows whether a scan is one of them.
        unlike: names of those whose intensities are far from all labelled scans', and how.
    """

    sources: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    labelled: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    validated: tuple[str, ...] = ()
    tested: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scans(ScanLists):
    """The same, prepared.

    Args:
        cases: prepared.
        origins: of each case, its source.
        passed: what each source has beside them that is not used, in words.
    """

    cases: tuple[StoredCase, ...] = ()
    origins: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()

    def facts(self) -> dict[str, object]:
        """Plain values for `run.json`."""
        lists = {each.name: list(getattr(self, each.name)) for each in fields(ScanLists)}
        return {
            "sources": lists.pop("sources"),
            "scans": [[origin, case.name, case.digest] for origin, case in zip(self.origins, self.cases, strict=True)],
            **{name: names for name, names in lists.items() if names},
        }

    def remarks(self) -> list[str]:
        """What a person should know before the training starts, a sentence each."""
        said = list(self.passed)
        if self.damaged:
            said.append(f"Left out, because they cannot be used: {shortened(list(self.damaged))}.")
        if self.labelled:
            said.append(f"Left out, because training cases with a label have the same image: {listed(self.labelled)}.")
        if self.doubled:
            said.append(f"Left out, because another of these scans has the same image: {listed(self.doubled)}.")
        for names, part in ((self.validated, "validation"), (self.tested, "test")):
            if names:
                said.append(
                    f"The images, not the labels, of {counted(len(names), f'{part} case')} take part in the "
                    f"training: {listed(names)}. Scores on them are those of scans that the network has seen."
                )
        if self.unread:
            said.append(f"Cannot be read, and so not be compared with these scans: {listed(self.unread)}.")
        if self.unlike:
            said.append(
                f"Intensities far from those of the labelled scans, perhaps another modality: {listed(self.unlike)}. "
                "Look at them; leave them out if they are something else."
            )
        return said


@dataclass(frozen=True)
class Source:
    """The scans of one source.

    Args:
        name: as it was given.
        dataset: whose cases have no label; channels and labels are those of the labelled data set.
        passed: what it has beside them that is not used, in words; or empty.
    """

    name: str
    dataset: Dataset
    passed: str = ""


def find_unlabelled(
    sources: Sequence[str], dataset: Dataset, rest: Sequence[str], series: Sequence[str] = ()
) -> list[Source]:
    """What each source has. No image is opened but DICOM's headers, no label is ever read.

    Args:
        sources: folders of NIfTI files or DICOM series, data sets (their scans without labels), or `rest`.
        dataset: that of the labelled cases.
        rest: names of its training cases that few_shot leaves out.
        series: of DICOM, which are meant, see `find_dicom`.

    Raises:
        InputError: if a source has none, or has other channels.
    """
    found = []
    wanted = series_of_sources(sources, series)
    for source in dict.fromkeys(sources):
        root = Path(source)
        if source == REST:
            found.append(Source(source, _rest(dataset, rest)))
        elif is_dataset(root):
            other = read_dataset(root)
            _check_channels(other, dataset, source)
            if not other.unlabelled:
                raise _none_without_label(other, source)
            labelled = "" if other.root == dataset.root else f"{len(other.cases)} labelled cases"
            passed = [f"Of {source} the {labelled} are not used, only its scans without labels."] if labelled else []
            passed += [] if other.root == dataset.root else [f"Warning: {remark}" for remark in other.remarks]
            found.append(Source(source, bare(dataset, other.name, other.root, other.unlabelled), " ".join(passed)))
        else:
            scans = find_scans([root], dataset.channels, series=wanted[source])
            text = " ".join(f"Warning: {remark}" for remark in scans.remarks)
            found.append(Source(source, bare(dataset, root.resolve().name, root, scans.cases), text))
    return found


def kept(found: Sequence[Source], before: Sequence[tuple[str, str, str]]) -> list[Source]:
    """The scans that a run has begun with, (source, name, digest) each; all, where it has not begun.

    Scans that came since are no reason not to go on. Where a source lies elsewhere now, names alone tell.
    """
    if not before:
        return list(found)
    sources = []
    for source in found:
        own = {name for origin, name, _ in before if origin == source.name} or {name for _, name, _ in before}
        cases = tuple(case for case in source.dataset.cases if case.name in own)
        late = len(source.dataset.cases) - len(cases)
        said = f"The run began without {counted(late, 'scan')} of {source.name}, and goes on without." if late else ""
        passed = " ".join(filter(None, [source.passed, said]))
        sources.append(replace(source, dataset=replace(source.dataset, cases=cases), passed=passed))
    return sources


def bare(dataset: Dataset, name: str, root: Path, cases: Sequence[Case]) -> Dataset:
    """Cases without labels as a data set with the channels of another."""
    cases = tuple(replace(case, label=None) for case in cases)
    return replace(dataset, name=f"{name}-unlabelled", root=root, cases=cases, unlabelled=())


def _rest(dataset: Dataset, rest: Sequence[str]) -> Dataset:
    if Path(REST).exists():
        raise InputError(
            f"--unlabelled {REST} are the training cases that --few_shot leaves out, but there is a folder or file of "
            f"that name here, too. For that one write ./{REST}; for the cases, start from another folder."
        )
    if not rest:
        raise InputError(
            f"--unlabelled {REST} takes the training cases that --few_shot leaves out, and it leaves none out. "
            f"Give --few_shot a smaller number, or a folder of scans instead of {REST}."
        )
    chosen = set(rest)
    return bare(dataset, dataset.name, dataset.root, [case for case in dataset.cases if case.name in chosen])


def _none_without_label(other: Dataset, source: str) -> InputError:
    folders = {image.parent for case in other.cases for image in case.images}
    give = f"give their folder, {folders.pop()}" if len(folders) == 1 else 'list them as "unlabelled" in a JSON file'
    return InputError(
        f'The data set {source} has no scans without labels: no imagesTs or imagesUn, and no "unlabelled" in a JSON '
        f"file. To use all its images without their labels, {give}; or use --unlabelled {REST} for what --few_shot "
        "leaves out."
    )


def prepare_unlabelled(
    found: Sequence[Source],
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
    ready, damaged = prepare_sources(found, plan, cache, workers, skip_damaged)
    training = [labelled.case(name) for name in split.train]
    known = {case.digest for case in training}
    first, doubled = keep_first([(origin, case) for origin, case in ready if case.digest not in known])
    if not first:
        none = "training cases with a label have the same images" if ready else "none that the run began with is there"
        why = shortened(damaged) or none
        raise InputError(f"No unlabelled scan is left of {', '.join(source.name for source in found)}: {why}.")
    used = [case for _, case in first]
    shapes = shapes_by_digest(used)
    validation, test, unread = compare_images(dataset, split, shapes, workers)
    return Scans(
        sources=tuple(source.name for source in found),
        cases=tuple(used),
        origins=tuple(origin for origin, _ in first),
        passed=tuple(source.passed for source in found if source.passed),
        damaged=tuple(damaged),
        labelled=tuple(case.name for _, case in ready if case.digest in known),
        doubled=tuple(doubled),
        validated=tuple(case.name for case in used if case.digest in validation),
        tested=tuple(case.name for case in used if case.digest in test),
        unread=tuple(unread),
        unlike=tuple(f"{name} ({how})" for name, how in _unlike(_named(first), training).items()),
    )


def _named(scans: Sequence[tuple[str, StoredCase]]) -> dict[str, StoredCase]:
    """Each scan by its name; of those called alike, with the source before it."""
    count = Counter(case.name for _, case in scans)
    return {case.name if count[case.name] == 1 else f"{origin}/{case.name}": case for origin, case in scans}


def _unlike(scans: Mapping[str, StoredCase], known: Sequence[StoredCase]) -> dict[str, str]:
    far = unlike({name: case.quantiles for name, case in scans.items()}, [case.quantiles for case in known])
    below = below_zero(scans, known)
    return {name: "; ".join(each[name] for each in (far, below) if name in each) for name in far | below}


def prepare_sources(
    found: Sequence[Source], plan: Plan, cache: Path | None, workers: int, skip_damaged: bool
) -> tuple[list[tuple[str, StoredCase]], list[str]]:
    """All scans that can be used, each behind its source's name, and what is wrong with each of the others.

    Raises:
        InputError: if there are others, and they are not to be left out.
    """
    cases: list[tuple[str, StoredCase]] = []
    damaged: list[str] = []
    for source in found:
        ready, wrong = _prepare(source.dataset, plan, cache, workers)
        cases += [(source.name, case) for case in ready]
        damaged += wrong
    if damaged and not skip_damaged:
        raise InputError(
            f"{len(damaged)} of {len(cases) + len(damaged)} unlabelled scans cannot be used: {shortened(damaged)}. "
            "Correct or remove them, or leave them out with --skip_damaged."
        )
    return cases, damaged


def keep_first(cases: Sequence[tuple[str, StoredCase]]) -> tuple[list[tuple[str, StoredCase]], list[str]]:
    """Of scans with the same image the first, and the names of the others."""
    first: dict[str, tuple[str, StoredCase]] = {}
    doubled = []
    for origin, case in cases:
        if case.digest in first:
            doubled.append(case.name)
        else:
            first[case.digest] = (origin, case)
    return list(first.values()), doubled


def _prepare(dataset: Dataset, plan: Plan, cache: Path | None, workers: int) -> tuple[list[StoredCase], list[str]]:
    """A source's cases that are prepared, and what is wrong with each of the others."""
    root = open_store(dataset, plan, cache)
    folders: dict[str, Path | str | None] = {case.name: prepared_folder(case, root) for case in dataset.cases}
    todo = [case for case in dataset.cases if folders[case.name] is None]
    work = partial(_attempt, dataset=replace(dataset, cases=()), plan=plan, root=root)
    done = in_processes(work, todo, workers, "preparing the unlabelled scans")
    folders |= {todo[index].name: result for index, result in done}
    ready = [StoredCase(folder, name) for name, folder in folders.items() if isinstance(folder, Path)]
    return ready, [wrong for wrong in folders.values() if isinstance(wrong, str)]


def _attempt(case: Case, dataset: Dataset, plan: Plan, root: Path) -> Path | str:
    """Prepare a case: where it lies, or what is wrong with it."""
    try:
        return prepare_case(case, dataset, plan, root)
    except (CannotWrite, NotEnoughMemory):
        raise
    except InputError as error:
        return str(error).rstrip(".")


def _check_channels(other: Dataset, dataset: Dataset, source: str) -> None:
    if [name.casefold() for name in other.channels] != [name.casefold() for name in dataset.channels]:
        raise InputError(
            f"{source} has the channels {', '.join(other.channels)}, the labelled scans have "
            f"{', '.join(dataset.channels)}. Give scans with these channels in this order."
        )


def compare_images(
    dataset: Dataset, split: Split, scans: Mapping[str, tuple[int, ...]], workers: int
) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """The validation and test cases that some scan could equal, by their images' digests, and those that are damaged.

    Args:
        dataset: of the cases.
        split: their parts.
        scans: the shape of each by its digest; only images with one of these shapes are read.
        workers: processes.
    """
    shapes = set(scans.values())
    parts = {**dict.fromkeys(split.validation, 0), **dict.fromkeys(split.test, 1)}
    cases = [case for case in (*dataset.cases, *dataset.unlabelled) if case.name in parts]
    digests: tuple[dict[str, str], dict[str, str]] = ({}, {})
    unread = []
    work = partial(_digest, channels=dataset.channels, shapes=shapes)
    for index, digest in in_processes(work, cases, workers, "comparing with validation and test cases"):
        if digest is None:
            unread.append(cases[index].name)
        else:
            digests[parts[cases[index].name]][digest] = cases[index].name
    return *digests, sorted(unread)


def _digest(case: Case, channels: tuple[str, ...], shapes: set[tuple[int, ...]]) -> str | None:
    """Of a case's image; empty where its shape is none of these, None where it cannot be read."""
    try:
        if tuple(read_header(case.images[0]).shape[:3]) not in shapes:
            return ""
        return image_digest(read_image(case, channels)[0])
    except InputError:
        return None
