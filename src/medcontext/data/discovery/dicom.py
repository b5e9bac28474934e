"""DICOM series alone, to be segmented or learnt from without labels: each study is a case, and its name a folder's."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from medcontext.data.cases import Case
from medcontext.data.dicom.series import Found, Series, find_series, no_volume, one_series, place_of, several
from medcontext.data.discovery.words import modality
from medcontext.data.folders import listed
from medcontext.data.nifti import case_name
from medcontext.errors import InputError, counted
from medcontext.files import check_utf8

_CODES = {"CT": "CT", "CTA": "CT", "CBCT": "CT", "PET": "PT", "SPECT": "NM"}  # all other words are of MR


class _Placed(NamedTuple):
    """A series, the path that means it, the folder that all its files lie in, and the folder that was given."""

    series: Series
    path: Path
    folder: Path
    top: Path


def find_dicom(
    paths: Sequence[Path], channels: Sequence[str], wanted: Sequence[str] = ()
) -> tuple[tuple[Case, ...], tuple[str, ...]]:
    """A case for each study below the paths, and what was left out, a sentence for each path.

    Of a study with several series the only one of the channel's modality is taken; where that does not decide, a person
    has to. Wanted, all series that fit are taken; for several channels one for each.

    Args:
        paths: folders, and files that stand for their whole series.
        channels: names of those that the network takes.
        wanted: series numbers, globs on descriptions, or UIDs.

    Raises:
        InputError: if it is not clear which series are meant, with a list of them.
    """
    if wanted and len(channels) > 1 and len(wanted) != len(channels):
        raise InputError(
            f"--series has {len(wanted)} entries for {counted(len(channels), 'channel')} ({', '.join(channels)}); give "
            "one for each, in order."
        )
    groups: list[tuple[_Placed, ...]] = []
    remarks: list[str] = []
    seen: set[tuple[str, Path]] = set()  # with a file, for some anonymisers give all patients one UID
    for path in paths:
        found, alone = _found(path)
        fresh = [each for each in found.series if (each.uid, each.files[0].resolve()) not in seen]
        seen |= {(each.uid, each.files[0].resolve()) for each in fresh}
        chosen, left = _chosen(path, fresh, channels, wanted, alone)
        groups += [tuple(_placed(each, found, path) for each in group) for group in chosen]
        remarks += _left_out(path, found, left)
    if not groups:
        raise InputError(f"No DICOM series fits --series {' '.join(wanted)}. {' '.join(remarks)}".rstrip())
    names = _names([group[0] for group in groups])
    cases = [Case(name, tuple(each.path for each in group)) for name, group in zip(names, groups, strict=True)]
    for case in cases:
        for image in case.images:
            check_utf8(image)
    return tuple(sorted(cases, key=lambda case: case.name)), tuple(remarks)


def _found(path: Path) -> tuple[Found, bool]:
    """The series of a folder, or only that of a file; whether it is one file's."""
    if not path.is_dir():
        return Found((one_series(path),), {}), True
    found = find_series(path, later=True)
    if not found.series:
        raise no_volume(path, found)
    return found, False


def _chosen(
    path: Path, series: Sequence[Series], channels: Sequence[str], wanted: Sequence[str], alone: bool
) -> tuple[list[list[Series]], list[Series]]:
    """The series of each case, one for each channel, and those that are left out."""
    studies: dict[str, list[Series]] = {}
    for each in series:
        studies.setdefault(each.study or each.uid, []).append(each)
    chosen: list[list[Series]] = []
    for study in studies.values():
        if len(channels) > 1:
            chosen += [_of_channels(path, study, channels, wanted)]
        elif wanted:
            chosen += [[each] for each in study if any(each.fits(word) for word in wanted)]
        else:
            chosen += [[_only(path, study, channels[0], alone)]]
    taken = {each.uid for group in chosen for each in group}
    return chosen, [each for each in series if each.uid not in taken]


def _only(path: Path, study: Sequence[Series], channel: str, alone: bool) -> Series:
    """The series of a study that a channel's name leaves; its modality does not matter where a person named it."""
    if alone:
        return study[0]
    word = modality(channel)
    code = _CODES.get(word, "MR") if word else ""
    fitting = [each for each in study if code in ("", each.modality)]
    if not fitting:
        raise InputError(
            f"{path} has no series of the modality {code}, for which the channel {channel} stands, but "
            f"{'; '.join(each.text for each in study[:10])}. To take one all the same, name it by --series."
        )
    if len(fitting) > 1:
        raise several(path, fitting)
    return fitting[0]


def _of_channels(path: Path, study: Sequence[Series], channels: Sequence[str], wanted: Sequence[str]) -> list[Series]:
    names = ", ".join(channels)
    there = "; ".join(each.text for each in study[:10])
    if not wanted:
        raise InputError(
            f"{path} has the DICOM series {there}; for the channels {names} say by --series which is which."
        )
    found = []
    for channel, word in zip(channels, wanted, strict=True):
        fitting = [each for each in study if each.fits(word)]
        if len(fitting) != 1:
            raise InputError(
                f"{path}: --series '{word}', for the channel {channel}, fits {len(fitting)} series, and one is "
                f"needed. There are {there}."
            )
        found.append(fitting[0])
    return found


def _placed(series: Series, found: Found, path: Path) -> _Placed:
    folder = series.files[0].parent
    while not all(folder in file.parents for file in series.files):
        folder = folder.parent
    return _Placed(series, *((place_of(series, found), folder, path) if path.is_dir() else (path, folder, folder)))


def _left_out(path: Path, found: Found, left: Sequence[Series]) -> list[str]:
    texts = [found.others_text] if found.others else []
    texts += [listed([each.text for each in left], 10)] if left else []
    return [f"Left out in {path}, DICOM: {'; '.join(texts)}."] if texts else []


def _names(placed: Sequence[_Placed]) -> list[str]:
    """Of one case, the given folder's; else the first level of folders that tells all apart, or all that differ.

    Of several in one folder the series' number is added or, where that is the same, the name of the first file.
    """
    folders = [each.folder.resolve() for each in placed]
    if len(placed) == 1:
        return [case_name(placed[0].top.resolve())]
    low, high = min(folder.parts for folder in folders), max(folder.parts for folder in folders)
    shared = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    own = [folder.parts[shared:] for folder in folders]
    for level in range(min(map(len, own))):
        names = [parts[level] for parts in own]
        if _apart(names):
            return [case_name(Path(name)) for name in names]
    names = ["_".join(parts) or folder.name for parts, folder in zip(own, folders, strict=True)]
    if not _apart(names):
        counts = Counter(name.casefold() for name in names)
        numbered = [f"{name}_series{each.series.number}" for name, each in zip(names, placed, strict=True)]
        named = [f"{name}_{case_name(each.series.files[0])}" for name, each in zip(names, placed, strict=True)]
        longer = numbered if _apart(numbered) else named
        names = [more if counts[name.casefold()] > 1 else name for name, more in zip(names, longer, strict=True)]
    if not _apart(names):
        raise InputError(
            f"Several DICOM series would be the case '{Counter(names).most_common(1)[0][0]}'; rename folders."
        )
    return [case_name(Path(name)) for name in names]


def _apart(names: Sequence[str]) -> bool:
    return len({name.casefold() for name in names}) == len(names)
