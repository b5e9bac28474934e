"""Comparing evaluated runs, from folders to tables on screen and on disk."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medcontext.console import console
from medcontext.evaluation.compare import compare_models
from medcontext.evaluation.comparison_text import (
    by_table,
    conclusion,
    make_table,
    to_csv,
    to_dict,
    to_latex,
    to_markdown,
)
from medcontext.evaluation.scores import read_models
from medcontext.files import output_folder, write_json, write_text


def compare_folders(models: Sequence[str], output: Path | None = None, overwrite: bool = False) -> dict[str, Any]:
    """Compare the first model with every other: means, intervals, tests, and what can be concluded.

    Args:
        models: at least two, each `[NAME=]FOLDER[,FOLDER...]`: folders that `medcontext evaluate` wrote, several for
            several seeds of one model.
        output: folder for comparison.csv, .json, .md and .tex, new or empty; None only prints.
        overwrite: replace what the output folder holds.

    Returns:
        What `comparison.json` holds.

    Raises:
        InputError: see `read_models`; if the output cannot be written.
    """
    loaded = read_models(models)
    comparisons = compare_models(loaded)
    units = loaded[0].evaluations[0].summary["units"]
    folders = {model.name: [str(run.folder.resolve()) for run in model.evaluations] for model in loaded}
    found = to_dict(comparisons, folders, units)
    for rows in by_table(comparisons):
        console.print(make_table(rows, units[rows[0].metric]))
    console.print(conclusion(comparisons))
    if output is not None:
        output_folder(output, overwrite=overwrite)
        write_json(output / "comparison.json", found)
        write_text(output / "comparison.csv", to_csv(comparisons))
        write_text(output / "comparison.md", to_markdown(comparisons, units))
        write_text(output / "comparison.tex", to_latex(comparisons, units))
        console.print(f"Written: {output / 'comparison'}.csv, .json, .md, .tex", soft_wrap=True)
    return found
