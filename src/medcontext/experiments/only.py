"""`--only`: a part of the tables."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medcontext.errors import InputError, unknown_name
from medcontext.experiments.tables import Entry, Grid

YES, NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@dataclass(frozen=True)
class Selection:
    """What is to be run and reported.

    Args:
        entries: of each table.
        seeds: of each cell.
        name: for file names, such as `model=unetr,nnformer`; empty for whole tables.
    """

    entries: list[list[Entry]]
    seeds: list[int]
    name: str


def choose(grids: Sequence[Grid], seeds: Sequence[int], filters: Mapping[str, str]) -> Selection:
    """What `--only` leaves of the tables and the seeds.

    Args:
        grids: the tables.
        seeds: of each cell.
        filters: key to values, such as `{"model": "unetr, nnformer", "medcontext": "yes"}`.

    Raises:
        InputError: for a key that no row has, or a value that no row has there; if nothing is left.
    """
    known: dict[str, list[Any]] = {"seed": list(dict.fromkeys(seeds))}
    for grid in grids:
        for entry in grid.entries:
            for key, value in entry.facts.items():
                known.setdefault(key, [])
                known[key] += [value] if value not in known[key] else []
    for key in filters:
        if key not in known:
            raise unknown_name("key of --only", key, known)
    wanted = {key: find_values(key, text, known[key]) for key, text in filters.items()}
    left = wanted.pop("seed", known["seed"])

    def fits(entry: Entry) -> bool:
        return all(entry.facts.get(key) in values for key, values in wanted.items())

    entries = [[entry for entry in grid.entries if fits(entry)] for grid in grids]
    if not left or not any(entries):
        tables = ", ".join(grid.name for grid in grids)
        raise InputError(f"Nothing of {tables} is left by --only {' '.join(map('='.join, filters.items()))}.")
    name = "-".join(f"{key}={','.join(map(spell, wanted[key]))}" for key in sorted(wanted))
    return Selection(entries, left, name)


def find_values(key: str, text: str, known: Sequence[Any]) -> list[Any]:
    """The values that a text such as `unetr, nnformer` names, in the order in which the tables have them.

    Raises:
        InputError: for one that is not known, with a suggestion.

    >>> find_values("mask_ratio", "0.50,.3", [0.3, 0.4, 0.5]), find_values("medcontext", "No", [True, False])
    ([0.3, 0.5], [False])
    """
    pieces = [piece for item in text.split(",") if (piece := item.strip().casefold())]
    for piece in pieces:
        if not any(means(piece, value) for value in known):
            raise unknown_name(f"value of --only {key}", piece, map(spell, known))
    if not pieces:
        raise unknown_name(f"value of --only {key}", text, map(spell, known))
    return [value for value in known if any(means(piece, value) for piece in pieces)]


def means(text: str, value: Any) -> bool:
    """Whether a text, in lower case, is a way to write a value."""
    if isinstance(value, bool):
        return text in (YES if value else NO)
    if isinstance(value, int | float):
        try:
            return float(text) == value
        except ValueError:
            return False
    return text == str(value).casefold()


def spell(value: Any) -> str:
    """A value as one would give it to `--only`."""
    return str(value).lower()


def pairs(texts: Iterable[str], option: str) -> dict[str, str]:
    """Names and values as they are given on the command line.

    Raises:
        InputError: for one without a value, or a name given twice.

    >>> pairs(["btcv=/scans", "acdc=/hearts"], "--data")
    {'btcv': '/scans', 'acdc': '/hearts'}
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise InputError(f"{option} takes NAME=VALUE, got '{text}'.")
        if name in found:
            raise InputError(f"{option} has '{name}' twice; give it once.")
        found[name] = value
    return found
