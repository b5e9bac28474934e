"""The LightningModule of a pretraining; what is learnt, and how, is `medcontext.pretraining`."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator

from medcontext.pretrain_settings import PretrainSettings
from medcontext.pretraining.objective import Losses, Objective
from medcontext.training.steps import Steps


class PretrainTask(Steps):
    """Pretraining by one objective.

    Args:
        objective: around the network whose encoder it trains.
        settings: of the pretraining.
    """

    settings: PretrainSettings

    def __init__(self, objective: Objective, settings: PretrainSettings) -> None:
        super().__init__(settings, objective.trainable_parameters())
        self.objective = objective
        self.losses: Losses | None = None  # of the last batch
        self.done = 0

    @property
    def step(self) -> int:
        return self.done

    @property
    def fraction(self) -> float:
        """Of the steps that are done."""
        return self.done / self.settings.steps

    def terms(self) -> dict[str, float]:
        return {} if self.losses is None else numbers(self.losses)

    def training_step(self, batch: Mapping[str, Any], _index: int) -> None:
        seed = self.step_seed()
        torch.manual_seed(seed)
        losses = self.objective.loss(batch["image"], Generator().manual_seed(seed), self.fraction)
        self.go_backward(losses.loss)
        self.losses = Losses(losses.loss.detach(), losses.parts)
        self.count(losses.loss)
        self.log("loss", losses.loss, prog_bar=True, logger=False)
        if self.micro_batch == 0 and self.in_curves(self.step):
            values = {f"train/{name}": value for name, value in numbers(self.losses).items()}
            self.log_curves(values | {"lr": self.optimizer.param_groups[0]["lr"]})

    def _step(self) -> None:
        super()._step()
        self.done += 1

    def state(self) -> dict[str, Any]:
        """What a checkpoint has of it: the encoder's tensors by their names in the network, and all that is trained."""
        return {
            "state_dict": self.objective.moved(),
            "objective": self.objective.state_dict(),
            "step": self.done,
        }

    def restore(self, values: Mapping[str, Any]) -> None:
        """The reverse."""
        self.objective.load_state_dict(values["objective"])
        self.done = values["step"]


def numbers(losses: Losses) -> dict[str, float]:
    """A loss and its parts."""
    return {"loss": float(losses.loss), **{name: float(value) for name, value in losses.parts.items()}}
