"""A plain loop with your own network and your own loss, of logits (B, K, H, W, D) and labels (B, 1, H, W, D).

python examples/own_loss.py [--steps 200]
"""

import argparse

import torch
from monai.losses import TverskyLoss
from own_loop import make_batch
from own_network import Small
from torch import Tensor, nn

from medcontext import MedContext, TubeMask


class TverskyCE(nn.Module):
    """Tversky loss, which minds misses more than false alarms, and cross-entropy."""

    def __init__(self, misses: float = 0.7) -> None:
        super().__init__()
        self.tversky = TverskyLoss(to_onehot_y=True, softmax=True, alpha=1 - misses, beta=misses)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        return self.tversky(logits, label) + nn.functional.cross_entropy(logits, label[:, 0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps

    torch.manual_seed(0)
    learner = MedContext(
        Small(1, 3), mask=TubeMask(patch_size=8, ratio=0.4), supervised=TverskyCE(), total_steps=steps
    )  # both views are segmented with it; networks with deep supervision have it at every resolution
    optimizer = torch.optim.AdamW(learner.trainable_parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        losses = learner.backward(*make_batch(generator))
        optimizer.step()
        optimizer.zero_grad()
        learner.update_teacher()
        if (step + 1) % max(1, steps // 10) == 0:
            print(f"step {step + 1}  loss {losses.loss:.3f}")


if __name__ == "__main__":
    main()
