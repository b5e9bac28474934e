"""The pieces of a training, which `medcontext.commands.train` puts together."""

import logging
import shlex
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from rich.text import Text
from torch.utils.data import DataLoader

from medcontext.console import console, shows_bars
from medcontext.data.cases import Dataset
from medcontext.data.crops import CropDataset, PartnerPlace, ScanCrops, StepSampler, shares_in_crops
from medcontext.data.planning import make_plan
from medcontext.data.pool import can_start_processes, processors, shorten_sockets
from medcontext.data.prepare import prepare_dataset
from medcontext.data.regions import membership, read_regions
from medcontext.data.splits import Split, make_split
from medcontext.data.store import Store
from medcontext.data.unlabelled import Scans
from medcontext.errors import InputError, NotEnoughMemory, Unfinished, counted, first_line, lacks_memory, memory_words
from medcontext.method.losses import RegionDiceCE
from medcontext.networks import find_network, find_own
from medcontext.run import Facts, Run, UnlabelledFacts
from medcontext.settings import Settings
from medcontext.training.assemble import auto_crop, make_learner, make_mask
from medcontext.training.callbacks import Bar, Progress
from medcontext.training.log import versions
from medcontext.training.loggers import check_loggers, log_outcome, open_loggers
from medcontext.training.own import make_loss, make_transform
from medcontext.training.processes import Place, devices
from medcontext.training.resume import late_cases, needed_cases
from medcontext.training.shared_memory import batch_bytes, check_workers, fitting_workers
from medcontext.training.task import Task
from medcontext.training.telling import Telling
from medcontext.training.validation import Validation
from medcontext.training.watch import Watch, watched

VALIDATIONS = 10  # in a run, where the settings do not say how often


def make_task(run: Run, store: Store, network: torch.nn.Module, scans: Scans) -> Task:
    """The learner of a run and what trains it, before its first step."""
    settings = run.settings
    outputs, classes = len(run.regions or run.plan.values), len(run.plan.values)
    loss = make_loss(settings.loss, settings.loss_args, outputs, classes)
    if loss is None and run.regions:
        loss = RegionDiceCE(membership(run.regions, run.plan.values))
    epoch = len(run.split.train) * settings.method.teacher.crops_per_case  # crops
    learner = make_learner(
        settings.method,
        network,
        settings.network,
        in_channels=len(run.plan.channels),
        crop_size=run.crop_size,
        total_steps=settings.steps,
        steps_per_epoch=max(1, epoch // (settings.batch_size * settings.accumulate)),
        supervised=loss,
        expected=expected_shares(store, run) if scans.cases and settings.method.unlabelled.place == "any" else None,
    )
    if settings.compile:
        learner.network.compile()
        learner.teacher.network.compile()
    own, args = settings.augment.transform, settings.augment.transform_args
    transform = make_transform(own, args, len(run.plan.channels), run.crop_size, classes)
    return Task(learner, settings, tuple(run.regions) or ("background", *run.plan.structures), transform)


def make_progress(run: Run, store: Store, names: tuple[str, ...], scans: Scans) -> Progress:
    """Validation on the named cases, watched cases and checkpoints of a run."""
    settings = run.settings
    if settings.patience and not names:
        raise InputError(
            f"--patience {settings.patience} needs validation cases to tell whether it gets better, and there are none."
        )
    watch = watched(run, names)
    return Progress(
        run,
        Validation(store, names, run, keep=watch) if names else None,
        Watch(store, watch, run, scans.cases[0] if scans.cases else None) if watch else None,
        settings.validate_every or -(-settings.steps // VALIDATIONS),
    )


def first_split(dataset: Dataset, settings: Settings) -> Split:
    """The split that a run starts with."""
    return make_split(
        dataset,
        file=settings.split or None,
        seed=settings.seed,
        few_shot=settings.few_shot,
        fold=settings.fold,
    )


def prepare_run(
    dataset: Dataset, split: Split, output: Path, settings: Settings, cache: Path | None, earlier: Run | None = None
) -> tuple[Run, Store]:
    """Plan and prepare the cases that a training needs, and choose the crop; a run that goes on keeps its plan."""
    chosen = {case.name: case for case in dataset.cases}
    workers = preparing_workers(settings)
    training = [chosen[name] for name in split.train]
    plan = earlier.plan if earlier else make_plan(dataset, training, settings.prepare, workers)
    source = "--regions" if settings.regions else str(dataset.root)
    regions = read_regions(settings.regions or dataset.regions, plan.values, source)
    store = prepare_dataset(dataset, needed_cases(split, settings), plan, cache, workers)
    crop = settings.crop_size
    if crop == "auto":
        crop = auto_crop([store.case(name).shape for name in split.train])
    facts = Facts(
        dataset=dataset.name,
        data=str(dataset.root.resolve()),
        crop_size=crop,
        regions=regions,
        versions=versions(),
    )
    if earlier:  # what it took, where it is logged
        now = ("dataset", "data", "crop_size", "regions", "versions")
        facts = replace(earlier.facts, **{name: getattr(facts, name) for name in now})
    return Run(output, settings, plan, split, facts), store


def note_scans(run: Run, scans: Scans) -> None:
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
    run.facts.unlabelled = facts


def _contents(facts: UnlabelledFacts) -> list[tuple[str, str]]:
    """Of each scan its name and its image's digest; where it came from may be written in another way."""
    return [(name, digest) for _, name, digest in facts.scans]


def expected_shares(store: Store, run: Run) -> torch.Tensor:
    """(K,): the share of each class, or region, in crops from anywhere in the training cases, the mean over these."""
    inside = torch.eye(len(run.plan.values)) if not run.regions else membership(run.regions, run.plan.values).float()
    labels = (store.case(name).read_label()[0] for name in run.split.train)
    return torch.stack([inside @ shares_in_crops(label, run.crop_size, inside.shape[1]) for label in labels]).mean(0)


def fit(run: Run, store: Store, scans: Scans, task: Task, progress: Progress, place: Place) -> None:
    """Run the steps that are left."""
    if task.learner.step < run.settings.steps and not progress.given_up():
        quiet()
        bars = [Bar(leave=True)] if shows_bars() else []
        with open_loggers(run, place.first) as loggers:
            trainer = make_trainer(run.settings, place, loggers, [progress, Telling(progress), *bars])
            try:
                trainer.fit(task, loaders(run, store, scans, task, trainer))
                log_outcome(loggers, run, progress.best)
            except SystemExit as end:  # Lightning's answer to Ctrl-C and SIGTERM
                caught = end.__context__
                raise (caught if isinstance(caught, KeyboardInterrupt) else KeyboardInterrupt()) from end
            except Unfinished:
                raise
            except InputError as error:
                raise InputError(said_by_worker(str(error))) from error
            except FloatingPointError as error:
                raise InputError(diverged(run, error)) from error
            except (MemoryError, RuntimeError, OSError) as error:
                if "DataLoader worker (pid" in str(error):
                    raise Unfinished(worker_died(error)) from error
                if not lacks_memory(error):
                    raise
                raise NotEnoughMemory(too_large(run, error)) from error
    elif place.first and not progress.given_up():
        console.print(f"Finished before, with step {task.learner.step}. It goes on with more --steps.", soft_wrap=True)
    if place.first and progress.given_up():
        console.print(progress.why_given_up(task), soft_wrap=True)
    if place.first:
        console.print(f"Trained. Now: medcontext predict --run {run.folder} --input DIR --output DIR", soft_wrap=True)


def said_by_worker(message: str) -> str:
    """An error's message without the traceback that PyTorch puts into those of its worker processes.

    >>> said_by_worker("Caught InputError in DataLoader worker process 0.\\nOriginal ...\\nInputError: Cannot read x.")
    'Cannot read x.'
    """
    return message.rpartition("InputError: ")[2].strip() if message.startswith("Caught ") else message


def diverged(run: Run, error: FloatingPointError) -> str:
    """What to do where a loss is not finite; going on would only come to the same step again."""
    last = run.checkpoint("last")
    left = f"The last good checkpoint is {last}, of step {run.facts.step}" if last.is_file() else "No checkpoint yet"
    return (
        f"{error}. {left}. --resume would come to the same step again: train in another --output with a smaller "
        f"--optimizer.lr (it is {run.settings.optimizer.lr:g}), with --optimizer.clip or --precision 32, and look at "
        "the intensities by medcontext check."
    )


def worker_died(error: BaseException) -> str:
    """What to do where a process that loads crops was killed, as by the system for want of memory."""
    return (
        f"A worker process that loads crops has died: {first_line(error).rstrip('.')}. Most often there is too little "
        "memory, or shared memory (/dev/shm; docker run --shm-size). Go on with --resume and fewer --workers, or 0."
    )


def too_large(run: Run, error: BaseException) -> str:
    """What to do where a step does not fit into memory."""
    size, crop = run.settings.batch_size, " x ".join(map(str, run.crop_size))
    cure = "--crop_size"
    if size > 1:
        same = f"1 and {size * run.settings.accumulate} make steps as large"
        cure = f"--batch_size with more --accumulate ({same}), or --crop_size"
    return (
        f"Not enough memory for {counted(size, 'crop')} of {crop} at once{memory_words(error)}. "
        f"Train in another --output with a smaller {cure}."
    )


def check_devices(settings: Settings, place: Place) -> None:
    """Refuse devices that are not there, before any scan is read.

    Raises:
        InputError: with Lightning's words.
    """
    quiet()
    try:
        make_trainer(settings, place, [], [])
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        raise InputError(
            f"Cannot train on --accelerator {settings.accelerator} --devices {settings.devices} --nodes "
            f"{settings.nodes}: {' '.join(str(error).split())}"
        ) from error


def make_trainer(
    settings: Settings, place: Place, loggers: list[Logger], callbacks: list[lightning.Callback]
) -> lightning.Trainer:
    """Lightning's, for one pass over the steps that are left."""
    return lightning.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices if settings.accelerator != "cpu" or settings.devices != "auto" else 1,
        num_nodes=settings.nodes,
        strategy="ddp" if settings.nodes > 1 or settings.devices not in ("auto", 1) else "auto",
        precision=precision(settings),
        max_epochs=1,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        logger=loggers,
        enable_progress_bar=any(isinstance(each, Bar) for each in callbacks),
        callbacks=callbacks,
        plugins=[place.environment(settings.nodes)],
    )


def loaders(run: Run, store: Store, scans: Scans, task: Task, trainer: Any) -> Any:
    """The crops of the steps that are left, for this device: labelled ones, or a pair with unlabelled ones."""
    settings = run.settings
    steps = settings.steps * settings.accumulate * trainer.world_size  # batches of all devices
    labelled = CropDataset(
        store,
        run.split.train,
        run.crop_size,
        length=steps * settings.batch_size,
        seed=settings.seed,
        foreground_fraction=settings.foreground,
    )
    partners = task.learner.partners(settings.batch_size) if scans.cases else 0
    size = batch_bytes(settings.batch_size + partners, len(run.plan.channels), run.crop_size)
    workers = settings.workers
    if workers == "auto":
        workers = fitting_workers(min(8, max(1, processors() - 1)), size) if on_gpu(trainer) else 0
    first = loader(labelled, settings.batch_size, workers, task, trainer)
    if not scans.cases:
        return first
    same = None
    if settings.method.unlabelled.place == "same":
        same = PartnerPlace(labelled, settings.batch_size * trainer.world_size, partners * trainer.world_size)
    crops = ScanCrops(scans.cases, run.crop_size, length=steps * partners, seed=settings.seed, place=same)
    return {"labelled": first, "unlabelled": loader(crops, partners, workers, task, trainer)}


def on_gpu(trainer: Any) -> bool:
    """Whether the training is not on the CPU."""
    return not isinstance(trainer.accelerator, lightning.accelerators.CPUAccelerator)


def loader(crops: CropDataset | ScanCrops, batch_size: int, workers: int, task: Task, trainer: Any) -> DataLoader:
    """Batches of the crops that are left."""
    settings = task.settings
    start = task.learner.step * settings.accumulate * trainer.world_size * batch_size
    return DataLoader(
        crops,
        batch_size=batch_size,
        sampler=StepSampler(len(crops), start, trainer.global_rank, trainer.world_size),
        num_workers=workers,
        pin_memory=on_gpu(trainer),
        persistent_workers=False,
    )


def partners(settings: Settings) -> int:
    """How many unlabelled crops belong beside a batch, as `MedContext.partners` has it."""
    return max(1, round(settings.method.unlabelled.share * settings.batch_size))


def check_room(settings: Settings, channels: int, crop: tuple[int, int, int], with_scans: bool) -> None:
    """Refuse worker processes that cannot be started, or have too little room for their batches."""
    if settings.workers == 0:
        return
    batch = batch_bytes(settings.batch_size + (partners(settings) if with_scans else 0), channels, crop)
    shorten_sockets()
    if settings.workers != "auto":
        if not can_start_processes():
            raise InputError(f"--workers {settings.workers}: no process can be started, for want of /dev/shm. Use 0.")
        check_workers(settings.workers * devices(settings), batch)


def check_names(settings: Settings, unlabelled: Sequence[str]) -> None:
    """Refuse what can be refused before any scan is read."""
    method = settings.method
    if unlabelled and method.unlabelled.view == "none":
        raise InputError(
            f"--method {method.name} has no use for --unlabelled scans. Use --method medcontext, which is the default, "
            "or mean_teacher; or leave --unlabelled out."
        )
    if not unlabelled and not method.masking and method.unlabelled.view == "whole":
        raise InputError(
            f"--method {method.name} learns from scans without labels, and --unlabelled names none. Name some, or use "
            "--method none."
        )
    if unlabelled and not method.masking and method.unlabelled.view != "whole":
        raise InputError(
            f"--method.unlabelled.view {method.unlabelled.view} needs the mask that --method.masking false takes away; "
            "leave that out, or use --method.unlabelled.view whole."
        )
    find_network(settings.network)
    if settings.loss != "dice_ce":
        find_own("Loss", settings.loss)
    if settings.augment.transform:
        find_own("Transform", settings.augment.transform)
    make_mask(settings.method.mask)
    check_loggers(settings.loggers)


def preparing_workers(settings: Settings) -> int:
    """Processes that prepare cases."""
    return settings.workers if isinstance(settings.workers, int) and settings.workers else processors()


def precision(settings: Settings) -> Any:
    """Lightning's name for the precision: bf16 where a GPU computes in it."""
    if settings.precision == "auto":
        gpu = settings.accelerator != "cpu" and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        return "bf16-mixed" if gpu else "32-true"
    return {"32": "32-true", "bf16": "bf16-mixed"}[settings.precision]


def print_run(run: Run, dataset: Dataset, scans: Scans, validated: int, step: int, remarks: Sequence[str]) -> None:
    """Say what is about to happen, and what else there is to know."""
    settings, split = run.settings, run.split
    remarks = [*remarks, late_cases(split, [case.name for case in dataset.cases]) if not settings.split else ""]
    if scans.cases:
        start = round(settings.method.unlabelled.start * settings.steps)
        remarks += [f"{len(scans.cases)} scans without labels, from step {start} on", *scans.remarks()]
    else:
        remarks += [left_out(run, dataset), unproven(run)]
    crop = " x ".join(map(str, run.crop_size))
    lines: list[str | tuple[str, str]] = [
        (dataset.name, "bold"),
        f": {len(split.train)} training, {len(split.validation)} validation ({validated} used), {len(split.test)} test "
        f"cases; {', '.join(run.regions or dataset.structures)}\n",
        *(f"{remark}\n" for remark in remarks if remark),
        (settings.network, "bold"),
        f", {run.facts.parameters:,} parameters, crop {crop}, batch {settings.batch_size * settings.accumulate}\n",
        "method ",
        (settings.method.name, "bold"),
        f", steps {step} to {settings.steps}, seed {settings.seed}\n",
        f"output {run.folder}",
    ]
    console.print(Text.assemble(*lines), soft_wrap=True)


def left_out(run: Run, dataset: Dataset) -> str:
    """A remark on scans that could join without labels, where the method has a use for such; or nothing."""
    if run.settings.method.unlabelled.view == "none":
        return ""
    counts = {"rest": len(run.split.rest), shlex.quote(str(dataset.root)): len(dataset.unlabelled)}
    there = {source: count for source, count in counts.items() if count}
    if not there:
        return ""
    return (
        f"Not used: {sum(there.values())} scans of the data set, without their labels. They join the training by "
        f"--unlabelled {' '.join(there)}"
    )


def unproven(run: Run) -> str:
    """A remark on a masked view that costs more than it has been seen to bring; or nothing."""
    method, steps = run.settings.method, round(run.settings.steps * run.settings.method.step_cost)
    if method.name != "medcontext" or not method.masking:
        return ""
    return (
        "Without unlabelled scans, no gain over a plain training of the same cost has been shown yet "
        f"(docs/evidence.md). Compare with --method none --steps {steps}"
    )


def quiet() -> None:
    """Keep Lightning's advice to developers away from users."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings("ignore", module="monai.*")
