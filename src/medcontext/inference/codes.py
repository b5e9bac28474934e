"""What structures are called in terminologies that other programs know, such as SNOMED CT."""

import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from medcontext.errors import InputError, unknown_name
from medcontext.files import read_json

PRIVATE = "99MEDCONTEXT"  # schemes that begin with 99 are private (PS3.16, 8)
TISSUE = ("85756007", "SCT", "Tissue")  # the category that dcmqi gives, too, where none is said
EXAMPLE = '{"liver": {"value": "10200004", "scheme": "SCT", "meaning": "Liver"}}'


class Term(NamedTuple):
    """A code: its value, at most 16 characters, its scheme, and what people call it, at most 64."""

    value: str
    scheme: str
    meaning: str


class Coded(NamedTuple):
    """What a structure is, and of which kind."""

    type: Term
    category: Term


def read_codes(file: Path | None, structures: Iterable[str]) -> dict[str, Coded]:
    """The terms of all structures: those of a file, private ones of the rest.

    Args:
        file: JSON, structure to {"value", "scheme", "meaning"} and, if wanted, "category" with the same three.
        structures: the network's.

    Raises:
        InputError: if the file names another structure, or a term is not whole.
    """
    structures = list(structures)
    given = {} if file is None else read_json(file)
    if not isinstance(given, dict):
        raise InputError(f"{file} holds a {type(given).__name__}; give an object such as {EXAMPLE}.")
    for name in given:
        if name not in structures:
            raise unknown_name(f"structure in {file}", name, structures)
    return {name: _coded(given[name], f"{file}, '{name}'") if name in given else private(name) for name in structures}


def private(name: str) -> Coded:
    """A term that claims no more than the name.

    >>> private("left kidney").type
    Term(value='left_kidney', scheme='99MEDCONTEXT', meaning='left kidney')
    """
    value = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")
    if len(value) > 16 or re.sub(r"[^A-Za-z0-9]", "_", name) != value:
        value = f"{value[:7]}_{zlib.crc32(name.encode()):08x}"  # names that differ have codes that differ
    return Coded(Term(value, PRIVATE, text_of(name)), Term(*TISSUE))


def text_of(name: str) -> str:
    """A name as DICOM can hold it: 64 characters, a backslash would begin another value."""
    return name.replace("\\", "/")[:64]


def _coded(entry: Any, where: str) -> Coded:
    if not isinstance(entry, dict) or not {"value", "scheme", "meaning"} <= set(entry) <= {*Term._fields, "category"}:
        raise InputError(f"{where}: got {entry!r}; give value, scheme and meaning, and category if wanted: {EXAMPLE}.")
    category = entry.get("category")
    return Coded(_term(entry, where), Term(*TISSUE) if category is None else _term(category, f"{where}, category"))


def _term(entry: Any, where: str) -> Term:
    parts = [entry.get(name) if isinstance(entry, dict) else None for name in Term._fields]
    sizes = zip(parts, (16, 16, 64), strict=True)
    if not all(isinstance(part, str) and 0 < len(part) <= size and "\\" not in part for part, size in sizes):
        raise InputError(
            f"{where}: got {entry!r}; value and scheme are texts of 1 to 16 characters, meaning of 1 to 64: {EXAMPLE}."
        )
    return Term(*map(str, parts))
