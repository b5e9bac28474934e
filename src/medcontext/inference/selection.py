"""Which cases to predict."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from medcontext.console import console
from medcontext.data.cases import Case, Dataset
from medcontext.data.folders import find_images
from medcontext.data.formats import MANIFEST, is_dataset, read_dataset
from medcontext.errors import InputError
from medcontext.inference.run import Run

Part = Literal["auto", "train", "validation", "test", "all"]


def find_cases(input: Path, runs: Sequence[Run], part: Part = "auto") -> tuple[Case, ...]:
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
        return find_images(input, len(channels))
    dataset = read_dataset(input)
    check_channels(dataset, channels, input)
    cases = dataset.cases + dataset.unlabelled
    if part == "auto":
        tested = {name for run in runs for name in run.split.test}
        part = "test" if tested & {case.name for case in cases} else "all"
    parts = [] if part == "all" else [getattr(run.split, part) for run in runs]
    chosen = tuple(case for case in cases if all(case.name in names for names in parts))
    if not chosen:
        folders = ", ".join(str(run.folder) for run in runs)
        common = "in common " if len(runs) > 1 else ""
        raise InputError(
            f"{input} has no case that is a {part} case {common}of {folders}; see split.json there, or use --part all."
        )
    seen = {name for run in runs for name in run.split.train + run.split.validation}
    trained = sum(case.name in seen for case in chosen)
    note = f"; {trained} of them were used in training" if trained else ""
    scans = {name for run in runs for _, name, _ in run.facts.get("unlabelled", {}).get("scans", [])} - seen
    shown = sum(case.name in scans for case in chosen)
    note += f"; {shown} of them took part in it without their labels" if shown else ""
    text = f"{dataset.name}: {part} cases, {len(chosen)} of {len(cases)}{note}"
    console.print(text, soft_wrap=True)
    return chosen


def check_channels(dataset: Dataset, expected: Sequence[str], input: Path) -> None:
    """Refuse a data set with other channels, or the same in another order, than a network was trained on."""
    if [name.casefold() for name in dataset.channels] != [name.casefold() for name in expected]:
        raise InputError(
            f"{input} has the channels {', '.join(dataset.channels)}, the run was trained on {', '.join(expected)}. "
            "Give images with these channels in this order; if they are and only the names differ, correct "
            f"{MANIFEST}, or give the folder of images as --input."
        )
