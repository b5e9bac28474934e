"""SimMIM (Xie et al., CVPR 2022): every token enters the encoder, hidden ones as one learned vector.

Around UNETR's ViT as the public code ZEKAICHEN/MIM-Med3D has it. Around Swin UNETR's encoder as the paper has it for
Swin: the vector after the patch embedding, and one linear layer from the deepest features to all the voxels that such a
feature stands for; extents in three dimensions are chosen.

Letters: B batch, C channels, H W D volume, N patches, n hidden ones, E token channels, F channels of deepest features.
"""

import math

import torch
from monai.networks.nets.vit import ViT
from torch import Tensor, nn

from medcontext.method.masking import expand, hide
from medcontext.pretraining.encoders import attend, embed
from medcontext.pretraining.hidden import HiddenPatches, rows
from medcontext.pretraining.patches import patchify, unpatchify
from medcontext.pretraining.settings import SimMIMSettings


class SimMIM(HiddenPatches):
    """Restore three quarters of a crop with a head of one linear layer.

    Published beside it: AdamW 1e-4, weight decay 1e-5, 50 epochs warm-up, then practically constant, no augmentation.

    Args:
        network: MONAI's UNETR, of which `vit` is trained, or SwinUNETR, of which `swinViT` is.
        settings: what is hidden, and the error.

    Raises:
        InputError: for another network, or a cube that is not made of its tokens.

    Example:
        >>> from monai.networks.nets import UNETR
        >>> objective = SimMIM(UNETR(1, 2, (32, 32, 16), hidden_size=24, mlp_dim=48, num_heads=2))
        >>> objective.loss(torch.rand(2, 1, 32, 32, 16), torch.Generator().manual_seed(0)).loss.shape
        torch.Size([])
    """

    title = "simmim"
    fits = ("vit", "swinViT")

    def __init__(self, network: nn.Module, settings: SimMIMSettings | None = None) -> None:
        super().__init__(network, settings or SimMIMSettings())
        vit = isinstance(self.encoder, ViT)
        if not vit:  # tokens of 2^3 voxels are too small to be judged each by itself
            h, w, d = self.mask.patch(self.part.token)
            self.patch = (h, w, d)
        embedding = self.part.features if vit else self.encoder.patch_embed.embed_dim
        self.token = nn.Parameter(torch.zeros(embedding))
        self.head = nn.Linear(self.part.features, math.prod(self.part.multiple) * self.part.channels)
        nn.init.trunc_normal_(self.token, std=0.02)

    def predict(self, images: Tensor, hidden: Tensor) -> Tensor:
        encoded = self.encode(images, hidden)
        if isinstance(self.encoder, ViT):
            return self.head(rows(encoded, hidden))
        h, w, d = images.shape[2:]
        # (B, N', F) -> (B, N', 32*32*32*C) -> (B, C, H, W, D) -> (B, N, P)
        volume = unpatchify(self.head(encoded), self.part.multiple, (h, w, d))
        return rows(patchify(volume, self.patch), hidden)

    def encode(self, images: Tensor, hidden: Tensor) -> Tensor:
        """The encoder's last features as rows, of images (B, C, H, W, D) of which patches `hidden` (B, N) are replaced.

        Of UNETR (B, N, E); of Swin UNETR (B, N', F), one row for 32^3 voxels.
        """
        if isinstance(self.encoder, ViT):
            tokens = torch.where(hidden[..., None], self.token, embed(self.encoder, images))
            return attend(self.encoder, tokens + self.encoder.patch_embedding.position_embeddings, self.final_norm)
        grid = [size // edge for size, edge in zip(images.shape[2:], self.patch, strict=True)]
        cubes = hidden.view(-1, 1, *grid)

        def replace(_module: nn.Module, _inputs: tuple[Tensor, ...], tokens: Tensor) -> Tensor:
            h, w, d = tokens.shape[2:]
            return hide(tokens, expand(cubes, (h, w, d)), self.token)

        handle = self.encoder.patch_embed.register_forward_hook(replace)
        try:
            return self.encoder(images)[-1].flatten(2).mT  # (B, F, h, w, d) -> (B, N', F)
        finally:
            handle.remove()
