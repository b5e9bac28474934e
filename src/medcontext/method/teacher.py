"""The EMA teacher and its momentum (Gani et al., MICCAI 2024, section 2.2)."""

import copy
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medcontext.errors import InputError
from medcontext.method.adapters import unwrap


@dataclass(frozen=True)
class Momentum:
    """The momentum lambda of `theta_t <- lambda * theta_t + (1 - lambda) * theta_s` over training.

    Args:
        start: lambda at the first step, 0 to 1. The paper's is 0.996.
        end: lambda at the last step. The paper's is 1.
        warmup: keep lambda at most `(1 + t) / (10 + t)` after t updates, so that in a short run the teacher is
            not frozen near its random start. Not in the paper.
        steps_per_epoch: for the official code's schedule alone; None follows the paper. The official code warms
            lambda up linearly from 0 over 50 epochs and never gets past the first of them, because it restarts
            the schedule in every epoch: lambda stays below 0.02.
        warmup_epochs: the official code's 50.

    Raises:
        InputError: if start or end is outside 0 to 1.

    Example:
        >>> momentum = Momentum(warmup=False)
        >>> [round(momentum.at(step, 100), 4) for step in (0, 50, 100)]
        [0.996, 0.998, 1.0]
        >>> Momentum(warmup=True).at(0, 100)
        0.1
    """

    start: float = 0.996
    end: float = 1.0
    warmup: bool = True
    steps_per_epoch: int | None = None
    warmup_epochs: int = 50

    def __post_init__(self) -> None:
        for name, value in (("start", self.start), ("end", self.end)):
            if not 0 <= value <= 1:
                raise InputError(f"Teacher momentum {name} must lie between 0 and 1, got {value}.")
        if self.steps_per_epoch is not None and self.steps_per_epoch < 1:
            raise InputError(f"steps_per_epoch must be at least 1, got {self.steps_per_epoch}.")

    def at(self, step: int, total_steps: int) -> float:
        """Lambda for the update that follows optimizer step number `step`, counted from 0."""
        if self.steps_per_epoch is not None:
            length = self.warmup_epochs * self.steps_per_epoch
            return self.start * (step % self.steps_per_epoch) / max(1, length - 1)
        progress = min(1.0, step / max(1, total_steps))
        value = self.end + 0.5 * (self.start - self.end) * (1 + math.cos(math.pi * progress))
        return min(value, (1 + step) / (10 + step)) if self.warmup else value


class EMATeacher(nn.Module):
    """A frozen copy of the student that follows it by an exponential moving average.

    It always runs in evaluation mode: no dropout, and batch norm with its running statistics.

    Args:
        network: the student; it may be wrapped by DistributedDataParallel or torch.compile.
        buffers: what to do with floating-point buffers such as batch norm's running statistics: `copy` the
            student's (they are running averages already), or `average` them like parameters. Integer buffers
            are always copied.
    """

    def __init__(self, network: nn.Module, buffers: Literal["copy", "average"] = "copy") -> None:
        super().__init__()
        if buffers not in ("copy", "average"):
            raise InputError(f"buffers must be 'copy' or 'average', got '{buffers}'.")
        self.network = copy.deepcopy(unwrap(network)).requires_grad_(False).eval()
        self.buffers_rule = buffers

    def train(self, mode: bool = True) -> "EMATeacher":
        """Stay in evaluation mode, whatever the mode of the module around."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, image: Tensor) -> Any:
        """The teacher's output on the whole view, without gradients."""
        return self.network(image)

    @torch.no_grad()
    def update(self, student: nn.Module, momentum: float) -> None:
        """Move towards the student: `theta_t <- momentum * theta_t + (1 - momentum) * theta_s`."""
        student = unwrap(student)
        ours = [parameter.detach() for parameter in self.network.parameters()]
        theirs = [parameter.detach() for parameter in student.parameters()]
        torch._foreach_lerp_(ours, theirs, 1 - momentum)
        for own, their in zip(self.network.buffers(), student.buffers(), strict=True):
            if self.buffers_rule == "average" and own.is_floating_point():
                own.lerp_(their, 1 - momentum)
            else:
                own.copy_(their)
