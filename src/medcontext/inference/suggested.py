"""Suggestions from what `predict` wrote, and the files of `medcontext.commands.suggest`."""

from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation

from medcontext.console import track
from medcontext.data.cases import Case
from medcontext.data.nifti import image_digest, read_image, read_label
from medcontext.data.prepare import prepare_image
from medcontext.data.regions import MEAN
from medcontext.errors import InputError, counted
from medcontext.files import read_json, write_text
from medcontext.inference.beside import volumes
from medcontext.inference.judge import Judged, read_expected
from medcontext.inference.origin import RECORD
from medcontext.inference.selection import find_cases
from medcontext.inference.signs import Noticed
from medcontext.inference.suggest import Description, Suggestion, suggest_scans
from medcontext.inference.suggested_table import PICTURE, TABLE, SuggestedRow, suggested_csv
from medcontext.pictures.unchecked import Unchecked, draw_unchecked
from medcontext.run import Run, read_runs
from medcontext.run.calibration import FILE, Known, read_calibration


class Suggested(NamedTuple):
    """A scan to label.

    Args:
        case: the scan.
        judged: what is expected of its segmentation.
        why: it was chosen.
        label: its segmentation.
        run: whose it is.
    """

    case: Case
    judged: Judged
    why: Suggestion
    label: Path
    run: Run

    @property
    def reason(self) -> str:
        """In words."""
        dsc = f"expected DSC {100 * self.judged.expected[0]:.0f} %, " if self.judged.expected else ""
        remarks = f"; {self.judged.remarks}" if self.judged.remarks else ""
        alike = f"stands for {counted(self.why.stands_for, 'scan')}"
        return f"{dsc}{alike}, {self.why.distance:.1f} from the labelled and those above{remarks}"

    @property
    def row(self) -> SuggestedRow:
        """Of the list."""
        files = " ".join(str(path) for path in self.case.images)
        dsc = self.judged.expected[0] if self.judged.expected else None
        why = self.why
        return SuggestedRow(self.case.name, files, dsc, why.distance, why.stands_for, why.gain, self.reason)


def choose(
    run: Path, inputs: Sequence[Path], image: Sequence[str], series: Sequence[str], predictions: Path, count: int
) -> list[Suggested]:
    """The scans to label next, the most useful first.

    Args:
        run: folder of the run, or of the cross-validation, that predicted.
        inputs: what was predicted.
        image, series: as for `find_cases`.
        predictions: folder of all segmentations.
        count: how many to choose.

    Raises:
        InputError: if there are too few that are not labelled already.
    """
    runs = read_runs(run)
    calibration = read_calibration(run / FILE)
    assert calibration  # `predict` has used it
    parts, cases = read_json(predictions / RECORD)["parts"], find_cases(inputs, runs, "all", image, series).cases
    new = [case for case in cases if parts[case.name] not in ("training", "validation")]
    labels = {case.name: predictions / f"{case.name}.nii.gz" for case in new}
    looks = [_describe(case, labels[case.name], runs[0]) for case in track(new, "looking at the scans")]
    used = {row.scan or row.case for row in calibration.observed}  # older ones have no more than the name
    left = [not {scan, case.name} & used for case, (scan, _) in zip(new, looks, strict=True)]
    todo, seen = list(compress(new, left)), [description for _, description in compress(looks, left)]
    if len(todo) < count:
        raise InputError(
            f"--count {count}, but there are {counted(len(todo), 'scan')} of {len(cases)} that the network was neither "
            "trained nor calibrated on. Give more scans, or a smaller --count."
        )
    judged = {row.case: row for row in read_expected(predictions) if row.structure == MEAN}
    need = [_need(judged[case.name]) for case in todo]
    found = suggest_scans(need, seen, labelled(calibration.known, runs[0]), count)
    picked = [(todo[each.scan], each) for each in found]
    return [Suggested(case, judged[case.name], why, labels[case.name], runs[0]) for case, why in picked]


def labelled(known: Known, run: Run) -> list[Description]:
    """What the labelled scans look like."""
    rows = zip(*(known.volumes[name] for name in run.structures), strict=True)
    together = zip(known.quantiles, known.extents, rows, strict=True)
    return [Description(np.array(quantiles), extent, ml) for quantiles, extent, ml in together]


def _describe(case: Case, label: Path, run: Run) -> tuple[str, Description]:
    """A scan's digest, and what it looks like."""
    noticed, (image, affine) = Noticed(), read_image(case, run.plan.channels)
    noticed.scan(*prepare_image(image, affine, run.plan))
    ml = volumes(*read_label(label), run.structures)
    return image_digest(image), Description(noticed.quantiles, noticed.extent, list(ml.values()))


def _need(judged: Judged) -> float:
    """1 - the expected DSC; where none is expected, 1 - the mean of the signs; where nothing was found, 1."""
    if judged.expected:
        return 1 - judged.expected[0]
    return 1 - float(np.mean(judged.signs)) if judged.signs else 1.0


def write_suggested(found: Sequence[Suggested], output: Path) -> None:
    """Write the list and the picture."""
    write_text(output / TABLE, suggested_csv([each.row for each in found]))
    title = f"{counted(len(found), 'scan')} to label next, with their segmentations"
    draw_unchecked([_shown(each) for each in found], found[0].run.structures, output / PICTURE, title)


def _shown(each: Suggested) -> Unchecked:
    """A scan turned to right, anterior, superior."""
    image, affine = read_image(each.case, each.run.plan.channels)
    turn = io_orientation(affine)
    a, b, c = (float(mm) for mm in np.linalg.norm(affine[:3, :3], axis=0)[np.argsort(turn[:, 0])])
    scan, label = (apply_orientation(array, turn) for array in (image[0], read_label(each.label)[0]))
    text = each.reason.replace(", ", "\n").replace("; ", "\n")
    return Unchecked(each.case.name, text, scan, label, (a, b, c))
