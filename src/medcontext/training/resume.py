"""A run that goes on keeps its own cases, whatever the data set looks like by then."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medcontext.data.cases import Dataset
from medcontext.data.folders import listed
from medcontext.data.labelled import mapped_labels
from medcontext.data.splits import Split
from medcontext.data.store import Store
from medcontext.data.unlabelled import REST
from medcontext.errors import InputError
from medcontext.run import FILES, Run, read_run
from medcontext.settings import Settings


def earlier_run(output: Path) -> Run | None:
    """The run that a folder holds; None if it was stopped before its files were written, and so before its first step.

    Raises:
        InputError: if it has a checkpoint, but is not whole.
    """
    if all((output / name).is_file() for name in FILES) or (output / "checkpoints" / "last.ckpt").is_file():
        return read_run(output)
    return None


def own_split(run: Run, dataset: Dataset) -> Split:
    """The split that a run was started with.

    Raises:
        InputError: if the data set lacks one of the cases that the run trains or validates on, or has other channels
            or labels.
    """
    known = {case.name for case in dataset.cases}
    gone = [name for name in needed_cases(run.split, run.settings) if name not in known]
    if gone:
        raise _other(run, dataset, f"the data set no longer has {listed(gone)} with a label")
    labels = mapped_labels(dataset, run.plan.label_map)
    if dataset.channels != run.plan.channels:
        raise _other(run, dataset, f"channels were {', '.join(run.plan.channels)}, now {', '.join(dataset.channels)}")
    if labels != run.plan.labels:
        raise _other(run, dataset, f"labels were {run.plan.labels}, now {labels}")
    rest = tuple(name for source, name, _ in run.facts.unlabelled.scans if source == REST)
    return replace(run.split, rest=run.facts.rest or rest)


def validated(split: Split, settings: Settings) -> tuple[str, ...]:
    """Names of the validation cases that a training uses."""
    return split.validation[: settings.validation_cases]


def needed_cases(split: Split, settings: Settings) -> tuple[str, ...]:
    """Names of the labelled cases that a training reads."""
    return split.train + validated(split, settings)


def note_cases(run: Run, store: Store, dataset: Dataset) -> None:
    """Note by their contents which scans and labels a run trains and validates on.

    Raises:
        InputError: if a run that goes on had others under the same names.
    """
    cases = [store.case(name) for name in needed_cases(run.split, run.settings)]
    found = {case.name: (case.digest, case.label_digest) for case in cases}
    before = run.facts.cases
    changed = [
        f"{what} of {listed(names)}"
        for index, what in enumerate(("images", "labels"))
        if (names := [name for name in found if name in before and before[name][index] != found[name][index]])
    ]
    if changed:
        raise _other(run, dataset, f"there are other {' and other '.join(changed)}")
    run.facts.cases, run.facts.rest = found, run.split.rest


def late_cases(split: Split, names: Sequence[str]) -> str:
    """A remark on cases that came to a data set after a run had made its split; or nothing."""
    parts = {*split.train, *split.validation, *split.test, *split.rest}
    late = [name for name in names if name not in parts]
    return f"Not in this run's split, and so not used: {len(late)} cases of the data set." if late else ""


def _other(run: Run, dataset: Dataset, what: str) -> InputError:
    return InputError(
        f"{run.folder} was started with other cases than {dataset.root} has now: {what}. Resume with the cases as they "
        "were, or choose another output."
    )
