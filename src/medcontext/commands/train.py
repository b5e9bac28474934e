"""Training from a data set's folder to checkpoints."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medcontext.console import warn
from medcontext.files import AnyPath, output_folder
from medcontext.settings import Settings

if TYPE_CHECKING:
    from medcontext.run import Run


def train(
    data: AnyPath,
    output: AnyPath,
    settings: Settings = Settings(),  # noqa: B008 (frozen)
    *,
    unlabelled: Sequence[str | Path] = (),
    skip_damaged: bool = False,
    cache: AnyPath | None = None,
    resume: bool = False,
) -> "Run":
    """Train a network with MedContext, or the plain baseline with --method none.

    Args:
        data: data set: a Decathlon, nnU-Net, BTCV, ACDC or BraTS folder, or a JSON list
        output: folder of the run, new or empty
        settings: of the run
        unlabelled: scans without labels that join the training: folders of NIfTI files, data sets (their imagesTs,
            imagesUn or "unlabelled"), or rest, the training cases that --few_shot leaves out, without their labels
        skip_damaged: leave out unlabelled scans that cannot be used, and say so
        cache: folder of prepared cases; default $MEDCONTEXT_CACHE or ~/.cache
        resume: go on from the output folder's last checkpoint; start anew where there is none yet

    Returns:
        The run, a path, too: its folder.

    Raises:
        InputError: if anything that the user gave cannot be used; found before the training starts.
    """
    import torch

    from medcontext.data.doubts import data_doubts
    from medcontext.data.formats import read_dataset
    from medcontext.data.prepare import preparing_remarks
    from medcontext.data.unlabelled import Scans, find_unlabelled, prepare_unlabelled
    from medcontext.errors import enough_memory
    from medcontext.run import make_network
    from medcontext.training import fit
    from medcontext.training.processes import find_place
    from medcontext.training.resume import earlier_run, needed_cases, note_cases, own_split, validated

    data, output = Path(data), Path(output)
    cache = None if cache is None else Path(cache)
    sources = [str(source) for source in unlabelled]
    fit.check_names(settings, sources)
    place = find_place(settings)
    fit.check_devices(settings, place)
    if place.first:
        output_folder(output, overwrite=resume, flag="--resume")
    if resume and (output / "settings.yaml").is_file():
        fit.check_same(settings, Settings.read(output / "settings.yaml"), output)
    dataset = read_dataset(data)
    if settings.crop_size != "auto":
        fit.check_room(settings, len(dataset.channels), settings.crop_size, bool(sources))
    earlier = earlier_run(output) if resume else None
    split = own_split(earlier, dataset) if earlier else fit.first_split(dataset, settings)
    found = find_unlabelled(sources, dataset, split.rest)
    if place.first:
        warn(data_doubts(dataset, split.train + split.validation, [source.dataset for source in found]))
    run, store = fit.prepare_run(dataset, split, output, settings, cache, earlier)
    if place.first:
        warn(preparing_remarks(store, needed_cases(split, settings), split.train, run.plan))
    note_cases(run, store, dataset)
    fit.check_room(settings, len(dataset.channels), run.crop_size, bool(sources))
    scans = Scans()
    if found:
        workers = fit.preparing_workers(settings)
        scans = prepare_unlabelled(
            found, dataset, split, store, run.plan, cache=cache, workers=workers, skip_damaged=skip_damaged
        )
    fit.note_scans(run, scans)
    torch.manual_seed(settings.seed)
    with enough_memory(f"the network {settings.network} and its teacher", "Make it smaller by its --network_args."):
        network = make_network(run)
        task = fit.make_task(run, store, network, scans)
    checked_on = validated(split, settings)
    progress = fit.make_progress(run, store, checked_on, scans)
    if resume and run.checkpoint("last").is_file():
        progress.restore(task)
    if place.first:
        run.facts.parameters = sum(parameter.numel() for parameter in network.parameters())
        run.write()
        fit.print_run(run, dataset, scans, len(checked_on), task.learner.step)
    fit.fit(run, store, scans, task, progress, place)
    return run
