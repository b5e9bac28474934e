"""How generated scans are made."""

from dataclasses import dataclass

import numpy as np

from medcontext.errors import InputError
from medcontext.phantom.tissues import MR_CONTRASTS, contrast_names

BODY = np.array([350.0, 290.0, 245.0])
"""Millimetres of the reference body that a scan shows: across, front to back, along."""

SMALLEST = 16


@dataclass(frozen=True)
class Phantom:
    """How generated scans are made.

    The anatomy is scaled to the field of view, so that a small volume shows all organs too: in plane by one factor,
    such that 350 x 290 mm of the reference body fit, and along the body by another, such that 245 mm do. So `spacing`
    decides how large the organs are in millimetres and how long the voxels are, but not what is to be
    seen. Below about 24 voxels a side the gallbladder, the smallest organ, can fall between the voxels.

    Args:
        size: voxels (H, W, D) to the right, front and head.
        spacing: millimetres of a voxel along H, W, D.
        channels: 1 is CT in Hounsfield units; 2 to 4 are MR-like contrasts (T1, T2, PD, DWI) with a bias field.
        pose: how much position, size and tilt of the patient vary; 0 to always take the same.
        deformation: how much shapes are deformed elastically; 0 for none.
        noise: factor on the noise; 0 for none.
        details: also draw the esophagus and the adrenal glands, and label them and the portal vein.

    Raises:
        InputError: for a size below 16 voxels, a spacing or an amount that is not positive, 0 or above 4 channels.
    """

    size: tuple[int, int, int] = (64, 64, 48)
    spacing: tuple[float, float, float] = (5.0, 5.0, 5.0)
    channels: int = 1
    pose: float = 1.0
    deformation: float = 1.0
    noise: float = 1.0
    details: bool = False

    def __post_init__(self) -> None:
        if len(self.size) != 3 or min(self.size) < SMALLEST:
            raise InputError(f"size is {self.size}; give three numbers of voxels, each {SMALLEST} or more.")
        if len(self.spacing) != 3 or not all(np.isfinite(mm) and mm > 0 for mm in self.spacing):
            raise InputError(f"spacing is {self.spacing}; give three voxel sizes in millimetres, above 0.")
        if not 1 <= self.channels <= len(MR_CONTRASTS):
            raise InputError(f"channels is {self.channels}; 1 (CT) to {len(MR_CONTRASTS)} (MR contrasts) are allowed.")
        for name in ("pose", "deformation", "noise"):
            if not 0 <= getattr(self, name) <= 2:
                raise InputError(f"{name} is {getattr(self, name)}; an amount from 0 (none) to 2 is allowed.")

    @property
    def channel_names(self) -> tuple[str, ...]:
        return contrast_names(self.channels)
