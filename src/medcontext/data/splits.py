"""Which cases train, which validate, which test."""

import difflib
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medcontext.data.cases import Dataset
from medcontext.errors import InputError
from medcontext.files import read_json

_KEYS = {"train": "train", "training": "train", "val": "validation", "validation": "validation", "test": "test"}


@dataclass(frozen=True)
class Split:
    """The names of the cases in each part. No case is in two parts.

    Args:
        train: what the network learns from.
        validation: what the best checkpoint is chosen on; may be empty.
        test: what is measured at the end; may be empty.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def to_dict(self) -> dict[str, list[str]]:
        """Plain values for JSON; written to a file, they are a split file again."""
        return {part: list(names) for part, names in asdict(self).items()}


def make_split(
    dataset: Dataset,
    *,
    file: Path | None = None,
    seed: int = 0,
    few_shot: int | None = None,
    fold: int = 0,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.2,
) -> Split:
    """The split in `file`, or a seeded one.

    The seeded split keeps a patient's cases together (see `patient`). Cases are ordered by a hash of seed and
    patient, which does not depend on library versions. Successive folds take successive, disjoint test parts.

    Args:
        dataset: its labelled cases are split.
        file: JSON, {"train": [...], "validation": [...], "test": [...]}, or nnU-Net's splits_final.json, a list
            of folds with "train" and "val". Cases that it leaves out are not used.
        seed: of the split and of the choice of `few_shot`.
        few_shot: keep that many training cases; a larger choice includes the smaller one. Validation and test
            are the same whatever its value.
        fold: which fold, from 0.
        validation_fraction: of all patients, at least one if above 0; used without a file.
        test_fraction: of all patients, at least one if above 0; used without a file.

    Raises:
        InputError: if the file names unknown cases, or one case twice or in two parts; if nothing is left to
            train on; if there are fewer training cases than `few_shot`; if there is no such fold.
    """
    if file is not None:
        split = _read_split(file, fold, [case.name for case in dataset.cases])
    else:
        split = _seeded_split(dataset, seed, fold, validation_fraction, test_fraction)
    if few_shot is None:
        return split
    if not 1 <= few_shot <= len(split.train):
        raise InputError(
            f"few_shot is {few_shot}, but the training part has {len(split.train)} cases; choose from 1 to "
            f"{len(split.train)}."
        )
    chosen = sorted(split.train, key=lambda name: _draw(seed, "few-shot", name))[:few_shot]
    return Split(tuple(sorted(chosen)), split.validation, split.test)


def patient(name: str) -> str:
    """Whose case it is: the name up to `_frame`, as in ACDC; otherwise each case is a patient of its own.

    >>> patient("patient007_frame01"), patient("img0006")
    ('patient007', 'img0006')
    """
    return name.partition("_frame")[0]


def _seeded_split(dataset: Dataset, seed: int, fold: int, validation: float, test: float) -> Split:
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise InputError(
            f"validation_fraction {validation} and test_fraction {test} must be at least 0 and add up to less than 1."
        )
    patients = sorted({patient(case.name) for case in dataset.cases}, key=lambda name: _draw(seed, "split", name))
    tests, validations = _count(test, len(patients)), _count(validation, len(patients))
    if tests + validations >= len(patients):
        raise InputError(
            f"{dataset.name} has {len(patients)} patients with labels: too few to train, validate ({validations}) "
            f"and test ({tests}). Add cases, set a fraction to 0, or give a split file."
        )
    folds = len(patients) // tests if tests else 1
    if not 0 <= fold < folds:
        raise InputError(f"There is no fold {fold}: test_fraction {test} makes {folds}, 0 to {folds - 1}.")
    first = fold * tests
    patients = patients[first:] + patients[:first]
    part = dict.fromkeys(patients[:tests], "test")
    part |= dict.fromkeys(patients[tests : tests + validations], "validation")
    names = sorted(case.name for case in dataset.cases)
    return Split(
        *(
            tuple(name for name in names if part.get(patient(name), "train") == wanted)
            for wanted in ("train", "validation", "test")
        )
    )


def _read_split(file: Path, fold: int, known: Sequence[str]) -> Split:
    content = read_json(file)
    folds = content if isinstance(content, list) else [content]
    if not 0 <= fold < len(folds):
        raise InputError(f"{file} has {len(folds)} fold{'s' * (len(folds) != 1)}; there is no fold {fold}.")
    parts: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    chosen: Any = folds[fold]
    usable = isinstance(chosen, dict) and all(
        isinstance(names, list) and all(isinstance(name, str) for name in names)
        for key, names in chosen.items()
        if key in _KEYS
    )
    if not usable or not any(key in _KEYS for key in chosen):
        raise InputError(
            f'{file} is not a split: give {{"train": [...], "validation": [...], "test": [...]}} with the names of '
            "cases, or a list of folds like nnU-Net's splits_final.json."
        )
    for key, names in chosen.items():
        if key in _KEYS:
            parts[_KEYS[key]] += names
    _check_names(file, parts, known)
    return Split(tuple(parts["train"]), tuple(parts["validation"]), tuple(parts["test"]))


def _check_names(file: Path, parts: dict[str, list[str]], known: Sequence[str]) -> None:
    if not parts["train"]:
        raise InputError(f'{file} has no training cases; name at least one under "train".')
    where: dict[str, str] = {}
    for part, names in parts.items():
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise InputError(f"{file} names '{twice[0]}' twice in {part}; remove one.")
        both = [name for name in names if name in where]
        if both:
            raise InputError(
                f"{file} has {len(both)} case{'s' * (len(both) > 1)} in both {where[both[0]]} and {part}: "
                f"{', '.join(both[:5])}. A case may be in one part only, or the scores mean nothing."
            )
        where |= dict.fromkeys(names, part)
    unknown = sorted(set(where) - set(known))
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"the labelled cases are called like '{known[0]}'."
        raise InputError(
            f"{file} names {len(unknown)} case{'s' * (len(unknown) > 1)} that the data set does not have with a "
            f"label: {', '.join(unknown[:5])}{', ...' if len(unknown) > 5 else ''}; {hint}"
        )


def _count(fraction: float, patients: int) -> int:
    return max(1, round(fraction * patients)) if fraction > 0 else 0


def _draw(seed: int, purpose: str, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{purpose}/{name}".encode()).digest()
