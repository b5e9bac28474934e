"""The LightningModule: it schedules, seeds and logs; the method itself is `medcontext.method`."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR

from medcontext.data.augment import Augment
from medcontext.method import Losses, MedContext
from medcontext.settings import Settings
from medcontext.training.assemble import make_optimizer
from medcontext.training.own import OwnTransform

UNLABELLED, VARIED = 1 << 62, 1 << 61  # set the changes of these crops apart from those of labelled ones


class Task(LightningModule):
    """Training of one learner, by manual optimization because each step has two backward passes.

    Everything random in a step depends on the seed, the step and the device's rank alone. So a resumed run
    goes on exactly as if it had never stopped.

    Args:
        learner: the student, its teacher and the losses.
        settings: of the run.
        structures: names of the network's outputs, for curves.
        transform: of the user's, see `Augment`.
    """

    def __init__(
        self,
        learner: MedContext,
        settings: Settings,
        structures: Sequence[str] = (),
        transform: OwnTransform | None = None,
    ) -> None:
        super().__init__()
        self.structures = structures
        self.automatic_optimization = False
        self.learner = learner
        self.settings = settings
        self.augment = Augment(settings.augment, transform)
        self.vary = Augment(settings.vary)
        self.optimizer, self.scheduler = make_optimizer(
            settings.optimizer, learner.trainable_parameters(), settings.steps
        )
        self.micro_batch = 0  # within the optimizer step
        self.total = torch.zeros(())  # the loss of its micro-batches
        self.losses: Losses | None = None  # of the last batch
        self.log_every = max(1, settings.steps // 1000)

    def configure_optimizers(self) -> tuple[list[torch.optim.Optimizer], list[LambdaLR]]:
        return [self.optimizer], [self.scheduler]

    def reschedule(self) -> None:
        """Let the rate be what the settings say of this step: they may have changed since the checkpoint."""
        rate, step = self.settings.optimizer.lr, self.scheduler.last_epoch
        self.scheduler.base_lrs = [rate for _ in self.optimizer.param_groups]
        for group, factor in zip(self.optimizer.param_groups, self.scheduler.lr_lambdas, strict=True):
            group["initial_lr"], group["lr"] = rate, rate * factor(step)

    def training_step(self, batch: dict[str, Any], _index: int) -> None:
        seed = self.step_seed()
        torch.manual_seed(seed)
        labelled = batch.get("labelled", batch)
        image, label = self.augment(labelled["image"], labelled["label"], seed)
        self.learner.observing = self._logs(self.learner.step + 1)
        scans = self._scans(batch["unlabelled"]["image"], seed) if "unlabelled" in batch else {}
        losses = self.learner.backward(image, label, backward=self._backward, no_sync=self._no_sync(), **scans)
        self.total = self.total.to(losses.loss.device) + losses.loss.detach()
        self.losses = losses.detach()
        self.micro_batch += 1
        if self.micro_batch == self.settings.accumulate:
            self._step()
        self._log(losses)

    def _scans(self, image: Tensor, seed: int) -> dict[str, Tensor]:
        """Unlabelled crops, as the teacher and as the student sees them."""
        if not self.learner.joined():
            return {"unlabelled": image}
        image = self.augment.images(image, seed ^ UNLABELLED)
        return {"unlabelled": image, "varied": self.vary.images(image, seed ^ UNLABELLED ^ VARIED)}

    def step_seed(self) -> int:
        """A different seed for every run, step, micro-batch and rank."""
        step = self.learner.step * self.settings.accumulate + self.micro_batch
        return ((self.settings.seed * 1_000_003 + step) * 4096 + self.global_rank) % 2**63

    def _backward(self, loss: Tensor) -> None:
        self.manual_backward(loss / self.settings.accumulate)

    def _no_sync(self) -> Any:
        model = self.trainer.strategy.model
        return model.no_sync if isinstance(model, DistributedDataParallel) else None

    def _step(self) -> None:
        optimizer, scheduler = self.optimizers(), self.lr_schedulers()
        clip = self.settings.optimizer.clip or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(list(self.learner.trainable_parameters()), clip)
        self._check_finite(norm)
        optimizer.step()  # type: ignore[union-attr]
        optimizer.zero_grad()  # type: ignore[union-attr]
        scheduler.step()  # type: ignore[union-attr]
        self.learner.update_teacher()
        self.micro_batch = 0

    def _check_finite(self, norm: Tensor) -> None:
        """Stop before a step that would spoil the weights for good; on all devices, which have the same gradients.

        Raises:
            FloatingPointError: if a loss or a gradient since the last step is not finite.
        """
        if (self.total + norm).isfinite():
            self.total = 0 * norm
            return
        step = self.learner.step + 1
        if not self.total.isfinite():
            raise FloatingPointError(f"The loss of step {step} is not finite ({self.total.item()})")
        raise FloatingPointError(f"The gradients of step {step} are not finite (their norm is {norm.item()})")

    def _log(self, losses: Losses) -> None:
        step = max(0, self.learner.step - 1)
        values = {f"train/{name}": value for name, value in losses._asdict().items()}
        if self.learner.trust is None:
            del values["train/unlabelled"]  # a curve of zeros
        self.log("loss", losses.loss, prog_bar=True, logger=False)
        if self.learner.mask is not None:
            self.log("consistency", losses.consistency, prog_bar=True, logger=False)
        if self.micro_batch == 0 and self._logs(self.learner.step):
            values["lr"] = self.optimizer.param_groups[0]["lr"]
            values["teacher/momentum"] = self.learner.momentum.at(step, self.learner.total_steps)
            values["beta"] = self.learner.current_beta()
            values |= self._trust()
            for logger in self.loggers:
                logger.log_metrics({key: float(value) for key, value in values.items()}, self.learner.step)

    def _logs(self, step: int) -> bool:
        """Whether the curves have this step."""
        return step % self.log_every == 0

    def _trust(self) -> dict[str, Tensor]:
        """How the teacher's answers on unlabelled scans fare, in all and for each structure."""
        trust = self.learner.trust
        if trust is None:
            return {}
        values = {"unlabelled/trusted": trust.share}
        for key in ("sure", "agreement", "known"):
            each = getattr(trust, key)
            values[f"unlabelled/{key}"] = (each if self.learner.membership is not None else each[1:]).nanmean()
            values |= {f"unlabelled/{key}/{name}": value for name, value in zip(self.structures, each, strict=False)}
        return values
