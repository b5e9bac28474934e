"""Restoring hidden patches: what MAE and SimMIM share.

Letters: B batch, C channels, H W D the volume, N patches, n of them hidden, P = p*q*r*C values of one.
"""

from abc import abstractmethod

import torch
from torch import Generator, Tensor, nn

from medcontext.errors import InputError
from medcontext.method.masking import CubeMask, Shape3, expand
from medcontext.pretraining.objective import Losses, Objective
from medcontext.pretraining.patches import patchify, unpatchify
from medcontext.pretraining.settings import HiddenSettings

EPSILON = 1e-6  # of a patch's variance, as He et al.


class HiddenPatches(Objective):
    """Hide cubes of a crop, restore them, and judge what was hidden alone.

    Args:
        network: one that fits.
        settings: what is hidden, and the error.

    Raises:
        InputError: for a network that does not fit, or cubes that are not made of tokens.
    """

    def __init__(self, network: nn.Module, settings: HiddenSettings) -> None:
        super().__init__(network)
        self.settings = settings
        self.final_norm = settings.final_norm
        self.mask = CubeMask(settings.cube, settings.ratio)
        cube, token = self.mask.patch((0, 0, 0)), self.part.token
        if any(edge % size for edge, size in zip(cube, token, strict=True)):
            raise InputError(f"cube must be a multiple of this network's token of {token} voxels, got {cube}.")
        self.patch: Shape3 = token  # what is restored, and normalised, as a whole

    @abstractmethod
    def predict(self, images: Tensor, hidden: Tensor) -> Tensor:
        """Restored patches (B, n, P) in row-major order, of images (B, C, H, W, D) and `hidden` (B, N) booleans."""

    def draw(self, images: Tensor, generator: Generator) -> Tensor:
        """(B, 1, h, w, d) booleans, True where a cube is hidden; the same number in each sample."""
        self.part.check(images)
        h, w, d = images.shape[2:]
        cubes = torch.Size(self.mask.grid((h, w, d))).numel()
        if not 0 < round(self.mask.ratio * cubes) < cubes:
            raise InputError(
                f"Of {cubes} cubes in a crop of {(h, w, d)}, ratio {self.mask.ratio} hides all or none; some must be "
                "hidden and some seen. Take a larger crop, a smaller cube or another ratio."
            )
        return self.mask.sample((h, w, d), len(images), generator)

    def forward(self, images: Tensor, drawn: Tensor, progress: float = 0.0) -> Losses:
        hidden = self.hidden(images, drawn)
        predicted = self.predict(images, hidden)
        with torch.autocast(images.device.type, enabled=False):
            patches = patchify(exact(images), self.patch)
            original = rows(patches, hidden)
            mean, deviation = self.scale(original)
            difference = exact(predicted) - (original - mean) / deviation
            loss = difference.abs().mean() if self.settings.error == "absolute" else difference.square().mean()
            with torch.no_grad():
                parts = {
                    "hidden": (difference * deviation).abs().mean(),
                    "guess": self.guess(patches, hidden, original),
                }
        return Losses(loss, parts)

    def hidden(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Which patches are hidden, (B, N), of the drawn cubes (B, 1, h, w, d)."""
        h, w, d = (size // edge for size, edge in zip(images.shape[2:], self.patch, strict=True))
        return expand(drawn.to(images.device), (h, w, d)).flatten(1)

    def scale(self, patches: Tensor) -> tuple[Tensor, Tensor | float]:
        """What is taken from targets and what they are divided by."""
        if not self.settings.normalise_targets:
            return patches.new_zeros(()), 1.0
        return patches.mean(-1, keepdim=True), (patches.var(-1, keepdim=True) + EPSILON).sqrt()

    def guess(self, patches: Tensor, hidden: Tensor, original: Tensor) -> Tensor:
        """Mean absolute error of guessing each channel's mean over what is seen, which `hidden` must beat."""
        seen = rows(patches, ~hidden).unflatten(-1, (-1, self.part.channels)).mean((1, 2))  # (B, K, P) -> (B, C)
        return (original.unflatten(-1, (-1, self.part.channels)) - seen[:, None, None]).abs().mean()

    def show(self, images: Tensor, drawn: Tensor) -> dict[str, Tensor]:
        hidden = self.hidden(images, drawn)
        patches = patchify(exact(images), self.patch)
        mean, deviation = self.scale(rows(patches, hidden))
        restored = exact(self.predict(images, hidden)) * deviation + mean
        where = hidden[..., None]
        h, w, d = images.shape[2:]
        return {
            "original": images,
            "masked": unpatchify(patches.masked_fill(where, float(images.min())), self.patch, (h, w, d)),
            "restored": unpatchify(patches.masked_scatter(where, restored.to(patches.dtype)), self.patch, (h, w, d)),
        }


def rows(tokens: Tensor, where: Tensor) -> Tensor:
    """The (B, n, E) of tokens (B, N, E) where (B, N) booleans are True, of which each sample has the same number."""
    return tokens[where].view(len(tokens), -1, tokens.shape[-1])


def exact(values: Tensor) -> Tensor:
    """In 32 bits, or more: sums over a crop overflow in fewer."""
    return values if values.dtype == torch.float64 else values.float()
