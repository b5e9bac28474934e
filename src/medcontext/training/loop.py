"""Lightning's loop around the steps of a training, and what is said where it cannot go on."""

import logging
import warnings
from collections.abc import Callable
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader

from medcontext.console import console, shows_bars
from medcontext.data.crops import CropDataset, ScanCrops, StepSampler
from medcontext.data.pool import can_start_processes, processors, shorten_sockets
from medcontext.errors import InputError, NotEnoughMemory, Unfinished, counted, first_line, lacks_memory, memory_words
from medcontext.run import Training
from medcontext.settings import TrainingSettings
from medcontext.training.bar import Bar
from medcontext.training.loggers import log_outcome, open_loggers
from medcontext.training.processes import Place, devices
from medcontext.training.saving import Saving
from medcontext.training.shared_memory import batch_bytes, check_workers, fitting_workers
from medcontext.training.steps import Steps
from medcontext.training.telling import Telling


def run_steps(
    task: Steps,
    progress: Saving,
    place: Place,
    loaders: Callable[[lightning.Trainer], Any],
    unused: bool = False,
) -> None:
    """Run the steps that are left.

    Args:
        task: what a step is.
        progress: what is between steps.
        place: of this process.
        loaders: the batches of the steps that are left, for a trainer's device.
        unused: whether a step may leave parameters without a gradient.

    Raises:
        InputError: if the training cannot go on: it is not finite, or lacks memory, a worker or room on the disk.
    """
    run = progress.run
    if task.step >= run.settings.steps:
        if place.first and not progress.given_up():
            console.print(f"Finished before, with step {task.step}. It goes on with more --steps.", soft_wrap=True)
        return
    if progress.given_up():
        return
    quiet()
    bars = [Bar(leave=True)] if shows_bars() else []
    with open_loggers(run, place.first) as loggers:
        trainer = make_trainer(run.settings, place, loggers, [progress, Telling(progress), *bars], unused)
        try:
            trainer.fit(task, loaders(trainer))
            log_outcome(loggers, run, progress.outcome())
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


def said_by_worker(message: str) -> str:
    """An error's message without the traceback that PyTorch puts into those of its worker processes.

    >>> said_by_worker("Caught InputError in DataLoader worker process 0.\\nOriginal ...\\nInputError: Cannot read x.")
    'Cannot read x.'
    """
    return message.rpartition("InputError: ")[2].strip() if message.startswith("Caught ") else message


def diverged(run: Training, error: FloatingPointError) -> str:
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


def too_large(run: Training, error: BaseException) -> str:
    """What to do where a step does not fit into memory."""
    size, crop = run.settings.batch_size, " x ".join(map(str, run.crop_size))
    cure = "--crop_size"
    if run.settings.whole_batch:
        cure = "--batch_size, at least 2, or --crop_size"
    elif size > 1:
        same = f"1 and {size * run.settings.accumulate} make steps as large"
        cure = f"--batch_size with more --accumulate ({same}), or --crop_size"
    return (
        f"Not enough memory for {counted(size, 'crop')} of {crop} at once{memory_words(error)}. "
        f"Train in another --output with a smaller {cure}."
    )


def check_devices(settings: TrainingSettings, place: Place, earlier: Training | None = None) -> None:
    """Refuse devices that are not there, before any scan is read, and another number of them than a run has had.

    Raises:
        InputError: with Lightning's words, or naming both numbers.
    """
    quiet()
    try:
        now = make_trainer(settings, place, [], []).world_size
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        raise InputError(
            f"Cannot train on --accelerator {settings.accelerator} --devices {settings.devices} --nodes "
            f"{settings.nodes}: {' '.join(str(error).split())}"
        ) from error
    before = earlier.facts.devices if earlier else None
    if earlier and before not in (None, now):
        raise InputError(
            f"{earlier.folder} was trained on {counted(before, 'device')}, which shared its batches, and here it would "
            f"go on with {now}: other batches, from another place in their order. Go on where there are {before}, or "
            "hide the others (CUDA_VISIBLE_DEVICES); or choose another output."
        )


def make_trainer(
    settings: TrainingSettings,
    place: Place,
    loggers: list[Logger],
    callbacks: list[lightning.Callback],
    unused: bool = False,
) -> lightning.Trainer:
    """Lightning's, for one pass over the steps that are left."""
    several = "ddp_find_unused_parameters_true" if unused else "ddp"
    return lightning.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices if settings.accelerator != "cpu" or settings.devices != "auto" else 1,
        num_nodes=settings.nodes,
        strategy=several if settings.nodes > 1 or settings.devices not in ("auto", 1) else "auto",
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


def on_gpu(trainer: Any) -> bool:
    """Whether the training is not on the CPU."""
    return not isinstance(trainer.accelerator, lightning.accelerators.CPUAccelerator)


def loading_workers(settings: TrainingSettings, batch: int, trainer: Any) -> int:
    """How many processes load crops, of which a batch has so many bytes."""
    if settings.workers != "auto":
        return settings.workers
    return fitting_workers(min(8, max(1, processors() - 1)), batch) if on_gpu(trainer) else 0


def loader(crops: CropDataset | ScanCrops, batch_size: int, workers: int, task: Steps, trainer: Any) -> DataLoader:
    """Batches of the crops that are left."""
    settings = task.settings
    start = task.step * settings.accumulate * trainer.world_size * batch_size
    return DataLoader(
        crops,
        batch_size=batch_size,
        sampler=StepSampler(len(crops), start, trainer.global_rank, trainer.world_size),
        num_workers=workers,
        pin_memory=on_gpu(trainer),
        persistent_workers=False,
    )


def check_room(settings: TrainingSettings, crops: int, channels: int, crop: tuple[int, int, int]) -> None:
    """Refuse worker processes that cannot be started, or have too little room for their batches of so many crops."""
    if settings.workers == 0:
        return
    shorten_sockets()
    if settings.workers != "auto":
        if not can_start_processes():
            raise InputError(f"--workers {settings.workers}: no process can be started, for want of /dev/shm. Use 0.")
        check_workers(settings.workers * devices(settings), batch_bytes(crops, channels, crop))


def preparing_workers(settings: TrainingSettings) -> int:
    """Processes that prepare cases."""
    return processors() if settings.workers == "auto" else max(1, settings.workers)


def precision(settings: TrainingSettings) -> Any:
    """Lightning's name for the precision: bf16 where a GPU computes in it."""
    if settings.precision == "auto":
        gpu = settings.accelerator != "cpu" and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        return "bf16-mixed" if gpu else "32-true"
    return {"32": "32-true", "bf16": "bf16-mixed"}[settings.precision]


def quiet() -> None:
    """Keep Lightning's advice to developers away from users."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings("ignore", module="monai.*")
