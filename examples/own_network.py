"""Your own network, by its import path: in `mc.train` here, or `medcontext train --network own_network.Small`.

python examples/own_network.py [--steps 200]
"""

import argparse
import tempfile
from pathlib import Path

from torch import Tensor, nn

import medcontext as mc
from medcontext.phantom import write_phantom


class Small(nn.Module):
    """From images (B, C, H, W, D) to logits (B, K, H, W, D): that is all a network must do."""

    def __init__(self, in_channels: int, out_channels: int, width: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(in_channels, width, 3, padding=1),
            nn.InstanceNorm3d(width, affine=True),
            nn.LeakyReLU(),
            nn.Conv3d(width, width, 3, padding=2, dilation=2),
            nn.LeakyReLU(),
            nn.Conv3d(width, out_channels, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps

    folder = Path(tempfile.mkdtemp(prefix="medcontext-"))
    data = write_phantom(folder / "data", cases=4, size=(32, 32, 32), spacing=(10, 10, 10))
    settings = mc.Settings.preset(
        network="own_network.Small",
        network_args={"width": 8},
        steps=steps,
        crop_size=(32, 32, 32),
        workers=0,
        **{"method.mask.patch_size": 8, "optimizer.lr": 0.01},
    )
    mc.train(data, folder / "run", settings, cache=folder / "cache")  # says how far it is, and what to do next


if __name__ == "__main__":
    main()
