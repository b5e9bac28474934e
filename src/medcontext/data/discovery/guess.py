"""Patterns for a folder for which a person gave none."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from glob import escape
from pathlib import PurePosixPath

from medcontext.data.discovery.patterns import Pattern
from medcontext.data.discovery.words import IMAGE, LABEL, MODALITY, is_label, modality, stem, words
from medcontext.data.folders import listed
from medcontext.errors import InputError


def guess_patterns(files: Sequence[PurePosixPath], image: Sequence[str], label: str | None) -> tuple[list[str], str]:
    """Patterns of images and of labels, those that were given and for the others what names and folders suggest.

    Args:
        files: all NIfTI files, relative to the folder.
        image: as given; empty to guess.
        label: as given; None to guess.

    Raises:
        InputError: if it cannot be told, with what is there and the option to give.
    """
    given = [Pattern(text) for text in image]
    rest = [file for file in files if not any(pattern.fit(file) for pattern in given)]
    if label is None:
        labels = [file for file in rest if is_label(file)]
        if not labels:
            raise InputError(
                f"No label files are found: no file or folder is called like seg, mask or labels. {_there(rest)} Say "
                "which they are: --label PATTERN, such as --label seg.nii.gz, '*_seg.nii.gz' or 'labels/*.nii.gz'."
            )
        found = _patterns(labels)
        if len(found) > 1:
            raise InputError(f"Several kinds of label files: {_there(labels)} Say which: --label '{found[0]}'.")
        label = found[0]
    if image:
        return list(image), label
    known = Pattern(label)
    images = [file for file in rest if not known.fit(file) and not is_label(file)]
    images = images or [file for file in rest if not known.fit(file)]
    if not images:
        raise InputError(f"No image files are left beside --label '{label}'. {_there(files)} Give --image PATTERN.")
    return _channels(images, [file for file in files if known.fit(file)]), label


def _channels(images: Sequence[PurePosixPath], labels: Sequence[PurePosixPath]) -> list[str]:
    """The patterns of images, one a channel."""
    found = _patterns(images, {stem(file.name) for file in labels})
    if len(found) > 1 and len({file.parent for file in images}) == len(images):  # names differ, one in a folder
        found = [f"*{_ending(images)}"]
    if len(found) == 1 or all(map(modality, found)) or all("_000" in text for text in found):
        return found
    raise InputError(
        f"Several kinds of images: {_there(images)} If they are channels of one scan, give all: --image "
        f"{' '.join(repr(text) for text in found[:4])}; else the one to use: --image '{found[0]}'."
    )


def _patterns(files: Sequence[PurePosixPath], labelled: set[str] | None = None) -> list[str]:
    """Few patterns that these files fit: names that come back in every folder, endings of names, or the folder's.

    Args:
        files: of one kind.
        labelled: names of labels, which tell numbers of cases from those of channels.
    """
    ending = _ending(files)
    places: defaultdict[str, set[PurePosixPath]] = defaultdict(set)
    for file in files:
        places[file.name].add(file.parent)
    if len(places) == 1 and set(words(stem(files[0].name))) & (LABEL | IMAGE | set(MODALITY)):
        return list(places)
    alike = [name for name, folders in places.items() if len(folders) > 1]
    covered = {folder for name in alike for folder in places[name]}
    odd = [file for file in files if file.name not in alike]
    if alike and (not odd or any(file.parent in covered for file in odd)) and not _only_folders(files):
        return sorted(alike)
    stems = [stem(file.name) for file in files]
    numbers = {name[-5:] for name in stems}
    channels = {f"_{index:04d}" for index in range(len(numbers))}
    if numbers == channels and not (labelled or set()) & set(stems):
        return [f"*{number}{ending}" for number in sorted(numbers)]
    lasts = Counter((words(name) or [""])[-1] for name in stems)
    tails = {name[-len(last) :] for name in stems for last in lasts if name.lower().endswith(last) and last}
    telling = all(modality(last) for last in lasts) if len(lasts) > 1 else not _bare(stems, lasts)
    if telling and len(tails) == len(lasts) and not any(last.isdigit() for last in lasts):
        separated = {name[-len(tail) - 1 : -len(tail)] for name in stems for tail in tails if name.endswith(tail)}
        if separated <= {"_", "-", ".", " "} and len(separated) == 1:
            return [f"*{separated.copy().pop()}{tail}{ending}" for tail in sorted(tails)]
    folders = {file.parent.name for file in files}
    if len(folders) == 1:
        folder = folders.pop()
        return [f"{escape(folder)}/*{ending}" if folder else f"*{ending}"]
    beginnings = {_beginning(folder) for folder in folders}
    return [f"{beginnings.pop()}*/*{ending}" if len(beginnings) == 1 and "" not in beginnings else f"*{ending}"]


def _beginning(folder: str) -> str:
    """The first word of a folder's name, if it says that images or labels are in it.

    >>> _beginning("imagesTr"), _beginning("Pat 01")
    ('images', '')
    """
    first = (words(folder) or [""])[0]
    return folder[: len(first)] if first in LABEL | IMAGE and folder.lower().startswith(first) else ""


def _only_folders(files: Sequence[PurePosixPath]) -> bool:
    """Whether the folders, not the names, say what files are, as in imagesTr and imagesTs with names alike."""
    return len({file.name for file in files}) > len({file.parent for file in files})


def _bare(stems: Sequence[str], lasts: Counter[str]) -> bool:
    """Whether the last word is the whole name, as in a single file."""
    return any(words(name) == [last] for name in stems for last in lasts)


def _ending(files: Sequence[PurePosixPath]) -> str:
    endings = {file.name[len(stem(file.name)) :] for file in files}
    return endings.pop() if len(endings) == 1 else ".nii*"


def _there(files: Sequence[PurePosixPath]) -> str:
    """What files are called, the most frequent names first."""
    names = Counter(file.name for file in files)
    if max(names.values(), default=0) > 1:
        return f"There are {listed([f'{name} ({count} times)' for name, count in names.most_common()], 6)}."
    return f"There are {listed([str(file) for file in files], 4)}."
