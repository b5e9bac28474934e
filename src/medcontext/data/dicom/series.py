"""Which series there are, and which of them is meant."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from medcontext.data.dicom.heads import Head, read_heads
from medcontext.data.dicom.planes import Plane
from medcontext.data.dicom.stack import spacing_text
from medcontext.errors import InputError, counted

_SCOUT = re.compile(r"locali[sz]er|scout|topogram|scanogram|surview|survey|\bloc\b", re.IGNORECASE)


@dataclass(frozen=True)
class Series:
    """Images that were made together.

    Args:
        uid, study: UIDs.
        number: or None.
        description: as the scanner's user wrote it.
        modality: such as CT, MR, PT.
        planes: its slices, in the order of their files; without localizers where it has others.
        scouts: how many localizers it has beside them.
        kind: "volume", or what it is instead: "localizer", "single image".
    """

    uid: str
    study: str
    number: int | None
    description: str
    modality: str
    planes: tuple[Plane, ...]
    scouts: int
    kind: str

    @property
    def files(self) -> list[Path]:
        """Of its slices, sorted."""
        return sorted({plane.file for plane in self.planes})

    @property
    def text(self) -> str:
        """For a person to choose: number, description, modality, slices, spacing, and a file of it."""
        number = "without a number" if self.number is None else str(self.number)
        words = f"series {number} '{self.description}' ({self.modality}, {counted(len(self.planes), 'slice')}"
        return f"{words}{spacing_text(self.planes)}), {self.files[0]}"

    def fits(self, wanted: str) -> bool:
        """Whether a person's word means it: its number, its UID, or a glob on its description."""
        return wanted in (str(self.number), self.uid) or fnmatchcase(self.description.casefold(), wanted.casefold())


class Found(NamedTuple):
    """The series of a folder that may be volumes, sorted by their first file, and how many of what else there is."""

    series: tuple[Series, ...]
    others: dict[str, int]

    @property
    def others_text(self) -> str:
        """What else there is, in words; or nothing.

        >>> Found((), {"localizer": 2, "Secondary Capture Image": 1}).others_text
        'Secondary Capture Image (1), localizer (2)'
        """
        return ", ".join(f"{kind} ({number})" for kind, number in sorted(self.others.items()))


def find_series(path: Path, *, later: bool = False) -> Found:
    """All series of a folder and below it, or of the folder of a file; no voxel is read.

    Args:
        path: the folder, or file.
        later: whether a damaged file beside images is left to who reads those, so that other series can be used.

    Raises:
        InputError: if a file is damaged: it may be a slice.
    """
    heads = read_heads(path)
    known = {head.file.parent for head in heads if head.volume} if later else set()
    damaged = [head.problem for head in heads if head.problem and head.file.parent not in known]
    if damaged:
        more = f" {counted(len(damaged) - 1, 'other file')} of {path} cannot be read either." if damaged[1:] else ""
        raise InputError(damaged[0] + more)
    groups: dict[str, list[Head]] = {}
    for head in heads:
        if head.volume:
            groups.setdefault(head.series, []).append(head)
    found = [_series(group) for group in groups.values()]
    others = Counter(head.kind for head in heads if not head.volume and not head.problem)
    for series in found:
        if series.kind != "volume":
            others[series.kind] += len(series.planes)
    volumes = sorted((series for series in found if series.kind == "volume"), key=lambda series: series.files[0])
    return Found(tuple(volumes), dict(others))


def one_series(path: Path) -> Series:
    """The series that a path means: that of a file, or the only one in a folder and below it.

    Raises:
        InputError: if there is none, or there are several.
    """
    found = find_series(path)
    if not path.is_dir():
        own = [series for series in found.series if path in series.files]
        if own:
            return own[0]
        kinds = [head.kind for head in read_heads(path) if head.file == path and not head.volume]
        kind = kinds[0] if kinds else "localizer or single image"
        raise InputError(f"{path} is no part of a volume: {kind}. Give a file of the series that is meant.")
    if not found.series:
        raise no_volume(path, found)
    if len(found.series) > 1:
        raise several(path, found.series)
    return found.series[0]


def no_volume(path: Path, found: Found) -> InputError:
    """An error for a folder of DICOM files without a volume."""
    there = found.others_text or "nothing that is read"
    return InputError(f"{path} has no DICOM series that is a volume, of two slices or more: there is {there}.")


def several(path: Path, series: Sequence[Series]) -> InputError:
    """An error for a folder that has more than one series."""
    listed = "; ".join(each.text for each in series[:10])
    more = f"; and {len(series) - 10} more" if len(series) > 10 else ""
    return InputError(
        f"{path} has {len(series)} DICOM series: {listed}{more}. Say which is meant by --series, with its number, a "
        "glob on its description or its UID; or give one file of it instead of the folder: the whole series is read."
    )


def place_of(series: Series, found: Found) -> Path:
    """The path that means a series: its folder where no other is in or below it, else its first file.

    Raises:
        InputError: if it lies in several folders that have others, too.
    """
    parents = {file.parent for file in series.files}
    folder = series.files[0].parent
    while not all(folder == parent or folder in parent.parents for parent in parents):
        folder = folder.parent
    others = [each for each in found.series if each.uid != series.uid]
    if not any(folder == file.parent or folder in file.parents for each in others for file in each.files):
        return folder
    if len(parents) == 1:
        return series.files[0]
    there = ", ".join(map(str, sorted(parents)))
    raise InputError(
        f"The DICOM {series.text} lies in {len(parents)} folders, with other series: {there}. "
        "Put each series into a folder of its own."
    )


def _series(heads: Sequence[Head]) -> Series:
    planes = [plane for head in heads for plane in head.planes]
    scouts = [plane for plane in planes if plane.scout]
    kept = [plane for plane in planes if not plane.scout]
    first = heads[0]
    directions = {tuple(round(value, 2) for value in plane.orientation) for plane in kept}
    if not kept or (len(directions) > 1 and _SCOUT.search(first.description)):
        kind, kept, scouts = "localizer", planes, []
    else:
        kind = "volume" if len(kept) > 1 else "single image"
    named = first.series, first.study, first.number, first.description, first.modality
    return Series(*named, tuple(kept), len(scouts), kind)
