"""Folders of NIfTI files: which files make up one case."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from medcontext.data.cases import Case
from medcontext.data.nifti import NIFTI_SUFFIXES, case_name, is_nifti
from medcontext.errors import InputError
from medcontext.files import check_utf8

NO_SCAN = (
    *(".json", ".yaml", ".yml", ".xml", ".cfg", ".log", ".txt", ".md", ".html", ".pdf", ".docx", ".csv", ".tsv"),
    *(".xls", ".xlsx", ".ctbl", ".py", ".ipynb", ".sh", ".png", ".jpg", ".jpeg", ".svg", ".bval", ".bvec"),
)
"""Endings of files that lie beside scans and are none."""

_CHANNEL_SUFFIX = re.compile(r"_(\d{4})$")


def find_images(path: Path, channels: int, without: Collection[Path] = ()) -> tuple[Case, ...]:
    """The images to predict: one file, or every NIfTI file of a folder, sorted by name, without labels.

    A file is one case, unless the names are nnU-Net's: with several channels, `case_0000.nii.gz`,
    `case_0001.nii.gz`, ... make one case; with one channel, `_0000` is dropped if every file has it.

    Args:
        path: a file or a folder (its subfolders are not searched).
        channels: how many channels the network takes.
        without: files of the folder that are not meant.

    Raises:
        InputError: if nothing is there, or a channel of a case is missing.
    """
    if path.is_dir():
        files = [file for file in nifti_files(path) if file not in without]
    elif path.exists():
        if not is_nifti(path):
            raise InputError(f"{path} is not a NIfTI file; give a .nii.gz or .nii file, or a folder of them.")
        files = _siblings(path, channels)
    else:
        raise InputError(f"Input not found: {path}. Give a file or a folder that is there.")
    if not files:
        raise _none_found(path)
    if not _has_channel_names(files, channels):
        return tuple(Case(name, (file,)) for name, file in _by_name(files, path).items())
    groups = group_channels(files)
    incomplete = [problem for name, group in groups.items() for problem in missing_channels(name, group, channels)]
    if incomplete:
        raise InputError(f"{path}: {shortened(incomplete)}.")
    return tuple(Case(name, tuple(group[index] for index in range(channels))) for name, group in groups.items())


def nifti_files(folder: Path) -> list[Path]:
    """The NIfTI files of a folder, sorted, without hidden files such as macOS's `._*`.

    Raises:
        InputError: if a file's name is not UTF-8.
    """
    files = sorted(file for file in folder.iterdir() if is_nifti(file)) if folder.is_dir() else []
    for file in files:
        check_utf8(file)
    return files


def passed_over(folder: Path, read: Sequence[Path] | None = None) -> list[str]:
    """What in a folder may be scans and is not read: other formats, other endings, folders with files.

    Args:
        folder: whose subfolders are not searched.
        read: the files that are; all NIfTI files if None.

    Returns:
        Names, sorted, those of folders with a slash.
    """
    if not folder.is_dir():
        return []
    known = set(nifti_files(folder) if read is None else read)
    others = [item for item in sorted(folder.iterdir()) if item not in known]
    return [
        item.name + "/" * item.is_dir()
        for item in others
        if (any(map(_may_be_scan, item.iterdir())) if item.is_dir() else _may_be_scan(item))
    ]


def passed_over_text(folder: Path, names: list[str], endings: Sequence[str] = NIFTI_SUFFIXES) -> str:
    """What `passed_over` found where files with these endings are read, in a sentence."""
    return (
        f"passed over in {folder}, where {' and '.join(endings)} files are read: {listed(names, 10)}. Convert or move "
        "them if they are scans or labels."
    )


def _may_be_scan(file: Path) -> bool:
    return not file.name.startswith(".") and file.suffix.lower() not in NO_SCAN and file.is_file()


def group_channels(files: list[Path]) -> dict[str, dict[int, Path]]:
    """Case name to channel index to file, for names such as `case_0001.nii.gz`."""
    groups: dict[str, dict[int, Path]] = {}
    for file in files:
        name = case_name(file)
        match = _CHANNEL_SUFFIX.search(name)
        if match is None:
            raise InputError(
                f"{file} has no channel number; in this layout images are called <case>_0000.nii.gz for the first "
                "channel, <case>_0001.nii.gz for the second, and so on."
            )
        channel = groups.setdefault(name[: match.start()], {})
        if int(match[1]) in channel:
            raise InputError(f"{file} and {channel[int(match[1])].name} are the same channel of one case; keep one.")
        channel[int(match[1])] = file
    return groups


def missing_channels(name: str, group: dict[int, Path], channels: int) -> list[str]:
    """What is wrong with a case's channel files, in words; empty if they are 0..channels-1."""
    if set(group) == set(range(channels)):
        return []
    found = ", ".join(f"_{index:04d}" for index in sorted(group))
    wanted = ", ".join(f"_{index:04d}" for index in range(channels))
    return [f"case '{name}' has the channel files {found}, but {wanted} are expected"]


def shortened(problems: list[str], shown: int = 5) -> str:
    """The first few of a list of problems, and how many more there are.

    >>> shortened(["a", "b", "c"], shown=2)
    'a; b; and 1 more'
    """
    rest = len(problems) - shown
    return "; ".join(problems[:shown]) + (f"; and {rest} more" if rest > 0 else "")


def listed(names: Sequence[str], shown: int = 5) -> str:
    """The first few names, and how many more there are.

    >>> listed(["a", "b", "c"], shown=2)
    'a, b and 1 more'
    """
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def _siblings(file: Path, channels: int) -> list[Path]:
    """The channel files that belong to one file given by the user."""
    match = _CHANNEL_SUFFIX.search(case_name(file))
    if channels == 1 or match is None:
        return [file]
    stem = case_name(file)[: match.start()]
    return [f for f in nifti_files(file.parent) if _CHANNEL_SUFFIX.sub("", case_name(f)) == stem != case_name(f)]


def _has_channel_names(files: list[Path], channels: int) -> bool:
    # A number from `channels` on is a case's own, as in scan_0483.nii.gz, and then all of them are.
    matches = [_CHANNEL_SUFFIX.search(case_name(file)) for file in files]
    return all(match is not None and int(match[1]) < channels for match in matches)


def _by_name(files: list[Path], path: Path) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for file in files:
        if case_name(file) in named:
            raise InputError(f"{path}: {named[case_name(file)].name} and {file.name} have the same name; keep one.")
        named[case_name(file)] = file
    return named


def _none_found(folder: Path) -> InputError:
    inside = sorted(item.name for item in folder.iterdir() if item.is_dir())
    hint = f" It has the folders {', '.join(inside[:5])}; give one of them." if inside else ""
    others = [name for name in passed_over(folder) if not name.endswith("/")]
    hint += f" It has {listed(others)}; convert scans to NIfTI first." if others else ""
    return InputError(f"No NIfTI files ({', '.join(NIFTI_SUFFIXES)}) in {folder}.{hint}")
