"""Settings of the objectives, checked when they are made; reading them does not wait for torch.

Sources: [M] the code ZEKAICHEN/MIM-Med3D, [P] RL4M/PCRLv2, [T] MONAI's tutorial `self_supervised_pretraining`. What no
publication says is marked as chosen.
"""

from dataclasses import dataclass
from typing import Literal

from medcontext.errors import InputError

Shape3 = tuple[int, int, int]


@dataclass(frozen=True)
class HiddenSettings:
    """What is hidden of a crop, and how what is restored of it is judged.

    Args:
        cube: edge of a hidden cube in voxels, one number or three (H, W, D), a multiple of the token's. [M]: 16.
        ratio: fraction of the cubes that is hidden, drawn anew for each crop. [M]: 0.75.
        error: over the hidden voxels, the mean `absolute` difference as in [M], or `squared` (He et al., CVPR 2022).
        normalise_targets: restore each patch minus its own mean, over its own standard deviation, as He et al. offer;
            [M] restores intensities as they are.
        final_norm: apply, and so train, the last layer norm of UNETR's ViT; in [M] the blocks alone run. Other encoders
            have none.

    Raises:
        InputError: if a value is outside its range.
    """

    cube: int | Shape3 = 16
    ratio: float = 0.75
    error: Literal["absolute", "squared"] = "absolute"
    normalise_targets: bool = False
    final_norm: bool = False

    def __post_init__(self) -> None:
        if min(self.cube if isinstance(self.cube, tuple) else (self.cube,)) < 1:
            raise InputError(f"cube must be at least 1 voxel, got {self.cube}.")
        if not 0 < self.ratio < 1:
            raise InputError(f"ratio must lie between 0 and 1, neither itself, got {self.ratio}; published is 0.75.")
        if self.error not in ("absolute", "squared"):
            raise InputError(f"error must be 'absolute' or 'squared', got '{self.error}'.")


@dataclass(frozen=True)
class MAESettings(HiddenSettings):
    """A masked autoencoder's (He et al., CVPR 2022) as [M] has it.

    The fields of what is hidden are `HiddenSettings`'; here is the decoder, which is thrown away afterwards.

    Args:
        decoder_width: channels of a token in the decoder.
        decoder_depth: its transformer blocks.
        decoder_heads: attention heads of each, a divisor of the width.
        decoder_mlp: hidden channels of each block's perceptron.

    Raises:
        InputError: if a value is outside its range.
    """

    decoder_width: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 8
    decoder_mlp: int = 2048

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, 1, "decoder_width", "decoder_depth", "decoder_heads", "decoder_mlp")
        if self.decoder_width % self.decoder_heads:
            raise InputError(
                f"decoder_heads must divide decoder_width, got {self.decoder_heads} heads for {self.decoder_width} "
                "channels."
            )


@dataclass(frozen=True)
class SimMIMSettings(HiddenSettings):
    """SimMIM's (Xie et al., CVPR 2022) as [M] has it: all of them are `HiddenSettings`'."""


@dataclass(frozen=True)
class SimCLRSettings:
    """SimCLR's (Chen et al., ICML 2020). [M]'s script cannot run, so the loss's values are chosen; views are [T]'s.

    Args:
        temperature: tau of the loss, above 0. Chosen: 0.1.
        projection: channels in which views are compared. Chosen: 128, as in SimCLR.
        holes: boxes of each view that are dropped, or of which all else is.
        inside: shortest and longest edge of a dropped box, in voxels of a crop of 96^3; of others in proportion, axis
            by axis, or nothing would be left of a small one.
        outside: shortest and longest edge of a kept box, likewise.
        shuffle_probability: chance that voxels within some boxes of a view change places.
        shuffled: how many such boxes.
        shuffle_size: their edge, likewise.
        final_norm: apply, and so train, the last layer norm of UNETR's ViT; [M]'s encoders do not.

    Raises:
        InputError: if a value is outside its range.
    """

    temperature: float = 0.1
    projection: int = 128
    holes: int = 6
    inside: tuple[int, int] = (5, 32)
    outside: tuple[int, int] = (20, 64)
    shuffle_probability: float = 0.8
    shuffled: int = 10
    shuffle_size: int = 8
    final_norm: bool = False

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise InputError(f"temperature must be above 0, got {self.temperature}.")
        if not 0 <= self.shuffle_probability <= 1:
            raise InputError(f"shuffle_probability must lie between 0 and 1, got {self.shuffle_probability}.")
        _at_least(self, 1, "projection", "holes", "shuffled", "shuffle_size")
        for name in ("inside", "outside"):
            low, high = getattr(self, name)
            if not 1 <= low <= high:
                raise InputError(f"{name} is a shortest and a longest edge in voxels, got {low} and {high}.")


@dataclass(frozen=True)
class PCRLv2Settings:
    """PCRLv2's (Zhou et al., 2023) in three dimensions, every value [P]'s; its distortions are TorchIO's defaults.

    Args:
        global_boxes: extents in voxels of which each global view has one, drawn evenly.
        global_size: to which global views are resized, multiples of 8.
        overlap: the two global boxes' intersection over union is above it.
        local_boxes: extents in voxels of which each local view has one, drawn evenly.
        local_size: to which local views are resized, multiples of 8.
        local_views: how many there are.
        margin: voxels by which a local view may start outside the union of the global boxes.
        flip: chance that a view is mirrored along its first axis.
        scale: a view is stretched by 1 minus to 1 plus this, along each axis by itself.
        degrees: a view is turned by at most this about each axis.
        blur: largest standard deviation of a view's blur, in voxels, along each axis by itself.
        noise: largest standard deviation of a view's noise.
        gamma: a view's intensities are raised to e to the power of minus to plus this.
        swaps: how many pairs of patches of a global view change places.
        swap_patch: extent of such a patch, in voxels.

    Raises:
        InputError: if a value is outside its range.
    """

    global_boxes: tuple[Shape3, ...] = ((96, 96, 64), (96, 96, 96), (112, 112, 64), (64, 64, 32))
    global_size: Shape3 = (64, 64, 32)
    overlap: float = 0.3
    local_boxes: tuple[Shape3, ...] = ((32, 32, 16), (16, 16, 16), (32, 32, 32), (8, 8, 8))
    local_size: Shape3 = (16, 16, 16)
    local_views: int = 6
    margin: int = 3
    flip: float = 0.5
    scale: float = 0.1
    degrees: float = 10.0
    blur: float = 2.0
    noise: float = 0.25
    gamma: float = 0.3
    swaps: int = 100
    swap_patch: Shape3 = (8, 4, 4)

    def __post_init__(self) -> None:
        for name in ("global_size", "local_size"):
            if any(extent < 8 or extent % 8 for extent in getattr(self, name)):
                raise InputError(f"{name} must be multiples of 8, for the network's levels; got {getattr(self, name)}.")
        for name in ("global_boxes", "local_boxes"):
            boxes = getattr(self, name)
            if not boxes or any(extent < 1 for box in boxes for extent in box):
                raise InputError(f"{name} must be extents of at least 1 voxel, at least one of them; got {boxes}.")
        for name, high in (("overlap", 1), ("scale", 1), ("flip", 1.000001)):
            if not 0 <= getattr(self, name) < high:
                raise InputError(f"{name} must lie between 0 and 1, got {getattr(self, name)}.")
        _at_least(self, 1, "local_views")
        _at_least(self, 0, "margin", "degrees", "blur", "noise", "gamma", "swaps")
        room = all(patch <= extent for patch, extent in zip(self.swap_patch, self.global_size, strict=True))
        apart = any(2 * patch <= extent for patch, extent in zip(self.swap_patch, self.global_size, strict=True))
        if min(self.swap_patch) < 1 or (self.swaps and not (room and apart)):
            raise InputError(
                f"Two patches of swap_patch {self.swap_patch} must fit beside each other into global_size "
                f"{self.global_size}; make them smaller, or set swaps to 0."
            )


def _at_least(settings: object, low: int, *names: str) -> None:
    for name in names:
        if getattr(settings, name) < low:
            raise InputError(f"{name} must be at least {low}, got {getattr(settings, name)}.")
