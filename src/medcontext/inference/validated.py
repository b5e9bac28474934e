"""A run's predictions of its own validation cases, kept in its folder."""

import shutil
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from medcontext.console import warn
from medcontext.data.cases import Case, Dataset
from medcontext.data.folders import listed, shortened
from medcontext.errors import InputError, counted
from medcontext.files import read_json
from medcontext.inference.ensemble import Member
from medcontext.inference.origin import RECORD, check_same_origin
from medcontext.inference.predict import kept_if_used, outputs, predict_cases, remove_leftovers
from medcontext.run.postprocessing import FOLDER, Postprocessing, step_text


def predict_validation(
    members: Sequence[Member], dataset: Dataset, names: Sequence[str], origin: dict[str, Any]
) -> list[Case]:
    """Predict those cases that are not there yet; predictions of other networks or options make way.

    Args:
        members: one network.
        dataset: that it was trained on.
        names: of the validation cases.
        origin: from `describe_origin`.

    Raises:
        InputError: if a case is not in the data set, cannot be predicted, or is another scan under that name.
    """
    run = members[0].run
    output = run.folder / FOLDER
    cases = [case for case in dataset.cases if case.name in set(names)]
    missing = sorted(set(names) - {case.name for case in cases})
    if missing:
        raise InputError(f"{dataset.root} has no labelled case {listed(missing)}, which {run.folder} validates on.")
    try:
        check_same_origin(output, origin)
    except InputError:
        if not (output / RECORD).is_file():  # not ours
            raise
        warn([f"the predictions in {output} are of other weights or options; they are made anew."])
        shutil.rmtree(output)
    with kept_if_used(output, resume=True):
        remove_leftovers(output)
        todo = [case for case in cases if not outputs(output, case, False)[0].is_file()]
        failed = predict_cases(todo, members, output, origin, (), probabilities=False)
    if failed:
        raise InputError(f"{len(failed)} validation cases could not be predicted: {shortened(failed)}.")
    parts = read_json(output / RECORD)["parts"]
    other = [case.name for case in cases if parts.get(case.name) != "validation"]
    if other:
        shutil.rmtree(output)
        raise InputError(
            f"{dataset.root} has other scans than {run.folder} was trained and validated on, under the names "
            f"{listed(other)}. Give the data set of the training: --data DATASET."
        )
    return cases


def choices_table(found: Postprocessing) -> Table:
    """What is kept of each structure, and what that does to its Dice."""
    count = len(found.cases)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=counted(count, "validation case"))
    table.add_column("structure", overflow="fold")
    table.add_column("kept", overflow="fold")
    for column in ("DSC before", "DSC after"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, choice in found.structures.items():
        kept = step_text(found.steps[name]) if name in found.steps else "all"
        scores = ["-" if dice is None else f"{100 * dice:.2f}" for dice in (choice.dice_before, choice.dice_after)]
        table.add_row(Text(name), kept, *scores)
    return table
