"""From a file's voxel grid to the prepared grid, and exactly back.

The way there: axes permuted and flipped to the nearest RAS orientation, cropped to a box, resampled along those
axes. No voxel is interpolated by the reorientation, so an oblique scan stays oblique.

C: channels, K: classes; X, Y, Z: the file's axes; H, W, D: the axes nearest to right, anterior, superior.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import nibabel as nib
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medcontext.errors import InputError

Shape3 = tuple[int, int, int]
Spacing = tuple[float, float, float]
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

LARGEST_GRID = 2**30  # voxels; beyond it (4 GiB a channel) the header's spacing is wrong, or the target's
SLAB_VALUES = 2**23  # interpolated at a time, so that K scores at full size never exist at once


@dataclass(frozen=True)
class Geometry:
    """Where the voxels of one prepared case lie in the file they came from.

    Args:
        shape: the file's spatial shape (X, Y, Z).
        affine: the file's affine, 4 rows of 4, in millimetres.
        box: start and stop of the crop along H, W, D, in the file's own voxels.
        prepared_shape: (H, W, D) after resampling. The box and the prepared grid have the same field of view,
            so the prepared spacing is the target's up to the rounding of the shape.
    """

    shape: Shape3
    affine: tuple[tuple[float, ...], ...]
    box: Box
    prepared_shape: Shape3

    @classmethod
    def create(
        cls, shape: Shape3, affine: np.ndarray, spacing: Spacing | None = None, box: Box | None = None
    ) -> "Geometry":
        """The geometry of a file, prepared at `spacing` (mm along H, W, D; None keeps the file's).

        Raises:
            InputError: if the affine is singular, or the resampled grid absurdly large or less than half a voxel.
        """
        source, _ = ras_axes(affine)
        full = tuple(int(shape[axis]) for axis in source)
        box = box or tuple((0, size) for size in full)  # type: ignore[assignment]
        cropped = tuple(stop - start for start, stop in box)  # type: ignore[union-attr]
        prepared = cropped
        if spacing is not None:
            own = ras_spacing(affine)
            prepared = tuple(
                max(1, round(n * mm / target)) for n, mm, target in zip(cropped, own, spacing, strict=True)
            )
            nothing = any(2 * n * mm < target for n, mm, target in zip(full, own, spacing, strict=True))
            if nothing or np.prod(prepared, dtype=np.float64) > LARGEST_GRID:
                choose = "finer" if nothing else "coarser"
                raise InputError(
                    f"A volume of {full} voxels with a spacing of {_mm(own)} mm resampled to {_mm(spacing)} mm "
                    f"would have {prepared} voxels. Correct the header's spacing, or choose a {choose} spacing."
                )
        rows = tuple(tuple(float(value) for value in row) for row in np.asarray(affine))
        return cls(tuple(int(n) for n in shape), rows, box, prepared)  # type: ignore[arg-type]

    @property
    def spacing(self) -> Spacing:
        """The file's voxel size along H, W, D, in millimetres."""
        return ras_spacing(np.array(self.affine))

    @property
    def cropped_shape(self) -> Shape3:
        """The box's size (H, W, D), in the file's voxels."""
        (a, b), (c, d), (e, f) = self.box
        return b - a, d - c, f - e

    def crop(self, volume: Tensor) -> Tensor:
        """Reorient and crop: (..., X, Y, Z) -> (..., H, W, D), not yet resampled."""
        return to_ras(volume, np.array(self.affine))[self._slices]

    def resample(self, image: Tensor) -> Tensor:
        """Trilinear, from the cropped to the prepared grid: (C, H, W, D), floating point."""
        if tuple(image.shape[1:]) == self.prepared_shape:
            return image
        return functional.interpolate(image[None], self.prepared_shape, mode="trilinear", align_corners=False)[0]

    def to_prepared(self, image: Tensor) -> Tensor:
        """An image (C, X, Y, Z) of the file's grid on the prepared grid (C, H, W, D)."""
        return self.resample(self.crop(image)).contiguous()

    def label_to_prepared(self, label: Tensor) -> Tensor:
        """A label (X, Y, Z) on the prepared grid (H, W, D), with values that it had before and no others.

        Each value's indicator is interpolated linearly and the largest wins (the lower value at a tie).
        """
        label = self.crop(label)
        if tuple(label.shape) == self.prepared_shape:
            return label.contiguous()
        values = torch.unique(label)  # sorted

        def indicators(planes: Tensor) -> Tensor:
            return (label[planes][:, None] == values[:, None, None]).float()  # (n, K, W, D)

        result = label.new_empty(self.prepared_shape)
        slabs = _resampled_slabs(indicators, tuple(label.shape), self.prepared_shape, len(values))
        for rows, slab in slabs:
            result[rows] = values[_best(slab)]
        return result

    def to_original(self, scores: Tensor) -> Tensor:
        """The best class of each of the file's voxels, from scores on the prepared grid.

        Args:
            scores: (K, H, W, D), logits or probabilities.

        Returns:
            Class indices (X, Y, Z) on the CPU, uint8 (int16 from 257 classes on); 0 outside of the box.
        """
        classes = scores.shape[0]
        best = torch.zeros(self._ras_shape, dtype=index_dtype(classes))
        inside = best[self._slices]
        for rows, slab in self._score_slabs(scores):
            inside[rows] = _best(slab).to(best.device, best.dtype)
        return from_ras(best, np.array(self.affine))

    def probabilities_to_original(self, probabilities: Tensor, background: int | None = 0) -> Tensor:
        """Probabilities (K, H, W, D) on the file's grid: float32 (K, X, Y, Z) on the CPU, all at once in memory.

        Outside of the box the background has probability 1 (None where no output is the background), all others 0.
        """
        full = np.zeros((probabilities.shape[0], *self.shape), np.float32)
        if background is not None:
            full[background] = 1
        inside = ras_view(full, np.array(self.affine))[self._slices]
        for rows, slab in self._score_slabs(probabilities):
            inside[:, rows] = slab.movedim(0, 1).cpu().numpy()  # (n, K, W, D) -> (K, n, W, D)
        return torch.from_numpy(full)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Geometry":
        """The inverse of `to_dict`, also after JSON has turned its tuples into lists."""
        box = tuple((start, stop) for start, stop in values["box"])
        affine = tuple(tuple(row) for row in values["affine"])
        return cls(tuple(values["shape"]), affine, box, tuple(values["prepared_shape"]))  # type: ignore[arg-type]

    @property
    def _ras_shape(self) -> Shape3:
        source, _ = ras_axes(np.array(self.affine))
        return tuple(self.shape[axis] for axis in source)  # type: ignore[return-value]

    @property
    def _slices(self) -> tuple[Any, ...]:
        return (..., *(slice(start, stop) for start, stop in self.box))

    def _score_slabs(self, scores: Tensor) -> Iterator[tuple[slice, Tensor]]:
        if tuple(scores.shape[1:]) != self.prepared_shape:
            raise ValueError(f"scores are {tuple(scores.shape[1:])}, the prepared grid is {self.prepared_shape}")

        def planes(index: Tensor) -> Tensor:
            return scores[:, index.to(scores.device)].movedim(0, 1).float()  # (n, K, W, D)

        return _resampled_slabs(planes, self.prepared_shape, self.cropped_shape, scores.shape[0])


def ras_axes(affine: np.ndarray) -> tuple[Shape3, tuple[bool, bool, bool]]:
    """For each of H, W, D (to the right, anterior, superior): the file's axis, and whether it is flipped.

    Raises:
        InputError: if the affine has no inverse.

    >>> ras_axes(np.diag([-1, -1, 2, 1]))  # the usual LPS scan
    ((0, 1, 2), (True, True, False))
    """
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise InputError(f"An affine cannot be inverted: {np.asarray(affine).tolist()}. Correct the file's header.")
    orientation = nib.orientations.io_orientation(affine)  # per file axis: (RAS axis, direction)
    source = [int(axis) for axis in np.argsort(orientation[:, 0])]
    flips = [bool(orientation[axis, 1] < 0) for axis in source]
    return (source[0], source[1], source[2]), (flips[0], flips[1], flips[2])


def ras_spacing(affine: np.ndarray) -> Spacing:
    """Voxel size along H, W, D in millimetres: the lengths of the affine's columns, in RAS order."""
    (h, w, d), _ = ras_axes(affine)
    sizes = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)
    return float(sizes[h]), float(sizes[w]), float(sizes[d])


def to_ras(volume: Tensor, affine: np.ndarray) -> Tensor:
    """Permute and flip the last three axes: (..., X, Y, Z) -> (..., H, W, D)."""
    source, flips = ras_axes(affine)
    lead = volume.ndim - 3
    volume = volume.permute(*range(lead), *(lead + axis for axis in source))
    return volume.flip([lead + axis for axis in range(3) if flips[axis]])


def from_ras(volume: Tensor, affine: np.ndarray) -> Tensor:
    """The exact inverse of `to_ras`: (..., H, W, D) -> (..., X, Y, Z)."""
    source, flips = ras_axes(affine)
    lead = volume.ndim - 3
    volume = volume.flip([lead + axis for axis in range(3) if flips[axis]])
    back = [source.index(axis) for axis in range(3)]
    return volume.permute(*range(lead), *(lead + axis for axis in back)).contiguous()


def ras_view(volume: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """As `to_ras`, but a view: what is written to it is written to the volume, without a copy."""
    source, flips = ras_axes(affine)
    lead = volume.ndim - 3
    volume = volume.transpose(*range(lead), *(lead + axis for axis in source))
    return np.flip(volume, tuple(lead + axis for axis in range(3) if flips[axis]))


def index_dtype(classes: int) -> torch.dtype:
    """The smallest type that holds the class indices 0..classes-1."""
    return torch.uint8 if classes <= 256 else torch.int16


def _resampled_slabs(
    planes: Callable[[Tensor], Tensor], shape: tuple[int, ...], target: Shape3, classes: int
) -> Iterator[tuple[slice, Tensor]]:
    """Trilinear interpolation of K volumes, a few planes of H at a time.

    Args:
        planes: gives the source planes of an index tensor (n,), as float32 (n, K, W, D).
        shape: of the source.
        target: shape wanted; the fields of view coincide.
        classes: K.

    Yields:
        Which rows of the target, and their values (n, K, W', D').
    """
    position = ((torch.arange(target[0], dtype=torch.float64) + 0.5) * (shape[0] / target[0]) - 0.5).clamp(
        0, shape[0] - 1
    )
    low = position.long()
    high = (low + 1).clamp(max=shape[0] - 1)
    weight = (position - low).float()
    plane = classes * max(shape[1] * shape[2], target[1] * target[2])
    step = max(1, SLAB_VALUES // plane)
    for start in range(0, target[0], step):
        rows = slice(start, min(start + step, target[0]))
        slab = planes(low[rows])
        if weight[rows].any():
            slab = torch.lerp(slab, planes(high[rows]), weight[rows, None, None, None].to(slab.device))
        if tuple(slab.shape[2:]) != target[1:]:
            slab = functional.interpolate(slab, target[1:], mode="bilinear", align_corners=False)
        yield rows, slab


def _best(slab: Tensor) -> Tensor:
    """The first of the largest classes: (n, K, W, D) -> (n, W, D)."""
    return slab.max(1).indices  # on the CPU four times as fast as argmax


def _mm(spacing: Spacing) -> str:
    return " x ".join(f"{value:g}" for value in spacing)
