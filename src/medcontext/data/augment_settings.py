"""How training crops are varied; apart from `augment.py`, so that reading settings does not import MONAI."""

from dataclasses import dataclass, field
from typing import Any

from medcontext.errors import InputError

Range = tuple[float, float]


@dataclass(frozen=True)
class AugmentSettings:
    """How crops are varied; the magnitudes follow nnU-Net's, the rotation is smaller.

    Args:
        enabled: False leaves every crop as it is, but for a transform of your own.
        transform: the import path of a transform of your own, which follows these: called, as MONAI's dictionary
            transforms are, with `image` (C, H, W, D) and `label` (1, H, W, D) of a crop.
        transform_args: arguments that it is made of, such as --augment.transform_args.prob 0.5.
        affine_probability: of a rotation and scaling.
        rotation: largest angle about H, W and D, in degrees, either way. About H and W it tilts the slices,
            which shears where the voxels are far from cubes: lower it there.
        scale: smallest and largest factor of size, drawn for each axis.
        flip_axes: axes that are mirrored, each by itself: 0 left-right, 1 back-front, 2 feet-head. None by
            default: all scans arrive in the same orientation, and a mirrored body has its liver on the left,
            which is the very context that this method learns from. Lesions without a side may be flipped.
        flip_probability: of mirroring each of these axes.
        noise_probability: of Gaussian noise.
        noise_std: its largest standard deviation, in the units of the normalised image.
        smooth_probability: of blurring.
        smooth_sigma: smallest and largest width of the Gaussian, in voxels.
        brightness_probability: of multiplying all intensities by one factor.
        brightness: smallest and largest factor.
        shift_probability: of adding one amount to all intensities.
        shift: its largest size either way, in the units of the normalised image.
        contrast_probability: of stretching intensities about their mean, within their old range.
        contrast: smallest and largest factor.
        gamma_probability: of a power law between the lowest and the highest intensity, mean and deviation kept.
        gamma: smallest and largest exponent.
    """

    enabled: bool = True
    transform: str = ""
    transform_args: dict[str, Any] = field(default_factory=dict)
    affine_probability: float = 0.4
    rotation: tuple[float, float, float] = (10.0, 10.0, 20.0)
    scale: Range = (0.8, 1.25)
    flip_axes: tuple[int, ...] = ()
    flip_probability: float = 0.5
    noise_probability: float = 0.1
    noise_std: float = 0.1
    smooth_probability: float = 0.15
    smooth_sigma: Range = (0.5, 1.0)
    brightness_probability: float = 0.15
    brightness: Range = (0.75, 1.25)
    shift_probability: float = 0.0
    shift: float = 0.1
    contrast_probability: float = 0.15
    contrast: Range = (0.75, 1.25)
    gamma_probability: float = 0.3
    gamma: Range = (0.7, 1.5)

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name.endswith("_probability") and not 0 <= value <= 1:
                raise InputError(f"{name} is {value}; a probability from 0 to 1 is allowed.")
            if name in ("scale", "smooth_sigma", "brightness", "contrast", "gamma") and not 0 < value[0] <= value[1]:
                raise InputError(f"{name} is {value}; give the smallest, above 0, then the largest.")
        if not set(self.flip_axes) <= {0, 1, 2}:
            raise InputError(f"flip_axes is {self.flip_axes}; the axes are 0, 1 and 2.")
        if min(self.noise_std, self.shift, *self.rotation) < 0:
            raise InputError("noise_std, shift and rotation are sizes; give 0 or above.")
