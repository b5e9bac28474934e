"""What is hidden from the student: tubes, cubes or a box of voxels (Gani et al., MICCAI 2024, section 2.1).

Drawing and applying are kept apart. A mask is *drawn* as a small grid of booleans, one per patch, True where
the patch is hidden; *applying* it to a volume is a pure function.

Letters: B batch, C channels, H W D the volume's extent, h w d the number of patches along each. Images have no D and d.

The settings' type of a mask is one of these, and reading settings does not wait for torch: it is imported on use.
"""

import itertools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from medcontext.errors import InputError, counted

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from typing_extensions import Self  # Python's own from 3.11 on

Shape3 = tuple[int, int, int]
Extent = tuple[int, ...]
"""(H, W, D) of a volume, (H, W) of an image."""


@dataclass(frozen=True)
class CubeMask:
    """Hide patches drawn independently in all dimensions (for comparison with tubes).

    Args:
        patch_size: edge of a patch in voxels, one number or, for volumes, one for each of H, W and D.
        ratio: fraction of the patches that is hidden, 0 to 1.
        draw: `exact` hides exactly the ratio, `bernoulli` each patch with that chance.
        per_sample: draw anew for every sample, not once for the batch.

    Raises:
        InputError: if a value is outside its range.
    """

    patch_size: int | Shape3 = 16
    ratio: float = 0.4
    draw: Literal["exact", "bernoulli"] = "exact"
    per_sample: bool = True
    kind: ClassVar[str] = "cubes"
    parts: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)  # at least so many patches along an axis, as tried in turn

    def __post_init__(self) -> None:
        sizes = (self.patch_size,) if isinstance(self.patch_size, int) else self.patch_size
        if any(size < 1 for size in sizes):
            raise InputError(f"patch_size must be at least 1 voxel, got {self.patch_size}.")
        if not 0 <= self.ratio <= 1:
            raise InputError(f"Mask ratio must lie between 0 and 1, got {self.ratio}.")
        if self.draw not in ("exact", "bernoulli"):
            raise InputError(f"draw must be 'exact' or 'bernoulli', got '{self.draw}'.")

    def told(self) -> str:
        """The mask in words."""
        sizes = (self.patch_size,) if isinstance(self.patch_size, int) else self.patch_size
        return f"{self.kind} of {' x '.join(map(str, sizes))} voxels, ratio {self.ratio:g}"

    def patch(self, shape: Extent) -> Extent:
        """The extent of one patch in a volume or an image of `shape`, in voxels.

        Raises:
            InputError: if it has another number of axes.
        """
        if isinstance(self.patch_size, int):
            return (self.patch_size,) * len(shape)
        if len(self.patch_size) != len(shape):
            raise InputError(f"patch_size {self.patch_size} is not for images of {tuple(shape)}; give one number.")
        return self.patch_size

    def grid(self, shape: Extent) -> Extent:
        """The number of patches along each axis of a volume or an image of `shape`.

        Raises:
            InputError: if a patch does not divide the volume; the message names a volume that it divides.
        """
        patch = self.patch(shape)
        if any(extent % size for extent, size in zip(shape, patch, strict=True)):
            fitting = tuple(max(1, round(extent / size)) * size for extent, size in zip(shape, patch, strict=True))
            raise InputError(
                f"patch_size must divide the crop: got crop {tuple(shape)} and patch {patch}; "
                f"use a crop of {fitting}, or another patch_size."
            )
        return tuple(extent // size for extent, size in zip(shape, patch, strict=True))

    def checked(self, shape: Extent) -> Extent:
        """The same.

        Raises:
            InputError: also if there are so few patches that none would be hidden.
        """
        grid = self.grid(shape)
        if not self._hides(patches := math.prod(grid)):
            raise InputError(
                f"Nothing would be hidden: the crop {tuple(shape)} has {counted(patches, 'patch')} of "
                f"{self.patch(shape)}, and a ratio of {self.ratio:g} is none of them. Use a smaller patch_size."
            )
        return grid

    def fitted(self, shape: Extent) -> "Self":
        """The same with the patches nearest in size that divide a volume of `shape`, and hide some of it.

        >>> CubeMask(patch_size=16).fitted((40, 56, 40)).patch_size
        (20, 14, 20)
        >>> TubeMask(patch_size=16).fitted((12, 12, 12)).patch_size
        (6, 6, 12)
        """
        patch = self.patch(shape)
        for parts in self.parts:
            found = tuple(
                size if size == extent and self._whole(axis) else _nearest_divisor(extent, size, extent // parts)
                for axis, (extent, size) in enumerate(zip(shape, patch, strict=True))
            )
            grid = (extent // size for extent, size in zip(shape, found, strict=True))
            if self._hides(math.prod(grid)):
                break
        return self if found == patch else replace(self, patch_size=found)  # type: ignore[arg-type]  # of images two

    def _whole(self, axis: int) -> bool:
        """Whether patches are as long as the volume along an axis."""
        return False

    def _hides(self, patches: int) -> bool:
        """Whether of so many patches any can be hidden, if any should be."""
        return self.draw != "exact" or self.ratio == 0 or round(self.ratio * patches) > 0

    def sample(self, shape: Extent, batch: int, generator: "Generator | None" = None) -> "Tensor":
        """Draw which patches to hide.

        Args:
            shape: (H, W, D) of the volumes, or (H, W).
            batch: number of samples.
            generator: source of randomness, on the CPU, so that a draw is the same on every device.

        Returns:
            (B, 1, h, w, d), or (B, 1, h, w), booleans, True where hidden; in an exact draw `round(ratio * h * w * d)`
            of each sample.
        """

        grid = self.checked(shape)
        return self._drawn(grid, batch if self.per_sample else 1, generator).expand(batch, 1, *grid)

    def _drawn(self, grid: Extent, samples: int, generator: "Generator | None") -> "Tensor":
        """(B, 1, h, w, d) for so many samples."""
        import torch

        patches = math.prod(grid)
        chance = torch.rand(samples, patches, generator=generator)
        if self.draw == "bernoulli":
            hidden = chance < self.ratio
        else:
            hidden = chance.argsort(dim=1).argsort(dim=1) < round(self.ratio * patches)
        return hidden.view(-1, 1, *grid)


@dataclass(frozen=True)
class TubeMask(CubeMask):
    """Hide tubes: patches of a plane, the same ones in every slice along `axis` (section 2.1).

    Because a patch is hidden in all slices, a neighbouring slice cannot give the answer away. The paper's best ratio is
    0.4 (Table 8). An image is one slice: there a tube is a patch. What is not said here is as in `CubeMask`.

    Args:
        patch_size: edge of a patch in the plane, in voxels: one number, or three of which the one along `axis`
            is not used.
        axis: the axis along which tubes run: 0, 1 or 2 for H, W or D. The default is D, through the plane.

    Example:
        >>> mask = TubeMask(patch_size=16, ratio=0.4)
        >>> hidden = mask.sample((96, 96, 64), batch=2)
        >>> hidden.shape, hidden.float().mean(dim=(1, 2, 3, 4)).tolist()
        (torch.Size([2, 1, 6, 6, 1]), [0.388..., 0.388...])
    """

    axis: int = 2
    kind: ClassVar[str] = "tubes"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.axis not in (0, 1, 2):
            raise InputError(f"Tube axis must be 0, 1 or 2 (H, W or D), got {self.axis}.")

    def patch(self, shape: Extent) -> Extent:
        patch = list(super().patch(shape))
        if len(shape) == 3:
            patch[self.axis] = shape[self.axis]
        return tuple(patch)

    def _whole(self, axis: int) -> bool:
        return axis == self.axis


@dataclass(frozen=True)
class BoxMask(CubeMask):
    """Hide one box, anywhere in the volume: the largest hole of all, and most context in what is left.

    With another scan in it, it is the mask of bidirectional copy-paste (Bai et al., CVPR 2023), whose box has two
    thirds of each axis. What is not said here is as in `CubeMask`.

    Args:
        patch_size: the box begins and ends between patches of so many voxels.
        ratio: about the fraction of the volume that is hidden: the box has about the same share of each axis, and of
            such boxes the size that comes nearest. Two thirds of each axis are 0.3 of a volume, 0.44 of an image.
        draw: there is nothing to draw but the place: `exact`.

    Example:
        >>> hidden = BoxMask(patch_size=8, ratio=0.3).sample((48, 48, 48), batch=2)
        >>> hidden.shape, hidden.sum(dim=(1, 2, 3, 4)).tolist()  # 4 of 6 patches along each axis
        (torch.Size([2, 1, 6, 6, 6]), [64, 64])
    """

    kind: ClassVar[str] = "a box"
    parts: ClassVar[tuple[int, ...]] = (4,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draw != "exact":
            raise InputError(f"A box is one piece, of which draw '{self.draw}' has no parts to draw; leave it out.")

    def told(self) -> str:
        return f"{self.kind}, ratio {self.ratio:g}"

    def patch(self, shape: Extent) -> Extent:
        """An axis that is shorter than a patch is one."""
        return tuple(min(size, extent) for size, extent in zip(super().patch(shape), shape, strict=True))

    def edges(self, grid: Extent) -> Extent:
        """How many patches of a grid the box has along each axis; not all of them, where the ratio is below 1."""
        if self.ratio in (0, 1):
            return tuple(int(self.ratio) * patches for patches in grid)
        total = math.prod(grid)
        share = self.ratio ** (1 / sum(patches > 1 for patches in grid))
        choices = ({max(1, math.floor(share * patches)), math.ceil(share * patches)} for patches in grid)
        boxes = [edges for edges in itertools.product(*choices) if math.prod(edges) < total]
        return min(boxes, key=lambda edges: abs(math.prod(edges) - self.ratio * total))

    def _hides(self, patches: int) -> bool:
        return patches > 1 or self.ratio in (0, 1)

    def _drawn(self, grid: Extent, samples: int, generator: "Generator | None") -> "Tensor":
        import torch

        hidden = torch.ones(samples, 1, *grid, dtype=torch.bool)
        for axis, (patches, edge) in enumerate(zip(grid, self.edges(grid), strict=True)):
            first = torch.randint(patches - edge + 1, (samples, *(1,) * (len(grid) + 1)), generator=generator)
            place = torch.arange(patches).view(-1, *(1,) * (len(grid) - 1 - axis))
            hidden = hidden & (place >= first) & (place < first + edge)
        return hidden


def _nearest_divisor(extent: int, size: int, most: int) -> int:
    divisors = [one for one in range(1, max(1, most) + 1) if extent % one == 0]
    return min(divisors, key=lambda one: abs(one - size))


def expand(hidden: "Tensor", shape: Extent) -> "Tensor":
    """Repeat each patch's boolean over its voxels (or tokens).

    Args:
        hidden: (B, 1, h, w, d) booleans, or (B, 1, h, w).
        shape: (H, W, D), or (H, W), each a multiple of the grid's extent along that axis.

    Returns:
        (B, 1, H, W, D) booleans, or (B, 1, H, W), the mask `I` of equation 1.

    Raises:
        InputError: if the grid does not divide `shape`.
    """
    grid = hidden.shape[2:]
    if any(extent % patches for extent, patches in zip(shape, grid, strict=True)):
        raise InputError(
            f"A mask of {tuple(grid)} patches does not fit a grid of {tuple(shape)}: each extent must be a "
            "multiple. Choose a mask patch_size that is a multiple of the network's token size."
        )
    for axis, (extent, patches) in enumerate(zip(shape, grid, strict=True), start=2):
        hidden = hidden.repeat_interleave(extent // patches, dim=axis)
    return hidden


def hide(volume: "Tensor", mask: "Tensor", embedding: "Tensor") -> "Tensor":
    """Equation 1: `X^M = X * (1 - I) + H_xi * I`.

    Args:
        volume: (B, C, H, W, D), or (B, C, H, W).
        mask: (B, 1, H, W, D) booleans, likewise, True where hidden.
        embedding: (C,), the learnable `H_xi`.

    Example:
        >>> import torch
        >>> volume, mask = torch.ones(1, 1, 2, 1, 1), torch.tensor([True, False]).view(1, 1, 2, 1, 1)
        >>> hide(volume, mask, torch.tensor([7.0])).flatten().tolist()
        [7.0, 1.0]
    """
    axes = (1,) * (volume.dim() - 2)
    return embedding.to(volume.dtype).view(1, -1, *axes).where(mask, volume)
