"""A masked autoencoder (He et al., CVPR 2022) around UNETR's ViT, as the public code ZEKAICHEN/MIM-Med3D has it.

The encoder sees what is not hidden, and nothing else; a small decoder with mask tokens and positions of its own
restores the rest. MONAI's `MaskedAutoEncoderViT` is another: it has a class token, fixed positions and other widths.

Letters: B batch, N tokens, K seen and n hidden ones of them, E their channels, P = p*q*r*C voxels of one.
"""

import math

import torch
from monai.networks.blocks.transformerblock import TransformerBlock
from torch import Tensor, nn

from medcontext.pretraining.encoders import attend, embed
from medcontext.pretraining.hidden import HiddenPatches, rows
from medcontext.pretraining.settings import MAESettings


class MAE(HiddenPatches):
    """Restore three quarters of a crop from the rest.

    Published beside it: AdamW 3e-4, weight decay 0.05, 300 of 3000 epochs warm-up, cosine to 1e-4, no augmentation.

    Args:
        network: MONAI's UNETR, of which `vit` is trained.
        settings: what is hidden, the error, the decoder.

    Raises:
        InputError: for another network, or a cube that is not made of its tokens.

    Example:
        >>> from monai.networks.nets import UNETR
        >>> network = UNETR(1, 2, (32, 32, 16), hidden_size=24, mlp_dim=48, num_heads=2)
        >>> objective = MAE(network, MAESettings(decoder_width=24, decoder_depth=1, decoder_heads=2, decoder_mlp=48))
        >>> losses = objective.loss(torch.rand(2, 1, 32, 32, 16), torch.Generator().manual_seed(0))
        >>> losses.loss.shape, sorted(losses.parts)
        (torch.Size([]), ['guess', 'hidden'])
    """

    title = "mae"
    fits = ("vit",)
    settings: MAESettings

    def __init__(self, network: nn.Module, settings: MAESettings | None = None) -> None:
        settings = settings or MAESettings()
        super().__init__(network, settings)
        width = settings.decoder_width
        tokens = self.encoder.patch_embedding.position_embeddings.shape[1]
        self.to_decoder = nn.Linear(self.part.features, width)
        self.token = nn.Parameter(torch.zeros(width))
        self.positions = nn.Parameter(torch.zeros(1, tokens, width))
        self.decoder = nn.ModuleList(
            TransformerBlock(width, settings.decoder_mlp, settings.decoder_heads) for _ in range(settings.decoder_depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, math.prod(self.patch) * self.part.channels)
        nn.init.trunc_normal_(self.token, std=0.02)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def encode(self, images: Tensor, hidden: Tensor) -> Tensor:
        """The encoder's output (B, K, E) of what is seen of images (B, C, H, W, D), where `hidden` (B, N) is False."""
        tokens = embed(self.encoder, images) + self.encoder.patch_embedding.position_embeddings
        return attend(self.encoder, rows(tokens, ~hidden), self.settings.final_norm)

    def predict(self, images: Tensor, hidden: Tensor) -> Tensor:
        seen = self.to_decoder(self.encode(images, hidden))
        tokens = self.token.expand(*hidden.shape, -1)
        tokens = tokens.masked_scatter(~hidden[..., None], seen.to(tokens.dtype)) + self.positions  # (B, N, E)
        for block in self.decoder:
            tokens = block(tokens)
        return self.head(self.norm(rows(tokens, hidden)))
