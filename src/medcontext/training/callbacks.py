"""What happens between the steps of a training with labels: validation, the watched cases, checkpoints."""

from typing import Any

from lightning.pytorch import Trainer

from medcontext.errors import counted
from medcontext.run import Run, read_checkpoint
from medcontext.training.saving import Saving
from medcontext.training.task import Task
from medcontext.training.validation import Validation
from medcontext.training.watch import Watch


class Progress(Saving):
    """Validation, watched cases and checkpoints of a training with labels; the best has the student's highest Dice.

    Args:
        run: whose folder gets the checkpoints, and whose facts what the training took until the last of them.
        validation: None where there are no validation cases.
        watch: None where no case is watched.
        every: steps.

    Attributes:
        seen: the shape of each scan that its weights learn from or began with, by its image's digest.
    """

    run: Run

    def __init__(self, run: Run, validation: Validation | None, watch: Watch | None, every: int) -> None:
        super().__init__(run, every)
        self.validation = validation
        self.watch = watch
        self.seen: dict[str, tuple[int, ...]] = {}
        self.stale = 0  # validations in a row without a higher Dice

    def validate(self, trainer: Trainer, task: Task) -> None:
        metrics = self.validation.run(trainer, task) if self.validation else {}
        for logger in trainer.loggers:
            logger.log_metrics(metrics, task.step)
        score = metrics.get("val/dice_student", float("nan"))
        better = score > self.best
        self.best = score if better else self.best
        self.stale = 0 if better or not metrics else self.stale + 1
        self.save(trainer, task, best=better)
        if self.watch and trainer.is_global_zero:  # after the checkpoints: pictures must not cost them their disk
            self.watch.run(trainer, task, self.validation.kept if self.validation else {})
        trainer.strategy.barrier()
        self.validated = task.step, metrics
        trainer.should_stop = self.given_up()

    def given_up(self) -> bool:
        """Whether the validation Dice has not risen for as long as the settings have patience."""
        return 0 < self.run.settings.patience <= self.stale

    def why_given_up(self, task: Task) -> str:
        return (
            f"Stopped at step {task.step} of {task.settings.steps}: {self.stale} validations in a row without "
            f"a higher Dice than {self.best:.3f}, which checkpoint best has. It goes on with more --patience."
        )

    def content(self, task: Task) -> dict[str, Any]:
        return {
            "network": self.run.network_description(),
            "learner": task.learner.state_dict(),
            "stale": self.stale,
            "scans": {digest: list(shape) for digest, shape in self.seen.items()},
        }

    def told(self, metrics: dict[str, float]) -> list[str]:
        return [
            f"validation loss {metrics['val/loss']:.3f}",
            f"Dice student {metrics['val/dice_student']:.3f}",
            f"teacher {metrics['val/dice_teacher']:.3f}",
        ]

    def beside(self, task: Task) -> list[str]:
        learner, total, said = task.learner, task.settings.steps, []
        if self.run.facts.unlabelled.scans and not learner.joined():
            first = learner.unlabelled.first_step(total)
            said.append(f"a step takes longer from step {first} on, with unlabelled scans")
        left = -(-total // self.every) - learner.step // self.every  # the last comes at the end
        if self.validation and left:
            cases = counted(len(self.validation.names), "case")
            said.append(f"{counted(left, 'validation')} of {cases} on top")
        return said

    def outcome(self) -> dict[str, float]:
        return {"hp/best_dice": self.best}

    def restore(self, task: Task) -> None:
        """Take up the run where `last.ckpt` left it."""
        values = read_checkpoint(self.run.checkpoint("last"), self.run)
        task.learner.load_state_dict(values["learner"])
        self.take_up(task, values)
        self.stale = values.get("stale", 0)  # older checkpoints lack it
        if not self.given_up():
            self.run.facts.ended = None  # it goes on, as with more patience
        self.seen |= {digest: tuple(shape) for digest, shape in values.get("scans", {}).items()}  # and this
