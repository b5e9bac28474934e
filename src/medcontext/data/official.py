"""Data sets as their makers distribute them, recognised by their file names, without a JSON file.

- BTCV, Synapse syn3193805: `RawData/Training/img/img0001.nii.gz` and `RawData/Training/label/label0001.nii.gz`, or as
  TransUNet, nnFormer and MONAI have them, in `imagesTr` and `labelsTr`.
- ACDC, Bernard et al. 2018: `training/patient001/patient001_frame01.nii.gz` and `patient001_frame01_gt.nii.gz`, for the
  frames at end-diastole and end-systole; `patient001_4d.nii.gz` is the whole cycle and is not read.
- BraTS 2021, Baid et al. 2021: `BraTS2021_00000/BraTS2021_00000_flair.nii.gz`, `_t1`, `_t1ce`, `_t2` and `_seg`.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from medcontext.data.cases import Case, Dataset, patient
from medcontext.data.folders import nifti_files, passed_over, passed_over_text
from medcontext.data.known import ACDC, BRATS21, BTCV, Known
from medcontext.data.nifti import case_name

_BTCV_FOLDERS = (  # of images and labels: the labelled scans', and others that may have labels or not
    (("imagesTr", "labelsTr"), ("imagesTs", "labelsTs")),
    (("RawData/Training/img", "RawData/Training/label"), ("RawData/Testing/img", "RawData/Testing/label")),
    (("Training/img", "Training/label"), ("Testing/img", "Testing/label")),
    (("img", "label"),),
)
_ACDC_FOLDERS = (".", "training", "testing", "database/training", "database/testing")
_FRAME = re.compile(r"(patient\d{3}_frame\d{2})(_gt)?")

Files = dict[str, tuple[Path, ...]]


def scan_official(folder: Path) -> tuple[Dataset, list[str]] | None:
    """The data set that a folder is laid out as, and what is wrong with it, one sentence each; None if it is none.

    No image is opened. BraTS's image files may turn out not to exist.
    """
    return next((found for scan in (_btcv, _acdc, _brats21) if (found := scan(folder)) is not None), None)


def _btcv(folder: Path) -> tuple[Dataset, list[str]] | None:
    layout = next((parts for parts in _BTCV_FOLDERS if _is_btcv(folder, *parts[0])), None)
    if layout is None:
        return None
    found = _Found(folder)
    for images, labels in layout:
        (scans, odd), (truths, odd_too) = _numbered(folder / images, "img"), _numbered(folder / labels, "label")
        for file in odd + odd_too:
            found.problems.append(f"{file.relative_to(folder)} is not called like img0001.nii.gz or label0001.nii.gz")
        wanted = {f"img{n}": (files, f"{labels}/label{n}.nii.gz") for n, files in found.once(scans).items()}
        given = {f"img{n}": files for n, files in found.once(truths).items()}
        found.add(wanted, given, optional=(images, labels) != layout[0])
        found.pass_over(folder / images, folder / labels)
    return found.dataset(BTCV)


def _is_btcv(folder: Path, images: str, labels: str) -> bool:
    return bool(_numbered(folder / images, "img")[0] or _numbered(folder / labels, "label")[0])


def _numbered(folder: Path, stem: str) -> tuple[list[tuple[str, Path]], list[Path]]:
    """The files called like <stem>0001.nii.gz with their numbers, and the NIfTI files that are not."""
    matches = [(re.fullmatch(rf"{stem}(\d{{4}})", case_name(file)), file) for file in nifti_files(folder)]
    return [(match[1], file) for match, file in matches if match], [file for match, file in matches if not match]


def _acdc(folder: Path) -> tuple[Dataset, list[str]] | None:
    found = _Found(folder)
    any_frame = False  # of others, too, patients are called patient001
    for part in _ACDC_FOLDERS:
        patients = _folders(folder / part, r"patient\d{3}")
        images, labels = [], []
        for owner in patients:
            frames = [(match, file) for file in nifti_files(owner) if (match := _FRAME.fullmatch(case_name(file)))]
            images += [(match[1], file) for match, file in frames if not match[2]]
            labels += [(match[1], file) for match, file in frames if match[2]]
            any_frame = any_frame or bool(frames)
            found.pass_over(owner)
            if not frames:
                found.problems.append(f"{owner.relative_to(folder)} has no frame like {owner.name}_frame01.nii.gz")
        wanted = {name: (files, f"{name}_gt.nii.gz") for name, files in found.once(images).items()}
        found.add(wanted, found.once(labels), optional=(folder / part).resolve().name == "testing")
    return found.dataset(ACDC, _acdc_patient) if any_frame else None


def _acdc_patient(name: str) -> str:
    owner = patient(name)
    return ACDC.twins.get(owner, owner)


def _brats21(folder: Path) -> tuple[Dataset, list[str]] | None:
    wanted: dict[str, tuple[tuple[Path, ...], str]] = {}
    labels: Files = {}
    for subject in _folders(folder, r"BraTS2021_\d{5}"):
        name = subject.name
        *images, label = (_either(folder / file) for file in (*BRATS21.images(name), BRATS21.label(name)))
        wanted[name] = (tuple(images), f"{name}_seg.nii.gz")
        if label.is_file():
            labels[name] = (label,)
    found = _Found(folder)
    found.pass_over(*_folders(folder, r"BraTS2021_\d{5}"))
    found.add(wanted, labels, optional=True)
    return found.dataset(BRATS21) if wanted else None


class _Found:
    """Cases found so far, and what is wrong with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cases: list[Case] = []
        self.problems: list[str] = []
        self.passed: list[str] = []

    def pass_over(self, *folders: Path) -> None:
        """Note what in these folders is in another format."""
        self.passed += [str((part / name).relative_to(self.folder)) for part in folders for name in passed_over(part)]

    def once(self, pairs: Iterable[tuple[str, Path]]) -> Files:
        """Name to file; a second file of a name, such as .nii beside .nii.gz, is a problem."""
        files: Files = {}
        for name, file in pairs:
            if name in files:
                self.problems.append(f"{files[name][0].name} and {file.name} are the same; keep one")
            files.setdefault(name, (file,))
        return files

    def add(self, wanted: dict[str, tuple[tuple[Path, ...], str]], labels: Files, optional: bool) -> None:
        """Pair images with labels.

        Args:
            wanted: name to the images, and how the label should be called.
            labels: name to the label.
            optional: whether all labels may be absent, as in a challenge's test part. If one is there, all must be.
        """
        for name, (images, label) in wanted.items():
            if name in labels:
                self.cases.append(Case(name, images, labels[name][0]))
            elif optional and not labels:
                self.cases.append(Case(name, images))
            else:
                self.problems.append(f"case '{name}' has no label {label}")
        orphans = [labels[name][0] for name in labels if name not in wanted]
        self.problems += [f"the label {file.relative_to(self.folder)} has no image" for file in orphans]

    def dataset(self, known: Known, patient: Callable[[str], str] = lambda name: "") -> tuple[Dataset, list[str]]:
        """All of them as one data set, in the order of their names, and the problems."""
        cases = [replace(case, patient=patient(case.name)) for case in sorted(self.cases, key=lambda case: case.name)]
        labelled = tuple(case for case in cases if case.label is not None)
        unlabelled = tuple(case for case in cases if case.label is None)
        remarks = (passed_over_text(self.folder, self.passed),) if self.passed else ()
        dataset = Dataset(
            known.name,
            self.folder,
            known.channels,
            dict(known.labels),
            labelled,
            unlabelled,
            dict(known.regions),
            remarks=remarks,
        )
        return dataset, self.problems


def _folders(folder: Path, pattern: str) -> list[Path]:
    """The folders in a folder whose names match."""
    inside = folder.iterdir() if folder.is_dir() else ()
    return sorted(item for item in inside if re.fullmatch(pattern, item.name) and item.is_dir())


def _either(compressed: Path) -> Path:
    """That file; where it is not there, an uncompressed one that is."""
    plain = compressed.with_suffix("")
    return plain if plain.is_file() and not compressed.is_file() else compressed
