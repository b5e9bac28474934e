"""SimCLR (Chen et al., ICML 2020): two views of one crop are alike, and unlike all others.

MIM-Med3D's script for it cannot run, so what it does is not known; the head and the loss are chosen. MONAI's
`ContrastiveLoss` is not used: in 32 bits it gives NaN for a temperature below about 0.0113, and it needs (2B, 2B, F)
memory.

Letters: B batch, F channels of the deepest features, Z of the projection.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.distributed.nn.functional import all_gather

from medcontext.errors import InputError
from medcontext.pretraining.coarse import CoarseView
from medcontext.pretraining.encoders import deepest
from medcontext.pretraining.hidden import exact
from medcontext.pretraining.objective import Losses, Objective
from medcontext.pretraining.settings import SimCLRSettings


class SimCLR(Objective):
    """Learn to tell crops apart whatever was dropped and shuffled in them.

    Over several processes each crop is told from those of all of them, which must have batches of one size: the loss
    is that of one process with the whole batch, and so is the gradient when it is averaged over processes.

    Args:
        network: MONAI's UNETR or SwinUNETR, or PCRLv2, of which the encoder is trained.
        settings: the views, the head, the temperature.

    Raises:
        InputError: for another network.
    """

    title = "simclr"
    fits = ("vit", "swinViT", "encoder")

    def __init__(self, network: nn.Module, settings: SimCLRSettings | None = None) -> None:
        super().__init__(network)
        self.settings = settings or SimCLRSettings()
        self.final_norm = self.settings.final_norm
        self.view = CoarseView(self.settings)
        width = self.part.features
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, self.settings.projection))

    def draw(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """What is done to the first and to the second view."""
        self.part.check(images)
        return self.view.draw(len(images), generator), self.view.draw(len(images), generator)

    def forward(self, images: Tensor, drawn: tuple[Tensor, Tensor], progress: float = 0.0) -> Losses:
        if len(images) * _processes() < 2:
            raise InputError("SimCLR tells crops from others: it needs a batch of at least 2, got 1.")
        views = torch.cat([self.view(images, choice) for choice in drawn])
        first, second = (gather(view) for view in self.head(self.pool(views)).chunk(2))
        with torch.autocast(images.device.type, enabled=False):
            similarity = similarities(exact(first), exact(second), self.settings.temperature)
            loss = contrastive(similarity)
        found = similarity.detach().argmax(1) == partners(similarity)
        return Losses(loss, {"found": found.float().mean()})

    def pool(self, images: Tensor) -> Tensor:
        """Features (B, F) of images (B, C, H, W, D), the mean over tokens or places."""
        return deepest(self.part, images, self.final_norm).mean(1)

    def show(self, images: Tensor, drawn: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return {
            "original": images,
            "first view": self.view(images, drawn[0]),
            "second view": self.view(images, drawn[1]),
        }


def similarities(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Cosines over the temperature, (2B, 2B), of two views' projections (B, Z); none with itself, minus infinity."""
    z = F.normalize(torch.cat((first, second)), dim=1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    return (z @ z.T / temperature).masked_fill(itself, -torch.inf)


def partners(similarity: Tensor) -> Tensor:
    """The row of each one's other view."""
    return torch.arange(len(similarity), device=similarity.device).roll(len(similarity) // 2)


def contrastive(similarity: Tensor) -> Tensor:
    """Mean over rows i of `-s_ij + logsumexp over k != i of s_ik`, j being i's other view.

    Example:
        >>> contrastive(similarities(torch.ones(4, 8), torch.ones(4, 8), 0.1)).exp()  # all equal: 2B - 1
        tensor(7.0)
    """
    partner = similarity.gather(1, partners(similarity)[:, None]).squeeze(1)
    return (similarity.logsumexp(1) - partner).mean()


def gather(rows: Tensor) -> Tensor:
    """Rows (B, Z) of all processes together, through which gradients flow back to each."""
    return torch.cat(all_gather(rows)) if _processes() > 1 else rows


def _processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
