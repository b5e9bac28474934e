"""What happens between steps: validation, the watched cases, checkpoints, the progress bar."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

from medcontext.run import Run, read_checkpoint, write_checkpoint
from medcontext.training.cost import note_cost
from medcontext.training.task import Task
from medcontext.training.validation import Validation
from medcontext.training.watch import Watch

CHECKPOINT_SECONDS = 15 * 60  # so that a killed run loses at most a quarter of an hour


class Progress(Callback):
    """Validate and checkpoint every so many steps, at the end, and checkpoint every quarter of an hour.

    `best.ckpt` has the highest validation Dice of the student so far and is written before `last.ckpt`: whenever
    the process is killed, `last.ckpt` never knows of a better one than is on disk.

    Args:
        run: whose folder gets the checkpoints, and whose facts what the training took until the last of them.
        validation: None where there are no validation cases.
        watch: None where no case is watched.
        every: steps.
    """

    def __init__(self, run: Run, validation: Validation | None, watch: Watch | None, every: int) -> None:
        self.run = run
        self.validation = validation
        self.watch = watch
        self.every = every
        self.earlier = 0.0  # seconds that the training took in processes before this one
        self.best = float("-inf")
        self.stale = 0  # validations in a row without a higher Dice
        self.saved = self.started = time.monotonic()
        self.validated: tuple[int, dict[str, float]] = (0, {})  # the last time: its step and metrics

    def on_train_start(self, trainer: Trainer, task: LightningModule) -> None:
        self.saved = self.started = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, task: LightningModule, *_: Any) -> None:
        assert isinstance(task, Task)
        if task.micro_batch:
            return
        step = task.learner.step
        if step % self.every == 0 or step == task.settings.steps:
            self.validate(trainer, task)
        elif trainer.strategy.broadcast(time.monotonic() - self.saved > CHECKPOINT_SECONDS):
            self.save(trainer, task, best=False)

    def validate(self, trainer: Trainer, task: Task) -> None:
        """Measure, log, keep the best, save, and look at the watched cases."""
        metrics = self.validation.run(trainer, task) if self.validation else {}
        for logger in trainer.loggers:
            logger.log_metrics(metrics, task.learner.step)
        score = metrics.get("val/dice_student", float("nan"))
        better = score > self.best
        self.best = score if better else self.best
        self.stale = 0 if better or not metrics else self.stale + 1
        self.save(trainer, task, best=better)
        if self.watch and trainer.is_global_zero:  # after the checkpoints: pictures must not cost them their disk
            self.watch.run(trainer, task, self.validation.kept if self.validation else {})
        trainer.strategy.barrier()
        self.validated = task.learner.step, metrics
        trainer.should_stop = self.given_up()

    def given_up(self) -> bool:
        """Whether the validation Dice has not risen for as long as the settings have patience."""
        return 0 < self.run.settings.patience <= self.stale

    def why_given_up(self, task: Task) -> str:
        """The same for a person."""
        return (
            f"Stopped at step {task.learner.step} of {task.settings.steps}: {self.stale} validations in a row without "
            f"a higher Dice than {self.best:.3f}, which checkpoint best has. It goes on with more --patience."
        )

    def save(self, trainer: Trainer, task: Task, best: bool) -> None:
        """Write the checkpoints and what they took, on the first device alone.

        Raises:
            FloatingPointError: if a weight is not finite; the checkpoints before stay.
        """
        if not all(parameter.isfinite().all() for parameter in task.learner.parameters()):
            raise FloatingPointError(f"A weight is not finite after step {task.learner.step}")
        if trainer.is_global_zero:
            seconds = round(self.earlier + time.monotonic() - self.started, 3)
            values = {
                "network": self.run.network_description(),
                "learner": task.learner.state_dict(),
                "optimizer": task.optimizer.state_dict(),
                "scheduler": task.scheduler.state_dict(),
                "best": self.best,
                "stale": self.stale,
                "seconds": seconds,
            }
            if best:
                write_checkpoint(self.run.checkpoint("best"), values)
            write_checkpoint(self.run.checkpoint("last"), values)
            note_cost(self.run.facts, trainer, task.device)
            self.run.facts.step, self.run.facts.seconds = task.learner.step, seconds
            self.run.facts.ended = self.why_given_up(task) if self.given_up() else None
            self.run.write_facts()
        trainer.strategy.barrier()
        self.saved = time.monotonic()

    def restore(self, task: Task) -> None:
        """Take up the run where `last.ckpt` left it."""
        values = read_checkpoint(self.run.checkpoint("last"), self.run)
        task.learner.load_state_dict(values["learner"])
        task.optimizer.load_state_dict(values["optimizer"])
        task.scheduler.load_state_dict(values["scheduler"])
        task.reschedule()
        self.best, self.stale = values["best"], values.get("stale", 0)  # older checkpoints lack it
        self.earlier = values.get("seconds", self.run.facts.seconds or 0.0)  # older checkpoints lack it


class Bar(RichProgressBar):
    """Lightning's bar; a run is one pass, so there are no epochs to count."""

    def _get_train_description(self, current_epoch: int) -> str:
        return "training"

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        return {key: value for key, value in super().get_metrics(trainer, pl_module).items() if key != "v_num"}
