"""MedContext in somebody's own LightningModule.

```python
class Mine(MedContextMixin, LightningModule):
    def __init__(self):
        super().__init__()
        self.network = ...
        self.learner = self.medcontext(self.network, mask=TubeMask(patch_size=16, ratio=0.4))

    def training_step(self, batch, batch_idx):
        return self.medcontext_step(batch["image"], batch["label"])
```

Lightning's automatic optimization stays: `training_step` returns a loss as always, so that the trainer's accumulation,
clipping, precision, schedulers and data parallelism do to it what they do to any other.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from medcontext.errors import InputError
from medcontext.method import MedContext
from medcontext.method.batches import Label

STRATEGIES = ("SingleDeviceStrategy", "DDPStrategy")
"""Those in which a device has all weights."""


class MedContextMixin:
    """Put it before LightningModule, or before a module of your own: `class Mine(MedContextMixin, LightningModule)`.

    It works with `lightning` and with `pytorch_lightning`.
    """

    learner: MedContext

    def medcontext(self, network: nn.Module, **options: Any) -> MedContext:
        """A learner around the network, for `self.learner`, in `__init__`.

        Args:
            network: the student.
            options: those of `MedContext`, but for `total_steps`, which the trainer knows.
        """
        return MedContext(network, total_steps=1, **options)

    def medcontext_step(
        self, image: Tensor, label: Label, *, unlabelled: Tensor | None = None, varied: Tensor | None = None
    ) -> Tensor:
        """The loss to return from `training_step`, a scalar; its terms are logged as `medcontext/...`.

        The views are computed one after the other, in the memory of one, and the gradients kept until Lightning asks
        for them. What is random in it, on a CPU or a CUDA GPU, depends on the seed, the step, the micro-batch and the
        rank alone. The seed is that of `seed_everything`; without it each start has another.

        Args:
            image: (B, C, H, W, D).
            label: (B, 1, H, W, D), or whatever the supervised loss takes.
            unlabelled: (M, C, H, W, D), crops of scans without labels.
            varied: the same crops as the student sees them, see `MedContext.backward`.

        Raises:
            InputError: if the module's optimization is manual, its strategy shards weights, its optimizer lacks some of
                the learner's parameters, its `optimizer_step` leaves out the mixin's, or the trainer has no end.
        """
        module, learner = cast(Any, self), self.learner
        prepared, optimizers = getattr(module.trainer, "_medcontext", (None, None))
        if prepared is not learner or optimizers is not module.trainer.optimizers:  # each fit makes them anew
            self._prepare()
        self._check_teacher()
        parameters = [parameter for parameter in learner.trainable_parameters() if parameter.requires_grad]
        gradients = Gradients(parameters, loss_scale(module.trainer))
        with seeded(self._step_seed(), image.device):
            losses = learner.backward(image, label, unlabelled=unlabelled, varied=varied, backward=gradients.add)
        self._micro_batch += 1
        names = [name for name in losses._fields[1:] if name != "unlabelled" or unlabelled is not None]
        module.log_dict({f"medcontext/{name}": getattr(losses, name) for name in names}, batch_size=len(image))
        return gradients.behind(losses.loss)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Lightning's hook: the optimizer's step, then the teacher's."""
        super().optimizer_step(*args, **kwargs)  # type: ignore[misc]
        self.learner.update_teacher()
        self._micro_batch = 0

    def _prepare(self) -> None:
        """What is known when a training begins or goes on."""
        module, learner = cast(Any, self), self.learner
        trainer = module.trainer
        if not module.automatic_optimization:
            raise InputError(
                "medcontext_step is for automatic optimization. In manual optimization call self.learner.backward("
                "image, label, backward=self.manual_backward), step the optimizer, then self.learner.update_teacher()."
            )
        kinds = {kind.__name__ for kind in type(trainer.strategy).__mro__}
        if kinds.isdisjoint(STRATEGIES):
            raise InputError(
                f"MedContext needs all weights on each device, which {type(trainer.strategy).__name__} does not give; "
                "use Trainer(strategy='ddp'), or one device."
            )
        if not learner.is_trained_by(*trainer.optimizers):
            raise InputError(
                "configure_optimizers leaves out parameters of the learner, such as the embedding of what is hidden; "
                "give it self.learner.trainable_parameters(), or self.parameters()."
            )
        steps = trainer.estimated_stepping_batches
        if not 0 < steps < float("inf"):
            raise InputError("MedContext follows a schedule: give the Trainer max_steps or max_epochs.")
        self._ahead = trainer.global_step - learner.step
        learner.total_steps = int(steps) - self._ahead  # with those that it made under another trainer
        if learner.step == 0:  # weights may have been loaded since the learner was made
            learner.restart_teacher()
        self._micro_batch = 0
        trainer._medcontext = learner, trainer.optimizers  # there, because a module may be copied and pickled

    def _check_teacher(self) -> None:
        """Refuse to go on where the optimizer has made steps that the teacher did not follow."""
        if cast(Any, self).trainer.global_step - self.learner.step != self._ahead:
            raise InputError(
                f"The teacher does not follow the optimizer: {type(self).__name__}.optimizer_step does not come here. "
                "Name MedContextMixin before LightningModule, and call super().optimizer_step(...) in one of your own."
            )

    def _step_seed(self) -> int:
        """Another one for every training, step, micro-batch and rank."""
        module = cast(Any, self)
        step = self.learner.step * module.trainer.accumulate_grad_batches + self._micro_batch
        return ((torch.initial_seed() * 1_000_003 + step) * 4096 + module.global_rank) % 2**63


class Gradients:
    """Of several losses together, held back until somebody goes backward from their sum.

    Args:
        parameters: whose gradients they are.
        scale: a factor for the backward pass, so that half precision does not lose small values.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], scale: float = 1.0) -> None:
        self.parameters = parameters
        self.scale = scale
        self.held: list[Tensor | None] = [None] * len(parameters)

    def add(self, loss: Tensor) -> None:
        """Add a loss's gradients; its graph is freed."""
        with torch.autocast(loss.device.type, enabled=False):
            found = torch.autograd.grad(loss * self.scale, self.parameters, allow_unused=True)
        for index, gradient in enumerate(found):
            before = self.held[index]
            if gradient is not None:
                self.held[index] = gradient if before is None else before + gradient

    def behind(self, loss: Tensor) -> Tensor:
        """The loss, from which one can go backward."""
        return _Behind.apply(loss, self, *self.parameters)


class _Behind(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: Gradients, *_: Tensor) -> Tensor:
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        factor = upstream[0] / ctx.gradients.scale
        return None, None, *(None if held is None else held * factor for held in ctx.gradients.held)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Random numbers that begin anew, on the CPU and on a CUDA device; those outside go on as if nothing had been."""
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(gpus, device_type="cuda"):
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


def loss_scale(trainer: Any) -> float:
    """By what the trainer's precision scales a loss, as `16-mixed` does."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return 1.0 if scaler is None else float(scaler.get_scale())
