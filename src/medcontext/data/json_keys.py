"""What a data set's JSON file may say: a key that nobody reads is named, for it was meant."""

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medcontext.errors import InputError

_ABOUT = (  # read by people, or by other programs
    *("name", "description", "reference", "licence", "license", "release", "relase", "version", "date", "author"),
    *("authors", "citation", "url", "comment", "comments", "note", "notes", "converted_by", "tensorImageSize"),
    *("overwrite_image_reader_writer", "image_reader_writer", "dataset_name"),
)
_DECLARED = (
    *("channels", "channel_names", "modality", "labels", "label_map", "regions", "regions_class_order"),
    *("unlabelled", "numTraining", "numTest"),
)
TOP = {
    "cases": ("cases", "test", *_DECLARED),
    "training": ("training", "test", "validation", *_DECLARED),
    "nnunet": ("dataset", "file_ending", *_DECLARED),
}
"""What is read of each kind of file."""
ENTRY = ("image", "images", "label", "name", "patient")
"""What is read of a case."""


def unread_keys(manifest: Mapping[str, Any], file: Path, kind: str) -> list[str]:
    """A sentence on the keys at the top of a file that are not read, and one on those of its cases.

    Args:
        manifest: of the file.
        file: for messages.
        kind: of `TOP`.

    Raises:
        InputError: for a list of "cases", which is written for medcontext alone: there it is a mistake.
    """
    said = [_named(key, TOP[kind], f"{file} has") for key in _unknown(manifest, (*TOP[kind], *_ABOUT))]
    for place in ("cases", "training", "test", "unlabelled", "dataset"):
        entries = manifest.get(place, []) if place in TOP[kind] else []
        entries = entries.values() if isinstance(entries, Mapping) else entries
        found = Counter(key for entry in entries if isinstance(entry, Mapping) for key in _unknown(entry, ENTRY))
        said += [_named(key, ENTRY, f'{file}, "{place}", {count} of them:') for key, count in found.items()]
    if said and kind == "cases":
        raise InputError(f"{' '.join(said)} Correct or remove it; a key that begins with _ is a comment.")
    return said


def unread_labels(entries: Sequence[Any], key: str, file: Path) -> list[str]:
    """A sentence where scans that are listed as unlabelled have a label."""
    count = sum(isinstance(entry, Mapping) and bool(entry.get("label")) for entry in entries)
    if not count:
        return []
    return [f'{file}, "{key}": {count} of them have a "label", which is not read; list these with the labelled cases.']


def _unknown(keys: Iterable[str], known: Sequence[str]) -> list[str]:
    return [key for key in keys if key not in known and not key.startswith("_")]


def _named(key: str, known: Sequence[str], where: str) -> str:
    near = difflib.get_close_matches(key.lower(), known, n=1)
    hint = f'; did you mean "{near[0]}"?' if near else "."
    return f'{where} "{key}", which is not read{hint} Read are {", ".join(known)}.'
