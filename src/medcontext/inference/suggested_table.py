"""What `medcontext suggest` leaves, and finding it again.

```
OUTPUT/suggested.csv   a row for each scan to label, the most useful first
OUTPUT/suggested.png   they and their segmentations
OUTPUT/predictions     the segmentations of all scans
```
"""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from medcontext.errors import InputError

TABLE, PICTURE, PREDICTIONS = "suggested.csv", "suggested.png", "predictions"


class SuggestedRow(NamedTuple):
    """A row of `suggested.csv`.

    Args:
        case: its name.
        image: its files, with blanks between.
        expected_dsc: of its segmentation, a fraction; None where nothing is known of it.
        distance, stands_for, gain: see `medcontext.inference.suggest.Suggestion`.
        reason: all that in words, and why a person should look at the segmentation.
    """

    case: str
    image: str
    expected_dsc: float | None
    distance: float
    stands_for: int
    gain: float
    reason: str


def suggested_csv(rows: Sequence[SuggestedRow]) -> str:
    """The rows as the text of `suggested.csv`."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(SuggestedRow._fields)
    for row in rows:
        writer.writerow([f"{value:.4f}" if isinstance(value, float) else value for value in row])  # None is empty
    return table.getvalue()


def read_suggested(output: Path) -> list[SuggestedRow]:
    """The rows of `suggested.csv`, the most useful scan first.

    Raises:
        InputError: if the file is missing or damaged.
    """
    path = output / TABLE
    try:
        with path.open(newline="", encoding="utf-8") as file:
            head, *rows = csv.reader(file)
        if tuple(head) != SuggestedRow._fields:
            raise ValueError(f"its columns are {', '.join(head)}")
        return [_row(*row) for row in rows]
    except (TypeError, ValueError, OSError, csv.Error) as error:
        raise InputError(f"{path} is damaged: {error}. Run `medcontext suggest` again, it goes on.") from None


def _row(case: str, image: str, dsc: str, distance: str, stands_for: str, gain: str, reason: str) -> SuggestedRow:
    expected = float(dsc) if dsc else None
    return SuggestedRow(case, image, expected, float(distance), int(stands_for), float(gain), reason)


def find_suggested(folder: Path) -> tuple[Path, Path | None]:
    """The folder of predictions, and the one that `suggest` wrote around it; None where `predict` alone wrote it.

    Either may be given: `suggested.csv` is of the folder `predictions` beside it, and of no other.
    """
    if (folder / TABLE).is_file():
        return folder / PREDICTIONS, folder
    whole = Path(os.path.abspath(folder))  # `.` has a folder above, too
    known = whole.name == PREDICTIONS and (whole.parent / TABLE).is_file()
    return folder, whole.parent if known else None
