"""The shapes that a phantom is made of, as signed functions of position: negative inside, zero on the surface.

Positions are (3, ...) in millimetres, first to the right, then anterior, then superior. The value is about the
distance to the surface in millimetres: exact enough near it, which is where it is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

Box = tuple[np.ndarray, np.ndarray]
Point = Sequence[float] | np.ndarray

_EVERYWHERE: Box = (np.full(3, -np.inf), np.full(3, np.inf))
_TINY = np.float32(1e-6)


class Solid(Protocol):
    """A shape."""

    def bounds(self) -> Box:
        """Its lowest and highest corner; infinite where it has no end."""
        ...

    def distance(self, points: np.ndarray) -> np.ndarray:
        """The signed distance, about, of `points` (3, ...) as (...)."""
        ...


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid; `rotation` (3, 3) turns its axes."""

    centre: Point
    radii: Point
    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))

    def bounds(self) -> Box:
        reach = np.sqrt(((np.asarray(self.rotation) * np.asarray(self.radii)) ** 2).sum(axis=1))
        return np.asarray(self.centre) - reach, np.asarray(self.centre) + reach

    def distance(self, points: np.ndarray) -> np.ndarray:
        x, y, z = (points[axis] - np.float32(self.centre[axis]) for axis in range(3))
        near, far = np.float32(0), np.float32(0)
        for column, radius in zip(np.asarray(self.rotation, dtype=np.float32).T, self.radii, strict=True):
            along = (column[0] * x + column[1] * y + column[2] * z) / np.float32(radius)
            near = near + along**2
            far = far + (along / np.float32(radius)) ** 2
        norm = np.sqrt(near)
        return _first_order(norm, np.sqrt(far), self.radii)


@dataclass(frozen=True)
class Column:
    """An elliptic cylinder along the body; an exponent above 2 makes its section squarer."""

    centre: Point
    radii: Point
    exponent: float = 2.0

    def bounds(self) -> Box:
        centre, radii = np.asarray(self.centre), np.asarray(self.radii)
        return np.array([*(centre - radii), -np.inf]), np.array([*(centre + radii), np.inf])

    def distance(self, points: np.ndarray) -> np.ndarray:
        across = np.abs(points[0] - np.float32(self.centre[0])) / np.float32(self.radii[0])
        along = np.abs(points[1] - np.float32(self.centre[1])) / np.float32(self.radii[1])
        power = np.float32(self.exponent)
        # exp and log, because numpy's float32 power is several times slower
        norm = np.exp(power * np.log(across + _TINY)) + np.exp(power * np.log(along + _TINY))
        norm = np.exp(np.log(norm) / power)
        slope = np.sqrt((across / np.float32(self.radii[0])) ** 2 + (along / np.float32(self.radii[1])) ** 2)
        return _first_order(norm, slope, self.radii)


@dataclass(frozen=True)
class Tube:
    """A tube of varying radius along a smooth curve through `points` (n, 3)."""

    points: Sequence[Point]
    radii: Sequence[float]

    @cached_property
    def path(self) -> np.ndarray:
        """Centre and radius of the joints of the straight pieces, (m, 4)."""
        knots = np.column_stack([np.asarray(self.points, dtype=np.float64), np.asarray(self.radii, dtype=np.float64)])
        return _smooth(knots)

    def bounds(self) -> Box:
        centre, radius = self.path[:, :3], self.path[:, 3:]
        return (centre - radius).min(axis=0), (centre + radius).max(axis=0)

    def distance(self, points: np.ndarray) -> np.ndarray:
        nearest = np.full(points.shape[1:], np.inf, dtype=np.float32)
        for start, stop in zip(self.path[:-1].astype(np.float32), self.path[1:].astype(np.float32), strict=True):
            piece = stop[:3] - start[:3]
            x, y, z = points[0] - start[0], points[1] - start[1], points[2] - start[2]
            along = piece / ((piece**2).sum() + _TINY)
            share = np.clip(x * along[0] + y * along[1] + z * along[2], 0, 1)
            squared = (x - share * piece[0]) ** 2 + (y - share * piece[1]) ** 2 + (z - share * piece[2]) ** 2
            np.minimum(nearest, np.sqrt(squared) - (start[3] + share * (stop[3] - start[3])), out=nearest)
        return nearest


@dataclass(frozen=True)
class Above:
    """The half of space where coordinate `axis` exceeds `level`."""

    axis: int
    level: float

    def bounds(self) -> Box:
        low = _EVERYWHERE[0].copy()
        low[self.axis] = self.level
        return low, _EVERYWHERE[1]

    def distance(self, points: np.ndarray) -> np.ndarray:
        return np.float32(self.level) - points[self.axis]


@dataclass(frozen=True)
class Domes:
    """The space below the diaphragm: under the upper hull of paraboloids, each (x, y, height, width)."""

    peaks: Sequence[tuple[float, float, float, float]]
    fall: float = 52.0

    def bounds(self) -> Box:
        return _EVERYWHERE[0], np.array([np.inf, np.inf, max(peak[2] for peak in self.peaks)])

    def distance(self, points: np.ndarray) -> np.ndarray:
        height = np.full(points.shape[1:], -np.inf, dtype=np.float32)
        for x, y, top, width in self.peaks:
            squared = ((points[0] - np.float32(x)) ** 2 + (points[1] - np.float32(y)) ** 2) / np.float32(width**2)
            np.maximum(height, np.float32(top) - np.float32(self.fall) * squared, out=height)
        return (points[2] - height) / np.float32(1.4)  # the surface is steep: a step up is a shorter way out


@dataclass(frozen=True)
class Ribs:
    """Bars of `radius` around a column, `gap` apart, descending by `slope` towards the front."""

    cage: Column
    radius: float
    gap: float
    slope: float
    lowest: float

    def bounds(self) -> Box:
        low, high = self.cage.bounds()
        bottom = self.lowest - abs(self.slope) * max(abs(low[1]), abs(high[1])) - self.slope * self.radius
        return np.array([*(low[:2] - self.radius), bottom]), np.array([*(high[:2] + self.radius), np.inf])

    def distance(self, points: np.ndarray) -> np.ndarray:
        height = points[2] + np.float32(self.slope) * points[1]
        beside = (height % np.float32(self.gap)) - np.float32(self.gap / 2)
        bars = np.hypot(beside / np.float32(1.5), self.cage.distance(points)) - np.float32(self.radius)
        return np.maximum(bars, np.float32(self.lowest) - height)


@dataclass(frozen=True)
class Both:
    """What lies in every one of the solids."""

    solids: Sequence[Solid]

    def bounds(self) -> Box:
        boxes = [solid.bounds() for solid in self.solids]
        return np.max([box[0] for box in boxes], axis=0), np.min([box[1] for box in boxes], axis=0)

    def distance(self, points: np.ndarray) -> np.ndarray:
        first, *others = (solid.distance(points) for solid in self.solids)
        for other in others:
            np.maximum(first, other, out=first)
        return first


@dataclass(frozen=True)
class Without:
    """The first solid with the second carved out."""

    solid: Solid
    carved: Solid

    def bounds(self) -> Box:
        return self.solid.bounds()

    def distance(self, points: np.ndarray) -> np.ndarray:
        return np.maximum(self.solid.distance(points), -self.carved.distance(points))


@dataclass(frozen=True)
class Merged:
    """Several solids grown together, their junctions rounded over `rounding` millimetres."""

    solids: Sequence[Solid]
    rounding: float = 8.0

    def bounds(self) -> Box:
        boxes = [solid.bounds() for solid in self.solids]
        return np.min([box[0] for box in boxes], axis=0), np.max([box[1] for box in boxes], axis=0)

    def distance(self, points: np.ndarray) -> np.ndarray:
        merged, *others = (solid.distance(points) for solid in self.solids)
        for other in others:
            blend = np.maximum(np.float32(self.rounding) - np.abs(merged - other), 0)
            merged = np.minimum(merged, other) - blend**2 / np.float32(4 * self.rounding)
        return merged


def _first_order(norm: np.ndarray, slope: np.ndarray, radii: Point) -> np.ndarray:
    """The distance to where `norm` is 1, to first order near it; `slope` is its gradient's length times `norm`."""
    inner = np.float32(1e-4)  # in the very middle both are 0, and the distance is about the mean radius
    return (norm - 1) * (norm + inner) / (slope + inner / np.float32(np.mean(radii)))


def _smooth(knots: np.ndarray, pieces: int = 3) -> np.ndarray:
    """Points on the Catmull-Rom curve through `knots` (n, c), `pieces` for each stretch."""
    ends = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    t = (np.arange(pieces) / pieces)[:, None]
    stretches = []
    for a, b, c, d in zip(ends[:-3], ends[1:-2], ends[2:-1], ends[3:], strict=True):
        stretches.append(
            0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        )
    return np.concatenate([*stretches, knots[-1:]])
