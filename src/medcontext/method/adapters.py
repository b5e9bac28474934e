"""Where the mask enters a network: its input voxels (any network), or the tokens of a named submodule.

The paper (equation 1) hides parts of the *input volume*; its official code hides *tokens*. In token space the
convolutional skip paths of UNETR, Swin UNETR and their like still see the whole volume, so hidden voxels leak.

Letters: B batch, C channels, E token channels, N tokens, H W D volume, h w d patches or tokens along an axis, of images
without D and d.
"""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from medcontext.errors import InputError, counted, unknown_name
from medcontext.method.masking import Extent, expand, hide


class Adapter(nn.Module, ABC):
    """Runs a network on the masked view and owns the learnable embedding `H_xi`.

    Args:
        channels: number of values of the embedding.
        initial: `zeros`, or `normal` with the standard deviation 0.02 usual for mask tokens.
    """

    def __init__(self, channels: int, initial: str = "zeros") -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.zeros(channels))
        if initial == "normal":
            nn.init.normal_(self.embedding, std=0.02)
        elif initial != "zeros":
            raise unknown_name("token initialisation", initial, ["normal", "zeros"])

    @abstractmethod
    def masked(self, network: nn.Module, image: Tensor, hidden: Tensor) -> Any:
        """The network's output on the masked view.

        Args:
            network: the student.
            image: (B, C, H, W, D).
            hidden: (B, 1, h, w, d) booleans from `TubeMask.sample`.
        """


class VoxelAdapter(Adapter):
    """Hide voxels of the input volume: works with any network and leaks nothing.

    Args:
        channels: the image's channels, C; an image with another number of them is refused (`InputError`).
    """

    def masked(self, network: nn.Module, image: Tensor, hidden: Tensor) -> Any:
        if image.shape[1] != len(self.embedding):
            raise InputError(
                f"The image has {counted(image.shape[1], 'channel')}, and the embedding of what is hidden has "
                f"{len(self.embedding)}. Give MedContext(..., in_channels={image.shape[1]})."
            )
        return network(hide(image, expand(hidden, image.shape[2:]), self.embedding))


class TokenAdapter(Adapter):
    """Hide the output tokens of a named submodule, by a forward hook.

    The submodule's output must be (B, E, h, w, d) or (B, N, E) with N = h*w*d in row-major order, as MONAI's
    patch embeddings give. The hook is there during the masked forward pass alone. Give the projection itself,
    before position embeddings are added, so that a hidden token keeps its place.

    Args:
        network: the network, to find the submodule in.
        module: the submodule's name, as in `network.named_modules()`.
        channels: token channels, E.
        token_size: voxels per token along H, W and, of volumes, D.

    Raises:
        InputError: if the network has no such submodule.
    """

    def __init__(
        self, network: nn.Module, module: str, channels: int, token_size: Extent, initial: str = "zeros"
    ) -> None:
        super().__init__(channels, initial)
        names = [name for name, _ in unwrap(network).named_modules() if name]
        if module not in names:
            raise unknown_name("submodule", module, names)
        self.module = module
        self.token_size = token_size

    def masked(self, network: nn.Module, image: Tensor, hidden: Tensor) -> Any:
        grid = tuple(extent // size for extent, size in zip(image.shape[2:], self.token_size, strict=True))

        def replace(_module: nn.Module, _inputs: Any, tokens: Tensor) -> Tensor:
            return self.hide_tokens(tokens, hidden, grid)

        handle = unwrap(network).get_submodule(self.module).register_forward_hook(replace)
        try:
            return network(image)
        finally:
            handle.remove()

    def hide_tokens(self, tokens: Tensor, hidden: Tensor, grid: Extent) -> Tensor:
        """Replace hidden tokens by the embedding; `tokens` is (B, E, h, w, d) or (B, N, E)."""
        if tokens.dim() == 2 + len(grid):
            return hide(tokens, expand(hidden, tokens.shape[2:]), self.embedding)
        if tokens.dim() != 3 or tokens.shape[1] != math.prod(grid):
            raise InputError(
                f"Submodule '{self.module}' gives {tuple(tokens.shape)}, which is neither (B, E, h, w, d) nor "
                f"(B, N, E) with N = {' * '.join(map(str, grid))}; name the patch embedding."
            )
        mask = expand(hidden, grid).flatten(1).unsqueeze(-1)  # (B, 1, h, w, d) -> (B, N, 1)
        return torch.where(mask, self.embedding.to(tokens.dtype), tokens)


def unwrap(network: nn.Module) -> nn.Module:
    """The network inside `DistributedDataParallel` and `torch.compile` wrappers."""
    if isinstance(network, nn.parallel.DistributedDataParallel):
        return unwrap(network.module)
    compiled = getattr(network, "_orig_mod", None)
    return unwrap(compiled) if isinstance(compiled, nn.Module) else network
