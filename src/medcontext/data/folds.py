"""The folds of a cross-validation: every case is a validation case of exactly one."""

from collections.abc import Sequence
from pathlib import Path

from medcontext.data.cases import Dataset
from medcontext.data.folders import listed
from medcontext.data.split_files import draw, find_split, read_split_file
from medcontext.data.splits import Split, check_patients
from medcontext.errors import InputError, counted
from medcontext.files import read_json, write_json


def make_folds(dataset: Dataset, folds: int, *, seed: int = 0, file: Path | str | None = None) -> list[Split]:
    """Draw the folds by patient, or take those of a file.

    Patients are ordered by a hash of seed and patient, which does not depend on library versions, and dealt out in
    turn: the numbers of patients of two folds differ by one at most.

    Args:
        dataset: its labelled cases.
        folds: how many.
        seed: of the drawing.
        file: a split, see `make_split`: its test cases are kept out of all folds, its training and validation cases
            are dealt out. One with several folds, such as nnU-Net's, has them as they are to be.

    Raises:
        InputError: if there are fewer patients than folds, or the file has another number of folds, or folds that are
            no cross-validation, or cases of one patient in two parts.
    """
    if folds < 2:
        raise InputError(f"--folds is {folds}; give at least 2.")
    owner, test = {case.name: case.owner for case in dataset.cases}, set()
    if file is not None:
        found = read_folds(find_split(file), list(owner))
        if len(found) > 1:
            return check_folds(found, folds, owner, str(file))
        check_patients(found[0], dataset, find_split(file))
        used, test = {*found[0].train, *found[0].validation}, set(owner).intersection(found[0].test)
        owner = {name: patient for name, patient in owner.items() if name in used}
    patients = sorted(set(owner.values()), key=lambda name: draw(seed, "folds", name))
    if folds > len(patients):
        kept = f" beside its {len(test)} test cases" if test else ""
        raise InputError(
            f"--folds is {folds}, and {dataset.name} has {counted(len(patients), 'patient')} with "
            f"labels{kept}: each fold needs one of its own. Give a number from 2 to that of the patients."
        )
    held = {patient: number % folds for number, patient in enumerate(patients)}
    fold_of = {name: held[owner[name]] for name in sorted(owner)}
    return [
        Split(
            tuple(name for name in fold_of if fold_of[name] != fold),
            tuple(name for name in fold_of if fold_of[name] == fold),
            tuple(sorted(test)),
        )
        for fold in range(folds)
    ]


def read_folds(file: Path, known: Sequence[str]) -> list[Split]:
    """The folds of a split file; of one that holds a single split, that one.

    Raises:
        InputError: see `read_split_file`.
    """
    content = read_json(file)
    count = len(content) if isinstance(content, list) else 1
    found = [read_split_file(file, fold, known).parts for fold in range(count)]
    return [Split(**{part: tuple(names) for part, names in parts.items()}) for parts in found]


def check_folds(found: list[Split], folds: int, owner: dict[str, str], source: str) -> list[Split]:
    """Folds from a file, if they are a cross-validation.

    Args:
        found: the folds.
        folds: how many they should be.
        owner: whose scan each case is.
        source: the file, for messages.

    Raises:
        InputError: if there are more or fewer; if a case is held out of no fold or of several, a test case of one is
            trained on in another, or a patient is in two parts of a fold.
    """
    if len(found) != folds:
        raise InputError(f"{source} has {len(found)} folds, and --folds is {folds}; give --folds {len(found)}.")
    held = [name for fold in found for name in fold.validation]
    trained = {name for fold in found for name in fold.train}
    both = {name for fold in found for name in fold.validation if owner[name] in {owner[other] for other in fold.train}}
    tested = {
        name
        for fold in found
        for name in fold.test
        if owner[name] in {owner[other] for other in fold.train + fold.validation}
    }
    wrong = {
        "in the validation part of several folds": {name for name in held if held.count(name) > 1},
        "in the validation part of no fold": trained - set(held),
        "test cases of one fold and used in another": trained.union(held)
        & {name for fold in found for name in fold.test},
        "in the validation part of a fold that trains on another case of the same patient": both,
        "in the test part of a fold that uses another case of the same patient": tested,
    }
    for what, names in wrong.items():
        if names:
            verb = "is" if len(names) == 1 else "are"
            raise InputError(
                f"{source} is no cross-validation: {listed(sorted(names))} {verb} {what}. Correct it, or leave --split "
                "out, and the folds are drawn by patient."
            )
    return found


def write_folds(file: Path, folds: Sequence[Split]) -> None:
    """Write folds as nnU-Net's splits_final.json has them, with "test" beside "train" and "val" where there is one.

    `--split FILE --fold N` takes one of them.
    """
    parts = [{"train": fold.train, "val": fold.validation, "test": fold.test} for fold in folds]
    write_json(file, [{part: list(names) for part, names in each.items() if names} for each in parts])
