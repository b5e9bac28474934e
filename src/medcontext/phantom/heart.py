"""A heart in its chest, as short-axis cine MR shows it: z runs from the apex to the base, y away from the spine.

The blood of the ventricles is as bright as that of the aorta, the veins and the atria, and the heart's muscle as that
of the chest and about as the liver: only where they lie tells them apart. Lengths are millimetres of the reference
body; along z, about two for each of a patient.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from medcontext.data.known import ACDC
from medcontext.phantom import surroundings
from medcontext.phantom.parts import REACH, Drawer, Part, Patient, Trunk, euler
from medcontext.phantom.settings import Phantom
from medcontext.phantom.solids import Above, Both, Column, Domes, Ellipsoid, Merged, Solid, Tube, Without
from medcontext.phantom.tissues import draw_cine

_MIDDLE = 40.0  # z where the left ventricle is widest

# Of a diagnosis: radius of the left ventricle's cavity, its wall, the right ventricle's width, and the share of that
# radius that systole leaves. Roughly ACDC's, but larger, so that few voxels show the walls.
_DIAGNOSES = {
    "normal": ((30, 38), (16, 19), (32, 44), (0.62, 0.75)),
    "dilated": ((44, 51), (15, 17), (30, 46), (0.86, 0.94)),
    "hypertrophic": ((25, 31), (23, 30), (28, 40), (0.58, 0.7)),
    "infarcted": ((37, 44), (15, 18), (30, 42), (0.78, 0.88)),
    "abnormal right ventricle": ((29, 35), (16, 19), (56, 70), (0.65, 0.78)),
}


@dataclass(frozen=True)
class Shape:
    """One heart at one moment, in millimetres.

    Args:
        centre: of the left ventricle, (x, y).
        turn: rotation (3, 3) from where the right ventricle lies at +x.
        cavity: radius of the left ventricle's blood.
        wall: thickness of the muscle around it.
        right: how far the right ventricle reaches beyond that muscle.
        oval: the left ventricle's length across over the mean of both.
        apex: z of the left ventricle's outer end.
        base: z of the valves, where the ventricles end.
        systole: the share of the cavity's radius that the contraction leaves.
    """

    centre: tuple[float, float]
    turn: np.ndarray
    cavity: float
    wall: float
    right: float
    oval: float
    apex: float
    base: float
    systole: float

    @property
    def radius(self) -> float:
        return self.cavity + self.wall

    def contracted(self) -> "Shape":
        """The same heart at end systole: the muscle keeps its volume, and the valves come nearer to the apex."""
        cavity = self.systole * self.cavity
        wall = np.sqrt(cavity**2 + self.radius**2 - self.cavity**2) - cavity
        right = self.right * (0.3 + 0.7 * self.systole)
        return replace(self, cavity=cavity, wall=wall, right=right, base=self.base - 8)

    def at(self, across: float, front: float, z: float) -> np.ndarray:
        """The point that far from the left ventricle's axis: towards the right ventricle, and at right angles to it."""
        return np.array([*self.centre, z]) + self.turn @ np.array([across, front, 0.0])

    def left(self, radius: float, apex: float) -> Ellipsoid:
        """The left ventricle's outline of that radius at its widest, down to the apex."""
        radii = (radius * self.oval, radius / self.oval, _MIDDLE - apex)
        return Ellipsoid(self.at(0, 0, _MIDDLE), radii, self.turn)

    def crescent(self, apex: float, grown: float = 0.0) -> Ellipsoid:
        """The right ventricle's outline; the left ventricle covers the better part of it."""
        reach, start = self.radius + self.right, -0.25 * self.radius
        radii = np.array([0.5 * (reach - start), 0.85 * self.radius + 0.15 * self.right, 70.0 - apex])
        return Ellipsoid(self.at(0.5 * (reach + start), 0.08 * self.radius, 70.0), radii + grown, self.turn)


def frame(name: str) -> Drawer:
    """What draws a case of ACDC: the frames 01 are end diastole, the patients' other ones end systole.

    Of patient090, whose frames are 04 and 11, both are drawn at end systole.
    """
    return partial(_draw_heart, systole=not name.endswith("frame01"))


def _draw_heart(anatomy: np.random.Generator, tissues: np.random.Generator, _: Phantom, *, systole: bool) -> Patient:
    """One random patient."""
    shape = _shape(anatomy)
    trunk = _trunk(anatomy, shape)
    groups = (surroundings.walls, _chest, _below, surroundings.spine, _vessels)
    parts = [part for group in groups for part in group(anatomy, trunk)]
    parts += _heart(anatomy, trunk, shape.contracted() if systole else shape)
    return Patient(parts, dict(ACDC.labels), draw_cine(tissues), mr=True)


def _shape(rng: np.random.Generator) -> Shape:
    """A heart at end diastole."""
    spans = _DIAGNOSES[str(rng.choice(list(_DIAGNOSES)))]
    cavity, wall, right, systole = (rng.uniform(*span) for span in spans)
    size = rng.uniform(0.9, 1.1)
    centre = rng.uniform(-34, -14), rng.uniform(10, 24) + 0.4 * (cavity + wall - 50)
    turn, oval = euler(0, 0, rng.uniform(-15, 50)), rng.uniform(0.95, 1.05)
    apex, base = -rng.uniform(105, 118), rng.uniform(94, 104)
    return Shape(centre, turn, size * cavity, size * wall, size * right, oval, apex, base, systole)


def _trunk(rng: np.random.Generator, shape: Shape) -> Trunk:
    """A chest that has room for the heart; the nearer to the apex, the more shows of what is below the diaphragm."""
    front = max(shape.radius, shape.at(shape.radius + shape.right, 0.3 * shape.radius, 0)[1] - shape.centre[1])
    width, depth = rng.uniform(124, 146), max(rng.uniform(100, 124), shape.centre[1] + front + 8)
    right = (0.5 * width, -0.75 * depth, rng.uniform(40, 90), rng.uniform(74, 90))
    left = (-0.5 * width, -0.75 * depth, rng.uniform(10, 70), rng.uniform(70, 86))
    wall, fat = rng.uniform(9, 15), rng.uniform(6, 32)
    return Trunk(width, depth, wall, fat, rng.uniform(2.1, 2.6), Domes([right, left]))


def _chest(rng: np.random.Generator, trunk: Trunk) -> Iterator[Part]:
    """The lungs with their vessels, and the muscles before them."""
    for side in (-1, 1):
        muscle = Ellipsoid((side * 0.5 * trunk.width, trunk.depth + 4, 40), (50, rng.uniform(10, 20), 170))
        yield Part(muscle, "muscle", inside=trunk.column(trunk.wall + 0.7 * trunk.fat), gap=0)
    space = Without(trunk.column(0), trunk.diaphragm)
    middle = Column((-8, -0.4 * trunk.depth), (rng.uniform(11, 24), rng.uniform(0.6, 1.2) * trunk.depth))
    yield Part(Without(space, middle), "lung")
    for side in (-1, 1):
        for _ in range(rng.integers(8, 14)):
            start = np.array([side * 50.0, -10.0, rng.uniform(-20, 130)])
            path = start + np.cumsum(rng.uniform((0, -22, -45), (30, 34, 35), (3, 3)) * (side, 1, 1), axis=0)
            yield Part(Tube(list(path), (rng.uniform(4, 6), 4, 2)), "blood", inside=space)


def _below(rng: np.random.Generator, trunk: Trunk) -> Iterator[Part]:
    """Liver, stomach and spleen under the diaphragm."""
    w, d = trunk.width, trunk.depth
    liver = Ellipsoid((0.55 * w, -0.15 * d, -50), (rng.uniform(0.6, 0.85) * w, 1.2 * d, 150), euler(0, 0, 12))
    yield Part(liver, "parenchyma", inside=trunk.abdomen, sheath=2, texture=1.0)
    yield Part(Ellipsoid((-0.8 * w, -0.6 * d, -30), (26, 42, 100)), "soft", inside=trunk.abdomen, sheath=2)
    path = [(-0.5 * w, -0.35 * d, -20), (-0.55 * w, 0, -80), (-0.4 * w, 0.2 * d, -150)]
    radii = np.array([22, 30, 34]) * rng.uniform(0.8, 1.2)
    filling = str(rng.choice(["content", "fluid", "soft"]))
    yield Part(Tube(path, tuple(radii)), "soft", inside=trunk.abdomen, sheath=3, core=(5.0, filling))
    gas = Both([Tube(path, tuple(radii - 5)), Above(1, rng.uniform(-0.1, 0.3) * d)])
    yield Part(gas, "air", inside=trunk.abdomen, gap=8)


def _vessels(rng: np.random.Generator, trunk: Trunk) -> Iterator[Part]:
    """The aorta before the spine, to its left, and the inferior vena cava in the liver."""
    for side, front, bounds in ((-1, 4, trunk.column(0)), (1, 16, trunk.abdomen)):
        x, y, radius = side * rng.uniform(22, 34), trunk.spine_front + front, rng.uniform(13, 18)
        path = [(x + rng.normal(0, 3), y + rng.normal(0, 3), z) for z in (-REACH, -60, 60, REACH)]
        yield Part(Tube(path, (radius,) * 4), "muscle", inside=bounds, core=(2.5, "blood"))


def _heart(rng: np.random.Generator, trunk: Trunk, shape: Shape) -> Iterator[Part]:
    apex, (thin, thick) = shape.apex + rng.uniform(36, 66), rng.uniform((2, 5), (6, 14))
    epicardium, right = shape.left(shape.radius, shape.apex), shape.crescent(apex)
    around = Merged([shape.left(shape.radius + thin, shape.apex - thin), shape.crescent(apex, 5 + thick)], 30)
    yield Part(around, "fat", inside=trunk.column(0), gap=1)
    yield from _above(rng, shape)
    yield Part(_under(shape.crescent(apex, 5), shape.base), "muscle")
    yield Part(_under(right, shape.base), "blood", "right_ventricle")
    yield Part(_under(epicardium, shape.base), "muscle", "myocardium")
    cavity = _under(shape.left(shape.cavity, shape.apex + rng.uniform(24, 34)), shape.base)
    yield Part(cavity, "blood", "left_ventricle")
    for angle in np.pi + rng.uniform((-1.6, 0.8), (-0.8, 1.6))[: rng.integers(0, 3)]:  # papillary muscles
        across, front = 0.62 * shape.cavity * np.array([np.cos(angle), np.sin(angle)])
        path = [shape.at(across, front, z) for z in (-75, rng.uniform(10, 50))]
        yield Part(Both([cavity, Tube(path, (rng.uniform(5, 8), 5))]), "muscle", "left_ventricle")


def _above(rng: np.random.Generator, shape: Shape) -> Iterator[Part]:
    """What the valves lead to, as bright as the ventricles but not labelled: the atria and the outflow tracts."""
    size, z = shape.radius, shape.base + 40
    for across, front, width in ((0, -0.2, 0.7), (1.15, -0.3, 0.6)):
        radii = np.array([width * size, 0.5 * size, 65]) * rng.uniform(1, 1.4, 3)
        atrium = Ellipsoid(shape.at(across * size, front * size, z), radii, shape.turn)
        yield Part(atrium, "muscle", core=(3.0, "blood"))
    for across, front in ((0.3, 0.3), (0.7, 0.8)):
        path = [shape.at(across * size, front * size, end) for end in (shape.base - 10, REACH)]
        yield Part(Tube(path, (rng.uniform(16, 22),) * 2), "muscle", core=(3.0, "blood"))


def _under(solid: Solid, level: float) -> Without:
    return Without(solid, Above(2, level))
