"""What every objective has in common, so that one loop can drive them all.

```python
objective = MAE(network)  # trains network.vit, in place
optimizer = torch.optim.AdamW(objective.trainable_parameters(), lr=3e-4, weight_decay=0.05)
for step, images in enumerate(loader):
    losses = objective.loss(images, generator, progress=step / steps)
    losses.loss.backward(); optimizer.step(); optimizer.zero_grad()
torch.save({"state_dict": objective.moved()}, "pretrained.pt")
```
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from medcontext.pretraining.encoders import find_part


@dataclass(frozen=True)
class Losses:
    """Of one step.

    Args:
        loss: the scalar to go backward from.
        parts: scalars without gradient that tell how it goes, by name.
    """

    loss: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)


class Objective(nn.Module, ABC):
    """Pretrains the encoder inside a network: the very weights of the network move, under the names they have there.

    All randomness is drawn on the CPU from a `torch.Generator` by `draw`; calling the objective with what was drawn is
    a pure function of images, weights and progress, and what to wrap in `DistributedDataParallel`.

    Args:
        network: one that the objective `fits`; its decoder is neither used nor held.

    Raises:
        InputError: for a network that does not fit, naming those that do.
    """

    title: ClassVar[str]
    fits: ClassVar[tuple[str, ...]]  # names in `encoders.PARTS`
    encoder: Any  # in mypy's eyes an attribute of a module may be a tensor
    final_norm: bool = False

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.part = find_part(self.title, network, self.fits)
        self.encoder = self.part.module

    @abstractmethod
    def draw(self, images: Tensor, generator: Generator) -> Any:
        """Choices for a batch, of which only the shape (B, C, H, W, D) counts.

        Raises:
            InputError: for a shape that the network or the objective cannot take.
        """

    @abstractmethod
    def forward(self, images: Tensor, drawn: Any, progress: float = 0.0) -> Losses:
        """The loss of images (B, C, H, W, D), given what was drawn for them.

        Args:
            images: as prepared for training.
            drawn: from `draw` for a batch of this shape.
            progress: fraction of the training that is done, 0 to 1; only PCRLv2's loss changes with it.
        """

    @abstractmethod
    def show(self, images: Tensor, drawn: Any) -> dict[str, Tensor]:
        """Volumes to look at, of images (B, C, H, W, D), by name and in order; `picture` is for callers."""

    def loss(self, images: Tensor, generator: Generator, progress: float = 0.0) -> Losses:
        """Draw, then apply: the loss of a batch of images (B, C, H, W, D)."""
        return self(images, self.draw(images, generator), progress)

    @torch.no_grad()
    def picture(self, image: Tensor, generator: Generator) -> dict[str, Tensor]:
        """What a person looks at to see whether it learns, of one image (C, H, W, D).

        Returns:
            `original`, `masked` and `restored` (C, H, W, D), of PCRLv2 those of one view; of SimCLR, which restores
            nothing, `original` and two views.
        """
        training = self.training
        self.eval()
        try:
            images = image[None]
            return {name: volume[0] for name, volume in self.show(images, self.draw(images, generator)).items()}
        finally:
            self.train(training)

    def moved(self) -> dict[str, Tensor]:
        """The tensors that fine-tuning takes over, by their names in the network; of its storage, not copies."""
        return {f"{self.part.name}.{name}": tensor for name, tensor in self.encoder.state_dict().items()}

    def unused(self) -> set[str]:
        """Names of the parameters that no loss reaches: MONAI's blocks have some, and the last norm may be left out.

        `DistributedDataParallel` must be told to ignore them.
        """
        last = () if self.final_norm else ("encoder.norm.weight", "encoder.norm.bias")
        return {name for name, _ in self.named_parameters() if "norm_cross_attn" in name or name in last}

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """Those that the optimizer moves: of the encoder, and of what is thrown away afterwards."""
        unused = self.unused()
        for name, parameter in self.named_parameters():
            if parameter.requires_grad and name not in unused:
                yield parameter
