"""What a drawn patient consists of: parts, and the body's walls that they are placed by.

Millimetres of a reference body, the origin in its middle at the height of the pancreas: x to the right, y anterior,
z superior.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from medcontext.phantom.settings import Phantom
from medcontext.phantom.solids import Both, Column, Domes, Solid

STRUCTURES = {
    "spleen": 1,
    "right_kidney": 2,
    "left_kidney": 3,
    "gallbladder": 4,
    "liver": 5,
    "stomach": 6,
    "aorta": 7,
    "vena_cava": 8,
    "pancreas": 9,
}

DETAILS = {"portal_vein": 10, "esophagus": 11, "right_adrenal": 12, "left_adrenal": 13}
"""Labelled too where `Phantom.details` is set."""

REACH = 200.0
"""Beyond any volume, for what runs through all of it."""


@dataclass(frozen=True)
class Part:
    """A solid filled with a tissue.

    Args:
        solid: the shape.
        tissue: a name of `tissues.py`.
        structure: the labelled structure that it belongs to; None makes its voxels background.
        inside: what bounds it, such as the abdominal wall.
        gap: how far it keeps from that, in millimetres.
        sheath: thickness of the fat around it, in millimetres.
        core: thickness of the wall around what fills it, and that tissue, of the same structure.
        texture: how strongly the fine vessels of the liver and spleen show in it, 0 to 1.
    """

    solid: Solid
    tissue: str
    structure: str | None = None
    inside: Solid | None = None
    gap: float = 2.0
    sheath: float = 0.0
    core: tuple[float, str] | None = None
    texture: float = 0.0


@dataclass(frozen=True)
class Patient:
    """One drawn patient.

    Args:
        parts: in the order of painting; later ones cover earlier ones.
        labels: the value of each labelled structure.
        values: how bright each tissue is, float32 (C,).
        mr: whether a coil's bias field is added, and nothing is below 0; else the brightness is Hounsfield units.
    """

    parts: list[Part]
    labels: dict[str, int]
    values: dict[str, np.ndarray]
    mr: bool


Drawer = Callable[[np.random.Generator, np.random.Generator, Phantom], Patient]
"""Draws one random patient, in the millimetres of the reference body: the one generator is for shapes and places, the
other for brightness."""


@dataclass(frozen=True)
class Trunk:
    """The body's walls, which the organs are placed by."""

    width: float
    depth: float
    wall: float
    fat: float
    exponent: float
    diaphragm: Domes

    def column(self, outside: float) -> Column:
        """The body's cross-section, that far outside the inner wall; thicker at the sides and the back."""
        shift = -0.12 * max(outside, 0.0)
        return Column((0.0, shift), (self.width + outside, self.depth + 0.85 * outside), self.exponent)

    @cached_property
    def abdomen(self) -> Solid:
        """What lies inside the walls and under the diaphragm."""
        return Both([self.column(0), self.diaphragm])

    @property
    def spine_front(self) -> float:
        """Where, in y, the vertebral bodies end and the great vessels begin."""
        return -0.36 * self.depth


def draw_trunk(rng: np.random.Generator) -> Trunk:
    """One random body."""
    width, depth = rng.uniform(108, 126), rng.uniform(76, 90)
    right = (0.5 * width, rng.uniform(-8, 8), rng.uniform(88, 106), rng.uniform(74, 84))
    left = (-0.52 * width, rng.uniform(-8, 8), rng.uniform(84, 102), rng.uniform(70, 80))
    middle = (0.0, rng.uniform(10, 25), rng.uniform(72, 86), 82.0)
    return Trunk(
        width, depth, rng.uniform(10, 15), rng.uniform(7, 30), rng.uniform(2.1, 2.5), Domes([right, left, middle])
    )


def rotation(rng: np.random.Generator, degrees: float) -> np.ndarray:
    """A random rotation, by at most that many degrees about each axis."""
    return euler(*rng.uniform(-degrees, degrees, 3))


def euler(about_x: float, about_y: float, about_z: float) -> np.ndarray:
    """Rotations about x, then y, then z, in degrees."""
    matrix = np.eye(3)
    for axis, degrees in enumerate((about_x, about_y, about_z)):
        angle = np.deg2rad(degrees)
        first, second = ((1, 2), (2, 0), (0, 1))[axis]
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix
