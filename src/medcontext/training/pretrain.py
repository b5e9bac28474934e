"""The pieces of a pretraining, which `medcontext.commands.pretrain` puts together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.text import Text

from medcontext.configuration import preset_path
from medcontext.console import console
from medcontext.data.corpus import UNKNOWN, Corpus
from medcontext.data.crops import ScanCrops
from medcontext.data.geometry import Shape3
from medcontext.data.known import SPLITS
from medcontext.data.plan import Plan, PrepareSettings
from medcontext.data.planning import make_scan_plan
from medcontext.data.splits import Split
from medcontext.data.store import StoredCase, shapes_by_digest
from medcontext.data.unlabelled import Source
from medcontext.errors import InputError, counted, enough_memory
from medcontext.networks import build_network
from medcontext.pretrain_settings import PretrainSettings
from medcontext.pretraining.build import build_objective
from medcontext.pretraining.objective import Objective
from medcontext.run import (
    RECORD,
    Facts,
    Inputs,
    Pretraining,
    Training,
    network_options,
    read_pretraining,
    read_run,
)
from medcontext.settings import Settings
from medcontext.training.assemble import auto_crop
from medcontext.training.changes import changes
from medcontext.training.held_out import HeldOut
from medcontext.training.log import versions
from medcontext.training.loop import loader, loading_workers, run_steps
from medcontext.training.pretrain_task import PretrainTask
from medcontext.training.processes import Place
from medcontext.training.shared_memory import batch_bytes

VALIDATIONS = 10  # in a pretraining, where the settings do not say how often
OUTPUTS = 2  # of the network, whose last layer is not pretrained


def asked(
    given: Inputs, settings: PretrainSettings | None, output: Path, resume: bool
) -> tuple[Inputs, PretrainSettings, Pretraining | None, list[str]]:
    """What is to be pretrained with; of one that goes on, what it was started with for all that is not given.

    Returns:
        Inputs, settings, the pretraining that goes on or None, and what differs from its settings in words.

    Raises:
        InputError: if there are no scans or no settings, or something differs that may not.
    """
    if resume and (output / "run.json").is_file():
        raise InputError(f"{output} is a training's folder, not a pretraining's. Choose another --output.")
    there = (output / RECORD).is_file() or (output / "checkpoints" / "last.ckpt").is_file()
    begun = read_pretraining(output) if resume and there else None
    before = Inputs.read(output) if resume else Inputs()
    inputs = given.over(before).absolute()
    if begun and (inputs.like, inputs.channels) != (before.like, before.channels):
        raise InputError(
            f"{output} has its plan already, plan.json; leave --like and --channels out, or choose another output."
        )
    if not inputs.unlabelled:
        if resume:
            raise InputError(f"There is no pretraining in {output} to go on with. Start one by --data DIR.")
        raise InputError("Give the scans to pretrain on: --data DIR. (It goes on by --output PRE --resume alone.)")
    saved = output / "settings.yaml"
    if settings is None and resume and saved.is_file():
        settings = PretrainSettings.read(saved)
    if settings is None:
        raise InputError("Give the settings: PretrainSettings.preset(objective='mae').")
    return inputs, settings, begun, changes(settings, begun) if begun else []


@dataclass(frozen=True)
class Like:
    """What a pretraining shares with the training that is to start from it.

    Args:
        settings: of the pretraining, with what is shared.
        plan: a run's; None where the settings say how to prepare.
        chosen: the training cases of the run's data set, by its folder.
        split: the preset's, of the official data set that it is for.
        remarks: a sentence each.
    """

    settings: PretrainSettings
    plan: Plan | None = None
    chosen: Mapping[Path, tuple[str, ...]] = field(default_factory=dict)
    split: str | None = None
    remarks: tuple[str, ...] = ()


def find_like(name: str, settings: PretrainSettings, channels: Sequence[str] = ()) -> Like:
    """The plan and the training cases of a run, or a preset's preparing and split; and its crop, if none is set.

    Args:
        name: a run's folder, a pretraining's, a preset of trainings, or nothing.
        settings: of the pretraining.
        channels: that the scans are said to have.

    Raises:
        InputError: if there is no such run or preset, or it has other channels.
    """
    if not name:
        return Like(settings)
    crop, remarks = settings.crop_size, tuple[str, ...]()
    if settings.prepare != PrepareSettings():
        remarks = (f"Scans are prepared like {name}, whatever the settings or their preset say of --prepare",)
    if Path(name).is_dir():
        other: Training = read_pretraining(Path(name)) if (Path(name) / RECORD).is_file() else read_run(Path(name))
        if channels and tuple(channels) != other.plan.channels:
            raise InputError(
                f"--like {name} has the channels {', '.join(other.plan.channels)}, and --channels says "
                f"{', '.join(channels)}. Leave the latter out."
            )
        reasons = {key: f"as {name}" for key in other.plan.reasons if key != "label_map"}
        plan = replace(other.plan, labels={}, label_map={}, reasons=reasons)
        crop = other.crop_size if crop == "auto" else crop
        shared = replace(settings, crop_size=crop, prepare=other.settings.prepare)
        training = other.split.train + other.facts.rest
        chosen = {Path(other.facts.data): training} if other.facts.data else {}
        return Like(shared, plan, chosen, remarks=remarks)
    preset_path("run", name)  # says what there is, where this is none
    preset = Settings.preset(name)
    crop = preset.crop_size if crop == "auto" else crop
    prepare = replace(preset.prepare, label_map={})
    official = preset.split if preset.split in SPLITS else None
    split = settings.split or (None if official else preset.split)  # of a preset of one's own
    return Like(replace(settings, prepare=prepare, crop_size=crop, split=split), split=official, remarks=remarks)


def choose_plan(found: Sequence[Source], settings: PretrainSettings, workers: int) -> Plan:
    """How all scans are prepared, where it is not given by a run."""
    cases = [case for source in found for case in source.dataset.cases]
    return make_scan_plan(found[0].dataset, cases, settings.prepare, workers)


def make_pretraining(
    found: Sequence[Source], corpus: Corpus, plan: Plan, output: Path, settings: PretrainSettings, earlier: Any
) -> Pretraining:
    """The pretraining of a prepared corpus."""
    cases = corpus.scans.cases
    crop = auto_crop([case.shape for case in cases]) if settings.crop_size == "auto" else settings.crop_size
    names = [source.dataset.name.removesuffix("-unlabelled") for source in found]
    facts = Facts(dataset=", ".join(dict.fromkeys(names)), crop_size=crop, versions=versions())
    if earlier:  # what it took, where it is logged
        facts = replace(earlier.facts, versions=facts.versions)
    split = Split(corpus.named(held_out=False), corpus.named(held_out=True), ())
    shapes = shapes_by_digest(cases)
    return Pretraining(output, settings, plan, split, facts, shapes)


def make_task(run: Pretraining) -> PretrainTask:
    """The objective around its network, and what trains it; see `make_objective`."""
    torch.manual_seed(run.settings.seed)
    return PretrainTask(make_objective(run.settings, len(run.plan.channels), run.crop_size), run.settings)


def make_objective(settings: PretrainSettings, channels: int, crop_size: Shape3) -> Objective:
    """The objective around a network that starts from random weights.

    Raises:
        InputError: for a network that cannot be built, or that the objective does not fit; for a crop or batch of which
            nothing can be drawn.
    """
    assert settings.objective is not None
    with enough_memory(f"the network {settings.network}", "Make it smaller by its --network_args."):
        network = build_network(
            settings.network,
            in_channels=channels,
            out_channels=OUTPUTS,
            crop_size=crop_size,
            args=settings.network_args,
        )
        objective = build_objective(settings.objective, network, getattr(settings, settings.objective))
    shape = torch.empty(1).expand(settings.batch_size, channels, *crop_size)  # of a batch, without its memory
    objective.draw(shape, torch.Generator())
    return objective


def make_progress(run: Pretraining, corpus: Corpus) -> HeldOut:
    """The error on scans held out, pictures and checkpoints."""
    return HeldOut(run, corpus, run.settings.validate_every or -(-run.settings.steps // VALIDATIONS))


def fit(run: Pretraining, scans: Sequence[StoredCase], task: PretrainTask, progress: HeldOut, place: Place) -> None:
    """Run the steps that are left."""
    run_steps(task, progress, place, lambda trainer: batches(run, scans, task, trainer), unused=True)
    if place.first:
        options = network_options(run.settings.network, run.settings.network_args)
        now = f"medcontext train --init {run.folder} {options} --data DATASET ..."
        console.print(f"Pretrained. Now: {now}", soft_wrap=True, markup=False)


def batches(run: Pretraining, scans: Sequence[StoredCase], task: PretrainTask, trainer: Any) -> Any:
    """The crops of the steps that are left, for this device."""
    settings = run.settings
    size = settings.batch_size
    length = settings.steps * settings.accumulate * trainer.world_size * size
    crops = ScanCrops(scans, run.crop_size, length=length, seed=settings.seed)
    workers = loading_workers(settings, batch_bytes(size, len(run.plan.channels), run.crop_size), trainer)
    return loader(crops, size, workers, task, trainer)


def print_pretraining(run: Pretraining, corpus: Corpus, task: PretrainTask, remarks: Sequence[str]) -> None:
    """Say what is about to happen, and what else there is to know."""
    settings, crop = run.settings, " x ".join(map(str, run.crop_size))
    channels = "" if run.plan.channels == UNKNOWN else f", {', '.join(run.plan.channels)}"
    learnt, away = (len(corpus.named(held_out)) for held_out in (False, True))
    held = f"{counted(away, 'scan')} held out" if away else "none held out"
    said = [*remarks, *corpus.scans.remarks()]
    moved = sum(tensor.numel() for tensor in task.objective.moved().values())
    lines: list[str | tuple[str, str]] = [
        (run.facts.dataset, "bold"),
        f": {counted(learnt, 'scan')} to learn from, {held}{channels}\n",
        *(f"{remark}\n" for remark in said if remark),
        (settings.network, "bold"),
        f", {moved:,} parameters of its encoder, crop {crop}, batch {settings.batch_size * settings.accumulate}\n",
        "objective ",
        (str(settings.objective), "bold"),
        f", steps {task.step} to {settings.steps}, seed {settings.seed}\n",
        f"output {run.folder}",
    ]
    console.print(Text.assemble(*lines), soft_wrap=True)
