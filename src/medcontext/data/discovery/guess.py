"""Patterns for a folder for which a person gave none."""

from collections import Counter, defaultdict
from collections.abc import Sequence, Set
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
        if not labels and not rest:
            raise InputError(
                f"--image {' '.join(map(repr, image))} takes all {len(files)} files, and none is left for the labels. "
                "Give a narrower pattern, or also --label PATTERN."
            )
        if not labels:
            raise InputError(
                f"No label files are found: no file or folder is called like seg, mask or labels. {_there(rest)} Say "
                "which they are: --label PATTERN, such as --label seg.nii.gz, '*_seg.nii.gz' or 'labels/*.nii.gz'."
            )
        found = _patterns(labels, [file for file in files if file not in labels], LABEL)
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
    found = kinds_of(images, labels)
    if len(found) == 1 or all(map(modality, found)) or are_numbered(found):
        return found
    raise several_kinds(images, found)


def kinds_of(images: Sequence[PurePosixPath], labels: Sequence[PurePosixPath] = ()) -> list[str]:
    """A pattern for each kind of image that names tell apart."""
    found = _by_number(images, labels) or _patterns(images, labels, IMAGE | set(MODALITY))
    if len(found) > 1 and len({file.parent for file in images}) == len(images):  # names differ, one in a folder
        return [f"*{_ending(images)}"]
    return found


def are_numbered(patterns: Sequence[str]) -> bool:
    """Whether they are nnU-Net's channels, case_0000 and so on."""
    return all("_000" in text for text in patterns)


def several_kinds(images: Sequence[PurePosixPath], found: Sequence[str]) -> InputError:
    """An error for images of which nobody can tell whether they are channels."""
    return InputError(
        f"Several kinds of images: {_there(images)} If they are channels of one scan, give all: --image "
        f"{' '.join(repr(text) for text in found[:4])}; else the one to use: --image '{found[0]}'."
    )


def _patterns(files: Sequence[PurePosixPath], others: Sequence[PurePosixPath], telling: Set[str]) -> list[str]:
    """Few patterns that files of one kind fit.

    Args:
        files: of one kind.
        others: of the other kind, which must not fit.
        telling: words that say that a file is of this kind.
    """
    return _by_name(files, others, telling) or _by_last_word(files) or _by_folder(files)


def _by_name(files: Sequence[PurePosixPath], others: Sequence[PurePosixPath], telling: Set[str]) -> list[str]:
    """Names that come back in every folder; with their folder, where files of the other kind are called so, too."""
    places: defaultdict[str, set[PurePosixPath]] = defaultdict(set)
    for file in files:
        places[file.name].add(file.parent)
    said = [name for name in places if set(words(stem(name))) & telling]
    alike = [name for name, folders in places.items() if len(folders) > 1] or (said if len(places) == 1 else [])
    covered = {folder for name in alike for folder in places[name]}
    odd = [file for file in files if file.name not in alike]
    if not alike or (odd and not any(file.parent in covered for file in odd)):
        return []
    if len(places) > len({file.parent for file in files}):  # as in imagesTr and imagesTs with names alike
        return []
    folders = {file.parent.name for file in files if file.name in alike}
    if len(alike) > 1 and not set(alike) <= set(said) and all(map(_beginning, folders)):
        return []
    if set(alike) & {file.name for file in others}:
        return [f"{escape(folders.pop())}/{name}" for name in sorted(alike)] if len(folders) == 1 else []
    return sorted(alike)


def _by_number(images: Sequence[PurePosixPath], labels: Sequence[PurePosixPath]) -> list[str]:
    """nnU-Net's channels, case_0000 and so on, unless labels are numbered so, too: then cases are."""
    stems = {stem(file.name) for file in images}
    numbers = {name[-5:] for name in stems}
    if numbers != {f"_{index:04d}" for index in range(len(numbers))} or stems & {stem(file.name) for file in labels}:
        return []
    return [f"*{number}{_ending(images)}" for number in sorted(numbers)]


def _by_last_word(files: Sequence[PurePosixPath]) -> list[str]:
    """The last word of the names: the same in all, or one of several modalities."""
    stems = [stem(file.name) for file in files]
    lasts = {(words(name) or [""])[-1] for name in stems}
    bare = any(words(name) == [last] for name in stems for last in lasts)  # the whole name, as of a single file
    if bare or any(not last or last.isdigit() for last in lasts) or (len(lasts) > 1 and not all(map(modality, lasts))):
        return []
    tails = {name[-len(last) - 1 :] for name in stems for last in lasts if words(name)[-1] == last}
    if len(tails) != len(lasts) or not all(tail[0] in "_-. " for tail in tails):
        return []
    return [f"*{tail}{_ending(files)}" for tail in sorted(tails)]


def _by_folder(files: Sequence[PurePosixPath]) -> list[str]:
    """The folder that all are in, or what the names of several begin with."""
    ending, folders = _ending(files), {file.parent.name for file in files}
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


def _ending(files: Sequence[PurePosixPath]) -> str:
    endings = {file.name[len(stem(file.name)) :] for file in files}
    return endings.pop() if len(endings) == 1 else ".nii*"


def _there(files: Sequence[PurePosixPath]) -> str:
    """What files are called, the most frequent names first."""
    names = Counter(file.name for file in files)
    if max(names.values(), default=0) > 1:
        return f"There are {listed([f'{name} ({count} times)' for name, count in names.most_common()], 6)}."
    return f"There are {listed([str(file) for file in files], 4)}."
