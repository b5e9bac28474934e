"""Which components of each structure are kept in a run's predictions, found on its validation cases.

Its files are those of `medcontext.run.postprocessing`.
"""

from pathlib import Path
from typing import Literal

from medcontext.files import AnyPath


def postprocess(
    run: AnyPath,
    data: AnyPath | None = None,
    *,
    checkpoint: str = "last",
    weights: Literal["student", "teacher"] = "student",
    overlap: float | None = None,
    mirror: bool | None = None,
    device: Literal["auto", "cpu", "gpu"] = "auto",
    workers: int = 1,
) -> Path:
    """Find out whether dropping small components helps a run, as nnU-Net does.

    Predicts the run's validation cases, and tries for each structure to keep its largest component alone, or components
    from a smallest size on. A step is kept where it raises the structure's mean Dice on these cases, and written to
    `RUN/postprocessing.json`; `predict` then applies it. Test cases are not looked at. Interrupted, it goes on when
    called again: what was predicted stays.

    Args:
        run: folder of a training run
        data: the data set that it was trained on; default: where it was then
        checkpoint: last, best or a file; predictions of others are left as they are
        weights: the student's, or the EMA teacher's
        overlap: of neighbouring windows, 0 to below 1; default as in the training
        mirror: average over the eight mirrored views; default as in the training
        device: where to compute; auto is a GPU where there is one
        workers: processes that measure, each with one case in memory

    Returns:
        The path of `postprocessing.json`.

    Raises:
        InputError: if the run has no validation cases, or the data set has not the scans that it was trained on.
    """
    from medcontext.console import console
    from medcontext.data.formats import read_dataset
    from medcontext.data.label_map import follow
    from medcontext.evaluation.pairs import match
    from medcontext.inference.ensemble import load_members
    from medcontext.inference.origin import describe_origin
    from medcontext.inference.postprocess import choose, validation_cases
    from medcontext.inference.predict import outputs
    from medcontext.inference.validated import choices_table, predict_validation
    from medcontext.run import read_run
    from medcontext.run.postprocessing import FILE, Postprocessing, write_postprocessing

    found = read_run(Path(run))
    names = validation_cases(found)
    root = Path(data if data is not None else found.facts.data)
    dataset = read_dataset(root)
    members = load_members([found], [checkpoint], weights, device=device, overlap=overlap, mirror=mirror)
    origin = describe_origin(members, weights, [root])
    cases = predict_validation(members, dataset, names, origin)
    folder = found.folder
    pairs, _ = match({case.name: outputs(folder / "postprocessing", case, False)[0] for case in cases}, dataset)
    label_map = follow(dataset.label_map, found.settings.prepare.label_map)
    choices = choose(pairs, found.structures, found.regions, label_map, workers)
    checked = Postprocessing(names, weights, origin["predicted_by"]["networks"][0]["sha256"], choices)
    write_postprocessing(folder, checked)
    console.print(choices_table(checked))
    console.print(f"Written: {folder / FILE}", soft_wrap=True)
    return folder / FILE
