"""What a training says while it goes on: what it will take, and a line now and then."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from medcontext.console import console, note
from medcontext.training.cost import hardware, memory
from medcontext.training.saving import Saving
from medcontext.training.steps import Steps

MEASURED = 5  # steps, behind the first one, in which caches fill
EVERY = 60  # seconds between two lines, where no progress bar shows


class Telling(Callback):
    """Tell on what the training runs; what it will take, once some steps are measured; how far it is.

    Args:
        progress: whose validations are told; it comes before this among the callbacks.
    """

    def __init__(self, progress: Saving) -> None:
        self.progress = progress
        self.began = (0, 0.0)  # step and time
        self.told = self.measured = 0.0  # time of the last line, and of the end of the first step

    def on_train_start(self, trainer: Trainer, task: LightningModule) -> None:
        assert isinstance(task, Steps)
        self.began, self.told = (task.step, time.monotonic()), time.monotonic()
        if trainer.is_global_zero:
            console.print(f"on {hardware(task.device, trainer.world_size)}, precision {trainer.precision}")

    def on_train_batch_end(self, trainer: Trainer, task: LightningModule, *_: Any) -> None:
        assert isinstance(task, Steps)
        if task.micro_batch or not trainer.is_global_zero:
            return
        step, now = task.step, time.monotonic()
        if step == self.began[0] + 1:
            self.measured = now
        elif step == self.began[0] + 1 + MEASURED and step < self.progress.run.settings.steps:
            seconds = (now - self.measured) / MEASURED
            console.print(expectation(task, seconds, self.progress), soft_wrap=True)
        validated, metrics = self.progress.validated
        if step == validated:
            console.print(self.line(task, metrics), soft_wrap=True)
        elif now - self.told > EVERY:
            note(self.line(task, {}))
        else:
            return
        self.told = time.monotonic()

    def line(self, task: Steps, metrics: dict[str, float]) -> str:
        """Step, losses, what a validation found if there was one, time."""
        step, total = task.step, self.progress.run.settings.steps
        seconds = (time.monotonic() - self.began[1]) / max(1, step - self.began[0])
        parts, terms = [f"step {step}/{total}"], task.terms()
        if terms:
            shown = ", ".join(f"{name} {value:.3f}" for name, value in terms.items() if name != "loss")
            parts.append(f"loss {terms['loss']:.3f} ({shown})")
        if metrics:
            parts += self.progress.told(metrics)
        return "  ".join([*parts, f"{seconds:.2f} s a step", f"{duration(seconds * (total - step))} left"])


def expectation(task: Steps, seconds: float, progress: Saving) -> str:
    """What the training will take, from the seconds that a step took."""
    left = progress.run.settings.steps - task.step
    text = f"About {duration(seconds * left)} for the {left} steps to go, {seconds:.2f} s each as measured"
    return f"{'; '.join([text, *progress.beside(task)])}. Memory until now: {memory(task.device)}."


def duration(seconds: float) -> str:
    """
    >>> duration(3725)
    '1:02:05'
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
