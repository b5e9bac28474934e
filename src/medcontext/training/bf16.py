"""Whether the processor computes the gradients of a network's convolutions in bf16: PyTorch's need not be right.

With oneDNN 3.12 (torch 2.13), on a processor with AVX512-BF16, the weights' gradient of a convolution of 3 x 3 x 3
voxels over maps with 2 along their first axis is whatever the memory held before: often finite, and never the gradient.
So each kind of convolution over small maps that the first step of a training has is tried against 32 bits.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from medcontext.errors import InputError

SMALL = 16**3  # voxels: larger maps take long to try, and nothing was ever wrong with them
TOLERANCE = 0.1  # of the largest gradient, bf16 differs by 0.01 at most
TIMES = 3


class Trial:
    """Notes the convolutions that a module's passes have, until `check`.

    Args:
        module: that holds the networks.
    """

    def __init__(self, module: nn.Module) -> None:
        self.seen: dict[tuple[str, tuple[int, ...]], tuple[str, _ConvNd]] = {}
        self.names = {each: name for name, each in module.named_modules() if isinstance(each, _ConvNd)}
        self.hooks = [each.register_forward_pre_hook(self._note) for each in self.names]

    def _note(self, convolution: nn.Module, inputs: tuple[Any, ...]) -> None:
        size = tuple(inputs[0].shape[2:])
        if torch.Size(size).numel() <= SMALL:
            self.seen.setdefault((str(convolution), size), (self.names[convolution], convolution))  # type: ignore

    def check(self) -> None:
        """Stop noting.

        Raises:
            InputError: if the gradient of one is not what it is in 32 bits.
        """
        for hook in self.hooks:
            hook.remove()
        for (_, size), (name, convolution) in self.seen.items():
            if wrong(convolution, size):
                raise InputError(
                    f"On this processor PyTorch {torch.__version__} computes wrong gradients in bf16: of {name}, a "
                    f"convolution over maps of {' x '.join(map(str, size))}. Use --precision 32, or a --crop_size that "
                    "leaves larger maps."
                )


def wrong(convolution: _ConvNd, size: tuple[int, ...]) -> bool:
    """Whether a convolution over one map of `size` has other gradients in bf16 than in 32 bits."""
    tried = copy.deepcopy(convolution).float().requires_grad_()  # a teacher's has no gradient
    image = torch.randn(1, tried.in_channels, *size, generator=torch.Generator().manual_seed(1))
    exact = _gradient(tried, image, bf16=False)
    rounded = (_gradient(tried, image, bf16=True) for _ in range(TIMES))
    return not all((each - exact).abs().max() <= TOLERANCE * exact.abs().max() for each in rounded)  # also where NaN


@torch.enable_grad()
def _gradient(convolution: _ConvNd, image: Tensor, bf16: bool) -> Tensor:
    """Of the weights, where that of the output is always the same noise."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        output = convolution(image)
    noise = torch.randn(output.shape, generator=torch.Generator().manual_seed(0))
    return torch.autograd.grad(output, convolution.weight, noise.to(output.dtype))[0].float()
