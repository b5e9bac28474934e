"""From a folder to a description of its cases, see `medcontext.commands.init`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medcontext.data.cases import Case
from medcontext.data.discovery.guess import guess_patterns
from medcontext.data.discovery.names import case_names, patients
from medcontext.data.discovery.pairing import Paired, pair
from medcontext.data.discovery.patterns import Pattern, assign
from medcontext.data.discovery.values import Look, Value, is_hounsfield, look_at, name_values, sum_up
from medcontext.data.discovery.walk import Files, passed_over_texts, walk
from medcontext.data.discovery.words import modality, stem
from medcontext.data.folders import listed, shortened
from medcontext.errors import InputError, counted


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    Args:
        folder: that was looked through.
        image: a pattern for each channel, or one for all.
        label: the pattern of labels.
        channels: their names.
        why: where these come from.
        labels: names and values, the background first.
        cases: with a label, sorted.
        unlabelled: without, sorted.
        values: each label value that occurs, but 0.
        remarks: what a person should look at, a sentence each.
        notes: what else is there, a sentence each.
    """

    folder: Path
    image: tuple[str, ...]
    label: str
    channels: tuple[str, ...]
    why: str
    labels: dict[str, int]
    cases: tuple[Case, ...]
    unlabelled: tuple[Case, ...]
    values: dict[int, Value]
    remarks: tuple[str, ...]
    notes: tuple[str, ...]


def discover(
    folder: Path,
    image: Sequence[str] = (),
    label: str | None = None,
    channels: Sequence[str] = (),
    labels: Mapping[str, int] | Sequence[str] = (),
    workers: int = 1,
) -> Found:
    """Find cases, channels and label values; reads every label, and of images little more than the headers.

    Args:
        folder: with NIfTI files, or folders of them; images may be DICOM series.
        image: a pattern for each channel; guessed if empty.
        label: of the labels; guessed if None.
        channels: their names.
        labels: names and values, see `name_values`.
        workers: processes.

    Raises:
        InputError: if it cannot be told which file is what, with the option that tells; if no label can be read.
    """
    files = walk(folder, dicom=True)
    image, label = guess_patterns(files.nifti, image, label)
    patterns = [*map(Pattern, image), Pattern(label)]
    (*scans, truths), left = assign(files.nifti, patterns)
    for pattern, fits in zip(patterns, (*scans, truths), strict=True):
        if not fits:
            raise _no_fit(pattern, files)
    paired = pair(scans, truths)
    if not any(group.label for group in paired.groups):
        raise InputError(f"{folder}: no case has all its images and a label. {' '.join(_left_out(paired))}")
    cases = _cases(folder, paired)
    looks = look_at(cases, workers)
    remarks = [*_left_out(paired), *_damaged(cases, looks)]
    cases, looks, odd = _same_channels(cases, looks, len(image), len(channels))
    values = sum_up(looks)
    labelled = [case for case in cases if case.label]
    if not values:
        first = next((each.problem for each in looks if each.problem), "all are background")
        raise InputError(f"No label value is found in {len(labelled)} label files ({patterns[-1].text}): {first}")
    names, why = _channel_names(image, channels, max(looks[0].channels, len(image)), cases)
    return Found(
        folder,
        tuple(image),
        label,
        names,
        why,
        name_values(labels, list(values)),
        tuple(labelled),
        tuple(case for case in cases if case.label is None),
        values,
        tuple(remarks + odd + passed_over_texts(files, left)),
        tuple(_other_files(files)),
    )


def _cases(folder: Path, paired: Paired) -> list[Case]:
    groups = paired.groups
    names = case_names(groups)
    owners = patients(names, [group.images[0].file for group in groups])
    cases = []
    for group, name, owner in zip(groups, names, owners, strict=True):
        label = folder / group.label.file if group.label else None
        cases.append(Case(name, tuple(folder / fit.file for fit in group.images), label, owner))
    return cases


def _same_channels(
    cases: Sequence[Case], looks: Sequence[Look], patterns: int, named: int
) -> tuple[list[Case], list[Look], list[str]]:
    """The cases that have as many channels in their one file as most, or as are named, and a remark on the others."""
    readable = [each.channels for each in looks if not each.problem]
    if not readable:
        return list(cases), list(looks), []
    usual = Counter(readable).most_common(1)[0][0]
    expected = 1 if patterns > 1 else named or usual
    fits = [bool(look.problem) or look.channels == expected for look in looks]
    if not any(fit and not look.problem for fit, look in zip(fits, looks, strict=True)):
        raise InputError(
            f"{cases[0].images[0]} and such hold {counted(usual, 'channel')} each, {expected} expected. Give as "
            "many names as --channels; or, for one file a channel, an --image pattern for each."
        )
    odd = [f"{case.name} ({look.channels})" for case, look, fit in zip(cases, looks, fits, strict=True) if not fit]
    said = f"Left out, because they have not {counted(expected, 'channel')}: {listed(odd, 10)}."
    kept = [(case, look) for case, look, fit in zip(cases, looks, fits, strict=True) if fit]
    # A file that cannot be read says 1.
    return [case for case, _ in kept], [look._replace(channels=expected) for _, look in kept], [said] if odd else []


def _channel_names(
    image: Sequence[str], given: Sequence[str], count: int, cases: Sequence[Case]
) -> tuple[tuple[str, ...], str]:
    """The channels' names, and where they come from."""
    if given:
        if len(given) != count:
            raise InputError(
                f"--channels has {len(given)} names ({', '.join(given)}) for {count} channels: "
                f"{', '.join(image)}. Give one for each, in order."
            )
        return tuple(given), "given"
    if count == 1:
        found = modality(image[0])
        if found:
            return (found,), "from the file names"
        if is_hounsfield(cases):
            return ("CT",), "from the intensities, which are Hounsfield units"
        return ("image",), "not known, normalised like MR; where it is CT, say --channels CT"
    names = [modality(text) or stem(text.rpartition("/")[2]).strip("*_-. ") for text in image]
    if len(names) == count and all(names) and len(set(names)) == count and not any(name.isdigit() for name in names):
        return tuple(names), "from the file names"
    return tuple(f"channel_{index}" for index in range(count)), "not known, normalised like MR; name them by --channels"


def _damaged(cases: Sequence[Case], looks: Sequence[Look]) -> list[str]:
    both = zip(cases, looks, strict=True)
    wrong = [f"{case.name}: {look.problem.rstrip('.')}" for case, look in both if look.problem]
    if not wrong:
        return []
    return [f"Listed, but to be corrected or taken out of the file before a training: {shortened(wrong)}."]


def _left_out(paired: Paired) -> list[str]:
    said = []
    if paired.orphans:
        names = listed([str(file) for file in paired.orphans], 10)
        said.append(f"Left out, labels without an image: {names}.")
    if paired.incomplete:
        parts = [" and ".join(map(str, files)) for files in paired.incomplete]
        said.append(f"Left out, because a channel is missing; there are only {listed(parts, 10)}.")
    return said


def _other_files(files: Files) -> list[str]:
    names = [*files.texts, *(name for name in files.hidden if ".nii" not in name.lower())]
    return [f"Not scans: {listed(names, 10)}."] if names else []


def _no_fit(pattern: Pattern, files: Files) -> InputError:
    names = Counter(file.name for file in files.nifti)
    alike = [f"{name} ({count} times)" if count > 1 else name for name, count in names.most_common()]
    return InputError(
        f"No file fits the pattern '{pattern.text}'. There are {listed(alike, 6)}. Give a file name or a glob, "
        "relative to the data folder or to a case's, in quotes: 'images/*.nii.gz'."
    )
