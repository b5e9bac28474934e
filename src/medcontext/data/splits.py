"""Which cases train, which validate, which test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from medcontext.console import console
from medcontext.data.cases import Dataset, patient
from medcontext.data.folders import shortened
from medcontext.data.split_files import PACKAGED, PARTS, draw, find_split, read_split_file
from medcontext.errors import InputError, counted


@dataclass(frozen=True)
class Split:
    """The names of the cases in each part. No case is in two parts.

    Args:
        train: what the network learns from.
        validation: what the best checkpoint is chosen on; may be empty.
        test: what is measured at the end; may be empty.
        rest: training cases that few_shot leaves out.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    rest: tuple[str, ...] = field(default=(), compare=False)

    def to_dict(self) -> dict[str, list[str]]:
        """Plain values for JSON, of the three parts; written to a file, they are a split file again."""
        return {part: list(getattr(self, part)) for part in PARTS}


def make_split(
    dataset: Dataset,
    *,
    file: Path | str | None = None,
    seed: int = 0,
    few_shot: int | None = None,
    fold: int = 0,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.2,
) -> Split:
    """The split in `file`, or a seeded one.

    The seeded split keeps a patient's cases together (see `Case.owner`). Cases are ordered by a hash of seed and
    patient, which does not depend on library versions. Successive folds take successive, disjoint test parts.

    Args:
        dataset: its labelled cases are split.
        file: JSON, {"train": [...], "validation": [...], "test": [...]}, or nnU-Net's splits_final.json, a list
            of folds with "train" and "val". Cases that it leaves out are not used. Or the name of a split that comes
            with the package, such as "btcv", unless there is a file of that name. Of such a split the data set may
            lack all test cases, for they are often kept elsewhere: a note is printed, and they stay in the split, so
            that a prediction on the whole data set takes them alone. A single missing case is an error.
        seed: of the split and of the choice of `few_shot`.
        few_shot: keep that many training cases. Where the file lists so many under "few_shot", such as
            {"few_shot": {"5": [...]}}, these; else drawn, and then a larger choice includes the smaller one.
            Validation and test are the same whatever its value.
        fold: which fold, from 0.
        validation_fraction: of all patients, at least one if above 0; used without a file.
        test_fraction: of all patients, at least one if above 0; used without a file.

    Raises:
        InputError: if the file names unknown cases, or one case twice or in two parts, or has cases of one patient in
            two parts; if nothing is left to train on; if there are fewer training cases than `few_shot`; if there is
            no such fold or split.
    """
    few: dict[int, list[str]] = {}
    if file is None:
        split = _seeded_split(dataset, seed, fold, validation_fraction, test_fraction)
    else:
        source = find_split(file)
        found = read_split_file(source, fold, [case.name for case in dataset.cases])
        split, few = Split(**{part: tuple(names) for part, names in found.parts.items()}), found.few_shot
        check_patients(split, dataset, source)
        if not found.tested:
            console.print(
                f"{dataset.name} has none of the {len(split.test)} test cases of the split {file} with a label: "
                "trainings can go on, tests need them.",
                soft_wrap=True,
            )
    return take_few(split, few_shot, seed, few)


def check_patients(split: Split, dataset: Dataset, file: Path) -> None:
    """Refuse a split file that has cases of one patient in two parts; a packaged one is printed as a warning.

    Args:
        split: what the file says.
        dataset: which says whose each case is, see `Case.owner`.
        file: for messages; nobody can change the split of a publication.

    Raises:
        InputError: naming the patients.
    """
    owner = {case.name: case.owner for case in dataset.cases}
    where: dict[str, dict[str, str]] = {}  # patient to part to one of the cases there
    for part in PARTS:
        for name in getattr(split, part):
            where.setdefault(owner.get(name, patient(name)), {})[part] = name
    torn = [
        f"{who} ({', '.join(f'{name} in {part}' for part, name in parts.items())})"
        for who, parts in where.items()
        if len(parts) > 1
    ]
    if not torn:
        return
    found = f"has cases of {counted(len(torn), 'patient')} in several parts: {shortened(torn)}"
    if file.parent == PACKAGED:
        console.print(f"Warning: the split '{file.stem}' {found}.", soft_wrap=True)
        return
    raise InputError(
        f"{file} {found}. Scores on patients that were trained on mean nothing for others: put all cases of a patient "
        'into one part. If they are different patients, correct "patient" in the data set\'s JSON file.'
    )


def take_few(
    split: Split, few_shot: int | None, seed: int = 0, listed: Mapping[int, Sequence[str]] = MappingProxyType({})
) -> Split:
    """Keep so many training cases, drawn or as listed for that number; see `make_split`.

    Raises:
        InputError: if there are fewer.
    """
    if few_shot is None:
        return split
    if not 1 <= few_shot <= len(split.train):
        raise InputError(
            f"few_shot is {few_shot}, but the training part has {len(split.train)} cases; choose from 1 to "
            f"{len(split.train)}."
        )
    drawn = sorted(split.train, key=lambda name: draw(seed, "few-shot", name))
    chosen = listed.get(few_shot, drawn[:few_shot])
    rest = tuple(name for name in split.train if name not in chosen)
    return Split(tuple(sorted(chosen)), split.validation, split.test, rest)


def _seeded_split(dataset: Dataset, seed: int, fold: int, validation: float, test: float) -> Split:
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise InputError(
            f"validation_fraction {validation} and test_fraction {test} must be at least 0 and add up to less than 1."
        )
    owner = {case.name: case.owner for case in dataset.cases}
    patients = sorted(set(owner.values()), key=lambda name: draw(seed, "split", name))
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
    names = sorted(owner)
    return Split(*(tuple(name for name in names if part.get(owner[name], "train") == wanted) for wanted in PARTS))


def _count(fraction: float, patients: int) -> int:
    return max(1, round(fraction * patients)) if fraction > 0 else 0
