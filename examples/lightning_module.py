"""MedContext in your own LightningModule: a mixin, a learner, and the loss that training_step returns.

python examples/lightning_module.py [--steps 200]
"""

import argparse

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.utilities import CombinedLoader
from monai.networks.nets import UNet
from own_loop import make_batch
from torch.utils.data import DataLoader

from medcontext import TubeMask, Unlabelled
from medcontext.integrations.lightning import MedContextMixin


class Mine(MedContextMixin, LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = UNet(3, in_channels=1, out_channels=3, channels=(8, 16, 32), strides=(2, 2))
        self.learner = self.medcontext(
            self.network, mask=TubeMask(patch_size=8, ratio=0.4), unlabelled=Unlabelled(start=0.5, share=1)
        )

    def training_step(self, batch: dict[str, list[torch.Tensor]], _: int) -> torch.Tensor:
        image, label = batch["labelled"]
        loss = self.medcontext_step(image, label, unlabelled=batch["unlabelled"][0])
        print(f"step {self.global_step + 1}  loss {loss:.3f}")
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.learner.trainable_parameters(), lr=5e-3)


class Scans(LightningDataModule):
    """Four scans with labels, and eight without: put your loaders here."""

    def train_dataloader(self) -> CombinedLoader:
        generator = torch.Generator().manual_seed(0)
        scans = [pair for _ in range(6) for pair in zip(*make_batch(generator), strict=True)]
        loaders = {
            "labelled": DataLoader(scans[:4], batch_size=2, shuffle=True),
            "unlabelled": DataLoader(scans[4:], batch_size=2, shuffle=True),
        }
        return CombinedLoader(loaders, "max_size_cycle")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    seed_everything(0)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(max_steps=parser.parse_args().steps, gradient_clip_val=1.0, **quiet)
    trainer.fit(Mine(), Scans())


if __name__ == "__main__":
    main()
