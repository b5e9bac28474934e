"""Checkpoints between steps, of a training with labels and of a pretraining alike."""

import time
from abc import abstractmethod
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from medcontext.run import Training, write_checkpoint
from medcontext.training.cost import note_cost
from medcontext.training.steps import Steps

CHECKPOINT_SECONDS = 15 * 60  # so that a killed training loses at most a quarter of an hour


class Saving(Callback):
    """Validate and checkpoint every so many steps, at the end, and checkpoint every quarter of an hour.

    `best.ckpt` has the highest score so far and is written before `last.ckpt`: whenever the process is killed,
    `last.ckpt` never knows of a better one than is on disk.

    Args:
        run: whose folder gets the checkpoints, and whose facts what the training took until the last of them.
        every: steps.
    """

    def __init__(self, run: Training, every: int) -> None:
        self.run = run
        self.every = every
        self.earlier = 0.0  # seconds that the training took in processes before this one
        self.best = float("-inf")
        self.saved = self.started = time.monotonic()
        self.validated: tuple[int, dict[str, float]] = (0, {})  # the last time: its step and metrics

    def on_train_start(self, trainer: Trainer, task: LightningModule) -> None:
        self.saved = self.started = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, task: LightningModule, *_: Any) -> None:
        assert isinstance(task, Steps)
        if task.micro_batch:
            return
        if task.step % self.every == 0 or task.step == self.run.settings.steps:
            self.validate(trainer, task)
        elif trainer.strategy.broadcast(time.monotonic() - self.saved > CHECKPOINT_SECONDS):
            self.save(trainer, task, best=False)

    @abstractmethod
    def validate(self, trainer: Trainer, task: Any) -> None:
        """Measure, log, keep the best, save."""

    @abstractmethod
    def content(self, task: Any) -> dict[str, Any]:
        """What a checkpoint holds beside the optimizer and its schedule."""

    @abstractmethod
    def told(self, metrics: dict[str, float]) -> list[str]:
        """What a person is told of a validation."""

    def beside(self, task: Any) -> list[str]:
        """What takes time beside the steps."""
        return []

    def given_up(self) -> bool:
        """Whether going on is not worth it."""
        return False

    def why_given_up(self, task: Any) -> str:
        """The same for a person."""
        raise NotImplementedError

    def outcome(self) -> dict[str, float]:
        """The best score for TensorBoard's table of runs, where there is one."""
        return {}

    def save(self, trainer: Trainer, task: Steps, best: bool) -> None:
        """Write the checkpoints and what they took, on the first device alone.

        Raises:
            FloatingPointError: if a weight is not finite; the checkpoints before stay.
        """
        if not all(parameter.isfinite().all() for parameter in task.parameters()):
            raise FloatingPointError(f"A weight is not finite after step {task.step}")
        if trainer.is_global_zero:
            seconds = round(self.earlier + time.monotonic() - self.started, 3)
            values = {
                **self.content(task),
                "optimizer": task.optimizer.state_dict(),
                "scheduler": task.scheduler.state_dict(),
                "best": self.best,
                "seconds": seconds,
            }
            if best:
                write_checkpoint(self.run.checkpoint("best"), values)
            write_checkpoint(self.run.checkpoint("last"), values)
            note_cost(self.run.facts, trainer, task.device)
            self.run.facts.step, self.run.facts.seconds = task.step, seconds
            self.run.facts.ended = self.why_given_up(task) if self.given_up() else None
            self.run.write_facts()
        trainer.strategy.barrier()
        self.saved = time.monotonic()

    def take_up(self, task: Steps, values: dict[str, Any]) -> None:
        """Optimizer, schedule and what was best until a checkpoint."""
        task.optimizer.load_state_dict(values["optimizer"])
        task.scheduler.load_state_dict(values["scheduler"])
        task.reschedule()
        self.best = values["best"]
        self.earlier = values.get("seconds", self.run.facts.seconds or 0.0)  # older checkpoints lack it
