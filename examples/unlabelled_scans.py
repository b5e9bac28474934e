"""Scans without labels in your own training loop: two labelled ones, and as many without as you like.

python examples/unlabelled_scans.py [--steps 200]
"""

import argparse

import torch
from monai.networks.nets import UNet
from own_loop import make_batch

from medcontext import MedContext, Momentum, TubeMask, Unlabelled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps

    torch.manual_seed(0)
    network = UNet(3, in_channels=1, out_channels=3, channels=(8, 16, 32), strides=(2, 2))
    learner = MedContext(
        network,
        mask=TubeMask(patch_size=8, ratio=0.4),
        momentum=Momentum(0.99, 0.99),
        unlabelled=Unlabelled(start=0.5, share=1),  # an unlabelled scan for every labelled one
        total_steps=steps,
    )
    optimizer = torch.optim.AdamW(learner.trainable_parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    image, label = make_batch(generator)  # the only scans with labels
    for step in range(steps):
        scans, _ = make_batch(generator)  # put a loader of scans without labels here
        losses = learner.backward(image, label, unlabelled=scans, varied=scans + 0.1 * torch.randn(scans.shape))
        optimizer.step()
        optimizer.zero_grad()
        learner.update_teacher()
        if (step + 1) % max(1, steps // 10) == 0:
            trusted = f"  teacher sure on {learner.trust.share:.0%} of the voxels" if learner.trust else ""
            print(f"step {step + 1}  loss {losses.loss:.3f}{trusted}")


if __name__ == "__main__":
    main()
