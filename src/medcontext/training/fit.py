"""The pieces of a training, which `medcontext.commands.train` puts together."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.text import Text

from medcontext.console import console
from medcontext.data.cases import Dataset
from medcontext.data.crops import CropDataset, PartnerPlace, ScanCrops, shares_in_crops
from medcontext.data.planning import make_plan
from medcontext.data.prepare import prepare_dataset
from medcontext.data.regions import membership, read_regions
from medcontext.data.splits import Split, make_split
from medcontext.data.store import Store
from medcontext.data.unlabelled import Scans
from medcontext.errors import InputError, counted
from medcontext.method.batches import some
from medcontext.method.losses import RegionDiceCE
from medcontext.networks import find_network, find_own
from medcontext.run import Facts, Run
from medcontext.settings import Settings
from medcontext.training.assemble import auto_crop, followers, make_learner
from medcontext.training.callbacks import Progress
from medcontext.training.log import versions
from medcontext.training.loggers import check_loggers
from medcontext.training.loop import loader, loading_workers, preparing_workers, run_steps
from medcontext.training.own import make_loss, make_transform
from medcontext.training.processes import Place
from medcontext.training.resume import late_cases, needed_cases
from medcontext.training.shared_memory import batch_bytes
from medcontext.training.task import Task
from medcontext.training.validation import Validation
from medcontext.training.watch import Watch, watched

LITTLE = 0.6  # of the structures: what was trained out found 0.9 and more, what ended too early 0.1 to 0.6
VALIDATIONS = 10  # in a run, where the settings do not say how often


def make_task(run: Run, store: Store, network: torch.nn.Module, with_scans: bool) -> Task:
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
        expected=expected_shares(store, run) if with_scans and settings.method.unlabelled.place == "any" else None,
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


def expected_shares(store: Store, run: Run) -> torch.Tensor:
    """(K,): the share of each class, or region, in crops from anywhere in the training cases, the mean over these."""
    inside = torch.eye(len(run.plan.values)) if not run.regions else membership(run.regions, run.plan.values).float()
    labels = (store.case(name).read_label()[0] for name in run.split.train)
    return torch.stack([inside @ shares_in_crops(label, run.crop_size, inside.shape[1]) for label in labels]).mean(0)


def fit(run: Run, store: Store, scans: Scans, task: Task, progress: Progress, place: Place) -> None:
    """Run the steps that are left."""
    run_steps(task, progress, place, lambda trainer: loaders(run, store, scans, task, trainer))
    if not place.first:
        return
    if progress.given_up():
        console.print(progress.why_given_up(task), soft_wrap=True)
    if task.learner.found.updates:
        console.print(known_at_last(task), soft_wrap=True)
    console.print(f"Trained. Now: medcontext predict --run {run.folder} --input DIR --output DIR", soft_wrap=True)


def loaders(run: Run, store: Store, scans: Scans, task: Task, trainer: Any) -> Any:
    """The crops of the steps that are left, for this device: labelled ones, or a pair with unlabelled ones."""
    settings = run.settings
    steps = settings.steps * settings.accumulate * trainer.world_size  # batches of all devices
    follows = None
    if settings.method.same_place and not scans.cases:
        follows = followers(task.learner, settings.batch_size, trainer.world_size)
    labelled = CropDataset(
        store,
        run.split.train,
        run.crop_size,
        length=steps * settings.batch_size,
        seed=settings.seed,
        foreground_fraction=settings.foreground,
        follows=follows,
    )
    partners = task.learner.partners(settings.batch_size) if scans.cases else 0
    size = batch_bytes(settings.batch_size + partners, len(run.plan.channels), run.crop_size)
    workers = loading_workers(settings, size, trainer)
    first = loader(labelled, settings.batch_size, workers, task, trainer)
    if not scans.cases:
        return first
    same = None
    if settings.method.unlabelled.place == "same":
        same = PartnerPlace(labelled, settings.batch_size * trainer.world_size, partners * trainer.world_size)
    crops = ScanCrops(scans.cases, run.crop_size, length=steps * partners, seed=settings.seed, place=same)
    return {"labelled": first, "unlabelled": loader(crops, partners, workers, task, trainer)}


def crops_of_step(settings: Settings, with_scans: bool) -> int:
    """How many crops a batch has, unlabelled ones beside it as `MedContext.partners` has it."""
    partners = some(settings.batch_size, settings.method.unlabelled.share) if with_scans else 0
    return settings.batch_size + partners


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
    filled = method.unlabelled.view == "filled" if unlabelled else method.fill == "labelled"
    if method.masking and filled and method.mask.space == "tokens":
        raise InputError(
            f"--method {method.name} fills what it hides with voxels of another crop, and --method.mask.space is "
            "tokens, which are filled with nothing but the token. Take voxels, or a method that hides, such as "
            "reference."
        )
    find_network(settings.network)
    if settings.loss != "dice_ce":
        find_own("Loss", settings.loss)
    if settings.augment.transform:
        find_own("Transform", settings.augment.transform)
    mask = method.mask.made()
    if method.masking and settings.crop_size != "auto":
        mask.checked(settings.crop_size)
    check_loggers(settings.loggers)


def print_run(run: Run, dataset: Dataset, scans: Scans, validated: int, step: int, remarks: Sequence[str]) -> None:
    """Say what is about to happen, and what else there is to know."""
    settings, split = run.settings, run.split
    remarks = [*remarks, late_cases(split, [case.name for case in dataset.cases]) if not settings.split else ""]
    if scans.cases:
        first = settings.method.unlabelled.first_step(settings.steps)
        count = counted(len(scans.cases), "scan")
        never = f"{count} without labels, which never join: --method.unlabelled.start leaves them no step"
        joining = f"{count} without labels, from step {first} on" if first <= settings.steps else never
        remarks += [joining, *scans.remarks()]
    else:
        remarks += [left_out(run, dataset), lonely(settings)]
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
        f": {settings.method.told(bool(scans.cases))}\n",
        f"steps {step} to {settings.steps}, seed {settings.seed}\n",
        f"output {run.folder}",
    ]
    console.print(Text.assemble(*lines), soft_wrap=True)


def known_at_last(task: Task) -> str:
    """What the teacher came to find in scans without labels, and what follows from too little."""
    found = task.learner.found.mean
    text = (
        f"At last the teacher found {found:.0%} of the structures' usual share in the scans without labels, "
        "right or wrong."
    )
    if found >= LITTLE:
        return text
    return f"{text} That is little: the network has not learnt them yet, and needs more --steps, or labels, first."


def left_out(run: Run, dataset: Dataset) -> str:
    """A remark on scans that could join without labels, where the method has a use for such; or nothing."""
    if run.settings.method.unlabelled.view == "none":
        return ""
    counts = {"rest": len(run.split.rest), shlex.quote(str(dataset.root)): len(dataset.unlabelled)}
    there = {source: count for source, count in counts.items() if count}
    if not there:
        return ""
    return (
        f"Not used: {counted(sum(there.values()), 'scan')} more of the data set. To let them join without labels: "
        f"--unlabelled {' '.join(there)}"
    )


def lonely(settings: Settings) -> str:
    """A remark on batches in which no crop has another one to be filled with; or nothing."""
    if not settings.method.masking or settings.method.fill != "labelled" or settings.batch_size > 1:
        return ""
    return (
        "A batch of one has no other labelled crop to be filled with: this is a plain training. For MedContext take "
        "--batch_size 2 or more, or name scans by --unlabelled"
    )
