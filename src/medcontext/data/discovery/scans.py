"""Scans alone, to be segmented or learnt from without labels: files, wildcards, folders however deep."""

import os
from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from medcontext.data.cases import Case
from medcontext.data.dicom.heads import folders_below, is_dicom, is_dicom_path
from medcontext.data.discovery.dicom import find_dicom
from medcontext.data.discovery.guess import are_numbered, kinds_of, several_kinds
from medcontext.data.discovery.names import case_names
from medcontext.data.discovery.pairing import pair
from medcontext.data.discovery.patterns import Pattern, assign
from medcontext.data.discovery.walk import Files, passed_over_texts, walk
from medcontext.data.discovery.words import is_label, modality
from medcontext.data.folders import find_images, listed, nifti_files, passed_over, passed_over_text, shortened
from medcontext.data.formats import MANIFEST, is_dataset
from medcontext.data.nifti import is_nifti
from medcontext.errors import InputError, counted
from medcontext.files import check_utf8, read_json


class FoundScans(NamedTuple):
    """Cases without labels, and what was passed over, a sentence each."""

    cases: tuple[Case, ...]
    remarks: tuple[str, ...] = ()


def find_scans(
    inputs: Sequence[Path], channels: Sequence[str], image: Sequence[str] = (), series: Sequence[str] = ()
) -> FoundScans:
    """The scans that paths mean; no NIfTI file is opened, of DICOM the headers are read: see `find_dicom`.

    One file, or a folder with NIfTI files, is read as `find_images` does. Of a folder without any, all below it are
    taken; of several paths, all files together. Of a folder, files that are called like labels are passed over. A case
    has its file's name, or its folder's where files are called alike.

    Args:
        inputs: files, folders, wildcards such as `scans/*/ct.nii.gz`.
        channels: names of those that the network takes.
        image: a pattern for each channel, or one for all, as of `medcontext init`; guessed if empty.
        series: of DICOM, which are meant.

    Raises:
        InputError: if nothing is there; if it cannot be told which files are which channels; if two cases would have
            the same name.
    """
    paths = list(dict.fromkeys(path for given in inputs for path in _expanded(given)))
    if not paths:
        raise InputError("No input is given; name a NIfTI file, a folder of them or a data set.")
    if _are_dicom(paths, image, series):
        return FoundScans(*find_dicom(paths, channels, series))
    only = paths[0]
    if len(paths) == 1 and not image and not (only.is_dir() and not nifti_files(only) and _has_folders(only)):
        labels, others = _labels_beside_scans(only), passed_over(only)
        said = [_labels_text(list(map(str, labels)))] if labels else []
        said += [passed_over_text(only, others)] if others else []
        return FoundScans(find_images(only, len(channels), labels), tuple(said))
    root, files, named, remarks = _gather(paths, keep_labels=bool(image))
    patterns = list(image) or _guessed(files, channels, named)
    if len(patterns) not in (1, len(channels)):
        raise InputError(f"--image has {len(patterns)} patterns for {_count(channels)}; give one for each, in order.")
    fits, left = assign(files, [Pattern(text) for text in patterns])
    for text, own in zip(patterns, fits, strict=True):
        if not own:
            raise InputError(f"No file fits --image '{text}'. There are {listed([str(file) for file in files], 4)}.")
    paired = pair(fits, [])
    if paired.incomplete:
        there = [" and ".join(str(root / file) for file in group) for group in paired.incomplete]
        raise InputError(f"{_count(channels)} expected, but of some cases there are only {shortened(there)}.")
    names = case_names(paired.groups)
    cases = tuple(
        Case(name, tuple(root / fit.file for fit in group.images))
        for name, group in sorted(zip(names, paired.groups, strict=True), key=lambda both: both[0])
    )
    return FoundScans(cases, (*remarks, *passed_over_texts(Files(()), left)))


def are_dicom(given: Path) -> bool:
    """Whether there is DICOM where a path or one with wildcards leads."""
    return any(is_dicom_path(path) for path in _expanded(given))


def series_of_sources(sources: Sequence[str], series: Sequence[str]) -> dict[str, Sequence[str]]:
    """Of several sources of scans: what a person wants of the series of each that is DICOM, and nothing of others.

    Raises:
        InputError: if series are wanted, and no source is DICOM.
    """
    dicom = [source for source in sources if series and not is_dataset(Path(source)) and are_dicom(Path(source))]
    if series and not dicom:
        given = ", ".join(sources) or "no source of scans"
        raise InputError(f"--series is for folders of DICOM files; {given} is none. Leave it out.")
    return {source: series if source in dicom else () for source in sources}


def _expanded(given: Path) -> list[Path]:
    """The paths that one with wildcards means; a name with brackets that is there is none."""
    if given.exists() or not has_magic(str(given)):
        return [given]
    found = [Path(text) for text in sorted(glob(str(given), recursive=True))]
    taken = [path for path in found if path.is_dir() or is_nifti(path) or is_dicom(path)]
    if not taken:
        others = f", only {listed([path.name for path in found])}" if found else ""
        raise InputError(f"No NIfTI file or folder fits {given}{others}, and no DICOM file.")
    return taken


def _are_dicom(paths: Sequence[Path], image: Sequence[str], series: Sequence[str]) -> bool:
    """Whether DICOM series are meant; of folders that hold both, NIfTI files that are called like labels do not count.

    Raises:
        InputError: if there are both; if there is none of what `series` is for.
    """
    kinds = {path: _kinds(path) for path in paths}
    dicom = [path for path, (_, there) in kinds.items() if there]
    if series and len(dicom) < len(paths):
        other = next(path for path in paths if path not in dicom)
        raise InputError(f"--series is for DICOM, and {other} holds none. Leave it out.")
    if series or image or not dicom:
        return bool(series)
    mixed = [path for path, (nifti, _) in kinds.items() if nifti]
    if mixed:
        raise InputError(
            f"{mixed[0]} has NIfTI files, and {dicom[0]} DICOM files. Say which are meant: --image PATTERN takes "
            "NIfTI, --series DICOM; or give folders with one of them."
        )
    return True


def _kinds(path: Path) -> tuple[bool, bool]:
    """Whether there are NIfTI files that may be scans, and DICOM files; what was predicted does not count."""
    if not path.is_dir():
        return is_nifti(path), is_dicom(path)
    nifti = dicom = False
    predicted: set[Path] = set()
    for place, names in folders_below(path):
        if place.parent in predicted or _is_predicted(place):
            predicted.add(place)
            continue
        files = [place / name for name in names]
        nifti = nifti or any(is_nifti(file) and not is_label(PurePosixPath(file.relative_to(path))) for file in files)
        dicom = dicom or any(map(is_dicom, files))
    return nifti, dicom


def _labels_beside_scans(folder: Path) -> list[Path]:
    """A folder's NIfTI files that are called like labels; none where all are, for then the word tells nothing."""
    files = nifti_files(folder)
    labels = [file for file in files if is_label(PurePosixPath(file.name))]
    return labels if len(labels) < len(files) else []


def _labels_text(labels: Sequence[str]) -> str:
    return f"Passed over, called like labels, {counted(len(labels), 'file')}: {listed(labels, 10)}."


def _has_folders(folder: Path) -> bool:
    return any(item.is_dir() and not item.name.startswith(".") and _holds_nifti(item) for item in folder.iterdir())


def _holds_nifti(folder: Path) -> bool:
    return any(is_nifti(Path(name)) for _, _, names in os.walk(folder, followlinks=True) for name in names)


class _Gathered(NamedTuple):
    """Files below a root; whether each was named by the person, and what was passed over."""

    root: Path
    files: list[PurePosixPath]
    named: bool
    remarks: list[str]


def _gather(paths: Sequence[Path], keep_labels: bool) -> _Gathered:
    """All files of several paths, each once; of folders those that are not called like labels."""
    found: dict[str, Path] = {}
    labels: list[str] = []
    remarks: list[str] = []
    predicted: dict[Path, bool] = {}
    for path in paths:
        if not path.is_dir():
            found.setdefault(os.path.realpath(path), find_images(path, 1)[0].images[0])
            continue
        files = walk(path)
        remarks += passed_over_texts(files, [])
        for file in files.nifti:
            folder = (path / file).parent
            if folder not in predicted:
                predicted[folder] = _is_predicted(folder) or _is_predicted(folder.parent)
            if predicted[folder]:
                continue
            if is_label(file) and not keep_labels:
                labels.append(str(path / file))
            else:
                found.setdefault(os.path.realpath(path / file), path / file)
    if labels:
        remarks.append(_labels_text(labels))
    if folders := [str(folder) for folder in predicted if predicted[folder]]:
        remarks.append(f"Passed over, predictions: {listed(folders, 10)}.")
    if not found:
        raise InputError(f"There are no images to segment. {' '.join(remarks)} Say which they are: --image PATTERN.")
    root = paths[0]
    if len(paths) > 1 or not root.is_dir():
        found = {key: Path(os.path.abspath(file)) for key, file in found.items()}
        root = Path(os.path.commonpath([file.parent for file in found.values()]))
    for path in found.values():
        check_utf8(path)
    relative = sorted(PurePosixPath(file.relative_to(root).as_posix()) for file in found.values())
    return _Gathered(root, relative, not any(path.is_dir() for path in paths), remarks)


def _is_predicted(folder: Path) -> bool:
    """Whether `medcontext predict` wrote there: what it made of scans is none itself."""
    record = read_json(folder / MANIFEST) if (folder / MANIFEST).is_file() else None
    return isinstance(record, dict) and "predicted_by" in record


def _guessed(files: Sequence[PurePosixPath], channels: Sequence[str], named: bool) -> list[str]:
    """A pattern for each channel, or one where each file is a case."""
    if named and len(channels) == 1:
        names = {file.name for file in files}
        return list(names) if len(names) == 1 else ["*"]
    found = kinds_of(files)
    if len(found) == 1 and any(_may_be(file, channels) for file in files if not Pattern(found[0]).fit(file)):
        if len(channels) == 1:
            return ["*"]  # rather a scan too many than one that is passed over
        raise several_kinds(files, found)
    if len(found) == 1 or (are_numbered(found) and len(found) == len(channels)):
        return found
    by_modality = {modality(text): text for text in found if modality(text)}
    chosen = [by_modality[modality(channel)] for channel in channels if modality(channel) in by_modality]
    if len(chosen) == len(set(chosen)) == len(channels) and len(by_modality) == len(found):
        return chosen
    raise several_kinds(files, found)


def _may_be(file: PurePosixPath, channels: Sequence[str]) -> bool:
    """Whether a file's name does not say that it is of another modality."""
    said = modality(file.name)
    return not said or said in map(modality, channels)


def _count(channels: Sequence[str]) -> str:
    return f"{counted(len(channels), 'channel')} ({', '.join(channels)})"
