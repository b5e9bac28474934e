"""The shapes of the phantom: distances, bounds and how much of a voxel they fill."""

import numpy as np
import pytest

from medcontext.phantom.parts import euler
from medcontext.phantom.render import _Coverage
from medcontext.phantom.solids import Above, Both, Column, Domes, Ellipsoid, Merged, Ribs, Solid, Tube, Without

TURNED = Ellipsoid((3, -2, 1), (12, 7, 5), euler(20, 35, -50))
BALL = Ellipsoid((0, 0, 0), (10, 10, 10))
BENT = Tube([(-12, 0, 0), (0, 6, 3), (10, -5, -4)], (4, 5, 3))
SOLIDS: list[Solid] = [
    TURNED,
    BENT,
    Both([BALL, Above(2, 1.0)]),
    Both([Column((1, 2), (9, 6), 2.4), Above(2, -5), BALL]),
    Without(BALL, Ellipsoid((8, 0, 0), (6, 6, 6))),
    Merged([BALL, Ellipsoid((12, 0, 0), (6, 6, 6))], 4.0),
    Both([Domes([(0, 0, 9, 20), (15, 0, 5, 20)]), BALL]),
    Ribs(Column((0, 0), (15, 12)), 1.5, 8.0, 0.3, -4.0),
]


def grid(spacing: tuple[float, float, float] = (1, 1, 1), half: int = 24) -> np.ndarray:
    axes = [np.arange(-half + mm / 2, half, mm, dtype=np.float32) for mm in spacing]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


@pytest.mark.parametrize("solid", SOLIDS, ids=lambda solid: type(solid).__name__)
def test_nothing_of_a_solid_lies_outside_its_bounds(solid: Solid) -> None:
    points = grid()
    inside = points[:, solid.distance(points) < 0]
    low, high = solid.bounds()
    assert inside.shape[1] > 50
    assert (inside.min(axis=1) >= low - 1e-3).all()
    assert (inside.max(axis=1) <= high + 1e-3).all()


def test_ball_distance_is_exact() -> None:
    points = grid(half=14)
    np.testing.assert_allclose(BALL.distance(points), np.linalg.norm(points, axis=0) - 10, atol=2e-3)
    assert BALL.distance(np.zeros((3, 1), dtype=np.float32)) == pytest.approx(-10, abs=0.01)


def test_turned_ellipsoid_has_its_surface_where_the_equation_says() -> None:
    direction = np.random.default_rng(0).normal(size=(3, 200))
    on_sphere = direction / np.linalg.norm(direction, axis=0)
    surface = TURNED.rotation @ (on_sphere * np.array([[12], [7], [5]])) + np.array([[3], [-2], [1]])
    np.testing.assert_allclose(TURNED.distance(surface.astype(np.float32)), 0, atol=1e-3)


def test_straight_tube_is_a_capsule_and_passes_through_its_points() -> None:
    straight = Tube([(-10, 0, 0), (0, 0, 0), (10, 0, 0)], (4, 4, 4))
    points = grid(half=18)
    axis = np.clip(points[0], -10, 10)
    expected = np.sqrt((points[0] - axis) ** 2 + points[1] ** 2 + points[2] ** 2) - 4
    np.testing.assert_allclose(straight.distance(points), expected, atol=1e-3)
    knots = np.array(BENT.points, dtype=np.float32).T
    assert (BENT.distance(knots) <= -np.array(BENT.radii) + 1e-3).all()


def test_column_distance_is_close_to_the_distance_near_its_wall() -> None:
    column = Column((0, 0), (18, 12), 2.0)
    points = grid(half=22)[:, :, :, :1]
    angle = np.linspace(0, 2 * np.pi, 2000)
    wall = np.stack([18 * np.cos(angle), 12 * np.sin(angle)])  # (2, n)
    true = np.linalg.norm(points[:2, ..., None] - wall[:, None, None, None], axis=0).min(axis=-1)
    found = column.distance(points)
    near = true < 3
    np.testing.assert_allclose(np.abs(found)[near], true[near], atol=0.5)


def test_euler_turns_about_each_axis_to_the_right() -> None:
    np.testing.assert_allclose(euler(90, 0, 0) @ [0, 1, 0], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(euler(0, 90, 0) @ [0, 0, 1], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(euler(0, 0, 90) @ [1, 0, 0], [0, 1, 0], atol=1e-12)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (1, 1, 4), (3, 2, 1)])
@pytest.mark.parametrize("solid", [TURNED, BALL, Ellipsoid((0.3, 0.4, 0.1), (12, 12, 9))])
def test_partial_volume_conserves_the_volume(solid: Ellipsoid, spacing: tuple[float, float, float]) -> None:
    share = _Coverage(solid.distance(grid(spacing)))(0.0)
    assert share.min() >= 0
    assert share.max() == 1
    expected = 4 / 3 * np.pi * np.prod(solid.radii)
    assert share.sum() * np.prod(spacing) == pytest.approx(expected, rel=0.06)


def test_partial_volume_agrees_with_supersampling() -> None:
    """Along the slices too, where voxels are four times as long: a fixed soft edge would not do."""
    spacing = (2.0, 2.0, 4.0)
    share = _Coverage(TURNED.distance(grid(spacing)))(0.0)
    fine = TURNED.distance(grid((0.5, 0.5, 0.5))) < 0
    n, d = share.shape[0], share.shape[2]
    exact = fine.reshape(n, 4, n, 4, d, 8).mean(axis=(1, 3, 5))
    crisp = TURNED.distance(grid(spacing)) < 0
    assert np.abs(share - exact).max() < 0.3
    assert np.abs(share - exact).mean() < 0.5 * np.abs(crisp - exact).mean()
