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
    from medcontext.comparison.read import read_study
    from medcontext.comparison.text import show
    from medcontext.comparison.write import to_dict, write

    study = read_study(models)
    comparisons = compare_models(study)
    show(study, comparisons)
    if output is not None:
        write(study, comparisons, Path(output), overwrite)
    return to_dict(study, comparisons)
