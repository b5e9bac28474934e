"""What a person takes along from a page: its tables as files, which are links that hold them."""

from base64 import b64encode
from collections.abc import Sequence
from typing import NamedTuple

from medcontext.comparison.compare import Comparison
from medcontext.comparison.study import Study
from medcontext.comparison.write import to_csv, to_latex
from medcontext.evaluation import summary


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
    found = [download("every score (CSV)", "scores.csv", scores_csv(study))]
    if comparisons:
        found.append(download("differences (CSV)", "comparison.csv", to_csv(comparisons)))
    return [*found, download("table (LaTeX)", "table.tex", to_latex(study, comparisons))]


def scores_csv(study: Study) -> str:
    """A row for each model, seed, case and structure, with the columns of `metrics.csv`; DSC as a fraction."""
    rows = []
    for model in study.models:
        for seed, run in enumerate(model.evaluations):
            parts = run.parts  # made anew each time that it is asked for
            rows += [
                {"model": model.name, "seed": str(seed), "part": parts[row["case"]], **row} for row in run.rows.values()
            ]
    return summary.to_csv(rows)


def download(label: str, file: str, text: str) -> Download:
    """A link that holds a text as a file."""
    return Download(label, file, f"data:text/plain;charset=utf-8;base64,{b64encode(text.encode()).decode()}")
