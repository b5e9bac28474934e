"""Which cases to predict."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from medcontext.console import console, warn
from medcontext.data.cases import Case, Dataset
from medcontext.data.discovery.scans import find_scans
from medcontext.data.folders import listed
from medcontext.data.formats import MANIFEST, is_dataset, read_dataset, read_list
from medcontext.data.nifti import image_digest, read_image
from medcontext.errors import InputError
from medcontext.run import Run

Part = Literal["auto", "train", "validation", "test", "all"]


class Chosen(NamedTuple):
    """Cases to predict.

    Args:
        cases: all of them.
        tested: names of those that are test cases of all runs, in a data set that is theirs.
        skipped: which cases of the data set are not among them, and why, in a sentence; or empty.
    """

    cases: tuple[Case, ...]
    tested: frozenset[str] = frozenset()
    skipped: str = ""


def find_cases(
    input: Path | Sequence[Path],
    runs: Sequence[Run],
    part: Part = "auto",
    image: Sequence[str] = (),
    series: Sequence[str] = (),
) -> Chosen:
    """The cases to predict; of a data set, a word on which they are.

    Args:
        input: a data set; a JSON list; or files, wildcards and folders of files.
        runs: whose splits name the parts. With several, a case belongs to a part if it does in every run: else
            a case that one run tests on could be one that another was trained on.
        part: `auto` takes the test cases where the data set is the runs' own and has some of them, else all.
        image, series: of files and folders, see `find_scans`.

    Raises:
        InputError: if there are none, or the data set's channels are not the runs'.
    """
    inputs = [input] if isinstance(input, Path) else list(input)
    sets = [path for path in inputs if is_dataset(path)]
    if sets and len(inputs) > 1:
        raise InputError(f"{sets[0]} is a data set or a JSON list, given with other --input; give it alone.")
    entries = read_list(sets[0]) if sets else inputs
    if entries is not None:
        return _scans(inputs[0], entries, runs[0].plan.channels, part, image, series)
    if image or series:
        option = "--image" if image else "--series"
        raise InputError(f"{option} is for files and folders; the data set {sets[0]} says itself which its images are.")
    return _of_dataset(sets[0], runs, part)


def _scans(
    given: Path,
    entries: Sequence[Path] | Sequence[Case],
    channels: Sequence[str],
    part: Part,
    image: Sequence[str],
    series: Sequence[str],
) -> Chosen:
    if part not in ("auto", "all"):
        raise InputError(f"--part {part} needs a data set as --input; {given} has no {MANIFEST}.")
    paths = [entry for entry in entries if isinstance(entry, Path)]
    if not paths:
        return Chosen(tuple(entry for entry in entries if isinstance(entry, Case)))
    found = find_scans(paths, channels, image, series)
    warn(found.remarks)
    return Chosen(found.cases)


def _of_dataset(input: Path, runs: Sequence[Run], part: Part) -> Chosen:
    dataset = read_dataset(input)
    warn(dataset.remarks)
    check_channels(dataset, runs[0].plan.channels, input)
    cases = dataset.cases + dataset.unlabelled
    own = is_own(dataset, runs)
    if not own and part not in ("auto", "all"):
        raise InputError(
            f"{input} has other scans than {runs[0].folder} was trained on, if also under the same names: its split "
            "does not say which of them are for what. Use --part all."
        )
    if part == "auto":
        tested = {name for run in runs for name in run.split.test}
        part = "test" if own and tested & {case.name for case in cases} else "all"
    parts = [] if part == "all" else [getattr(run.split, part) for run in runs]
    chosen = tuple(case for case in cases if all(case.name in names for names in parts))
    if not chosen:
        folders = ", ".join(str(run.folder) for run in runs)
        common = "in common " if len(runs) > 1 else ""
        raise InputError(
            f"{input} has no case that is a {part} case {common}of {folders}; see split.json there, or use --part all."
        )
    text = f"{dataset.name}: {part} cases, {len(chosen)} of {len(cases)}{_note(chosen, cases, runs, own)}"
    console.print(text, soft_wrap=True)
    shared = frozenset.intersection(*(frozenset(run.split.test) for run in runs)) if own else frozenset()
    return Chosen(chosen, shared, _skipped(chosen, cases, part))


def _note(chosen: Sequence[Case], cases: Sequence[Case], runs: Sequence[Run], own: bool) -> str:
    """What a person should know of the cases: whose scans they are, and whether the networks have seen them."""
    if not own and any(case.name in run.facts.cases for case in cases for run in runs):
        return "; they are other scans than those of the training, under the same names"
    if not own:
        return "; no scan of the training is among them"
    seen = {name for run in runs for name in run.split.train + run.split.validation}
    scans = {name for run in runs for _, name, _ in run.facts.unlabelled.scans} - seen
    trained, shown = (sum(case.name in names for case in chosen) for names in (seen, scans))
    note = f"; {trained} of them were used in training" if trained else ""
    return note + (f"; {shown} of them took part in it without their labels" if shown else "")


def _skipped(chosen: Sequence[Case], cases: Sequence[Case], part: Part) -> str:
    names = {case.name for case in chosen}
    left = [case.name for case in cases if case.name not in names]
    if not left:
        return ""
    count = f"{len(left)} case{'s that are' if len(left) > 1 else ' that is'} not among the {part} cases"
    return f"Not predicted: {count}, {listed(left)}. --part all takes all."


def is_own(dataset: Dataset, runs: Sequence[Run]) -> bool:
    """Whether a data set has the scans that the runs were trained on, and not others, under the same names or not.

    A few images are read and compared by content with the training and validation cases; where none of these is there,
    it is another data set. Only where the runs recorded no content, the names must do.

    Raises:
        InputError: if some of them are the same and some are not.
    """
    trained = [{name: known[0] for name, known in run.facts.cases.items()} for run in runs]
    if not any(trained):
        return True
    cases = dataset.cases + dataset.unlabelled
    common = [case for case in cases if any(case.name in known for known in trained)]
    few = {case.name: case for case in (*common[:1], *common[len(common) // 2 :][:1], *common[-1:])}
    same: list[str] = []
    other: list[str] = []
    for name, case in few.items():
        try:
            digest = image_digest(read_image(case, dataset.channels)[0])
        except InputError:
            continue  # a damaged training case does not matter here
        for known in trained:
            if name in known:
                (same if known[name] == digest else other).append(name)
    if same and other:
        raise InputError(
            f"{dataset.root} has the scan {same[0]} of the training, but another one under the name {other[0]}: its "
            "cases were changed since, and the split does not fit. Give the data set as it was, or a folder of images."
        )
    return bool(common) and not other


def check_channels(dataset: Dataset, expected: Sequence[str], input: Path) -> None:
    """Refuse a data set with other channels, or the same in another order, than a network was trained on."""
    if [name.casefold() for name in dataset.channels] != [name.casefold() for name in expected]:
        raise InputError(
            f"{input} has the channels {', '.join(dataset.channels)}, the run was trained on {', '.join(expected)}. "
            "Give images with these channels in this order; if they are and only the names differ, correct "
            f"{MANIFEST}, or give the folder of images as --input."
        )
