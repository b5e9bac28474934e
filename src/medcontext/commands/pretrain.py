"""Pretraining an encoder on scans without labels, for a training to start from."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from medcontext.files import AnyPath, kept_if_used, several
from medcontext.pretrain_settings import PretrainSettings

if TYPE_CHECKING:
    from medcontext.run import Inputs, Pretraining
    from medcontext.training.log import Log
    from medcontext.training.processes import Place


def pretrain(
    data: Sequence[AnyPath] = (),
    output: AnyPath | None = None,
    settings: PretrainSettings | None = None,
    *,
    like: AnyPath | None = None,
    channels: Sequence[str] = (),
    series: str | Sequence[str] = (),
    resume: bool = False,
    skip_damaged: bool = False,
    cache: AnyPath | None = None,
) -> "Pretraining":
    """Pretrain a network's encoder on scans without labels; a training starts from it by --init.

    Args:
        data: folders of NIfTI files or DICOM series, or data sets, of which the training part and the scans without
            labels are taken; labels are never read
        output: folder of the pretraining, new or empty
        settings: of the pretraining; None for those of one that goes on
        like: prepare scans as a run (or another pretraining) does, or as a preset of `medcontext train` says, and take
            its crop
        channels: names of the scans' channels, in order, where no data set says them: CT decides how intensities are
            scaled
        series: of DICOM folders with several, which are meant: a number, a glob on the description or a UID
        resume: go on with the pretraining in --output, which knows all the rest
        skip_damaged: leave out scans that cannot be used, and say so
        cache: folder of prepared cases; default $MEDCONTEXT_CACHE or ~/.cache

    Returns:
        The pretraining, a path, too: its folder.

    Raises:
        InputError: if anything that the user gave cannot be used; found before the first step.
    """
    from medcontext.errors import InputError
    from medcontext.networks import find_network
    from medcontext.run import Inputs
    from medcontext.training.log import logged
    from medcontext.training.loggers import check_loggers
    from medcontext.training.loop import check_devices
    from medcontext.training.pretrain import asked
    from medcontext.training.processes import find_place

    if output is None:
        raise InputError("Give the folder of the pretraining: --output PRE.")
    output = Path(output)
    given = Inputs.given(None, data, skip_damaged, cache, None)
    given = replace(given, channels=tuple(channels), like=str(like or ""))
    given = replace(given, series=several(series))
    inputs, settings, earlier, changed = asked(given, settings, output, resume)
    find_network(settings.network)
    check_loggers(settings.loggers)
    place = find_place(settings)
    check_devices(settings, place, earlier)
    with (
        kept_if_used(output, resume) if place.first else nullcontext(),
        logged(output, place.first, "pretrain") as log,
    ):
        return _pretrain(inputs, settings, output, earlier, changed, place, log)


def _pretrain(
    inputs: "Inputs",
    settings: PretrainSettings,
    output: Path,
    earlier: "Pretraining | None",
    changed: Sequence[str],
    place: "Place",
    log: "Log",
) -> "Pretraining":
    from medcontext.data.corpus import find_corpus, prepare_corpus
    from medcontext.listing import CROP
    from medcontext.training import pretrain as pieces
    from medcontext.training.loop import check_room, preparing_workers
    from medcontext.training.resume import note_scans, resumable

    workers, cache = preparing_workers(settings), Path(inputs.cache) if inputs.cache else None
    like = pieces.Like(settings, earlier.plan) if earlier else pieces.find_like(inputs.like, settings, inputs.channels)
    chosen, plan = like.settings, like.plan
    found = find_corpus(
        inputs.unlabelled,
        plan.channels if plan else inputs.channels,
        split=chosen.split,
        fold=chosen.fold,
        seed=chosen.seed,
        chosen=like.chosen,
        official=like.split,
        series=inputs.series,
        before=earlier.facts.unlabelled.scans if earlier else (),
    )
    channels = len(found[0].dataset.channels)
    crop = CROP if chosen.crop_size == "auto" else chosen.crop_size
    pieces.make_objective(chosen, channels, crop)  # refused before a scan is read
    check_room(chosen, chosen.batch_size, channels, crop)
    with resumable(output, inputs, settings, place.first and not earlier):
        plan = plan or pieces.choose_plan(found, chosen, workers)
        corpus = prepare_corpus(
            found,
            plan,
            held_out=settings.held_out,
            seed=settings.seed,
            cache=cache,
            workers=workers,
            skip_damaged=inputs.skip_damaged,
        )
        run = pieces.make_pretraining(found, corpus, plan, output, chosen, earlier)
        note_scans(run, corpus.scans)
        task, progress = pieces.make_task(run), pieces.make_progress(run, corpus)
        if earlier and run.checkpoint("last").is_file():
            progress.restore(task)
    if place.first:
        run.facts.parameters = sum(parameter.numel() for parameter in task.objective.parameters())
        run.facts.changes += tuple((task.step, change) for change in changed)
        run.write()
        inputs.write(output)
        log.keep()
        remarks = [*like.remarks, *(f"Goes on with another setting: {change}" for change in changed)]
        pieces.print_pretraining(run, corpus, task, remarks)
    pieces.fit(run, corpus.cases(held_out=False), task, progress, place)
    return run
