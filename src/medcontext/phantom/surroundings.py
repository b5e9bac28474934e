"""What surrounds the organs and is not labelled: walls, chest, spine, bowel, and lumps that only look like organs."""

from collections.abc import Iterator

import numpy as np

from medcontext.phantom.parts import REACH, Part, Trunk, rotation
from medcontext.phantom.solids import Above, Both, Column, Ellipsoid, Ribs, Tube, Without


def walls(rng: np.random.Generator, trunk: Trunk) -> Iterator[Part]:
    back = -trunk.depth - trunk.wall - trunk.fat
    table = Without(Column((0, back + 90), (240, 106)), Column((0, back + 90), (236, 102)))
    yield Part(Without(table, Above(1, back + 12)), "table")
    yield Part(trunk.column(trunk.wall + trunk.fat + 2.5), "skin")
    yield Part(trunk.column(trunk.wall + trunk.fat), "fat")
    yield Part(trunk.column(trunk.wall), "muscle")
    yield Part(trunk.column(0), "fat")
    ribs = Ribs(trunk.column(trunk.wall / 2), rng.uniform(3.5, 4.5), rng.uniform(28, 36), 0.6, rng.uniform(0, 25))
    yield Part(Without(ribs, Above(1, 0.72 * trunk.depth)), "bone")


def spine(rng: np.random.Generator, trunk: Trunk) -> Iterator[Part]:
    y = trunk.spine_front - 18
    for side in (-1, 1):
        yield Part(Column((side * 31, y - 30), (30, 20)), "muscle")
        psoas = [(side * 27, y, 10), (side * 33, y + 3, -50), (side * 42, y + 8, -130), (side * 48, y + 12, -REACH)]
        yield Part(Tube(psoas, (5, 15, 20, 22)), "muscle")
        process = [(side * 12, y - 20, z) for z in (-REACH, REACH)]
        yield Part(Tube(process, (6, 6)), "bone")
    yield Part(Tube([(0, y - 34, -REACH), (0, y - 34, REACH)], (5, 5)), "bone")
    yield Part(Tube([(0, y - 42, -REACH), (0, y - 42, REACH)], (4, 4)), "bone")
    yield Part(Column((0, y), (21, 17)), "soft")
    height, start = rng.uniform(30, 35), rng.uniform(0, 30)
    for z in np.arange(-160 + start, 160, height):
        yield Part(Ellipsoid((0, y, z), (24, 19, height * 0.46)), "bone")
        yield Part(Ellipsoid((0, y, z), (19.5, 15, height * 0.38)), "marrow")
    yield Part(Column((0, y - 23), (9, 7)), "cord")


def chest(rng: np.random.Generator, trunk: Trunk) -> Iterator[Part]:
    above = Both([Without(trunk.column(-2), trunk.diaphragm), Above(2, 0)])
    mediastinum = Column((-4, 0), (24, trunk.depth * 0.8))
    yield Part(Without(above, mediastinum), "lung")
    heart = Ellipsoid((-22, 22, rng.uniform(122, 134)), (62, 44, 34), rotation(rng, 15))
    yield Part(heart, "blood", sheath=4)


def bowel(rng: np.random.Generator, trunk: Trunk) -> Iterator[Part]:
    """Unlabelled, and of the tissues of the organs, so that being bright and round does not make an organ."""
    flank = 0.74 * trunk.width
    front = 0.6 * trunk.depth
    yield from _gut(
        rng, trunk, [(flank, -8, -REACH), (flank, -8, -110), (0.8 * flank, 0.3 * front, -52)], rng.uniform(15, 19)
    )
    yield from _gut(
        rng, trunk, [(-flank, -16, -REACH), (-flank, -16, -90), (-flank, -6, rng.uniform(-25, 5))], rng.uniform(12, 17)
    )
    low = rng.uniform(-85, -55)
    across = [(0.72 * flank, front, -45), (0, front + 6, low), (-0.75 * flank, 0.8 * front, -15)]
    yield from _gut(rng, trunk, across, rng.uniform(12, 17))
    for _ in range(rng.integers(12, 18)):
        centre = np.array([rng.uniform(-75, 65), rng.uniform(-5, 60), rng.uniform(-130, -30)])
        steps = rng.normal(0, 1, (4, 3)) * (24, 13, 13)
        yield from _gut(rng, trunk, list(centre + np.cumsum(steps, axis=0)), rng.uniform(9, 14))
    jejunum = np.array([-55, 25, -25]) + rng.normal(0, (10, 12, 12)) + rng.normal(0, (18, 12, 12), (4, 3))
    yield from _gut(rng, trunk, list(jejunum), rng.uniform(10, 14))


def _gut(rng: np.random.Generator, trunk: Trunk, points: list, radius: float) -> Iterator[Part]:
    points = [np.asarray(point) + rng.normal(0, 4, 3) for point in points]
    radii = radius * rng.uniform(0.85, 1.15, len(points))
    filling = str(rng.choice(["soft", "parenchyma", "cortex", "blood", "fluid", "content", "content", "contrast"]))
    yield Part(Tube(points, tuple(radii)), "soft", inside=trunk.abdomen, sheath=1.5, core=(3.5, filling))
    if filling in ("content", "fluid", "contrast") and rng.random() < 0.6:
        level = float(np.mean([point[1] for point in points])) + rng.uniform(-2, 8)
        gas = Both([Tube(points, tuple(radii - 3.5)), Above(1, level)])
        yield Part(gas, "air", inside=trunk.abdomen, gap=5.5)


def decoys(rng: np.random.Generator, trunk: Trunk) -> Iterator[Part]:
    """Lumps that look like pieces of an organ, where there is none."""
    for tissue in ("parenchyma", "cortex", "blood", "fluid"):
        for _ in range(rng.integers(0, 3)):
            centre = (rng.uniform(-80, 80), rng.uniform(-10, 50), rng.uniform(-125, -45))
            lump = Ellipsoid(centre, rng.uniform(9, 22, 3), rotation(rng, 180))
            yield Part(lump, tissue, inside=trunk.abdomen, sheath=1.5, texture=float(tissue == "parenchyma"))
