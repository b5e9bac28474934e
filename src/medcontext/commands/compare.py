"""Comparing evaluated runs, from folders to tables on screen and on disk."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medcontext.files import AnyPath


def compare(
    models: Mapping[str, AnyPath | Sequence[AnyPath]] | Sequence[str],
    output: AnyPath | None = None,
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Is one model better than another, for which structures, and is it more than chance?

    The first model is compared with every other: means, intervals, tests, and what can be concluded.

    Args:
        models: at least two: folders that `medcontext evaluate` wrote; of one model several seeds, joined by commas. In
            Python also `{"a": [scores, ...], "b": [...]}`, with what `evaluate` returned.
        output: folder for comparison.csv, .json, .md and .tex, new or empty; otherwise they are only printed
        overwrite: replace what the output folder holds

    Returns:
        What `comparison.json` holds.

    Raises:
        InputError: if the evaluations cannot be compared case by case, or the output cannot be written.
    """
    from medcontext.comparison.compare import compare_models
    from medcontext.comparison.text import show, to_dict, write
    from medcontext.evaluation.scores import read_models

    loaded = read_models(models)
    comparisons = compare_models(loaded)
    units = loaded[0].evaluations[0].summary["units"]
    folders = {model.name: [str(run.folder.resolve()) for run in model.evaluations] for model in loaded}
    remarks = [model.remark for model in loaded if model.remark]
    show(comparisons, units, remarks)
    found = {**to_dict(comparisons, folders, units), "remarks": remarks}
    if output is not None:
        write(found, comparisons, units, Path(output), overwrite)
    return found
