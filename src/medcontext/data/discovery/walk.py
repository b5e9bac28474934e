"""Every file below a folder, sorted by what it may be."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medcontext.data.dicom.heads import is_dicom
from medcontext.data.dicom.series import find_series, place_of
from medcontext.data.folders import NO_SCAN, listed
from medcontext.data.nifti import is_nifti
from medcontext.errors import InputError
from medcontext.files import check_utf8


@dataclass(frozen=True)
class Files:
    """Paths relative to the folder, sorted.

    Args:
        nifti: those that are read; a DICOM series among them is its folder, or its first file.
        hidden: files and folders whose names begin with a dot.
        others: what may be a scan in another format.
        texts: what is none, such as tables and pictures.
    """

    nifti: tuple[PurePosixPath, ...]
    hidden: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()


def walk(folder: Path, dicom: bool = False) -> Files:
    """Look through a folder and all below it, through links too, each place once.

    Args:
        folder: to look through.
        dicom: whether DICOM series are scans, too, rather than another format.

    Raises:
        InputError: if it is not a folder, cannot be read, holds no NIfTI file, or one whose name is not UTF-8.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is {'a file' if folder.exists() else 'not there'}; give a folder of NIfTI files.")
    found: dict[str, list[str]] = {"nifti": [], "hidden": [], "others": [], "texts": []}
    seen = {os.path.realpath(folder)}
    for place, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        relative = Path(place).relative_to(folder)
        found["hidden"] += [f"{(relative / name).as_posix()}/" for name in folders if name.startswith(".")]
        targets = {name: os.path.realpath(os.path.join(place, name)) for name in sorted(folders)}
        folders[:] = [name for name in targets if not name.startswith(".") and targets[name] not in seen]
        seen |= {targets[name] for name in folders}
        for name in names:
            found[_kind(Path(name))].append((relative / name).as_posix())
    if dicom:
        _add_series(folder, found)
    nifti = sorted(PurePosixPath(name) for name in found.pop("nifti"))
    for file in nifti:
        check_utf8(str(file))
    files = Files(tuple(nifti), **{kind: tuple(sorted(names)) for kind, names in found.items()})
    if not nifti:
        others = f" It has {files.others[0]} and such; convert scans to NIfTI first." if files.others else ""
        raise InputError(f"No NIfTI files (.nii.gz, .nii) in {folder} or below it.{others}")
    return files


def passed_over_texts(files: Files, left: Sequence[PurePosixPath]) -> list[str]:
    """What may be a scan and is not taken, a sentence for each kind; `left` are NIfTI files that fit no pattern."""
    said = []
    if left:
        said.append(f"Passed over, NIfTI files that fit no pattern: {listed([str(file) for file in left], 10)}.")
    if files.others:
        said.append(f"Passed over, in other formats: {listed(files.others, 10)}. Convert them if they are scans.")
    if scans := [name for name in files.hidden if ".nii" in name.lower()]:
        said.append(f"Passed over, hidden: {listed(scans, 10)}.")
    return said


def _add_series(folder: Path, found: dict[str, list[str]]) -> None:
    """Count DICOM series among the scans, and their files no longer among those of other formats.

    Each by the highest folder that holds nothing else, as labels lie beside that or are called like it.
    """
    files = {name for kind in ("others", "texts") for name in found[kind] if is_dicom(folder / name)}
    if not files:
        return
    series = find_series(folder, later=True)
    beside = [parent for name in found["nifti"] for parent in (folder / name).parents]
    own = [{parent for file in each.files for parent in file.parents} for each in series.series]
    taken = Counter([*beside, *(parent for parents in own for parent in parents)])
    for each in series.series:
        place = place_of(each, series)
        if place in beside:
            place = each.files[0]
        while place.is_dir() and place.parent != folder and taken[place.parent] == 1:
            place = place.parent
        found["nifti"].append(place.relative_to(folder).as_posix())
    for kind in ("others", "texts"):
        found[kind] = [name for name in found[kind] if name not in files]
    found["others"] += [f"{kind} (DICOM, {number})" for kind, number in series.others.items()]


def _refuse(error: OSError) -> None:
    raise InputError(f"Cannot read {error.filename}: {error.strerror}.")


def _kind(name: Path) -> str:
    if name.name.startswith("."):
        return "hidden"
    if is_nifti(name):
        return "nifti"
    return "texts" if name.suffix.lower() in NO_SCAN else "others"
