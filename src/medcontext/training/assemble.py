"""From settings to objects: the learner, the optimizer and its schedule, the crop."""

import math
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from medcontext.data.crops import CropBefore
from medcontext.data.geometry import Shape3
from medcontext.method import MedContext, Momentum, ReferenceMomentum
from medcontext.method.adapters import Adapter
from medcontext.method.batches import reach
from medcontext.method_settings import MethodSettings, TeacherSettings
from medcontext.networks import token_adapter
from medcontext.settings import OptimizerSettings


def make_momentum(settings: TeacherSettings, steps_per_epoch: int) -> Momentum:
    """How fast the teacher follows, with all of a momentum's fields that the settings have."""
    values = {field.name: getattr(settings, field.name) for field in fields(Momentum)}
    if settings.schedule == "reference":
        return ReferenceMomentum(**values, steps_per_epoch=steps_per_epoch)
    return Momentum(**values)


def make_learner(
    settings: MethodSettings,
    network: nn.Module,
    network_name: str,
    *,
    in_channels: int,
    crop_size: Shape3,
    total_steps: int,
    steps_per_epoch: int,
    supervised: nn.Module | None = None,
    expected: torch.Tensor | None = None,
    adapter: Adapter | None = None,
    **host: Any,
) -> MedContext:
    """MedContext around a network, as the settings say.

    Args:
        settings: the method's.
        network: the student.
        network_name: to find its tokens by.
        in_channels: image channels.
        crop_size: the training crop in voxels.
        total_steps: optimizer steps of the training.
        steps_per_epoch: optimizer steps, for the `reference` preset.
        supervised: the supervised loss, equation 3 by default.
        expected: the share of each class in a labelled scan, where scans without labels join.
        adapter: one that is there already; made as the settings say, if not.
        host: further arguments of `MedContext`, of a host that has labels of its own kind.
    """
    mask = settings.mask.made() if settings.masking else None
    if mask is not None:
        mask.checked(crop_size)  # refuses, before training, what sampling would refuse
    if adapter is None and mask is not None and settings.mask.space == "tokens":
        adapter = token_adapter(network_name, network, settings.mask.initial)
    teacher = settings.teacher
    return MedContext(
        network,
        total_steps=total_steps,
        mask=mask,
        adapter=adapter,
        momentum=make_momentum(teacher, steps_per_epoch),
        beta=settings.beta,
        ramp_up=settings.ramp_up,
        masked_loss=settings.masked_loss,
        consistency_kind=settings.consistency,
        target=settings.target,
        teacher_every=steps_per_epoch if teacher.update == "epoch" else 1,
        buffers=teacher.buffers,
        supervised=supervised,
        in_channels=in_channels,
        fill=settings.fill,
        share=settings.share,
        clean=settings.clean,
        unlabelled=settings.unlabelled,
        expected=expected,
        **host,
    )


def followers(learner: MedContext, batch: int, devices: int = 1) -> CropBefore:
    """Which of a batch's labelled crops follow the one that they are filled with."""
    filled = learner.seconds(batch)
    return CropBefore(batch, filled, reach(batch, filled), devices)


def make_optimizer(
    settings: OptimizerSettings, parameters: Iterable[nn.Parameter], total_steps: int
) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """The optimizer and the learning rate's schedule, in optimizer steps."""
    parameters = list(parameters)
    optimizer: torch.optim.Optimizer
    if settings.name == "sgd":
        optimizer = torch.optim.SGD(
            parameters,
            lr=settings.lr,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
            weight_decay=settings.weight_decay,
        )
    else:
        optimizer = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay)
    warmup, end = round(settings.warmup * total_steps), settings.lr_end / settings.lr

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
        if settings.schedule == "cosine":
            return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * progress))
        if settings.schedule == "poly":
            return end + (1 - end) * (1 - progress) ** 0.9
        return 1.0

    return optimizer, LambdaLR(optimizer, factor)


def auto_crop(shapes: list[tuple[int, ...]]) -> Shape3:
    """A crop that covers the median volume, rounded up to multiples of 16, at most 96 voxels along each axis.

    >>> auto_crop([(1, 35, 51, 30), (1, 37, 50, 35), (1, 300, 52, 36)])
    (48, 64, 48)
    """
    medians = [sorted(shape[axis] for shape in shapes)[len(shapes) // 2] for axis in (1, 2, 3)]
    h, w, d = (min(96, -(-median // 16) * 16) for median in medians)
    return h, w, d
