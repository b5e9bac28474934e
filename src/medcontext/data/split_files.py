"""Files that name which cases train, validate and test: the user's, nnU-Net's, and those that come with the package."""

import difflib
import hashlib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medcontext.data.known import SPLITS
from medcontext.errors import InputError, counted, unknown_name
from medcontext.files import read_json

PACKAGED = Path(__file__).parent / "official_splits"
PARTS = ("train", "validation", "test")

_KEYS = {"train": "train", "training": "train", "val": "validation", "validation": "validation", "test": "test"}


@dataclass(frozen=True)
class SplitFile:
    """What a split file says.

    Args:
        parts: the names of the cases, for each of `PARTS`.
        few_shot: number of cases to the training cases that stand for so many.
        tested: whether the data set has the test cases.
    """

    parts: dict[str, list[str]]
    few_shot: dict[int, list[str]]
    tested: bool = True


def find_split(name: str | Path) -> Path:
    """The file that a split setting means: a file of that name, else the packaged split of that name.

    >>> find_split("btcv").name
    'btcv.json'

    Raises:
        InputError: for a name that is neither, nor looks like a path.
    """
    given = Path(name)
    if given.is_file() or given.suffix or len(given.parts) > 1:
        return given
    if given.name not in SPLITS:
        raise unknown_name("split", given.name, [*SPLITS, "or the path of a JSON file"])
    return PACKAGED / f"{given.name}.json"


def read_split_file(file: Path, fold: int, known: Sequence[str]) -> SplitFile:
    """Read one fold of a split file.

    A packaged split may lack its whole test part, because test cases are often kept elsewhere. Every other case that
    it names must be there: with one training case less it would be another split under the same name.

    Args:
        file: JSON.
        fold: of a file with several.
        known: the names of the data set's labelled cases.

    Raises:
        InputError: if the file is not a split, or names cases that the data set does not have, or one case twice.
    """
    content = read_json(file)
    folds = content if isinstance(content, list) else [content]
    if not 0 <= fold < len(folds):
        raise InputError(f"{file} has {counted(len(folds), 'fold')}; there is no fold {fold}.")
    chosen, packaged = folds[fold], file.parent == PACKAGED
    if packaged and "seeded" in chosen:
        return SplitFile(_seeded(file.stem, chosen["seeded"], known), {})
    if not isinstance(chosen, dict) or not any(key in _KEYS for key in chosen) or not _are_lists_of_names(chosen):
        raise InputError(
            f'{file} is not a split: give {{"train": [...], "validation": [...], "test": [...]}} with the names of '
            "cases, or a list of folds like nnU-Net's splits_final.json."
        )
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for key, names in chosen.items():
        if key in _KEYS:
            parts[_KEYS[key]] += _composed(names)
    source = f"The split '{file.stem}'" if packaged else str(file)
    _check_parts(source, parts)
    tested = not packaged or not set(parts["test"]).isdisjoint(known)
    needed = [name for part in PARTS for name in parts[part] if part != "test" or tested]
    _check_known(source, needed, known, packaged)
    return SplitFile(parts, _few_shot(file, chosen.get("few_shot", {}), parts["train"]), tested)


def draw(seed: int, purpose: str, name: str) -> bytes:
    """What names are sorted by to choose some at random; the same for good, on any machine."""
    return hashlib.sha256(f"{seed}/{purpose}/{name}".encode()).digest()


def _seeded(name: str, rule: dict[str, int], known: Sequence[str]) -> dict[str, list[str]]:
    """The parts of a packaged split that is a rule, for want of a list."""
    if len(known) != rule["train"] + rule["test"]:
        raise InputError(
            f"The split '{name}' draws {rule['train']} training and {rule['test']} test cases; the data set has "
            f"{len(known)} with a label. It needs all of them, because each one missing would change the others' "
            'parts. For fewer, give a split file: {"train": [...], "validation": [...], "test": [...]}.'
        )
    drawn = sorted(known, key=lambda case: draw(rule["seed"], "split", case))
    return {"train": sorted(drawn[rule["test"] :]), "validation": [], "test": sorted(drawn[: rule["test"]])}


def _are_lists_of_names(chosen: dict[str, Any]) -> bool:
    lists = [names for key, names in chosen.items() if key in _KEYS]
    return all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists)


def _check_parts(source: str, parts: dict[str, list[str]]) -> None:
    if not parts["train"]:
        raise InputError(f'{source} has no training cases; name at least one under "train".')
    where: dict[str, str] = {}
    for part, names in parts.items():
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise InputError(f"{source} names '{twice[0]}' twice in {part}; remove one.")
        both = [name for name in names if name in where]
        if both:
            raise InputError(
                f"{source} has {counted(len(both), 'case')} in both {where[both[0]]} and {part}: "
                f"{', '.join(both[:5])}. A case may be in one part only, or the scores mean nothing."
            )
        where |= dict.fromkeys(names, part)


def _check_known(source: str, names: Sequence[str], known: Sequence[str], packaged: bool) -> None:
    unknown = sorted(set(names) - set(known))
    if not unknown:
        return
    if not known:
        hint = "it has no labelled case at all."
    elif packaged:
        hint = "add them; or, to use those that are there, give a split file that names them."
    else:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"the labelled cases are called like '{known[0]}'."
    raise InputError(
        f"{source} names {counted(len(unknown), 'case')} that the data set does not have with a "
        f"label: {', '.join(unknown[:5])}{', ...' if len(unknown) > 5 else ''}; {hint}"
    )


def _few_shot(file: Path, declared: Any, train: list[str]) -> dict[int, list[str]]:
    wrong = InputError(
        f'{file}, "few_shot": give for a number of cases so many different training cases, such as '
        f'{{"2": ["{train[0]}", ...]}}; got {str(declared)[:80]}.'
    )
    if not isinstance(declared, dict):
        raise wrong
    for number, names in declared.items():
        right = isinstance(names, list) and all(isinstance(name, str) for name in names)
        right = right and set(_composed(names)) <= set(train)
        if not right or not number.isdigit() or not int(number) == len(names) == len(set(names)) > 0:
            raise wrong
    return {int(number): _composed(names) for number, names in declared.items()}


def _composed(names: list[str]) -> list[str]:
    """As `case_name` has them, however their accents are written."""
    return [unicodedata.normalize("NFC", name) for name in names]
