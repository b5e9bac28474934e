"""What becomes of a drawn abdomen in other data sets: BTCV's organs, or the liver as a brain tumour, in shells."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from scipy.ndimage import gaussian_filter

from medcontext.data.known import BTCV
from medcontext.phantom.parts import DETAILS, STRUCTURES

Scan = tuple[np.ndarray, np.ndarray]
"""An image (C, H, W, D) and its label (H, W, D)."""

_BTCV_NAMES = {
    "vena_cava": "inferior_vena_cava",
    "portal_vein": "portal_and_splenic_veins",
    "right_adrenal": "right_adrenal_gland",
    "left_adrenal": "left_adrenal_gland",
}
# How much brighter edema, non-enhancing and enhancing tumour are than the liver, in FLAIR, T1, contrasted T1 and T2.
_TUMOUR = ((250, -80, -80, 200), (100, -150, -150, 300), (150, -40, 400, 80))


def thirteen_organs(scan: Scan) -> Scan:
    """The organs of BTCV, in its values, of a scan drawn with `Phantom.details`."""
    lookup = np.zeros(max(DETAILS.values()) + 1, dtype=np.uint8)
    for name, value in (STRUCTURES | DETAILS).items():
        lookup[value] = BTCV.labels[_BTCV_NAMES.get(name, name)]
    return scan[0], lookup[scan[1]]


def tumour(edema: int, core: int, enhancing: int) -> Callable[[Scan], Scan]:
    """The change that draws a tumour: edema, within it the core, within that the enhancing part, of these values."""

    def change(scan: Scan) -> Scan:
        image, parts = scan[0].copy(), np.zeros_like(scan[1])
        shells = _shells(scan[1] == STRUCTURES["liver"], (0.55, 0.25, 0.2))
        for shell, value, brighter in zip(shells, (edema, core, enhancing), _TUMOUR, strict=True):
            image[:, shell] += np.array(brighter, dtype=np.int16)[:, None]
            parts[shell] = value
        return image.clip(0), parts

    return change


def _shells(solid: np.ndarray, shares: tuple[float, ...]) -> list[np.ndarray]:
    """Cut a solid (H, W, D) into shells from outside inwards, each with its share of the voxels."""
    depth = gaussian_filter(solid.astype(np.float32), [n / 20 for n in solid.shape])[solid]
    bounds = np.cumsum([0.0, *shares]) * depth.size
    rank = np.argsort(np.argsort(depth, kind="stable"), kind="stable")  # no two voxels are equally deep
    shells = []
    for low, high in pairwise(bounds):
        shell = np.zeros_like(solid)
        shell[solid] = (rank >= round(low)) & (rank < round(high))
        shells.append(shell)
    return shells
