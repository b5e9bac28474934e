"""Scoring a folder of predictions against labels."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from medcontext.errors import InputError
from medcontext.files import AnyPath

if TYPE_CHECKING:
    from medcontext.evaluation.summary import Scores


def evaluate(
    predictions: AnyPath | Sequence[AnyPath],
    labels: AnyPath,
    output: AnyPath,
    *,
    protocol: Literal["standard", "legacy"] = "standard",
    structures: Mapping[str, int | list[int]] | None = None,
    images: AnyPath | None = None,
    workers: int | None = None,
    overwrite: bool = False,
) -> "Scores":
    """Score segmentations: DSC and HD95 for every case and structure.

    Both HD95, in the labels' own geometry. Writes `metrics.csv` (one row per case and structure; `dsc` is a fraction
    from 0 to 1) and `summary.json`, both or neither, and prints a table. Labels that have no prediction are listed in
    the summary, not scored. The labels' values are mapped by the "label_map" of their data set, and by that of the
    training, which is noted beside its predictions. Where a label has nnU-Net's `ignore` value, nothing is scored.

    From a script, call it under `if __name__ == "__main__":` or with `workers=1`, as anything that starts processes.

    Args:
        predictions: folder of segmentations, named by case, or the files of one folder, as `predict` returned them; or
            the results of nnU-Net: a training's folder, for the validation cases of all folds, or a fold's
        labels: folder of label files with the same names, or a data set (folder or JSON file)
        output: folder of the scores, new or empty
        protocol: standard: millimetres, a miss or a false alarm gets the worst score; legacy: the paper's conventions
        structures: names and values, such as {"liver": 1, "tumour": [2, 3]}; default: as declared by a dataset.json
        images: folder of the images, named by case, to be listed in the summary for reports
        workers: processes; default: one for each processor
        overwrite: replace the scores that the output folder holds

    Returns:
        The scores: `rows`, one for each case and structure, and `summary`, what `summary.json` holds.

    Raises:
        InputError: if there are no predictions, or one is not there, has no label or lies on another grid; if a file
            is damaged or holds fractional, negative or undeclared values; if the output cannot be written.
    """
    import medcontext
    from medcontext.data.pool import processors
    from medcontext.evaluation.evaluate import describe, named_structures, score_pairs, show
    from medcontext.evaluation.pairs import find_labels, match, with_test_labels
    from medcontext.evaluation.predictions import chosen, find_predictions, provenance, warn_of_training_cases
    from medcontext.evaluation.protocols import get_protocol
    from medcontext.evaluation.structures import ignored_by, label_map_of
    from medcontext.evaluation.summary import Scores, make_rows
    from medcontext.files import output_folder

    folder, files = one_folder(predictions)
    labels, output = Path(labels), Path(output)
    images = None if images is None else Path(images)
    rules = get_protocol(protocol)
    if folder.resolve() == labels.resolve():
        raise InputError(f"Predictions and labels are the same folder, {folder}; give two.")
    found = find_labels(labels)
    given = find_predictions(folder)
    warn_of_training_cases(given, found)
    found = with_test_labels(found, given.files)
    pairs, unpredicted = match(chosen(given, files), found, images, given.parts)
    meaning = labels, found, given.declared
    label_map, ignored = label_map_of(*meaning), ignored_by(*meaning)
    names, source = named_structures(structures, *meaning, label_map, ignored)
    output_folder(output, overwrite=overwrite)
    cases = score_pairs(pairs, names, rules, processors() if workers is None else workers, label_map, ignored)
    summary = {
        "medcontext": medcontext.__version__,
        "predictions": str(folder.resolve()),
        "labels": str(labels.resolve()),
        "images": None if images is None else str(images.resolve()),
        "structures_from": source,
        **({} if given.nnunet is None else {"nnunet": provenance(given.nnunet)}),
        **describe(cases, pairs, names, rules, label_map, ignored),
        "labels_without_prediction": unpredicted,
    }
    scores = Scores(output, summary, make_rows(cases))
    scores.write()
    show(summary, rules, output)
    return scores


def one_folder(predictions: AnyPath | Sequence[AnyPath]) -> tuple[Path, list[Path]]:
    """The folder of predictions, and those that are meant where not all are.

    Raises:
        InputError: if files lie in several folders, or there are none.
    """
    from medcontext.data.nifti import is_nifti

    if isinstance(predictions, str | os.PathLike):
        return Path(predictions), []
    files = [Path(path) for path in predictions]
    if len(files) == 1 and not is_nifti(files[0]):
        return files[0], []
    folders = {path.parent.resolve(): path.parent for path in files}
    if len(folders) != 1:
        named = ", ".join(sorted(map(str, folders.values()))) or "none"
        raise InputError(f"The predictions must lie in one folder, got {named}; give one folder, or its files.")
    return files[0].parent, files
