"""MedContext in your own training loop, around your own network: no command line, no Lightning.

python examples/own_loop.py [--steps 200]
"""

import argparse

import torch
from monai.networks.nets import UNet

from medcontext import MedContext, TubeMask


def make_batch(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Two balls that look alike; only their side tells them apart. Put your loader here."""
    grid = torch.stack(torch.meshgrid(*(torch.arange(32.0),) * 3, indexing="ij"))
    label = torch.zeros(2, 1, 32, 32, 32, dtype=torch.long)
    for sample in label:
        for value, side in ((1, 9.0), (2, 22.0)):
            centre = torch.tensor([side, 16.0, 16.0]) + torch.randn(3, generator=generator)
            sample[0][((grid - centre.view(3, 1, 1, 1)) ** 2).sum(0) < 30] = value
    image = (label > 0).float() + 0.3 * torch.randn(label.shape, generator=generator)
    return image, label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps

    torch.manual_seed(0)
    network = UNet(3, in_channels=1, out_channels=3, channels=(8, 16, 32), strides=(2, 2))
    learner = MedContext(network, mask=TubeMask(patch_size=8, ratio=0.4), total_steps=steps)
    optimizer = torch.optim.AdamW(learner.trainable_parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        image, label = make_batch(generator)
        losses = learner.backward(image, label)
        optimizer.step()
        optimizer.zero_grad()
        learner.update_teacher()
        if (step + 1) % max(1, steps // 10) == 0:
            terms = "  ".join(f"{name} {value:.3f}" for name, value in losses._asdict().items())
            print(f"step {step + 1}  {terms}")


if __name__ == "__main__":
    main()
