"""Where the voxels of a scan lie in the reference body: the patient's pose, and an elastic deformation."""

import numpy as np

from medcontext.phantom.parts import euler
from medcontext.phantom.settings import BODY, Phantom


def positions_of(rng: np.random.Generator, settings: Phantom) -> np.ndarray:
    """Where each voxel's centre lies in the reference body, float32 (3, H, W, D): pose, then deformation."""
    size, spacing = np.array(settings.size), np.array(settings.spacing)
    field = size * spacing
    in_plane = max(BODY[0] / field[0], BODY[1] / field[1])
    scale = np.array([in_plane, in_plane, BODY[2] / field[2]])
    zoom = 1 + settings.pose * rng.uniform(-0.09, 0.09, 3) * (0.6, 0.6, 1.0)
    zoom[:2] += settings.pose * rng.uniform(-0.06, 0.06)
    shift = settings.pose * rng.uniform(-1, 1, 3) * (27.0, 22.0, 20.0)
    tilt = settings.pose * rng.uniform(-1, 1, 3) * (4.0, 4.0, 8.0)
    turn = (euler(*tilt) * zoom).astype(np.float32)
    axes = voxel_centres(settings, field * scale)
    centred = (axis.astype(np.float32) - np.float32(axis.mean()) for axis in axes)
    grid = np.meshgrid(*centred, indexing="ij", sparse=True)
    positions = np.empty((3, *settings.size), dtype=np.float32)
    for axis in range(3):
        positions[axis] = sum(turn[axis, other] * grid[other] for other in range(3)) + np.float32(shift[axis])
        for amount, gap in ((5.2, 75.0), (1.6, 28.0)):
            positions[axis] += np.float32(amount * settings.deformation) * smooth_field(rng, axes, gap)
    return positions


def voxel_centres(settings: Phantom, extent: np.ndarray) -> list[np.ndarray]:
    """The voxel centres along H, W, D, from 0 to the extent."""
    return [(np.arange(n) + 0.5) / n * span for n, span in zip(settings.size, extent, strict=True)]


def smooth_field(rng: np.random.Generator, axes: list[np.ndarray], gap: float) -> np.ndarray:
    """A smooth random field (H, W, D) of deviation about 1: cubic B-splines on knots `gap` apart.

    The knots depend on how far the axes reach, not on how many voxels there are.
    """
    bases = [_spline_basis(axis / gap, int(np.ceil(np.round((axis[0] + axis[-1]) / gap, 6))) + 3) for axis in axes]
    weights = rng.standard_normal([basis.shape[1] for basis in bases]).astype(np.float32) * np.float32(3)
    # einsum, not matmul: its sums do not depend on how many threads there are.
    field = np.einsum("ck,ijk->ijc", bases[2], weights)
    field = np.einsum("bj,ijc->ibc", bases[1], field)
    return np.einsum("ai,ibc->abc", bases[0], field)


def _spline_basis(t: np.ndarray, knots: int) -> np.ndarray:
    """Cubic B-splines around the whole numbers from -1 on, at `t` >= 0, float32 (len(t), knots)."""
    u = np.abs(t[:, None] - (np.arange(knots) - 1))
    inner = 2 / 3 - u**2 + u**3 / 2
    outer = np.clip(2 - u, 0, None) ** 3 / 6
    return np.where(u < 1, inner, outer).astype(np.float32)
