"""How fast the teacher follows the student (Gani et al., MICCAI 2024, section 2.2).

The settings' type of a teacher is one of these, and reading settings does not wait for torch.
"""

import math
from dataclasses import dataclass

from medcontext.errors import InputError


@dataclass(frozen=True)
class Momentum:
    """The momentum lambda of `theta_t <- lambda * theta_t + (1 - lambda) * theta_s` over training.

    Args:
        momentum: lambda at the first step, 0 to 1. The paper's is 0.996.
        momentum_end: lambda at the last step, reached along a cosine. The paper's is 1.
        warmup: keep lambda at most `(1 + t) / (10 + t)` after t updates, so that in a short run the teacher is
            not frozen near its random start. Not in the paper.

    Raises:
        InputError: if one is outside 0 to 1.

    Example:
        >>> rule = Momentum(warmup=False)
        >>> [round(rule.at(step, 100), 4) for step in (0, 50, 100)]
        [0.996, 0.998, 1.0]
        >>> Momentum(warmup=True).at(0, 100)
        0.1
    """

    momentum: float = 0.996
    momentum_end: float = 1.0
    warmup: bool = True

    def __post_init__(self) -> None:
        for name in ("momentum", "momentum_end"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"The teacher's {name} must lie between 0 and 1, got {getattr(self, name)}.")

    def at(self, step: int, total_steps: int) -> float:
        """Lambda for the update that follows optimizer step number `step`, counted from 0."""
        progress = min(1.0, step / max(1, total_steps))
        value = self.momentum_end + 0.5 * (self.momentum - self.momentum_end) * (1 + math.cos(math.pi * progress))
        return min(value, (1 + step) / (10 + step)) if self.warmup else value


@dataclass(frozen=True)
class ReferenceMomentum(Momentum):
    """The official code's: it warms lambda up linearly from 0 over 50 epochs, and never gets past the first of them.

    It restarts the schedule in every epoch: lambda stays below 0.02. Of `Momentum`'s values it has the first alone.

    Args:
        steps_per_epoch: optimizer steps, at least 1.
        warmup_epochs: the official code's 50.

    Raises:
        InputError: if a value is outside its range.
    """

    steps_per_epoch: int = 1
    warmup_epochs: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps_per_epoch < 1:
            raise InputError(f"steps_per_epoch must be at least 1, got {self.steps_per_epoch}.")

    def at(self, step: int, total_steps: int) -> float:
        length = self.warmup_epochs * self.steps_per_epoch
        return self.momentum * (step % self.steps_per_epoch) / max(1, length - 1)


def risen(step: float, length: float) -> float:
    """How far a ramp-up over `length` steps has come, `exp(-5 (1 - t)^2)` (Tarvainen and Valpola, 2017)."""
    return 1.0 if step >= length else math.exp(-5 * (1 - step / length) ** 2)
