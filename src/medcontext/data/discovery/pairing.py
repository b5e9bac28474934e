"""Which images and which label make up one case."""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from medcontext.data.discovery.patterns import Fit
from medcontext.data.discovery.words import core
from medcontext.data.folders import listed, shortened
from medcontext.errors import InputError


@dataclass(frozen=True)
class Group:
    """Files of one case: an image for each channel, and the label where there is one.

    Args:
        images: one for each pattern.
        label: or None.
        by_folder: whether its files are told from others by their folder, rather than by their names.
    """

    images: tuple[Fit, ...]
    label: Fit | None = None
    by_folder: bool = False


@dataclass
class Paired:
    """Cases, and what is left.

    Args:
        groups: sorted by file.
        incomplete: of files that lack a channel: which there are.
        orphans: labels without an image.
    """

    groups: list[Group] = field(default_factory=list)
    incomplete: list[tuple[PurePosixPath, ...]] = field(default_factory=list)
    orphans: list[PurePosixPath] = field(default_factory=list)


Rule = Callable[[Fit, tuple[str, ...]], Hashable]
Tops = tuple[list[tuple[str, ...]], tuple[str, ...]]
_FOLDERS: tuple[Rule, ...] = (lambda fit, top: fit.folder, lambda fit, top: fit.folder[len(top) :])
_NAMES: tuple[Rule, ...] = (
    lambda fit, top: (fit.folder, fit.open),
    lambda fit, top: (fit.folder, _cores(fit.name)),
    lambda fit, top: (fit.folder[len(top) :], fit.open),
    lambda fit, top: (fit.folder[len(top) :], fit.name),
    lambda fit, top: (fit.folder[len(top) :], _cores(fit.name)),
    lambda fit, top: _cores(fit.name),
)
"""What files of one case have in common, the strictest first; `top` is the folder that all of a pattern share."""


def pair(images: Sequence[Sequence[Fit]], labels: Sequence[Fit]) -> Paired:
    """Put images and labels together by what most labels have in common with an image.

    Args:
        images: for each pattern the files that fit.
        labels: the label files.

    Raises:
        InputError: if no label has an image; if a case has two images for one pattern, or two labels.
    """
    tops = [_top(fits) for fits in images], _top(labels)
    apart = len({fit.folder for fit in labels}) == len(labels) > 1
    rules = [*((rule, True) for rule in _FOLDERS if apart), *((rule, False) for rule in _NAMES)]
    scored = [(_placed(rule, images, labels, tops), -index) for index, (rule, _) in enumerate(rules)]
    best, index = max(scored)
    if labels and not best:
        raise InputError(
            f"No label belongs to an image. Images: {_examples([fit for fits in images for fit in fits])}; labels: "
            f"{_examples(labels)}. Give patterns whose wildcards stand for the same in both, such as "
            "--image '*_ct.nii.gz' --label '*_seg.nii.gz'."
        )
    rule, by_folder = rules[-index]
    gathered: dict[Hashable, tuple[list[list[Fit]], list[Fit]]] = {}
    for channel, fits in enumerate(images):
        for fit in fits:
            _at(gathered, rule(fit, tops[0][channel]), len(images))[0][channel].append(fit)
    for fit in labels:
        _at(gathered, rule(fit, tops[1]), len(images))[1].append(fit)
    found = Paired()
    unclear: list[str] = []
    for scans, truths in gathered.values():
        for part in _divided(scans, truths) if by_folder else [(scans, truths)]:
            _add(*part, found, unclear, by_folder and max(map(len, scans)) == 1)
    if unclear:
        raise InputError(
            f"{len(unclear)} case{'s have' if len(unclear) > 1 else ' has'} more than one file for one pattern: "
            f"{shortened(unclear)}. Give a pattern that one of them fits, or several --image for several channels, or "
            "move the others away."
        )
    found.groups.sort(key=lambda group: group.images[0].file)
    return found


def _at(
    gathered: dict[Hashable, tuple[list[list[Fit]], list[Fit]]], key: Hashable, channels: int
) -> tuple[list[list[Fit]], list[Fit]]:
    return gathered.setdefault(key, ([[] for _ in range(channels)], []))


def _divided(scans: list[list[Fit]], truths: list[Fit]) -> list[tuple[list[list[Fit]], list[Fit]]]:
    """The cases in a folder with several: told apart by what the wildcards stand for.

    Whole where that does not say to which of them a label belongs.
    """
    if max(map(len, scans)) <= 1 or any(not fit.open for fit in truths):
        return [(scans, truths)]
    parts: dict[tuple[str, ...], tuple[list[list[Fit]], list[Fit]]] = {}
    for channel, fits in enumerate(scans):
        for fit in fits:
            parts.setdefault(fit.open, ([[] for _ in scans], []))[0][channel].append(fit)
    for fit in truths:
        if fit.open not in parts:
            return [(scans, truths)]
        parts[fit.open][1].append(fit)
    return list(parts.values())


def _add(scans: list[list[Fit]], truths: list[Fit], found: Paired, unclear: list[str], by_folder: bool) -> None:
    several = [files for files in (*scans, truths) if len(files) > 1]
    there = [files[0] for files in scans if files]
    if several:
        unclear.append(" and ".join(str(fit.file) for fit in several[0][:3]))
    elif not there:
        found.orphans += [fit.file for fit in truths]
    elif len(there) < len(scans):
        found.incomplete.append(tuple(fit.file for fit in (*there, *truths)))
    else:
        found.groups.append(Group(tuple(there), truths[0] if truths else None, by_folder))


def _placed(rule: Rule, images: Sequence[Sequence[Fit]], labels: Sequence[Fit], tops: Tops) -> int:
    """How many labels share a key with an image and with no other label."""
    known = {rule(fit, tops[0][channel]) for channel, fits in enumerate(images) for fit in fits}
    keys = Counter(rule(fit, tops[1]) for fit in labels)
    return sum(key in known for key, count in keys.items() if count == 1)


def _top(fits: Sequence[Fit]) -> tuple[str, ...]:
    """The folders that all of them share."""
    folders = [fit.folder for fit in fits]
    if not folders:
        return ()
    low, high = min(folders), max(folders)
    same = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return low[:same] if len(set(folders)) > 1 else low


def _cores(name: tuple[str, ...]) -> str:
    return core("_".join(name))


def _examples(fits: Sequence[Fit]) -> str:
    return listed([str(fit.file) for fit in fits], 3)
