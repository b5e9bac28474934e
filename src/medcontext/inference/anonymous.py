"""Cases under numbers instead of names, with the key in a file apart from the predictions."""

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from medcontext.data.cases import Case
from medcontext.data.folders import nifti_files
from medcontext.errors import InputError
from medcontext.files import write_text

COLUMNS = ["case", "name", "image"]


def key_file(output: Path) -> Path:
    """Where the names of an output folder's cases are: beside the folder, so that this can be given away."""
    whole = output.resolve()
    return whole.with_name(f"{whole.name}_names.csv")


def numbered(cases: Sequence[Case], output: Path, resume: bool) -> list[Case]:
    """The cases, called case_001 and so on; where a prediction goes on, those that it has keep their numbers.

    Raises:
        InputError: if there is a key already and no prediction goes on, or it cannot be read.
    """
    file = key_file(output)
    if file.exists() and not resume:
        raise InputError(f"{file} has names of other cases; move it away, or choose another --output.")
    known = _read(file) if file.exists() else {}
    numbers = (f"case_{number:03}" for number in range(1, len(known) + len(cases) + 1))
    free = (name for name in numbers if name not in known.values())
    return [replace(case, name=known.get(_image(case)) or next(free)) for case in cases]


def write_key(cases: Sequence[Case], shown: Sequence[Case], output: Path) -> None:
    """Write which case is which, those of an earlier call included."""
    file = key_file(output)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(COLUMNS)
    known = dict(_rows(file)) if file.exists() else {}
    known.update({own.name: [own.name, case.name, _image(case)] for case, own in zip(cases, shown, strict=True)})
    rows.writerows(known[name] for name in sorted(known))
    write_text(file, table.getvalue())


@contextmanager
def key_if_used(output: Path) -> Iterator[None]:
    """Around predicting: a key that came to be without predictions goes again, or no other call could write its own."""
    file = key_file(output)
    existed = file.exists()
    try:
        yield
    finally:
        if not existed and not nifti_files(output):
            file.unlink(missing_ok=True)


def _image(case: Case) -> str:
    return str(case.images[0].resolve())


def _read(file: Path) -> dict[str, str]:
    return {image: case for case, (_, _, image) in _rows(file)}


def _rows(file: Path) -> list[tuple[str, list[str]]]:
    with file.open(newline="", encoding="utf-8") as stream:
        head, *rows = [*csv.reader(stream)] or [[]]
    if head != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
        raise InputError(f"{file} is not the file of names that --anonymous writes; move it away.")
    return [(row[0], row) for row in rows]
