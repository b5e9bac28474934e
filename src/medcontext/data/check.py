"""Everything that is wrong with a data set, found before anyone trains on it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np

from medcontext.data.cases import Case, Dataset
from medcontext.data.fill import find_fill
from medcontext.data.formats import scan_dataset
from medcontext.data.label_map import map_counts, map_text, values_text
from medcontext.data.nifti import (
    Header,
    Unoriented,
    check_same_grid,
    image_digest,
    read_doubts,
    read_header,
    read_image,
    read_label,
)
from medcontext.data.planning import is_ct
from medcontext.data.pool import in_processes
from medcontext.errors import InputError, counted

UNDECLARED = "label values are not declared"
UNUSUAL_SCALE = 20
"""How many times brighter or darker than the median scan a scan must be to be pointed out."""


@dataclass(frozen=True)
class Problem:
    """One finding.

    Args:
        level: "error": training would refuse or be wrong; "warning": legal, but look at it; "note": good to know.
        message: the same for every case that has the same problem, unless a file has to be named.
        case: the case's name, or empty for the data set as a whole.
        detail: what this case adds to the message, such as a number of voxels.
    """

    level: Literal["error", "warning", "note"]
    message: str
    case: str = ""
    detail: str = ""


@dataclass(frozen=True)
class CaseReport:
    """What was found in one case. Fields that could not be read are None.

    Args:
        name: of the case.
        labelled: whether it has a label file.
        shape: (X, Y, Z), as in the file.
        spacing: voxel size along X, Y, Z, in millimetres.
        orientation: where the file's axes point to, such as "RAS"; None too where the header does not say.
        intensity: lowest and highest value of each channel.
        voxels: label value, after the data set's label_map, to number of voxels, the background included.
        mapped: values that the label file holds and label_map sends elsewhere.
        voxel_volume: of one voxel, in millilitres.
        problems: all of this case.
        digest: of the image's values, equal for equal images.
    """

    name: str
    labelled: bool
    shape: tuple[int, int, int] | None = None
    spacing: tuple[float, float, float] | None = None
    orientation: str | None = None
    intensity: tuple[tuple[float, float], ...] = ()
    voxels: dict[int, int] | None = None
    mapped: tuple[int, ...] = ()
    voxel_volume: float = 0.0
    problems: tuple[Problem, ...] = ()
    digest: str = ""

    def volume(self, value: int) -> float:
        """The volume of a label value in this case, in millilitres."""
        return (self.voxels or {}).get(value, 0) * self.voxel_volume


@dataclass(frozen=True)
class Report:
    """All findings: of each case, and of the data set as a whole."""

    dataset: Dataset
    cases: tuple[CaseReport, ...]
    problems: tuple[Problem, ...]

    def raise_errors(self) -> None:
        """Raise an InputError that sums up the errors, if there are any."""
        found = [problem for problem in self.problems if problem.level == "error"]
        if found:
            first = found[0]
            where = f"case '{first.case}': " if first.case else ""
            detail = f" ({first.detail})" if first.detail else ""
            more = f" And {len(found) - 1} more; see medcontext check." if len(found) > 1 else ""
            raise InputError(f"{where}{first.message.rstrip('.')}{detail}.{more}")


def check_dataset(path: Path, *, workers: int = 1) -> Report:
    """Read every image and label of a data set and report every problem, not only the first.

    Args:
        path: of the data set, as for `read_dataset`.
        workers: processes.

    Raises:
        InputError: only if it cannot be found out what the data set consists of.
    """
    dataset, found = scan_dataset(path)
    cases = (*dataset.cases, *dataset.unlabelled)
    # Each task is sent to a process; it needs to know the labels, not all the other cases.
    check = partial(check_case, dataset=replace(dataset, cases=(), unlabelled=()))
    reports: list[CaseReport | None] = [None] * len(cases)
    for index, report in in_processes(check, cases, workers, "checking"):
        reports[index] = report
    done = _sum_up_undeclared(dataset, [report for report in reports if report is not None])
    problems = [Problem("error", message) for message in found]
    problems += [Problem("warning", message) for message in dataset.remarks]
    problems += [problem for report in done for problem in report.problems]
    problems += _across_cases(dataset, done)
    return Report(dataset, done, tuple(problems))


def check_case(case: Case, dataset: Dataset) -> CaseReport:
    """Read one case and report everything that is wrong with it; a problem never raises.

    Args:
        case: with or without a label.
        dataset: for the channels and labels declared; its cases do not matter.
    """
    report = CaseReport(case.name, labelled=case.label is not None)
    problems: list[Problem] = []
    header: Header | None = None
    try:
        image, affine = read_image(case, dataset.channels)
    except InputError as error:
        problems.append(Problem("error", str(error), case.name))
    else:
        header = read_header(case.images[0])
        report = _with_image(report, image, affine)
        if isinstance(header, Unoriented):
            report = replace(report, orientation=None)
        problems += _image_problems(report, dataset) + _fill_problems(case.name, image, dataset)
    if case.label is not None:
        try:
            label, affine = read_label(case.label)
            counts = voxel_counts(label)
            mapped = tuple(value for value in counts if value in dataset.label_map)
            voxels = map_counts(counts, dataset.label_map)
            report = replace(report, voxels=voxels, mapped=mapped, voxel_volume=voxel_volume(affine))
            problems += _label_problems(report, dataset)
            if header is not None:
                check_same_grid(header, read_header(case.label), (str(case.images[0]), str(case.label)))
        except InputError as error:
            problems.append(Problem("error", str(error), case.name))
    problems += _header_problems(case)
    return replace(report, problems=tuple(problems))


def _with_image(report: CaseReport, image: np.ndarray, affine: np.ndarray) -> CaseReport:
    x, y, z = nib.affines.voxel_sizes(affine)
    return replace(
        report,
        shape=(image.shape[1], image.shape[2], image.shape[3]),
        spacing=(float(x), float(y), float(z)),
        orientation="".join(nib.aff2axcodes(affine)),
        intensity=tuple((float(channel.min()), float(channel.max())) for channel in image),
        digest=image_digest(image),
    )


def _header_problems(case: Case) -> list[Problem]:
    """What other programs may read otherwise, once for a case though its label's header says the same."""
    found: dict[str, str] = {}
    for path in case.files:
        try:
            doubts = read_doubts(path)
        except InputError:  # reported by who reads the voxels
            continue
        for doubt in doubts:
            found.setdefault(doubt.message, doubt.detail + (", the label" if path == case.label else ""))
    return [Problem("warning", message, case.name, detail) for message, detail in found.items()]


def _image_problems(report: CaseReport, dataset: Dataset) -> list[Problem]:
    problems = []
    for channel, (low, high) in zip(dataset.channels, report.intensity, strict=True):
        if low == high:
            message = f"the image is constant (channel {channel}): there is nothing to see in it"
            problems.append(Problem("warning", message, report.name, f"all {low:g}"))
    return problems


def _fill_problems(name: str, image: np.ndarray, dataset: Dataset) -> list[Problem]:
    """Fill values, errors where a training without settings of its own would not clip them; see `prepare_image`."""
    problems = []
    for channel, volume in zip(dataset.channels, image, strict=True):
        if fill := find_fill(volume):
            clipped = is_ct(channel)
            message = f"{channel} has a fill value far from all others; replace it by the value of air or background"
            if not clipped:
                message += ", or clip it with --prepare.intensity_range: as it is, training refuses it"
            level: Literal["error", "warning"] = "warning" if clipped else "error"
            problems.append(Problem(level, message, name, f"{fill.value:.6g} in {counted(fill.voxels, 'voxel')}"))
    return problems


def _label_problems(report: CaseReport, dataset: Dataset) -> list[Problem]:
    assert report.voxels is not None
    problems = []
    unknown = undeclared(dataset, [report])
    if unknown:
        shown = ", ".join(f"{value} in {counted(report.voxels[value], 'voxel')}" for value in unknown[:5])
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        problems.append(Problem("error", UNDECLARED, report.name, shown + more))
    if set(report.voxels) == {0}:
        problems.append(Problem("warning", "the label is empty: there is only background", report.name))
    return problems


def undeclared(dataset: Dataset, cases: Sequence[CaseReport]) -> list[int]:
    """The label values of cases that are not declared, sorted."""
    present = {value for case in cases for value in case.voxels or ()}
    return sorted(present - set(dataset.labels.values()))


def _sum_up_undeclared(dataset: Dataset, cases: Sequence[CaseReport]) -> tuple[CaseReport, ...]:
    """The cases, with one message on all values that are not declared, for each of those that have some."""
    values = undeclared(dataset, cases)
    if not values:
        return tuple(cases)
    wrong = [case for case in cases if undeclared(dataset, [case])]
    several = len(values) > 1
    message = (
        f"value{'s' * several} {values_text(values)} {'are' if several else 'is'} not declared, in "
        f"{counted(len(wrong), 'case')} (declared: {', '.join(f'{v} {name}' for name, v in dataset.labels.items())}). "
        'Name them under "labels" in the data set\'s JSON file, say what they stand for under "label_map", or correct '
        "the label files"
    )
    return tuple(
        replace(
            case,
            problems=tuple(replace(p, message=message) if p.message == UNDECLARED else p for p in case.problems),
        )
        for case in cases
    )


def _mapped(dataset: Dataset, cases: Sequence[CaseReport]) -> list[Problem]:
    """What the data set's label_map changes."""
    found = Counter(value for case in cases for value in case.mapped)
    said = [
        f"{map_text({value: dataset.label_map[value]})} in {counted(count, 'case')}"
        for value, count in sorted(found.items())
    ]
    problems = [Problem("note", f'"label_map" sends {"; ".join(said)}')] if said else []
    unused = sorted(set(dataset.label_map) - set(found))
    if unused and any(case.voxels for case in cases):
        problems.append(Problem("warning", f'"label_map" changes {values_text(unused)}, which no label has'))
    return problems


def _across_cases(dataset: Dataset, cases: tuple[CaseReport, ...]) -> list[Problem]:
    """What can only be seen by comparing cases."""
    problems = []
    labelled = [case for case in cases if case.voxels is not None]
    present = {value for case in labelled for value in case.voxels or ()}
    if labelled and not present - {0}:
        problems.append(Problem("error", "no label has any foreground: there is nothing to learn"))
    else:
        for name, value in dataset.structures.items():
            if labelled and value not in present:
                problems.append(Problem("warning", f"'{name}' ({value}) is declared, but in no label"))
    for names in _same_images(cases):
        problems.append(Problem("warning", f"the same image, voxel for voxel: {', '.join(names)}"))
    problems += _mapped(dataset, cases) + _unusual_intensities(dataset, cases)
    orientations = Counter(case.orientation for case in cases if case.orientation)
    if len(orientations) > 1:
        listed = ", ".join(f"{code} {count}" for code, count in orientations.most_common())
        problems.append(Problem("note", f"orientations differ ({listed} cases); preparing the data aligns them"))
    spacings = np.array([case.spacing for case in cases if case.spacing])
    if len(spacings) and (spacings == 1).all():
        problems.append(
            Problem(
                "note",
                "every voxel size is exactly 1 mm; if the true spacing was lost on the way, volumes and distances "
                "in mm will be wrong",
            )
        )
    elif len(spacings) and (spacings.max(0) > 1.05 * spacings.min(0)).any():
        problems.append(Problem("note", "voxel sizes differ between cases; preparing the data resamples them"))
    return problems


def _unusual_intensities(dataset: Dataset, cases: tuple[CaseReport, ...]) -> list[Problem]:
    problems = []
    readable = [case for case in cases if case.intensity]
    for channel, name in enumerate(dataset.channels):
        largest = np.array([max(map(abs, case.intensity[channel])) for case in readable])
        middle = float(np.median(largest)) if readable else 0.0
        message = (
            f"{name} is over {UNUSUAL_SCALE} times brighter or darker than the median scan, which reaches {middle:.6g}"
        )
        for case, value in zip(readable, largest, strict=True):
            if not middle / UNUSUAL_SCALE <= value <= middle * UNUSUAL_SCALE:
                problems.append(Problem("note", message, case.name, f"{value:.6g}"))
    return problems


def _same_images(cases: tuple[CaseReport, ...]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for case in cases:
        if case.digest:
            groups.setdefault(case.digest, []).append(case.name)
    return [names for names in groups.values() if len(names) > 1]


def voxel_counts(label: np.ndarray) -> dict[int, int]:
    """How many voxels each value of a label (X, Y, Z) has."""
    if label.max() >= 2**16:  # a table of all values up to it would be wasteful
        values, counts = np.unique(label, return_counts=True)
        return {int(value): int(count) for value, count in zip(values, counts, strict=True)}
    length = int(label.max()) + 1
    total = np.zeros(length, dtype=np.int64)
    for plane in np.moveaxis(label, -1, 0):  # one at a time: bincount makes 64-bit copies
        total += np.bincount(plane.ravel(), minlength=length)
    return {int(value): int(total[value]) for value in np.flatnonzero(total)}


def voxel_volume(affine: np.ndarray) -> float:
    """The volume of a voxel in millilitres."""
    return abs(float(np.linalg.det(affine[:3, :3]))) / 1000
