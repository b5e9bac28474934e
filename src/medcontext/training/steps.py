"""Optimizer steps by hand: what a training with labels and a pretraining have in common."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from medcontext.settings import TrainingSettings
from medcontext.training.assemble import make_optimizer
from medcontext.training.bf16 import Trial


class Steps(LightningModule):
    """Schedules, seeds and accumulates; by manual optimization, because a step may have several backward passes.

    Everything random in a step depends on the seed, the step and the device's rank alone. So a training that is resumed
    goes on exactly as if it had never stopped.

    Args:
        settings: of the training.
        parameters: that the optimizer moves.
    """

    def __init__(self, settings: TrainingSettings, parameters: Iterator[nn.Parameter]) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.settings = settings
        self.optimizer, self.scheduler = make_optimizer(settings.optimizer, parameters, settings.steps)
        self.micro_batch = 0  # within the optimizer step
        self.total = torch.zeros(())  # the loss of its micro-batches
        self.log_every = max(1, settings.steps // 1000)
        self.trial: Trial | None = None  # in the first step, where the processor's gradients are tried

    @property
    @abstractmethod
    def step(self) -> int:
        """Optimizer steps that are done."""

    @abstractmethod
    def terms(self) -> dict[str, float]:
        """Of the last batch the `loss` and what it is made of, by name; empty before the first."""

    def configure_optimizers(self) -> tuple[list[torch.optim.Optimizer], list[LambdaLR]]:
        return [self.optimizer], [self.scheduler]

    def reschedule(self) -> None:
        """Let the rate be what the settings say of this step: they may have changed since the checkpoint."""
        rate, step = self.settings.optimizer.lr, self.scheduler.last_epoch
        self.scheduler.base_lrs = [rate for _ in self.optimizer.param_groups]
        for group, factor in zip(self.optimizer.param_groups, self.scheduler.lr_lambdas, strict=True):
            group["initial_lr"], group["lr"] = rate, rate * factor(step)

    def on_train_start(self) -> None:
        if self.device.type == "cpu" and self.trainer.precision == "bf16-mixed":
            self.trial = Trial(self)

    def step_seed(self) -> int:
        """A different seed for every training, step, micro-batch and rank."""
        step = self.step * self.settings.accumulate + self.micro_batch
        return ((self.settings.seed * 1_000_003 + step) * 4096 + self.global_rank) % 2**63

    def go_backward(self, loss: Tensor) -> None:
        """One backward pass of a micro-batch."""
        self.manual_backward(loss / self.settings.accumulate)

    def count(self, loss: Tensor) -> None:
        """Count a micro-batch whose backward passes are done; after the last one, step."""
        self.total = self.total.to(loss.device) + loss.detach()
        self.micro_batch += 1
        if self.micro_batch == self.settings.accumulate:
            self._step()

    def _step(self) -> None:
        if self.trial:
            self.trial.check()
            self.trial = None
        optimizer, scheduler = self.optimizers(), self.lr_schedulers()
        clip = self.settings.optimizer.clip or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.optimizer.param_groups[0]["params"], clip)
        self._check_finite(norm)
        optimizer.step()  # type: ignore[union-attr]
        optimizer.zero_grad()  # type: ignore[union-attr]
        scheduler.step()  # type: ignore[union-attr]
        self.micro_batch = 0

    def _check_finite(self, norm: Tensor) -> None:
        """Stop before a step that would spoil the weights for good; on all devices, which have the same gradients.

        Raises:
            FloatingPointError: if a loss or a gradient since the last step is not finite.
        """
        if (self.total + norm).isfinite():
            self.total = 0 * norm
            return
        step = self.step + 1
        if not self.total.isfinite():
            raise FloatingPointError(f"The loss of step {step} is not finite ({self.total.item()})")
        raise FloatingPointError(f"The gradients of step {step} are not finite (their norm is {norm.item()})")

    def log_curves(self, values: dict[str, Any]) -> None:
        """Into every logger, at this step."""
        for logger in self.loggers:
            logger.log_metrics({key: float(value) for key, value in values.items()}, self.step)

    def in_curves(self, step: int) -> bool:
        """Whether the curves have this step."""
        return step % self.log_every == 0
