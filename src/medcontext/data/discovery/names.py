"""What cases are called, and whose they are."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from medcontext.data.cases import patient
from medcontext.data.discovery.pairing import Group
from medcontext.data.discovery.words import IMAGE, LABEL, PARTS, stem, words
from medcontext.errors import InputError

_PERSON = re.compile(r"(pat|patient|sub|subject|pt|person)([-_ ]?\d+|-[a-z]+\d+)", re.IGNORECASE)
_NUMBER = re.compile(r"(?<=\w)_\d{4}$")


def case_names(groups: Sequence[Group]) -> list[str]:
    """A name for each case: its folder's where files are called alike, else its file's.

    Names that several cases would have begin with the folders that tell them apart.

    Raises:
        InputError: if two cases would still have the same name.
    """
    stems = [_stem(group) for group in groups]
    if all(_NUMBER.search(name) for name in stems) and len({name[-5:] for name in stems}) == 1:  # nnU-Net's channel
        stems = [_NUMBER.sub("", name) for name in stems]
    folders = [_own_folders(group, groups) for group in groups]
    names = [name or parts[-1] for name, parts in zip(stems, folders, strict=True)]
    counts = Counter(name.casefold() for name in names)
    lengthy = [count > 1 for count in map(counts.get, map(str.casefold, names)) if count is not None]
    for index, name in enumerate(names):
        if lengthy[index] or (not stems[index] and not re.search(r"[^\W\d]{2}", name)):  # a date is no name
            parts = folders[index] if not stems[index] else [*folders[index], name]
            names[index] = "_".join(dict.fromkeys(parts))
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        files = [str(group.images[0].file) for group, name in zip(groups, names, strict=True) if name == twice[0]]
        raise InputError(f"{' and '.join(files[:3])} would both be the case '{twice[0]}'; rename or remove one.")
    return [unicodedata.normalize("NFC", name) for name in names]


def patients(names: Sequence[str], files: Sequence[PurePosixPath]) -> list[str]:
    """Whose each case is, where names of folders or files say that several are one person's; else empty.

    >>> files = [PurePosixPath(f"Pat 0{n}/{year}/ct.nii.gz") for n, year in ((1, 2019), (1, 2020), (2, 2019))]
    >>> patients(["a", "b", "c"], files)
    ['Pat 01', 'Pat 01', 'Pat 02']
    """
    owners = [_person(name, file) for name, file in zip(names, files, strict=True)]
    own = [owner or patient(name) for owner, name in zip(owners, names, strict=True)]
    return owners if len(set(own)) < len(own) else [""] * len(owners)


def _person(name: str, file: PurePosixPath) -> str:
    """The first folder that is called like a person, or the part of the file's name that is."""
    for part in file.parent.parts:
        if _PERSON.fullmatch(part):
            return unicodedata.normalize("NFC", part)
    found = _PERSON.match(stem(file.name)) or _PERSON.match(name)
    return found[0] if found else ""


def _stem(group: Group) -> str:
    """What the file's own name makes of the case's; empty where all files are called alike, or tell nothing."""
    return "" if group.by_folder and group.images[0].file.parent.parts else _file_name(group)


def _file_name(group: Group) -> str:
    first = group.images[0]
    if first.case:
        return first.case
    return "" if first.file.parent.parts else stem(first.file.name)


def _own_folders(group: Group, groups: Sequence[Group]) -> list[str]:
    """The folders of a case's image without those that all cases share, and those such as imagesTr."""
    parts = group.images[0].file.parent.parts
    shared = len(_common([other.images[0].file.parent.parts for other in groups])) if len(groups) > 1 else 0
    own = [part for part in parts[shared:] if set(words(part)) - IMAGE - LABEL - PARTS]
    return own or list(parts[-1:]) or [stem(group.images[0].file.name)]


def _common(paths: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    low, high = min(paths), max(paths)
    same = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return low[:same]
