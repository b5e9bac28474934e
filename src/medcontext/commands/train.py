"""Training from a data set's folder to checkpoints."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from medcontext.console import warn
from medcontext.files import AnyPath, kept_if_used, several, write_text
from medcontext.settings import Settings

if TYPE_CHECKING:
    from medcontext.run import Inputs, Run
    from medcontext.training.log import Log
    from medcontext.training.processes import Place


def train(
    data: AnyPath | None = None,
    output: AnyPath | None = None,
    settings: Settings | None = None,
    *,
    unlabelled: Sequence[str | Path] = (),
    series: str | Sequence[str] = (),
    resume: bool = False,
    init: AnyPath | None = None,
    init_partial: bool = False,
    init_seen_tests: bool = False,
    skip_damaged: bool = False,
    cache: AnyPath | None = None,
) -> "Run":
    """Train a network with MedContext, or the plain baseline with --method none.

    Args:
        data: data set: a Decathlon, nnU-Net, BTCV, ACDC or BraTS folder, or a JSON list
        output: folder of the run, new or empty
        settings: of the run; None for the defaults, or for those of a run that goes on
        unlabelled: scans without labels that join the training: folders of NIfTI files or DICOM series, data sets
            (their imagesTs, imagesUn or "unlabelled"), or rest, the training cases that --few_shot leaves out, without
            their labels
        series: of such DICOM folders, which are meant: a number, a glob on the description or a UID
        resume: go on with the run in --output, which knows all the rest; --steps may be more and --optimizer.lr
            another. Start anew where it has not begun
        init: start from weights: of a pretraining; of another run or its checkpoint, the last layer only where the
            labels fit; or of a file from elsewhere, such as a pretrained encoder
        init_partial: also where less than 90 % of the encoder is in that file
        init_seen_tests: also where that has seen test images, which is noted in the run and its report
        skip_damaged: leave out unlabelled scans that cannot be used, and say so
        cache: folder of prepared cases; default $MEDCONTEXT_CACHE or ~/.cache

    Returns:
        The run, a path, too: its folder.

    Raises:
        InputError: if anything that the user gave cannot be used; found before the training starts.
    """
    from medcontext.errors import InputError
    from medcontext.run import Inputs
    from medcontext.training import fit
    from medcontext.training.log import logged
    from medcontext.training.loop import check_devices
    from medcontext.training.processes import find_place
    from medcontext.training.resume import asked

    if output is None:
        raise InputError("Give the folder of the run: --output RUN.")
    output = Path(output)
    given = Inputs.given(data, unlabelled, skip_damaged, cache, init, init_partial, init_seen_tests)
    given = replace(given, series=several(series))
    inputs, settings, earlier, changed = asked(given, settings, output, resume)
    fit.check_names(settings, inputs.unlabelled)
    place = find_place(settings)
    check_devices(settings, place, earlier)
    with kept_if_used(output, resume) if place.first else nullcontext(), logged(output, place.first) as log:
        return _train(inputs, settings, output, earlier, changed, place, log)


def _train(
    inputs: "Inputs",
    settings: Settings,
    output: Path,
    earlier: "Run | None",
    changed: Sequence[str],
    place: "Place",
    log: "Log",
) -> "Run":
    import torch

    from medcontext.data.doubts import data_doubts
    from medcontext.data.formats import read_dataset
    from medcontext.data.prepare import preparing_remarks
    from medcontext.data.store import shapes_by_digest
    from medcontext.data.unlabelled import Scans, find_unlabelled, kept, prepare_unlabelled
    from medcontext.errors import enough_memory
    from medcontext.run import INITIAL, make_network
    from medcontext.training import fit
    from medcontext.training.initial import start_from
    from medcontext.training.loop import check_room, preparing_workers
    from medcontext.training.resume import needed_cases, note_cases, note_scans, own_split, resumable, validated

    workers, cache = preparing_workers(settings), Path(inputs.cache) if inputs.cache else None
    dataset = read_dataset(Path(inputs.data))
    channels = len(dataset.channels)
    if settings.crop_size != "auto":
        check_room(settings, fit.crops_of_step(settings, bool(inputs.unlabelled)), channels, settings.crop_size)
    split = own_split(earlier, dataset) if earlier else fit.first_split(dataset, settings)
    checked_on = validated(split, settings)
    found = find_unlabelled(inputs.unlabelled, dataset, split.rest, inputs.series)
    found = kept(found, earlier.facts.unlabelled.scans if earlier else ())
    if place.first:
        warn(data_doubts(dataset, split.train + split.validation, [source.dataset for source in found]))
    with resumable(output, inputs, settings, place.first and not earlier):
        run, store = fit.prepare_run(dataset, split, output, settings, cache, earlier)
        goes_on = earlier is not None and run.checkpoint("last").is_file()
        if place.first:
            warn(preparing_remarks(store, needed_cases(split, settings), split.train, run.plan))
        note_cases(run, store, dataset)
        check_room(settings, fit.crops_of_step(settings, bool(inputs.unlabelled)), channels, run.crop_size)
        torch.manual_seed(settings.seed)
        with enough_memory(f"the network {settings.network} and its teacher", "Make it smaller by its --network_args."):
            network = make_network(run)
            initial, remarks = None, [f"Goes on with another setting: {change}" for change in changed]
            if inputs.init and not goes_on:  # before the teacher is made, which starts as a copy
                initial, said = start_from(inputs, run, network, dataset, workers)
                remarks += said
            task = fit.make_task(run, store, network, bool(found))
        scans = Scans()
        if found:  # last, for they may be a thousand
            skip = inputs.skip_damaged
            scans = prepare_unlabelled(
                found, dataset, split, store, run.plan, cache=cache, workers=workers, skip_damaged=skip
            )
        note_scans(run, scans)
        progress = fit.make_progress(run, store, checked_on, scans)
        learnt = [*(store.case(name) for name in split.train), *scans.cases]
        progress.seen = (initial.seen if initial else {}) | shapes_by_digest(learnt)
        if goes_on:
            progress.restore(task)
    if place.first:
        run.facts.parameters = sum(parameter.numel() for parameter in network.parameters())
        run.facts.changes += tuple((task.learner.step, change) for change in changed)
        run.write()
        if initial:
            write_text(output / INITIAL, initial.text())
        inputs.write(output)
        log.keep()
        fit.print_run(run, dataset, scans, len(checked_on), task.learner.step, remarks)
    fit.fit(run, store, scans, task, progress, place)
    return run
