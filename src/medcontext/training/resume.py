"""A run that goes on keeps its own cases, whatever the data set looks like by then."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from medcontext.data.cases import Dataset
from medcontext.data.folders import listed
from medcontext.data.labelled import mapped_labels
from medcontext.data.splits import Split
from medcontext.data.store import Store
from medcontext.data.unlabelled import REST, Scans
from medcontext.errors import InputError
from medcontext.run import FILES, INPUTS, RECORD, Inputs, Run, Training, UnlabelledFacts, read_run
from medcontext.settings import Settings, TrainingSettings
from medcontext.training.changes import changes


def earlier_run(output: Path) -> Run | None:
    """The run that a folder holds; None if it was stopped before its files were written, and so before its first step.

    Raises:
        InputError: if it has a checkpoint, but is not whole.
    """
    if all((output / name).is_file() for name in FILES) or (output / "checkpoints" / "last.ckpt").is_file():
        return read_run(output)
    return None


def asked(
    given: Inputs, settings: Settings | None, output: Path, resume: bool
) -> tuple[Inputs, Settings, Run | None, list[str]]:
    """What is to be trained with: what is given, and where a run goes on, what it was started with for all else.

    Args:
        given: data and all else beside settings; nothing of it needs to be there to go on.
        settings: None for those that the run has, or the defaults.
        output: the run's folder.
        resume: whether to go on with what is there.

    Returns:
        Inputs, settings, the run that goes on or None, and what differs from its settings in words.

    Raises:
        InputError: if there are no data, or something differs that may not.
    """
    if resume and (output / RECORD).is_file():
        raise InputError(f"{output} is a pretraining's folder, not a training's. Choose another --output.")
    begun = earlier_run(output) if resume else None
    before = Inputs.read(output) if resume else Inputs()
    inputs = given.over(before)
    if not inputs.data:
        if begun:
            say = f"{output} does not say what it was trained on, for another version wrote it: give --data, and"
            raise InputError(f"{say} --unlabelled if it had scans without labels.")
        if resume:
            raise InputError(
                f"There is no run in {output} to go on with. Start one by --data DATASET --output {output}."
            )
        raise InputError("Give the scans to train on: --data DATASET. (A run goes on by --output RUN --resume alone.)")
    if begun and given.init and inputs.absolute().init != before.init:
        raise InputError(
            f"{output} was started from {before.init or 'nothing'}, and goes on from its own checkpoint; leave "
            f"--init {given.init} out, or choose another output."
        )
    if inputs.init and not begun and not Path(inputs.init).exists():
        raise InputError(f"--init {inputs.init} not found. Give a run, a checkpoint of it, or another file of weights.")
    if given.init_seen_tests and not inputs.init:
        raise InputError("--init_seen_tests says what --init FILE may have seen; give that, too.")
    if given.init_partial and not inputs.init:
        raise InputError("--init_partial says how much of --init FILE must fit; give that, too.")
    if settings is None:
        saved = output / "settings.yaml"
        settings = Settings.read(saved) if resume and saved.is_file() else Settings()
    return inputs, settings, begun, changes(settings, begun) if begun else []


@contextmanager
def resumable(output: Path, inputs: Inputs, settings: TrainingSettings, write: bool) -> Iterator[None]:
    """While scans are prepared: a run that is stopped then can go on by itself, one that is refused leaves nothing.

    Args:
        output: the run's folder.
        inputs: what it was given.
        settings: resolved.
        write: whether the run is new, and this process the one that writes.
    """
    files = [output / name for name in (INPUTS, "settings.yaml")] if write else []
    new = [file for file in files if not file.exists()]
    if write:
        inputs.write(output)
        settings.write(output / "settings.yaml")
    try:
        yield
    except InputError:
        for file in new:
            file.unlink(missing_ok=True)
        raise


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
    """Names of the validation cases that a training uses.

    Raises:
        InputError: if it needs some and there are none.
    """
    names = split.validation[: settings.validation_cases]
    if settings.patience and not names:
        raise InputError(
            f"--patience {settings.patience} needs validation cases to tell whether it gets better, and there are none."
        )
    return names


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


def note_scans(run: Training, scans: Scans) -> None:
    """Note in a run's facts which unlabelled scans it is trained with.

    Raises:
        InputError: if a resumed run had others, by their images.
    """
    facts, before = UnlabelledFacts.from_dict(scans.facts()), run.facts.unlabelled
    started = run.facts.parameters is not None
    if started and _contents(before) != _contents(facts):
        raise InputError(
            f"{run.folder} was trained with {len(before.scans)} unlabelled scans of "
            f"{', '.join(before.sources) or 'no source'}, now there are {len(scans.cases)}, or some have other "
            "images. Resume with the same scans, or choose another output."
        )
    if not started:  # else it knows what was left out then, too
        run.facts.unlabelled = facts


def _contents(facts: UnlabelledFacts) -> list[tuple[str, str]]:
    """Of each scan its name and its image's digest; where it came from may be written in another way."""
    return [(name, digest) for _, name, digest in facts.scans]


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
