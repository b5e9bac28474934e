"""The scans that `medcontext suggest` chose, beside the predictions of all: which they are, and what the page says."""

from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from medcontext.data.folders import listed
from medcontext.errors import InputError, counted
from medcontext.inference.judge import FILE, Judged
from medcontext.inference.suggested_table import PICTURE, TABLE, SuggestedRow, read_suggested, suggested_csv
from medcontext.reporting.downloads import Download, download
from medcontext.reporting.expected_tables import ExpectedRow, expected_rows

NOTE = (
    "A scan stands for itself and for those that it is nearer to than any labelled scan or suggestion above it. The "
    "distance is that to the nearest of these, in intensities, field of view and volumes of the structures, without a "
    "unit: the larger, the less alike."
)


class Suggestions(NamedTuple):
    """What `suggest` left.

    Args:
        rows: of the scans to label, the most useful first.
        picture: of them, a PNG file; None where it is gone.
    """

    rows: Sequence[SuggestedRow]
    picture: Path | None

    @property
    def cases(self) -> list[str]:
        """Their names."""
        return [row.case for row in self.rows]


class SuggestedTable(NamedTuple):
    """What the page says of them.

    Args:
        words: a sentence.
        rows: of each scan what is expected of its segmentation, and why it was chosen.
        note: how it is to be read.
        picture: of all, an address with all of it; empty where there is none.
        alt: what is in it, or why there is none.
        download: the table as a file.
    """

    words: str
    rows: Sequence[tuple[ExpectedRow, SuggestedRow]]
    note: str
    picture: str
    alt: str
    download: Download


def read_suggestions(folder: Path, means: Sequence[Judged]) -> Suggestions:
    """What `suggest` left in a folder.

    Args:
        folder: that it wrote.
        means: the row of each predicted case's mean.

    Raises:
        InputError: if the list is damaged, or of other predictions.
    """
    rows = read_suggested(folder)
    known = {row.case: row.expected[0] if row.expected else None for row in means}
    other = [row.case for row in rows if row.case not in known or row.expected_dsc != known[row.case]]
    if other:
        raise InputError(
            f"{folder / TABLE} is not of these predictions: their {FILE} lacks {len(other)} of its "
            f"{counted(len(rows), 'case')} or expects another DSC, {listed(other)}. Run `medcontext suggest` again, or "
            f"remove {TABLE}."
        )
    picture = folder / PICTURE
    return Suggestions(rows, picture if picture.is_file() else None)


def suggested_table(found: Suggestions, means: Sequence[Judged]) -> SuggestedTable:
    """What the page says of suggestions among the predicted cases."""
    judged = {row.case: row for row in means}
    names = found.cases
    words = (
        f"Label {'this' if len(names) == 1 else f'these {len(names)}'} of {counted(len(means), 'scan')}, the most "
        "useful first: they stand for many that are segmented badly, and are unlike the labelled scans and each other."
    )
    shown = f"Of each scan a slice as it is, then slices with what was segmented in colour: {', '.join(names)}."
    gone = f"No picture: {PICTURE} is not beside {TABLE}; `medcontext suggest` makes it again."
    return SuggestedTable(
        words,
        list(zip(expected_rows([judged[name] for name in names]), found.rows, strict=True)),
        NOTE,
        f"data:image/png;base64,{b64encode(found.picture.read_bytes()).decode()}" if found.picture else "",
        shown if found.picture else gone,
        download("what to label next (CSV)", TABLE, suggested_csv(found.rows)),
    )
