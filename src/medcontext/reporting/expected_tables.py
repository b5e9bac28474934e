"""What the page says of expected DSC: words, and a table of cases in the order of their need of a look."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from medcontext.errors import counted
from medcontext.inference.judge import Judged, expected_csv
from medcontext.inference.worth import rank_text
from medcontext.reporting.downloads import Download, download
from medcontext.reporting.expected import Foreseen, Pair
from medcontext.reporting.expected_figures import against_true

NOTE = (
    "What is expected was written by `medcontext predict`, which knew no label of these cases. In the figure a point "
    "is a case: the mean over the structures that were found. The true DSC of the table is that of the whole page, in "
    "which a missed structure has 0."
)
"""How both are to be read."""

LISTED = 12
"""Cases of a table beside true scores."""


class ExpectedRow(NamedTuple):
    """A case, as text.

    Args:
        case: its name.
        expected: DSC in per cent; a dash where none is.
        interval: of it.
        true: DSC in per cent.
        remarks: why a person should look at it.
    """

    case: str
    expected: str
    interval: str
    true: str
    remarks: Sequence[str]


class ExpectedTable(NamedTuple):
    """What is expected of a model's segmentations.

    Args:
        caption: of the table.
        rows: the cases, those first that a person should look at first.
        scored: whether the true DSC is known.
        download: all that is expected, as a file.
        name: of the figure's file.
        figure: beside the table, if there is one.
        words: what it comes to, a sentence; or nothing.
    """

    caption: str
    rows: Sequence[ExpectedRow]
    scored: bool
    download: Download
    name: str = "expected"
    figure: Figure | None = None
    words: str = ""


def scored_table(foreseen: Foreseen, true: Mapping[str, float | None], alone: bool) -> ExpectedTable:
    """The table of a model whose predictions were scored.

    Args:
        foreseen: what was expected.
        true: the mean DSC of each case, a fraction; None where it does not count.
        alone: whether the page has no other model.
    """
    cases, figure, words, name = foreseen.cases, None, "", "expected" if alone else f"expected_{foreseen.index + 1}"
    if foreseen.pairs:
        text = agreement(list(foreseen.pairs.values()))
        words = text[0].upper() + text[1:] if alone else f"{foreseen.model}: {text}"
        title = f"{counted(len(foreseen.pairs), 'case')}" if alone else foreseen.model
        figure = against_true(foreseen, title)
    rows = expected_rows(cases[:LISTED], true)
    some = f": {len(rows)} of {len(cases)}" if len(rows) < len(cases) else ""
    caption = f"{'' if alone else f'{foreseen.model}, '}DSC in %, cases in the order of their need of a look{some}"
    return ExpectedTable(caption, rows, True, offer(foreseen.rows, name), name, figure, words)


def offer(rows: Sequence[Judged], name: str = "expected") -> Download:
    """All that is expected, as a file."""
    return download("what is expected of every structure (CSV)", f"{name}.csv", expected_csv(rows))


def agreement(pairs: Sequence[Pair]) -> str:
    """How near what was expected came to the truth, in a sentence.

    >>> agreement([Pair(0.5, 0.4, 0.6, 0.6), Pair(0.7, 0.6, 0.8, 0.9)])
    'the expected DSC of 2 cases is off by 15.0 points on average; 1 of 2 true DSC lie in the interval.'
    """
    expected, low, high, true = np.array(pairs).T
    off = f"{100 * np.abs(expected - true).mean():.1f}"
    rank = rank_text(expected, true)
    order = "" if rank == "-" else f" and has a rank correlation of {rank} with the true DSC"
    inside = int(((low <= true) & (true <= high)).sum())
    return (
        f"the expected DSC of {counted(len(pairs), 'case')} is off by {off} points on average{order}; {inside} of "
        f"{len(pairs)} true DSC lie in the interval."
    )


def expected_rows(cases: Sequence[Judged], true: Mapping[str, float | None] | None = None) -> list[ExpectedRow]:
    """The rows of cases' means, as text."""
    rows = []
    for row in cases:
        value, low, high = (f"{100 * each:.1f}" for each in row.expected) if row.expected else ("–", "", "")
        score = (true or {}).get(row.case)
        rows.append(
            ExpectedRow(
                row.case,
                value,
                f"{low} to {high}" if row.expected else "–",
                "–" if score is None else f"{100 * score:.1f}",
                row.remarks.split("; ") if row.remarks else [],
            )
        )
    return rows
