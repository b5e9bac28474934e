"""The layouts in which data sets come: Decathlon folders, nnU-Net v2 raw folders, a plain JSON list.

Those that come without a JSON file are in `official.py`.
"""

import os
import shlex
import unicodedata
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from medcontext.data.cases import Case, Dataset
from medcontext.data.declarations import (
    read_channels,
    read_declared_map,
    read_declared_regions,
    read_ignored,
    read_labels,
)
from medcontext.data.folders import (
    group_channels,
    missing_channels,
    nifti_files,
    passed_over,
    passed_over_text,
    shortened,
)
from medcontext.data.json_keys import unread_keys, unread_labels
from medcontext.data.nifti import NIFTI_SUFFIXES, case_name
from medcontext.data.official import scan_official
from medcontext.errors import InputError
from medcontext.files import check_utf8, read_json

MANIFEST = "dataset.json"
LONGEST = 240  # bytes of a case's name: a file's name may have 255, and has an ending

ACCEPTED = f"""\
Accepted are
  - a Medical Segmentation Decathlon folder: {MANIFEST} with "modality", "labels" and "training";
  - an nnU-Net v2 raw folder: {MANIFEST} with "channel_names", "labels" and "file_ending", imagesTr, labelsTr;
  - a JSON file: {{"channels": ["CT"], "labels": {{"background": 0, "liver": 1}}, "cases": [{{"image": ..., \
"label": ...}}]}}, paths relative to it, and "unlabelled": ["scan.nii.gz", ...] where there are some;
  - without {MANIFEST}, as distributed: BTCV (imagesTr/img0001.nii.gz, labelsTr/label0001.nii.gz; or RawData), ACDC \
(training/patient001/patient001_frame01.nii.gz and _frame01_gt.nii.gz), BraTS 2021 \
(BraTS2021_00000/BraTS2021_00000_flair.nii.gz, _t1, _t1ce, _t2 and _seg)."""


def read_dataset(path: Path, may_ignore: bool = False) -> Dataset:
    """Read what a data set consists of. No image is opened.

    Args:
        path: a Decathlon or nnU-Net v2 raw folder, one of BTCV, ACDC or BraTS 2021, or a JSON file (see `ACCEPTED`).
        may_ignore: whether labels may be left out at places, by nnU-Net's `ignore` label; only scores can do that.

    Raises:
        InputError: if the layout is not one of these; if there are no cases; if listed files do not exist, a
            label is missing, or a case occurs twice (all of them in one message); for labels or channels that
            cannot be used.
    """
    dataset, problems = scan_dataset(path, may_ignore)
    if problems:
        raise InputError(f"Data set {path}: {shortened(problems)}.")
    return dataset


def scan_dataset(path: Path, may_ignore: bool = False) -> tuple[Dataset, list[str]]:
    """As `read_dataset`, but cases that cannot be used are left out and reported, one sentence each.

    Raises:
        InputError: if nothing can be read at all.
    """
    scan = scan_official(path) if path.is_dir() and not (path / MANIFEST).is_file() else None
    dataset, problems = scan or _described(_find_manifest(path), may_ignore)
    sound = list(_without_problems([*dataset.cases, *dataset.unlabelled], problems))
    labelled = tuple(case for case in sound if case.label is not None)
    return replace(dataset, cases=labelled, unlabelled=tuple(c for c in sound if c.label is None)), problems


def is_dataset(path: Path) -> bool:
    """Whether a path looks like a data set, rather than a folder of files."""
    if not path.is_dir():
        return path.suffix == ".json"
    return (path / MANIFEST).is_file() or scan_official(path) is not None


def read_list(file: Path) -> list[Path] | list[Case] | None:
    """What a JSON file lists that is no data set but a list: paths, or scans as a data set has them as "unlabelled".

    Returns:
        Paths, relative ones from where the file lies; or cases without labels, if some entry is not just a path; None
        if it is no such file.

    Raises:
        InputError: if it is empty, or an entry cannot be used.
    """
    if file.suffix != ".json" or not file.is_file():
        return None
    entries = read_json(file)
    if not isinstance(entries, list):
        return None
    if not entries:
        raise InputError(f"{file} is an empty list; give paths of scans.")
    if all(isinstance(entry, str) for entry in entries):
        return [_on_disk(file.parent, entry) for entry in entries]
    scans = [entry if isinstance(entry, dict) else {"image": entry} for entry in entries]
    cases = [replace(_listed_case(entry, f"{file}, [{n}]", file.parent), label=None) for n, entry in enumerate(scans)]
    problems: list[str] = []
    sound = list(_without_problems(cases, problems))
    if problems:
        raise InputError(f"{file}: {shortened(problems)}.")
    return sound


def _described(file: Path, may_ignore: bool) -> tuple[Dataset, list[str]]:
    """What a JSON file describes."""
    manifest = read_json(file)
    if not isinstance(manifest, dict):
        raise InputError(f"{file} does not describe a data set: it holds a {type(manifest).__name__}. {ACCEPTED}")
    channels, labels = read_channels(manifest, file), read_labels(manifest, file, may_ignore)
    name = manifest.get("name") or (file.parent.resolve().name if file.name == MANIFEST else file.stem)
    regions = read_declared_regions(manifest, file, labels)
    listed = "cases" in manifest or not ("file_ending" in manifest or "channel_names" in manifest)
    kind = "nnunet" if not listed else "training" if "training" in manifest else "cases"
    unlabelled: list[Case] = []
    if listed:
        cases, problems = _listed(manifest, file)
    else:
        cases, unlabelled, problems = _nnunet(manifest, file, len(channels))
    remarks = [] if listed else _other_files(file.parent, manifest)
    for key in ("test", "unlabelled") if listed else ("unlabelled",):
        unlabelled += _without_label(manifest, key, file)
        remarks += unread_labels(_entries(manifest, key, file), key, file)
    remarks += unread_keys(manifest, file, kind)
    remarks += _other_numbers(manifest, file, len(cases), len(unlabelled))
    if not cases and not unlabelled and not problems:
        raise InputError(f"No labelled cases in {file}. {ACCEPTED}")
    label_map = read_declared_map(manifest, file)
    parts = tuple(cases), tuple(unlabelled), regions, label_map, tuple(remarks), read_ignored(manifest, file)
    return Dataset(str(name), file.parent, channels, labels, *parts), problems


def _find_manifest(path: Path) -> Path:
    if not path.exists():
        raise InputError(f"Data set not found: {path}")
    if path.is_file():
        if path.suffix != ".json":
            raise InputError(f"{path} is not a data set. {ACCEPTED}")
        return path
    file = path / MANIFEST
    if file.is_file():
        return file
    init = f"medcontext init {shlex.quote(str(path))}"
    others = sorted(item.name for item in path.glob("*.json") if not item.name.startswith("."))
    inside = next((item for item in sorted(path.iterdir()) if item.is_dir() and is_dataset(item)), None)
    if (path / "imagesTr").is_dir() or (path / "labelsTr").is_dir():
        hint = (
            f"{path} has imagesTr and labelsTr, but no {MANIFEST} that says what their channels and values mean. "
            f"Take the one that came with the data, or let `{init}` write one."
        )
    elif inside is not None:
        hint = f"There is no {MANIFEST} in {path}, but {inside} looks like a data set; give that."
    elif others:
        hint = (
            f"There is no {MANIFEST} in {path}; if one of {', '.join(others[:5])} describes the data, give that file."
        )
    else:
        hint = f"There is no {MANIFEST} in {path}; of scans of your own `{init}` writes one."
    raise InputError(f"{hint} {ACCEPTED}")


def _listed(manifest: dict[str, Any], file: Path) -> tuple[list[Case], list[str]]:
    """Cases that the JSON file lists: the Decathlon's, MONAI's and ours."""
    if "cases" in manifest and "training" in manifest:
        raise InputError(f'{file} has both "cases" and "training"; keep one.')
    if manifest.get("validation"):
        raise InputError(
            f'{file} has a "validation" list. List every labelled case under "training", and name the validation '
            'cases in a split file: {"train": [...], "validation": [...], "test": [...]}.'
        )
    key = "cases" if "cases" in manifest else "training"
    problems: list[str] = []
    cases: list[Case] = []
    for number, entry in enumerate(_entries(manifest, key, file)):
        if not isinstance(entry, dict):
            raise InputError(f'{file}, "{key}"[{number}]: got {entry!r}; give {{"image": ..., "label": ...}}.')
        case = _listed_case(entry, f'{file}, "{key}"[{number}]', file.parent)
        if case.label is None:
            problems.append(f"case '{case.name}' has no \"label\" in {file.name}")
        else:
            cases.append(case)
    return cases, problems


def _without_label(manifest: dict[str, Any], key: str, file: Path) -> list[Case]:
    """The scans that a file lists as having no label."""
    entries = [entry if isinstance(entry, dict) else {"image": entry} for entry in _entries(manifest, key, file)]
    cases = [_listed_case(entry, f'{file}, "{key}"[{number}]', file.parent) for number, entry in enumerate(entries)]
    return [replace(case, label=None) for case in cases]


def _entries(manifest: dict[str, Any], key: str, file: Path) -> list[Any]:
    entries = manifest.get(key, [])
    if not isinstance(entries, list):
        raise InputError(f'{file}, "{key}": got {type(entries).__name__}; a list of cases is expected.')
    return [entry for entry in entries if not (isinstance(entry, dict) and _is_hidden(entry.get("image")))]


def _listed_case(entry: dict[str, Any], where: str, root: Path) -> Case:
    images = entry.get("image", entry.get("images"))
    images = [images] if isinstance(images, str) else images
    if not isinstance(images, list) or not images or not all(isinstance(image, str) for image in images):
        raise InputError(f'{where}: "image" must be a path, or a list of one path per channel; got {images!r}.')
    label = entry.get("label")
    if label is not None and not isinstance(label, str):
        raise InputError(f'{where}: "label" must be one path; got {label!r}.')
    files = [_on_disk(root, image) for image in images]
    name = case_name(files[0])
    if len(images) > 1:
        name = name.removesuffix("_0000")
    name = entry.get("name", name)
    if not isinstance(name, str) or not _names_a_file(name):
        raise InputError(
            f'{where}: "name" must be usable as a file name: at most {LONGEST} bytes, no slashes, no control '
            f"characters, not . or ..; got {name!r:.100}."
        )
    name = unicodedata.normalize("NFC", name)  # as `case_name`
    patient = entry.get("patient", "")
    if not isinstance(patient, str):
        raise InputError(f'{where}: "patient" must be a text that all cases of one patient share; got {patient!r}.')
    return Case(name, tuple(files), None if label is None else _on_disk(root, label), patient)


def _names_a_file(name: str) -> bool:
    odd = any(each in "/\\" or unicodedata.category(each) == "Cc" for each in name)
    return name not in ("", ".", "..") and not odd and len(name.encode(errors="surrogatepass")) <= LONGEST


def _on_disk(root: Path, written: str) -> Path:
    """The file that a path means: as it is written, with Windows' slashes, or with accents as macOS writes them.

    Raises:
        InputError: if no file can be called so.
    """
    if "\0" in written:
        raise InputError(f"{written!r} is no path, listed by a JSON file in {root}: remove the character of code 0.")
    ways = [written, written.replace("\\", "/")]
    ways += [unicodedata.normalize(form, way) for form in ("NFC", "NFD") for way in ways]
    return next((root / way for way in ways if os.path.exists(root / way)), root / ways[1])


def _nnunet(manifest: dict[str, Any], file: Path, channels: int) -> tuple[list[Case], list[Case], list[str]]:
    """nnU-Net v2: the cases are found in the folders, unless "dataset" maps them to files."""
    root, ending = file.parent, manifest.get("file_ending", NIFTI_SUFFIXES[0])
    if ending not in NIFTI_SUFFIXES:
        raise InputError(
            f'{file}, "file_ending": got "{ending}"; medcontext reads {" and ".join(NIFTI_SUFFIXES)}. Convert images '
            "and labels, and correct it."
        )
    unlabelled, problems = _channel_cases(root / "imagesTs", ending, channels)
    more, wrong = _channel_cases(root / "imagesUn", ending, channels)
    unlabelled, problems = unlabelled + more, problems + wrong
    if "dataset" in manifest:
        return _mapped(manifest["dataset"], file), unlabelled, problems
    images, wrong = _channel_cases(root / "imagesTr", ending, channels)
    problems += wrong
    labels = {case_name(label): label for label in _ending(root / "labelsTr", ending)}
    cases = [replace(case, label=labels[case.name]) for case in images if case.name in labels]
    known = {case.name for case in images}
    problems += [f"case '{case.name}' has no label in labelsTr" for case in images if case.name not in labels]
    if not wrong:
        problems += [f"labelsTr/{label.name} has no image in imagesTr" for n, label in labels.items() if n not in known]
    return cases, unlabelled, problems


def _mapped(mapping: Any, file: Path) -> list[Case]:
    if not isinstance(mapping, dict):
        raise InputError(
            f'{file}, "dataset": got {type(mapping).__name__}; a mapping of case name to files is expected.'
        )
    cases = []
    for name, entry in mapping.items():
        where = f"{file}, \"dataset\", '{name}'"
        if not isinstance(entry, dict) or "label" not in entry:
            raise InputError(f'{where}: got {entry!r}; give {{"images": [...], "label": ...}}.')
        cases.append(_listed_case({"name": name, **entry}, where, file.parent))
    return cases


def _channel_cases(folder: Path, ending: str, channels: int) -> tuple[list[Case], list[str]]:
    cases, problems = [], []
    for name, group in group_channels(_ending(folder, ending)).items():
        wrong = missing_channels(name, group, channels)
        problems += wrong
        if not wrong:
            cases.append(Case(name, tuple(group[index] for index in range(channels))))
    return cases, problems


def _ending(folder: Path, ending: str) -> list[Path]:
    return [file for file in nifti_files(folder) if file.name.lower().endswith(ending)]


def _other_files(root: Path, manifest: dict[str, Any]) -> list[str]:
    """What lies in nnU-Net's folders and is not read, a sentence for each folder."""
    ending = manifest.get("file_ending", NIFTI_SUFFIXES[0])
    folders = ["imagesTs", "imagesUn"] + ([] if "dataset" in manifest else ["imagesTr", "labelsTr"])
    found = [(root / folder, passed_over(root / folder, _ending(root / folder, ending))) for folder in folders]
    return [passed_over_text(folder, names, [ending]) for folder, names in found if names]


def _other_numbers(manifest: dict[str, Any], file: Path, labelled: int, unlabelled: int) -> list[str]:
    """Where a declared number of cases is not the number of those found."""
    remarks = []
    for key, found, kind in (("numTraining", labelled, "labelled"), ("numTest", unlabelled, "unlabelled")):
        declared = str(manifest.get(key, found))
        more = key == "numTest" and declared.isdigit() and int(declared) <= found  # others may have come to them
        if declared != str(found) and not more:
            remarks.append(f'{file} says "{key}": {declared}, but {found} {kind} cases are found. Are some missing?')
    return remarks


def _without_problems(cases: Iterable[Case], problems: list[str]) -> Iterable[Case]:
    """The cases whose files exist and that occur once; the others are added to `problems`."""
    names: set[str] = set()
    images: dict[str, str] = {}
    for case in cases:
        for name in (case.name, *case.images, case.label or ""):
            check_utf8(name)
        # Not Path.exists, which fails on names that are too long and in folders that may not be read.
        missing = [path for path in case.images if not os.path.exists(path)]  # a folder may be a DICOM series
        if case.label is not None and not os.path.isfile(case.label):
            missing.append(case.label)
        same = next((images[key] for key in map(_identity, case.images) if key in images), None)
        if missing:
            kinds = ("image" if path in case.images else "label" for path in missing)
            listed = ", ".join(f"{kind} {path}" for kind, path in zip(kinds, missing, strict=True))
            problems.append(f"case '{case.name}': not found: {listed}")
        elif len(set(map(_identity, case.images))) < len(case.images):
            problems.append(f"case '{case.name}' lists the same image file for two channels")
        elif case.name in names:
            problems.append(f"the case '{case.name}' occurs twice; remove one, or give each its own \"name\"")
        elif same is not None:
            problems.append(f"the cases '{same}' and '{case.name}' have the same image file; remove one")
        else:
            yield case
        names.add(case.name)
        images.update({_identity(path): case.name for path in case.images})


def _identity(path: Path) -> str:
    return os.path.realpath(path)


def _is_hidden(image: Any) -> bool:
    return isinstance(image, str) and Path(image).name.startswith("._")
