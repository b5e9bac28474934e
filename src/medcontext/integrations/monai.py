"""MedContext inside MONAI's engines: what a `SupervisedTrainer` does in an iteration.

Letters: B labelled crops, M unlabelled ones, S those of the labelled that are seen as they are; C channels, K classes;
H, W, D space.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from monai.data import MetaTensor
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.inferers import SimpleInferer
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor

from medcontext.errors import InputError
from medcontext.extras import need
from medcontext.method import Losses, MedContext
from medcontext.method.batches import first_head, plain


class MedContextUpdate:
    """The `iteration_update` of a `SupervisedTrainer` that trains a MedContext learner.

    The engine's own options keep their meaning: `prepare_batch`, `amp`, `accumulation_steps`, `optim_set_to_none`,
    events, handlers and metrics. With a GradScaler a step that this skips does not move the teacher either.

    The engine's output has, beside `image` (S, C, H, W, D) and `label` (S, 1, H, W, D), `pred` (S, K, H, W, D), the
    student's logits of the finest resolution, and `loss`, the supervised loss of these crops: what the same trainer
    without MedContext reports. `masked`, `consistency`, `unlabelled` and `total`, their weighted sum that is trained
    on, are the other terms. S is B but where only the rest of a batch is seen as it is, see `clean`; where no crop is,
    all B are looked at for `pred` and `loss`, in evaluation mode and without a gradient.

    Events are those of MONAI, all after the backward pass and before the optimizer's step.

    Args:
        learner: on the engine's device. Its `total_steps` are the engine's epochs times their length, over
            `accumulation_steps`.
        unlabelled: batches of scans without labels, as the engine's `prepare_batch` takes them: a dictionary with
            `image` (M, C, H, W, D), or that tensor. It is started anew when it has ended.
        vary: of unlabelled crops (M, C, H, W, D), what the student sees instead, with stronger changes of intensity.

    Raises:
        InputError: if PyTorch Ignite is missing, or only one of learner and caller knows of unlabelled scans. In the
            first iteration, if the engine has another network or loss than the learner, an inferer, network arguments
            or an optimizer that would not be used as they are meant.

    Example:
        ```
        learner = MedContext(network, supervised=DiceCELoss(to_onehot_y=True, softmax=True), total_steps=1000)
        trainer = SupervisedTrainer(
            ...,
            network=learner.network,
            loss_function=learner.supervised,
            optimizer=torch.optim.AdamW(learner.trainable_parameters(), lr=1e-3),
            iteration_update=MedContextUpdate(learner),
        )
        ```
    """

    def __init__(
        self,
        learner: MedContext,
        unlabelled: Iterable[Any] | None = None,
        *,
        vary: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        need("ignite")
        if (unlabelled is None) != (learner.unlabelled.view == "none"):
            with_, without = ("learner", "update") if unlabelled is None else ("update", "learner")
            raise InputError(
                f"The {with_} has unlabelled scans, the {without} has none; give both, MedContext(..., "
                "unlabelled=Unlabelled()) and MedContextUpdate(learner, loader), or neither."
            )
        if vary is not None and unlabelled is None:
            raise InputError("vary changes unlabelled scans, and there are none; leave it out.")
        self.learner = learner
        self.unlabelled = unlabelled
        self.vary = vary
        self._batches: Iterator[Any] = iter(())
        self._engine: Any = None  # that was checked
        learner.keeping = True

    def __call__(self, engine: SupervisedTrainer, batchdata: Any) -> dict[str, Any]:
        """One iteration; returns the engine's output."""
        if engine is not self._engine:
            check(engine, self.learner)
            self._engine = engine
        image, label = self._prepared(engine, batchdata)
        if not isinstance(label, Tensor):
            raise InputError("A batch has no label; give image and label, and scans without labels to the update.")
        scans = self._next(engine)
        first, last, parts = accumulation(engine)
        engine.network.train()
        if first:
            engine.optimizer.zero_grad(set_to_none=engine.optim_set_to_none)
        with autocast(engine):
            losses = self.learner.backward(
                image,
                label,
                unlabelled=scans,
                varied=None if scans is None or self.vary is None else self.vary(scans),
                backward=lambda loss: scaled(engine, loss / parts).backward(),
            )
            engine.state.output = self._output(image, label, losses)
        for event in (
            IterationEvents.FORWARD_COMPLETED,
            IterationEvents.LOSS_COMPLETED,
            IterationEvents.BACKWARD_COMPLETED,
        ):
            engine.fire_event(event)
        if last and step(engine):
            self.learner.update_teacher()
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def _prepared(self, engine: SupervisedTrainer, batchdata: Any) -> tuple[Tensor, Tensor | None]:
        """Image and label of a batch, on the engine's device."""
        if batchdata is None:
            raise ValueError("Must provide batch data for current iteration.")  # as MONAI's own
        batch = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking, **engine.to_kwargs)
        if len(batch) > 2 and any(batch[2:]):
            raise InputError(
                "prepare_batch gives further arguments for the network, which a MedContext learner does not pass on; "
                "let it give image and label alone."
            )
        return batch[0], batch[1]

    def _next(self, engine: SupervisedTrainer) -> Tensor | None:
        """The next unlabelled scans (M, C, H, W, D), from the start again after the last ones."""
        if self.unlabelled is None:
            return None
        for _ in range(2):
            for batch in self._batches:
                return self._prepared(engine, batch)[0]
            self._batches = iter(self.unlabelled)
        raise InputError("The unlabelled scans gave no batch; give a loader that is not empty, no iterator.")

    def _output(self, image: Tensor, label: Tensor, losses: Losses) -> dict[str, Any]:
        """What handlers and metrics see."""
        outputs, whole = self.learner.outputs, losses.whole
        if outputs is None:
            outputs, whole = self._look(plain(image), plain(label))
        logits = first_head(outputs, image)
        seen = image[: len(logits)]
        if isinstance(seen, MetaTensor):
            logits = MetaTensor(logits).copy_meta_from(seen)
        terms = {"masked": losses.masked, "consistency": losses.consistency, "unlabelled": losses.unlabelled}
        output: dict[str, Any] = {Keys.IMAGE: seen, Keys.LABEL: label[: len(logits)], Keys.PRED: logits}
        return {**output, Keys.LOSS: whole, **terms, "total": losses.loss}

    @torch.no_grad()
    def _look(self, image: Tensor, label: Tensor) -> tuple[Any, Tensor]:
        """The student's answer to crops of which the step has seen none as it is, and its loss."""
        network = self.learner.network.eval()
        outputs = network(image)
        network.train()
        return outputs, self.learner.supervised(outputs, label)


def check(engine: SupervisedTrainer, learner: MedContext) -> None:
    """Refuse a trainer with something that MedContext's iteration would not use.

    Raises:
        InputError: naming it.
    """
    if not isinstance(engine, SupervisedTrainer):
        raise InputError(f"MedContextUpdate is for MONAI's SupervisedTrainer, not for {type(engine).__name__}.")
    if engine.network is not learner.network:
        compiled = "MedContext(torch.compile(network)) instead of compile=True, and "
        remedy = compiled * getattr(engine, "compile", False) + "network=learner.network"
        raise InputError(f"The trainer's network is not the learner's; give {remedy}.")
    losses = (learner.supervised, learner.supervised.loss)
    if not any(engine.loss_function is loss for loss in losses):
        raise InputError(
            f"The trainer's loss_function is a {type(engine.loss_function).__name__} that the learner, with its "
            f"{type(losses[1]).__name__}, does not use; give the loss to MedContext(..., supervised=loss), and "
            "loss_function=learner.supervised to the trainer."
        )
    if type(engine.inferer) is not SimpleInferer:
        raise InputError(
            f"The trainer's inferer is a {type(engine.inferer).__name__}, which a MedContext learner does not use: it "
            "calls the network on the crops that it gets. Leave inferer out; cut windows in the transforms."
        )
    if not learner.is_trained_by(engine.optimizer):
        raise InputError(
            "The optimizer leaves out parameters of the learner: of its network, or the embedding that fills what is "
            "hidden; make it of learner.trainable_parameters()."
        )


def accumulation(engine: SupervisedTrainer) -> tuple[bool, bool, int]:
    """Whether this iteration is the first and the last before an optimizer step, of how many; as MONAI counts them."""
    parts = getattr(engine, "accumulation_steps", 1)  # since MONAI 1.6
    number, length = engine.state.iteration - 1, engine.state.epoch_length
    number = number if length is None else number % length
    return number % parts == 0, (number + 1) % parts == 0 or number + 1 == length, parts


def autocast(engine: SupervisedTrainer) -> AbstractContextManager:
    """Mixed precision where the trainer asks for it, on its device."""
    return torch.autocast(engine.state.device.type, **engine.amp_kwargs) if engine.amp else nullcontext()


def scaled(engine: SupervisedTrainer, loss: Tensor) -> Tensor:
    """The loss, scaled where there is a GradScaler."""
    return loss if engine.scaler is None else engine.scaler.scale(loss)


def step(engine: SupervisedTrainer) -> bool:
    """Step the optimizer; whether it did: a GradScaler skips the step of gradients that are not finite."""
    if engine.scaler is None:
        engine.optimizer.step()
        return True
    before = engine.scaler.get_scale()
    engine.scaler.step(engine.optimizer)
    engine.scaler.update()
    return engine.scaler.get_scale() >= before
