"""Writing volumes with their axes pointing anywhere."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff

from medcontext.errors import InputError


class Orientation:
    """Turns RAS volumes so that their axes point to the given codes.

    Args:
        codes: where the three axes point to, such as "LPS".
        size: of the volumes, in RAS.
        spacing: millimetres of a voxel, in RAS.
    """

    def __init__(self, codes: str, size: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
        pairs = ("LR", "PA", "IS")
        if len(codes) != 3 or any(sum(code in pair for code in codes) != 1 for pair in pairs):
            raise InputError(
                f"orientation is '{codes}'; give where the three axes point to, one of L and R, one of P and A and one "
                "of I and S, in any order, such as LPS."
            )
        ras, wanted = nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes)
        self.transform = nib.orientations.ornt_transform(ras, wanted)
        affine = np.diag([*spacing, 1.0])
        affine[:3, 3] = -0.5 * (np.array(size) - 1) * spacing  # the origin in the middle
        self.affine = affine @ inv_ornt_aff(self.transform, size)

    def write(self, writer: Callable[[Path, np.ndarray, np.ndarray], None], path: Path, volume: np.ndarray) -> None:
        """Write a RAS volume, (H, W, D) or (C, H, W, D)."""
        if volume.ndim == 4:
            turned = np.stack([apply_orientation(channel, self.transform) for channel in volume])
        else:
            turned = apply_orientation(volume, self.transform)
        path.parent.mkdir(parents=True, exist_ok=True)
        writer(path, turned, self.affine)
