"""Which cases to predict."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from medcontext.console import console, warn
from medcontext.data.cases import Case, Dataset
from medcontext.data.folders import find_images, passed_over, passed_over_text
from medcontext.data.formats import MANIFEST, is_dataset, read_dataset
from medcontext.data.nifti import image_digest, read_image
from medcontext.errors import InputError
from medcontext.run import Run

Part = Literal["auto", "train", "validation", "test", "all"]


class Chosen(NamedTuple):
    """Cases to predict.

    Args:
        cases: all of them.
        tested: names of those that are test cases of all runs, in a data set that is theirs.
    """

    cases: tuple[Case, ...]
    tested: frozenset[str] = frozenset()


def find_cases(input: Path, runs: Sequence[Run], part: Part = "auto") -> Chosen:
    """The cases to predict; of a data set, a word on which they are.

    Args:
        input: a file, a folder of files, or a data set.
        runs: whose splits name the parts. With several, a case belongs to a part if it does in every run: else
            a case that one run tests on could be one that another was trained on.
        part: `auto` takes the test cases where the data set has some of them, else all.

    Raises:
        InputError: if there are none, or the data set's channels are not the runs'.
    """
    channels = runs[0].plan.channels
    if not is_dataset(input):
        if part not in ("auto", "all"):
            raise InputError(f"--part {part} needs a data set as --input; {input} has no {MANIFEST}.")
        cases, others = find_images(input, len(channels)), passed_over(input)
        warn([passed_over_text(input, others)] if others else [])
        return Chosen(cases)
    dataset = read_dataset(input)
    warn(dataset.remarks)
    check_channels(dataset, channels, input)
    cases = dataset.cases + dataset.unlabelled
    own = is_own(dataset, runs)
    if not own and part not in ("auto", "all"):
        raise InputError(
            f"{input} has other scans than {runs[0].folder} was trained on, under the same names: its split does not "
            "say which of them are for what. Use --part all."
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
    seen = {name for run in runs for name in run.split.train + run.split.validation}
    trained = sum(case.name in seen for case in chosen) if own else 0
    note = "" if own else "; they are other scans than those of the training, under the same names"
    note += f"; {trained} of them were used in training" if trained else ""
    scans = {name for run in runs for _, name, _ in run.facts.unlabelled.scans} - seen
    shown = sum(case.name in scans for case in chosen) if own else 0
    note += f"; {shown} of them took part in it without their labels" if shown else ""
    text = f"{dataset.name}: {part} cases, {len(chosen)} of {len(cases)}{note}"
    console.print(text, soft_wrap=True)
    shared = frozenset.intersection(*(frozenset(run.split.test) for run in runs)) if own else frozenset()
    return Chosen(chosen, shared)


def is_own(dataset: Dataset, runs: Sequence[Run]) -> bool:
    """Whether a data set has the scans that the runs were trained on, and not others under the same names.

    A few images are read and compared by content; where the data set has no training case, the names must do.

    Raises:
        InputError: if some of them are the same and some are not.
    """
    trained = [{name: known[0] for name, known in run.facts.cases.items()} for run in runs]
    common = [case for case in dataset.cases if any(case.name in known for known in trained)]
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
    return not other


def check_channels(dataset: Dataset, expected: Sequence[str], input: Path) -> None:
    """Refuse a data set with other channels, or the same in another order, than a network was trained on."""
    if [name.casefold() for name in dataset.channels] != [name.casefold() for name in expected]:
        raise InputError(
            f"{input} has the channels {', '.join(dataset.channels)}, the run was trained on {', '.join(expected)}. "
            "Give images with these channels in this order; if they are and only the names differ, correct "
            f"{MANIFEST}, or give the folder of images as --input."
        )
