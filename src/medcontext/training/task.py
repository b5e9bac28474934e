"""The LightningModule of a training: it augments and logs; the method itself is `medcontext.method`."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from medcontext.data.augment import Augment
from medcontext.method import Losses, MedContext
from medcontext.method.found import structures_mean
from medcontext.settings import Settings
from medcontext.training.assemble import followers
from medcontext.training.own import OwnTransform
from medcontext.training.steps import Steps

UNLABELLED, VARIED = 1 << 62, 1 << 61  # set the changes of these crops apart from those of labelled ones


class Task(Steps):
    """Training of one learner.

    Args:
        learner: the student, its teacher and the losses.
        settings: of the run.
        structures: names of the network's outputs, for curves.
        transform: of the user's, see `Augment`.
    """

    settings: Settings

    def __init__(
        self,
        learner: MedContext,
        settings: Settings,
        structures: Sequence[str] = (),
        transform: OwnTransform | None = None,
    ) -> None:
        super().__init__(settings, learner.trainable_parameters())
        self.structures = structures
        self.learner = learner
        self.augment = Augment(settings.augment, transform)
        self.vary = Augment(settings.vary)
        self.losses: Losses | None = None  # of the last batch

    @property
    def step(self) -> int:
        return self.learner.step

    def terms(self) -> dict[str, float]:
        found = {} if self.losses is None else {name: float(value) for name, value in self.losses._asdict().items()}
        return {name: value for name, value in found.items() if value or name == "loss"}  # 0: switched off

    def training_step(self, batch: dict[str, Any], _index: int) -> None:
        seed = self.step_seed()
        torch.manual_seed(seed)
        labelled = batch.get("labelled", batch)
        size = len(labelled["image"])
        mirrors = [(seed, number) for number in range(size)]
        if "unlabelled" not in batch and self.settings.method.same_place:
            mirrors = [mirrors[number] for number in map(followers(self.learner, size), range(size))]
        image, label = self.augment(labelled["image"], labelled["label"], seed, mirrors)
        self.learner.observing = self.in_curves(self.step + 1)
        scans = self._scans(batch["unlabelled"]["image"], seed, mirrors) if "unlabelled" in batch else {}
        losses = self.learner.backward(image, label, backward=self.go_backward, no_sync=self._no_sync(), **scans)
        self.losses = losses.detach()
        self.count(losses.loss)
        self._log(losses)

    def _step(self) -> None:
        super()._step()
        self.learner.update_teacher()

    def _scans(self, image: Tensor, seed: int, mirrors: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        """Unlabelled crops, as the teacher and as the student sees them; mirrored as the last labelled ones are."""
        if not self.learner.joined():
            return {"unlabelled": image}
        same = self.settings.method.unlabelled.place == "same"
        image = self.augment.images(image, seed ^ UNLABELLED, mirrors[-len(image) :] if same else None)
        return {"unlabelled": image, "varied": self.vary.images(image, seed ^ UNLABELLED ^ VARIED)}

    def _no_sync(self) -> Any:
        model = self.trainer.strategy.model
        return model.no_sync if isinstance(model, DistributedDataParallel) else None

    def _log(self, losses: Losses) -> None:
        step = max(0, self.step - 1)
        values = {f"train/{name}": value for name, value in losses._asdict().items()}
        if self.learner.trust is None:
            del values["train/unlabelled"]  # a curve of zeros
        self.log("loss", losses.loss, prog_bar=True, logger=False)
        if self.learner.mask is not None:
            self.log("consistency", losses.consistency, prog_bar=True, logger=False)
        if self.micro_batch == 0 and self.in_curves(self.step):
            values["lr"] = self.optimizer.param_groups[0]["lr"]
            values["teacher/momentum"] = self.learner.momentum.at(step, self.learner.total_steps)
            values["beta"] = self.learner.current_beta()
            self.log_curves(values | self._trust())

    def _trust(self) -> dict[str, Tensor]:
        """How the teacher's answers on unlabelled scans fare, in all and for each structure."""
        trust = self.learner.trust
        if trust is None:
            return {}
        values = {"unlabelled/trusted": trust.share}
        for key in ("sure", "agreement", "known"):
            each = getattr(trust, key)
            values[f"unlabelled/{key}"] = structures_mean(each, background=not self.learner.regions)
            values |= {f"unlabelled/{key}/{name}": value for name, value in zip(self.structures, each, strict=False)}
        return values
