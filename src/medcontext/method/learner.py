"""MedContext around any segmentation network (Gani et al., MICCAI 2024, section 2)."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from medcontext.errors import InputError
from medcontext.method.adapters import Adapter, VoxelAdapter
from medcontext.method.losses import DeepSupervision, DiceCE, consistency, heads
from medcontext.method.masking import CubeMask, TubeMask
from medcontext.method.teacher import EMATeacher, Momentum


class Losses(NamedTuple):
    """The terms of equation 4, each a scalar; a term that is switched off is zero."""

    loss: Tensor
    whole: Tensor
    masked: Tensor
    consistency: Tensor

    def detach(self) -> "Losses":
        return Losses(*(term.detach() for term in self))


class MedContext(nn.Module):
    """The student, its teacher and the three losses.

    `learner.backward(image, label)` trains with the peak memory of one view; `learner(image, label).loss` is the
    plain differentiable loss. Both give the same gradient. Call `update_teacher()` after every optimizer step.

    Args:
        network: the student, any module from (B, C, H, W, D) to logits (B, K, H, W, D), or to a list of them
            (deep supervision). It may be wrapped by DistributedDataParallel or torch.compile.
        mask: what to hide; None trains on whole views alone, the baseline.
        adapter: where the mask enters; by default the voxels of a volume with `in_channels` channels.
        total_steps: optimizer steps of the whole training; the momentum's and the ramp-up's length.
        momentum: the teacher's.
        beta: weight of the consistency term, at least 0. The paper's is 0.5.
        ramp_up: fraction of the training, 0 to 1, over which beta rises from near zero along
            `exp(-5 (1 - t)^2)` (Tarvainen and Valpola, 2017). The paper has none.
        masked_loss: whether the student also segments the masked view (MSL in Table 7).
        consistency_kind: equation 2 (`paper`), the official code's variant (`reference`) or `none` (CL in Table 7).
        target: what the masked view must agree with: the EMA `teacher`'s answer on the whole view, or the
            `student`'s own, detached (Table 9, no teacher).
        teacher_every: optimizer steps between two updates of the teacher. The paper's is 1.
        buffers: how the teacher follows buffers, see `EMATeacher`.
        supervised: the supervised loss of logits (B, K, ...) and labels (B, 1, ...); equation 3 by default.
        in_channels: the image's channels, for the default adapter.

    Raises:
        InputError: if a value is outside its range, or no loss uses the mask.

    Example:
        >>> network = nn.Conv3d(1, 3, kernel_size=3, padding=1)
        >>> learner = MedContext(network, mask=TubeMask(patch_size=4), total_steps=10)
        >>> optimizer = torch.optim.AdamW(learner.trainable_parameters(), lr=1e-3)
        >>> image, label = torch.randn(2, 1, 8, 8, 4), torch.randint(0, 3, (2, 1, 8, 8, 4))
        >>> losses = learner.backward(image, label)
        >>> optimizer.step(); optimizer.zero_grad()
        >>> learner.update_teacher()
        >>> bool(losses.loss > 0), learner.step
        (True, 1)
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        total_steps: int,
        mask: CubeMask | None = TubeMask(),  # noqa: B008 (frozen)
        adapter: Adapter | None = None,
        momentum: Momentum = Momentum(),  # noqa: B008 (frozen)
        beta: float = 0.5,
        ramp_up: float = 0.0,
        masked_loss: bool = True,
        consistency_kind: Literal["paper", "reference", "none"] = "paper",
        target: Literal["teacher", "student"] = "teacher",
        teacher_every: int = 1,
        buffers: Literal["copy", "average"] = "copy",
        supervised: nn.Module | None = None,
        in_channels: int = 1,
    ) -> None:
        super().__init__()
        if beta < 0:
            raise InputError(f"beta must be at least 0, got {beta}.")
        if not 0 <= ramp_up <= 1:
            raise InputError(f"ramp_up is a fraction of the training, 0 to 1; got {ramp_up}.")
        if total_steps < 1 or teacher_every < 1:
            raise InputError(f"total_steps and teacher_every must be at least 1, got {total_steps}, {teacher_every}.")
        if mask is not None and not masked_loss and consistency_kind == "none":
            raise InputError("A mask without masked_loss and without consistency has no effect; use mask=None.")
        self.network = network
        self.teacher = EMATeacher(network, buffers)
        self.mask = mask
        self.adapter = None if mask is None else adapter or VoxelAdapter(in_channels)
        self.supervised = DeepSupervision(supervised or DiceCE())
        self.total_steps = total_steps
        self.momentum = momentum
        self.beta = beta
        self.ramp_up = ramp_up
        self.masked_loss = masked_loss
        self.consistency_kind = consistency_kind
        self.target = target
        self.teacher_every = teacher_every
        self.step = 0

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """The student's parameters and the embedding `xi`, never the teacher's."""
        yield from self.network.parameters()
        if self.adapter is not None:
            yield from self.adapter.parameters()

    def draw(self, image: Tensor, generator: torch.Generator | None = None) -> Tensor | None:
        """Draw what to hide of images (B, C, H, W, D): (B, 1, h, w, d) booleans on their device, or None."""
        if self.mask is None:
            return None
        shape = (image.shape[2], image.shape[3], image.shape[4])
        return self.mask.sample(shape, len(image), generator).to(image.device)

    def forward(self, image: Tensor, label: Tensor, hidden: Tensor | None = None) -> Losses:
        """Equation 4, differentiable as a whole.

        Args:
            image: (B, C, H, W, D).
            label: (B, 1, H, W, D), integers 0 to K-1.
            hidden: (B, 1, h, w, d), what to hide; drawn anew if not given.
        """
        outputs = self.network(image)
        whole = self.supervised(outputs, label)
        if self.mask is None:
            return Losses(whole, whole, *torch.zeros_like(whole).expand(2))
        masked, agreement, weighted = self._masked_terms(image, label, hidden, self._target(image, outputs))
        return Losses(whole + weighted, whole, masked, agreement)

    def backward(
        self,
        image: Tensor,
        label: Tensor,
        hidden: Tensor | None = None,
        *,
        backward: Callable[[Tensor], Any] = Tensor.backward,
        no_sync: Callable[[], AbstractContextManager] | None = None,
    ) -> Losses:
        """Accumulate the gradient of equation 4, one view after the other, in the memory of one.

        Args:
            image: (B, C, H, W, D).
            label: (B, 1, H, W, D), integers 0 to K-1.
            hidden: (B, 1, h, w, d), what to hide; drawn anew if not given.
            backward: how to backpropagate a term: `lambda loss: scaler.scale(loss).backward()` with a GradScaler,
                `lambda loss: (loss / n).backward()` to accumulate over n batches.
            no_sync: under data parallelism, the context in which gradients are not yet exchanged; that of a
                network wrapped by DistributedDataParallel is found by itself.

        Returns:
            The terms, detached.
        """
        if self.mask is None:
            losses = self(image, label)
            backward(losses.loss)
            return losses.detach()
        no_sync = no_sync or getattr(self.network, "no_sync", None) or nullcontext
        with no_sync():
            outputs = self.network(image)
            whole = self.supervised(outputs, label)
            target = self._target(image, outputs) if self.target == "student" else None
            del outputs  # else the whole view's logits stay in memory beside the masked view's activations
            backward(whole)
            whole = whole.detach()
        if self.target == "teacher":  # only now, when the whole view's activations are gone
            target = self._target(image)
        masked, agreement, weighted = self._masked_terms(image, label, hidden, target)
        del target  # its distance to the masked view's logits is all that the backward pass needs
        backward(weighted)
        self._average_embedding_gradient()
        return Losses(whole + weighted, whole, masked, agreement).detach()

    def update_teacher(self) -> None:
        """Move the teacher towards the student; call it after every optimizer step."""
        if (self.step + 1) % self.teacher_every == 0:
            self.teacher.update(self.network, self.momentum.at(self.step, self.total_steps))
        self.step += 1

    def current_beta(self) -> float:
        """Beta at this step, after its ramp-up."""
        length = self.ramp_up * self.total_steps
        if self.step >= length:
            return self.beta
        return self.beta * math.exp(-5 * (1 - self.step / length) ** 2)

    def _target(self, image: Tensor, outputs: Any = None) -> Tensor | None:
        if self.consistency_kind == "none":
            return None
        if self.target == "student":
            return heads(outputs)[0].detach()
        return heads(self.teacher(image))[0]

    def _masked_terms(
        self, image: Tensor, label: Tensor, hidden: Tensor | None, target: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The masked view's supervised term, its consistency term, and their weighted sum."""
        hidden = self.draw(image) if hidden is None else hidden
        outputs = self.adapter.masked(self.network, image, hidden)  # type: ignore[union-attr, arg-type]
        agreement = masked = torch.zeros((), device=image.device)
        # The consistency first: the backward pass runs in the opposite order, and so has freed what the supervised
        # loss keeps before the gradient of the consistency takes its place.
        if target is not None:
            agreement = consistency(heads(outputs)[0], target, self.consistency_kind)  # type: ignore[arg-type]
        if self.masked_loss:
            masked = self.supervised(outputs, label)
        return masked, agreement, masked + self.current_beta() * agreement

    def _average_embedding_gradient(self) -> None:
        # The embedding lives outside the wrapped network, so DistributedDataParallel does not average its gradient.
        if isinstance(self.network, DistributedDataParallel) and self.adapter is not None:
            gradient = self.adapter.embedding.grad
            if gradient is not None:
                torch.distributed.all_reduce(gradient, group=self.network.process_group)
                gradient /= torch.distributed.get_world_size(self.network.process_group)

    def get_extra_state(self) -> dict[str, int]:
        return {"step": self.step}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.step = state["step"]
