"""The parts of networks that are pretrained, and running them.

Letters: B batch, C image channels, H W D the volume, N tokens, E their channels, F channels of the deepest features.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from monai.networks.nets.swin_unetr import SwinTransformer
from monai.networks.nets.vit import ViT
from torch import Tensor, nn

from medcontext.errors import InputError
from medcontext.method.masking import Shape3
from medcontext.networks.pcrlv2 import LEVELS, Encoder

# By the name under which the network has it: its type, and what a person calls the network.
PARTS: dict[str, tuple[type[nn.Module], str]] = {
    "vit": (ViT, "unetr"),
    "swinViT": (SwinTransformer, "swin_unetr"),
    "encoder": (Encoder, "pcrlv2"),
}


@dataclass(frozen=True)
class Part:
    """The encoder inside a network, and what an objective must know of it.

    Args:
        name: of the submodule: its tensors are `name.*` in the network.
        module: the submodule itself, not a copy.
        channels: C.
        features: F.
        token: voxels of one token along H, W and D, 1 where there are no tokens.
        multiple: by which each extent of an image must be divisible.
        crop: the one (H, W, D) that it takes, or None.
    """

    name: str
    module: Any
    channels: int
    features: int
    token: Shape3
    multiple: Shape3
    crop: Shape3 | None = None

    def check_channels(self, images: Tensor) -> None:
        """Raises InputError for images that are not (B, C, H, W, D)."""
        if images.dim() != 5 or images.shape[1] != self.channels:
            raise InputError(
                f"Images must be (B, {self.channels}, H, W, D) for this network, got {tuple(images.shape)}."
            )

    def check(self, images: Tensor) -> None:
        """Raises InputError for images that the encoder cannot take."""
        self.check_channels(images)
        extent = tuple(images.shape[2:])
        if self.crop is not None and extent != self.crop:
            raise InputError(f"This network is built for crops of {self.crop}, got {extent}.")
        if any(size % edge for size, edge in zip(extent, self.multiple, strict=True)):
            raise InputError(f"Each extent of a crop must be a multiple of {self.multiple}, got {extent}.")


def find_part(title: str, network: nn.Module, fitting: Sequence[str]) -> Part:
    """The encoder that an objective pretrains.

    Args:
        title: the objective's, for the error.
        network: MONAI's UNETR or SwinUNETR, or our PCRLv2, as far as the objective takes them.
        fitting: the names of `PARTS` that it takes.

    Raises:
        InputError: for another network, naming those that fit.
    """
    for name in fitting:
        module = getattr(network, name, None)
        if isinstance(module, PARTS[name][0]):
            return _describe(name, module, network)
    fit = ", ".join(PARTS[name][1] for name in fitting)
    raise InputError(f"The objective {title} does not pretrain a {type(network).__name__}; it does: {fit}.")


def _describe(name: str, module: Any, network: Any) -> Part:
    if isinstance(module, ViT):
        token: Shape3 = tuple(network.patch_size)
        h, w, d = (count * edge for count, edge in zip(network.feat_size, token, strict=True))
        channels = module.patch_embedding.patch_dim // math.prod(token)
        return Part(name, module, channels, module.norm.normalized_shape[0], token, token, (h, w, d))
    if isinstance(module, SwinTransformer):
        projection = module.patch_embed.proj
        token = tuple(module.patch_size)  # type: ignore[assignment]
        p, q, r = (edge * 2**module.num_layers for edge in token)
        features = projection.out_channels * 2**module.num_layers
        return Part(name, module, projection.in_channels, features, token, (p, q, r))
    first, last = module.levels[0][0], module.levels[-1][-2]
    return Part(name, module, first.in_channels, last.num_features, (1, 1, 1), (2 ** (LEVELS - 1),) * 3)


def embed(vit: ViT, images: Tensor) -> Tensor:
    """Tokens (B, N, E) of images (B, C, H, W, D), before positions are added."""
    tokens = vit.patch_embedding.patch_embeddings(images)
    return tokens.flatten(2).mT if tokens.dim() == 5 else tokens  # a convolution gives (B, E, h, w, d)


def attend(vit: ViT, tokens: Tensor, final_norm: bool) -> Tensor:
    """ViT's output (B, n, E) of any n tokens that have their positions."""
    tokens = vit.patch_embedding.dropout(tokens)
    for block in vit.blocks:
        tokens = block(tokens)
    return vit.norm(tokens) if final_norm else tokens


def deepest(part: Part, images: Tensor, final_norm: bool = False) -> Tensor:
    """The encoder's last features of images (B, C, H, W, D) as rows (B, N, F)."""
    if isinstance(part.module, ViT):
        tokens = embed(part.module, images) + part.module.patch_embedding.position_embeddings
        return attend(part.module, tokens, final_norm)
    return part.module(images)[-1].flatten(2).mT  # (B, F, h, w, d) -> (B, N, F)
