"""The EMA teacher (Gani et al., MICCAI 2024, section 2.2)."""

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medcontext.errors import InputError
from medcontext.method.adapters import unwrap


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
