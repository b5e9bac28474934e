"""What is expected of each segmentation, and what of it a person should look at.

```
OUTPUT/expected.csv   a row for each case and structure, and for each case's mean
```
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medcontext.data.regions import MEAN
from medcontext.data.unlike import unlike
from medcontext.errors import InputError, counted
from medcontext.files import write_text
from medcontext.inference.expected import expect
from medcontext.inference.signs import SIGNS, Noticed
from medcontext.inference.worth import pairs
from medcontext.run.calibration import Calibration, Known

FILE = "expected.csv"
LOWEST = 0.2
"""Of the calibration's cases those that were expected worst: what is not above them is likely bad. Of single structures
it is as much in all."""

ROOM = 1.5
"""A volume or an extent may be so many times beyond what the labelled scans have, or beyond their own spread."""

USUAL = 0.9
"""A structure that so many of the labelled scans have is missed where it is not found."""


@dataclass(frozen=True)
class Judged:
    """A row of `expected.csv`.

    Args:
        case: its name.
        structure: its name, or `mean`.
        expected: the DSC and its interval, fractions; None where nothing is known of it.
        signs: see `medcontext.inference.signs`; None of a structure that was not found.
        remarks: why a person should look at it, in words; empty where nothing speaks for it.
    """

    case: str
    structure: str
    expected: tuple[float, float, float] | None = None
    signs: tuple[float, ...] | None = None
    remarks: str = ""


CERTAINTY = SIGNS.index("certainty")
COLUMNS = ("case", "structure", "expected_dsc", "low", "high", *SIGNS, "remarks")


def judge(case: str, noticed: Noticed, volumes: dict[str, float], calibration: Calibration) -> list[Judged]:
    """The rows of a case, its mean first.

    Args:
        case: its name.
        noticed: while it was predicted.
        volumes: of each structure in the segmentation, in ml.
        calibration: of the networks.
    """
    limits = lowest(calibration)
    rows = [_structure(case, name, noticed, volumes[name], calibration, limits) for name in volumes]
    remarks = _unlike(case, noticed, calibration.known)
    for text in dict.fromkeys(row.remarks for row in rows if row.remarks):
        remarks.append(f"{', '.join(row.structure for row in rows if row.remarks == text)}: {text}")
    expected, signs = (_mean([getattr(row, name) for row in rows]) for name in ("expected", "signs"))
    if expected and expected[0] < limits.get(MEAN, 0.0):
        remarks.insert(0, "likely bad")
    return [Judged(case, MEAN, expected, signs, "; ".join(remarks)), *rows]


def lowest(calibration: Calibration) -> dict[str, float]:
    """Of each structure, and of the mean, the expected DSC below which one is likely bad."""
    found = {name: expected for name, (expected, _) in pairs(calibration).items() if len(expected)}
    each = LOWEST / max(1, len(found) - 1)
    return {name: float(np.quantile(expected, LOWEST if name == MEAN else each)) for name, expected in found.items()}


def _structure(
    case: str, name: str, noticed: Noticed, ml: float, calibration: Calibration, limits: dict[str, float]
) -> Judged:
    signs, rule = noticed.mean(name), calibration.rule
    known = np.array(calibration.known.volumes[name])
    if signs is None:
        missed = np.mean(known > 0) >= USUAL
        return Judged(case, name, (0.0, 0.0, 0.0) if missed and rule else None, None, "not found" if missed else "")
    expected = expect(rule, name, signs) if rule else None
    remarks = []
    if expected and expected[0] < limits.get(name, 0.0):
        remarks.append("likely bad")
    if text := _beyond(ml, known[known > 0]):
        remarks.append(f"{ml:.3g} ml, {text} ml in the labelled scans")
    return Judged(case, name, expected, signs, ", ".join(remarks))


def _unlike(case: str, noticed: Noticed, known: Known) -> list[str]:
    """What tells a scan from the labelled ones."""
    remarks = []
    if unlike({case: noticed.quantiles}, [np.array(each) for each in known.quantiles]):
        remarks.append("intensities unlike those of the labelled scans")
    extents = np.array(known.extents)  # (n, 3)
    for axis, mm in enumerate(noticed.extent):
        if text := _beyond(mm, extents[:, axis]):
            direction = ("left to right", "back to front", "bottom to top")[axis]
            remarks.append(f"{mm:.3g} mm from {direction}, {text} mm in the labelled scans")
    return remarks


def _beyond(value: float, known: np.ndarray) -> str:
    """The range of the labelled scans where a value lies far beyond it; else nothing.

    >>> _beyond(3.0, np.array([10.0, 20.0])), _beyond(5.0, np.array([10.0, 20.0]))
    ('10 to 20', '')
    """
    if not len(known):
        return ""
    low, high = float(known.min()), float(known.max())
    room = max(ROOM, high / low)
    return "" if low / room <= value <= high * room else f"{low:.3g} to {high:.3g}"


def _mean(rows: Sequence[tuple[float, ...] | None]) -> tuple[Any, ...] | None:
    known = [row for row in rows if row is not None]
    return tuple(np.mean(known, axis=0).tolist()) if known else None


def write_expected(output: Path, rows: Sequence[Judged]) -> None:
    """Write `expected.csv` anew."""
    write_text(output / FILE, expected_csv(rows))


def expected_csv(rows: Sequence[Judged]) -> str:
    """The rows as the text of `expected.csv`."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        numbers = (*(row.expected or (None,) * 3), *(row.signs or (None,) * len(SIGNS)))
        texts = ["" if number is None else f"{number:.4f}" for number in numbers]
        writer.writerow([row.case, row.structure, *texts, row.remarks])
    return table.getvalue()


def sort_expected(output: Path) -> None:
    """Bring the cases of `expected.csv`, where there is one, into the order of their need of a look."""
    rows = read_expected(output)
    if rows:
        write_expected(output, all_by_need(rows))


def all_by_need(rows: Sequence[Judged]) -> list[Judged]:
    """All rows, their cases in the order of their need of a look."""
    order = {row.case: place for place, row in enumerate(by_need(rows))}
    return sorted(rows, key=lambda row: order[row.case])


def by_need(rows: Sequence[Judged]) -> list[Judged]:
    """The rows of the cases' means: those with remarks first, and of each kind the lowest expected DSC first.

    Where no DSC is expected, the least certainty first.
    """

    def need(row: Judged) -> tuple[bool, float]:
        return not row.remarks, row.expected[0] if row.expected else row.signs[CERTAINTY] if row.signs else 0.0

    return sorted((row for row in rows if row.structure == MEAN), key=need)


def most_needed(output: Path, count: int = 10) -> list[str]:
    """The cases that a person should look at first, a line each, for the terminal."""
    rows = by_need(read_expected(output))
    flagged = [row for row in rows if row.remarks]
    if not flagged:
        return [f"None of {counted(len(rows), 'case')} stands out; what is expected of each: {output / FILE}"]
    lines = [f"  {row.case}{_dsc(row)}: {row.remarks}" for row in flagged[:count]]
    more = f", the first {count} of them" if len(flagged) > count else ""
    return [f"Look first at {len(flagged)} of {counted(len(rows), 'case')}{more}; all in {output / FILE}:", *lines]


def _dsc(row: Judged) -> str:
    return f" (expected DSC {100 * row.expected[0]:.0f} %)" if row.expected else ""


def read_expected(output: Path) -> list[Judged]:
    """The rows of `expected.csv`; none where there is no such file.

    Raises:
        InputError: if the file is damaged.
    """
    path = output / FILE
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            head, *rows = csv.reader(file)
        if tuple(head) != COLUMNS:
            raise ValueError(f"its columns are {', '.join(head)}")
        return [_row(*row) for row in rows]
    except (TypeError, ValueError, OSError, csv.Error) as error:
        raise InputError(f"{path} is damaged: {error}. Predict into another folder.") from None


def _row(case: str, structure: str, *rest: str) -> Judged:
    *texts, remarks = rest
    numbers = [float(text) if text else None for text in texts]
    expected, signs = (tuple(part) if None not in part else None for part in (numbers[:3], numbers[3:]))
    return Judged(case, structure, expected, signs, remarks)  # type: ignore[arg-type]
