"""What a person takes along from a page: its tables as files, which are links that hold them."""

import csv
import io
from base64 import b64encode
from collections.abc import Sequence
from typing import NamedTuple

from medcontext.comparison.compare import Comparison
from medcontext.comparison.study import Study
from medcontext.comparison.write import to_csv, to_latex


class Download(NamedTuple):
    """A file behind a link.

    Args:
        label: of the link.
        file: its name.
        link: `data:` with all of it.
    """

    label: str
    file: str
    link: str


def downloads(study: Study, comparisons: Sequence[Comparison]) -> list[Download]:
    """The files of a study: every score, the differences where models are compared, and a table for a paper."""
    found = [_download("every score (CSV)", "scores.csv", scores_csv(study))]
    if comparisons:
        found.append(_download("differences (CSV)", "comparison.csv", to_csv(comparisons)))
    return [*found, _download("table (LaTeX)", "table.tex", to_latex(study, comparisons))]


def scores_csv(study: Study) -> str:
    """A row for each model, seed, case and structure, with the columns of `metrics.csv`; DSC as a fraction."""
    text = io.StringIO()
    rows = [
        {"model": model.name, "seed": str(seed), "part": run.parts[row["case"]], **row}
        for model in study.models
        for seed, run in enumerate(model.evaluations)
        for row in run.rows.values()
    ]
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _download(label: str, file: str, text: str) -> Download:
    return Download(label, file, f"data:text/plain;charset=utf-8;base64,{b64encode(text.encode()).decode()}")
