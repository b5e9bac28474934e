"""Which prediction belongs to which label."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from medcontext.console import warn
from medcontext.data.cases import Dataset, patient
from medcontext.data.doubts import header_doubts
from medcontext.data.folders import listed, nifti_files, passed_over, passed_over_text, shortened
from medcontext.data.formats import MANIFEST, is_dataset, read_dataset
from medcontext.data.nifti import case_name, check_same_grid, read_header
from medcontext.data.placement import voxel_sizes
from medcontext.errors import InputError
from medcontext.files import read_json


@dataclass(frozen=True)
class Pair:
    """A case to be scored.

    Args:
        name: of the case.
        prediction: its segmentation file.
        label: its label file, on the same grid.
        spacing: voxel size along the file's axes in millimetres, from the label's affine.
        patient: whose scan it is.
        part: that it had in the training of what predicted it: training, validation, test, out of fold or unknown.
        images: its image files, one per channel; empty if not known.
    """

    name: str
    prediction: Path
    label: Path
    spacing: tuple[float, float, float]
    patient: str
    part: str
    images: tuple[Path, ...] = ()


def find_labels(labels: Path) -> Dataset | dict[str, Path]:
    """The data set that `labels` is, or the label files of a folder by case name.

    Raises:
        InputError: if it is neither, or no label is found.
    """
    if not labels.exists():
        raise InputError(f"Labels not found: {labels}")
    if labels.is_file() or _is_dataset(labels):
        dataset = read_dataset(labels, may_ignore=True)
        warn(dataset.remarks)
        return dataset
    files = nifti_files(labels)
    if not files:
        raise nothing_in(labels, "labels", "Give a folder of label files, or a data set's folder or JSON file.")
    others = passed_over(labels)
    warn([passed_over_text(labels, others)] if others else [])
    return by_name(files, labels)


def with_test_labels(labels: Dataset | dict[str, Path], predicted: Iterable[str]) -> Dataset | dict[str, Path]:
    """The labels, with those of nnU-Net's labelsTs if any of them is of a predicted case.

    No training sees them: the data set has their scans, imagesTs, among those without labels.
    """
    if not isinstance(labels, Dataset):
        return labels
    files = by_name(nifti_files(labels.root / "labelsTs"), labels.root / "labelsTs")
    tested = [replace(case, label=files[case.name]) for case in labels.unlabelled if case.name in files]
    wanted = {case.name for case in tested}.intersection(predicted)
    return replace(labels, cases=(*labels.cases, *tested)) if wanted else labels


def match(
    predictions: Mapping[str, Path],
    labels: Dataset | dict[str, Path],
    images: Path | None = None,
    parts: Mapping[str, str] | None = None,
) -> tuple[list[Pair], list[str]]:
    """Pair predictions with labels by case name and check that each pair lies on one grid.

    Only headers are read; what is doubtful in them is printed. Affines may differ by
    `medcontext.data.placement.GRID_TOLERANCE` voxels at the worst corner.

    Args:
        predictions: file by case name.
        labels: a data set, or file by case name.
        images: folder with the images, called `<case>.nii.gz` or `<case>_0000.nii.gz`; a data set has its own.
        parts: that cases had in the training, where they are known.

    Returns:
        The pairs, sorted by name, and the names of the labels that have no prediction.

    Raises:
        InputError: if a prediction has no label (or, with `images`, no image), or lies on another grid.
    """
    if isinstance(labels, Dataset):
        files = {case.name: case.label for case in labels.cases if case.label is not None}
        scans = {case.name: case.images for case in labels.cases}
        owners = {case.name: case.owner for case in labels.cases}
        where = f"the data set {labels.root}"
    else:
        files, scans = labels, {}
        owners = {name: patient(name) for name in labels}
        where = f"{next(iter(labels.values())).parent}"
    _refuse_missing(predictions, files, f"no label in {where}", "Cases are paired by name")
    if images is not None:
        scans = _images_by_case(images, predictions)
    warn(header_doubts(file for name in sorted(predictions) for file in (files[name], predictions[name])))
    parts, pairs = parts or {}, []
    for name in sorted(predictions):
        headers = read_header(files[name]), read_header(predictions[name])
        check_same_grid(*headers, names=(f"label {files[name]}", f"prediction {predictions[name]}"))
        x, y, z = (float(size) for size in voxel_sizes(headers[0].affine))
        pairs.append(
            Pair(
                name,
                predictions[name],
                files[name],
                (x, y, z),
                owners[name],
                parts.get(name, "unknown"),
                scans.get(name, ()),
            )
        )
    return pairs, sorted(set(files) - set(predictions))


def _is_dataset(folder: Path) -> bool:
    """A folder of label files may hold a dataset.json too, which then only declares their values."""
    if not (folder / MANIFEST).is_file():
        return is_dataset(folder)
    manifest = read_json(folder / MANIFEST)
    return not nifti_files(folder) or (isinstance(manifest, dict) and bool({"cases", "training"} & set(manifest)))


def by_name(files: Iterable[Path], folder: Path) -> dict[str, Path]:
    """Files by their cases' names.

    Raises:
        InputError: if two of them are one case's.
    """
    named: dict[str, Path] = {}
    for file in files:
        other = named.setdefault(case_name(file), file)
        if other is not file:
            raise InputError(f"{folder}: {other.name} and {file.name} are the same case; keep one.")
    return named


def _images_by_case(folder: Path, names: Iterable[str]) -> dict[str, tuple[Path, ...]]:
    if not folder.is_dir():
        raise InputError(f"The images folder {folder} is not a folder.")
    files = by_name(nifti_files(folder), folder)
    channels: dict[str, tuple[Path, ...]] = {}
    for name, file in files.items():  # sorted, so the channels come in order
        stem, _, number = name.rpartition("_")
        if stem and len(number) == 4 and number.isdigit():
            channels[stem] = (*channels.get(stem, ()), file)
    found = {**channels, **{name: (file,) for name, file in files.items()}}
    _refuse_missing(names, found, f"no image in {folder}", "Images are called <case>.nii.gz or <case>_0000.nii.gz")
    return found


def _refuse_missing(names: Iterable[str], known: Iterable[str], problem: str, rule: str) -> None:
    known = sorted(known)
    missing = sorted(set(names) - set(known))
    if missing:
        some = ", ".join(known[:3]) + (", ..." if len(known) > 3 else "")
        raise InputError(
            f"{len(missing)} of the predictions {'has' if len(missing) == 1 else 'have'} {problem}: "
            f"{shortened(missing).replace(';', ',')}. {rule}; there are: {some or 'none'}."
        )


def nothing_in(folder: Path, what: str, remedy: str) -> InputError:
    """An error for a folder without segmentations, which says what else is there."""
    if not folder.is_dir():
        return InputError(f"{folder} is not a folder of {what}. {remedy}")
    inside = sorted(item.name for item in folder.iterdir() if item.is_dir())
    hint = f" It has the folders {', '.join(inside[:5])}." if inside else ""
    others = [name for name in passed_over(folder) if not name.endswith("/")]
    hint += f" It has {listed(others)}, in formats that are not read." if others else ""
    return InputError(f"No {what} (.nii.gz or .nii files) in {folder}.{hint} {remedy}")
