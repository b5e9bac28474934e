"""The labelled organs, and the vessels and gut that belong to them."""

from collections.abc import Iterator

import numpy as np

from medcontext.phantom.parts import REACH, Part, Trunk, euler, rotation
from medcontext.phantom.solids import Above, Both, Ellipsoid, Merged, Tube, Without


def liver(rng: np.random.Generator, trunk: Trunk) -> Iterator[Part]:
    bottom = rng.uniform(-62, -25)
    right = Ellipsoid(
        (0.56 * trunk.width, rng.uniform(-4, 6), 0.5 * (bottom + 115)),
        (0.55 * trunk.width, 0.95 * trunk.depth, 0.5 * (115 - bottom)),
        rotation(rng, 6),
    )
    reach = rng.uniform(-62, -8)
    left = Ellipsoid(
        (0.5 * (reach + 45), 0.5 * trunk.depth + rng.uniform(-4, 4), rng.uniform(42, 56)),
        (0.5 * (75 - reach), rng.uniform(26, 36), rng.uniform(32, 44)),
        rotation(rng, 10),
    )
    fossa = Ellipsoid((0.45 * trunk.width, -0.85 * trunk.depth, -25), (0.5 * trunk.width, 0.55 * trunk.depth, 88))
    whole = Without(Merged([right, left], 18), fossa)  # the kidney lies behind the liver, not in it
    yield Part(whole, "parenchyma", "liver", inside=trunk.abdomen, sheath=1.5, texture=1.0)
    size = rng.uniform(0.8, 1.25)
    bed = (0.4 * trunk.width + rng.normal(0, 5), 0.42 * trunk.depth + rng.normal(0, 4), rng.uniform(-14, 6))
    bladder = Ellipsoid(bed, (13 * size, 14 * size, 25 * size), rotation(rng, 35))
    yield Part(bladder, "soft", "gallbladder", inside=trunk.abdomen, core=(2.0, "fluid"))


def spleen(rng: np.random.Generator, trunk: Trunk) -> Iterator[Part]:
    size = rng.uniform(0.85, 1.25)
    centre = np.array([-0.76 * trunk.width, -0.3 * trunk.depth, 42.0]) + rng.normal(0, (3, 6, 9))
    turn = rotation(rng, 14)
    whole = Ellipsoid(centre, np.array([26, 40, 46]) * size, turn)
    hollow = Ellipsoid(centre + np.array([36 * size, 12, -6]), np.array([24, 34, 40]) * size, turn)
    yield Part(Without(whole, hollow), "parenchyma", "spleen", inside=trunk.abdomen, sheath=2.5, texture=1.0)


def stomach(rng: np.random.Generator, trunk: Trunk) -> Iterator[Part]:
    full = rng.uniform(0.75, 1.15)
    path = np.array(
        [(-34, -8, 78), (-0.46 * trunk.width, 12, 52), (-48, 0.5 * trunk.depth, 18), (-12, 44, -8), (24, 34, -2)]
    ) + rng.normal(0, (6, 4, 7), (5, 3))
    radii = np.array([24, 30, 25, 17, 11]) * full
    filling = str(rng.choice(["content", "content", "fluid", "contrast", "soft"]))
    whole = Tube(list(path), tuple(radii))
    yield Part(whole, "soft", "stomach", inside=trunk.abdomen, sheath=2, core=(4.5, filling))
    if rng.random() < 0.75:
        gas = Both([Tube(list(path), tuple(radii - 4.5)), Above(1, rng.uniform(22, 46))])
        yield Part(gas, "air", "stomach", inside=trunk.abdomen, gap=6.5)


def kidneys(rng: np.random.Generator, trunk: Trunk) -> Iterator[Part]:
    """Both from one distribution, mirrored; neither side is always the higher or the larger."""
    for side, structure in ((1, "right_kidney"), (-1, "left_kidney")):
        size = rng.uniform(0.88, 1.12)
        centre = np.array([side * 0.5 * trunk.width, -0.47 * trunk.depth, -20.0]) + rng.normal(0, (4, 4, 12))
        radii = np.array([26, 28, 54]) * size * rng.uniform(0.95, 1.05, 3)
        turn = euler(rng.normal(8, 5), side * rng.normal(-10, 5), side * rng.normal(35, 12))
        inward = turn @ np.array([-side * 1.0, 0, 0])
        hilum = Ellipsoid(centre + inward * radii[0] * 1.05, radii * (0.62, 0.36, 0.3), turn)
        yield Part(Without(Ellipsoid(centre, radii, turn), hilum), "cortex", structure, sheath=rng.uniform(3, 8))
        inner = Ellipsoid(centre + inward * 3, radii * (0.66, 0.62, 0.74), turn)
        yield Part(Without(inner, hilum), "medulla", structure)
        yield Part(Ellipsoid(centre + inward * radii[0] * 0.55, radii * (0.3, 0.2, 0.34), turn), "fat")
        vein = [centre + inward * radii[0] * 0.8, (side * 10, trunk.spine_front + 14, centre[2] + 12)]
        yield Part(Tube(vein, (4.5, 4.5)), "blood")


def pancreas(rng: np.random.Generator, trunk: Trunk) -> Iterator[Part]:
    front = trunk.spine_front + 26
    path = np.array(
        [
            (36, front + 4, -26),
            (30, front + 10, -8),
            (4, front + 18, 4),
            (-26, front + 10, 14),
            (-0.56 * trunk.width, front - 16, 26),
        ]
    ) + rng.normal(0, (3, 3, 5), (5, 3))
    radii = np.array([13, 15, 10, 11, 9]) * rng.uniform(0.85, 1.2)
    duodenum = [path[1] + (20, 2, 14), path[0] + (18, -2, -4), path[0] + (8, -4, -26), path[0] + (-40, -4, -34)]
    filling = str(rng.choice(["fluid", "content", "soft"]))
    yield Part(Tube(duodenum, (11, 12, 11, 10)), "soft", sheath=1.5, core=(4.0, filling))
    yield Part(Tube(list(path), tuple(radii)), "soft", "pancreas", sheath=2)
    behind = path[2:] + (0, -radii[2:, None].mean(), 2) * np.array([0, 1, 1])
    portal = [(0.42 * trunk.width, 10, 42), (22, front + 14, 20), *behind]
    yield Part(Tube(portal, (4, 6, 5.5, 4.5, 3.5)), "blood", "portal_vein")


def vessels(rng: np.random.Generator, trunk: Trunk) -> Iterator[Part]:
    """Aorta left, vena cava right of the midline; caliber, path and content are drawn alike."""
    front = trunk.spine_front
    middle = rng.normal(3, 4)
    for side, structure in ((-1, "aorta"), (1, "vena_cava")):
        radius = rng.uniform(9.5, 13)
        x = middle + side * rng.uniform(14, 19)
        knots = [(x + rng.normal(0, 2.5), front + radius + rng.normal(0, 2.5), z) for z in (-90, -30, 30, 90)]
        ends = [(*knots[0][:2], -REACH), *knots, (*knots[-1][:2], REACH)]
        yield Part(Tube(ends, tuple(radius * rng.uniform(0.93, 1.07, 6))), "blood", structure, sheath=1.5)
    x = middle + rng.uniform(-6, 6)
    for shift in (-6, 6):
        branch = [(x + shift, front + 34, 0), (x + shift * 1.6, front + 48, -60), (x + shift * 3, front + 46, -120)]
        yield Part(Tube(branch, (4.5, 4, 3.5)), "blood")


def details(rng: np.random.Generator, trunk: Trunk) -> Iterator[Part]:
    """Esophagus and adrenal glands; the last to be drawn, so that the rest is the same without them."""
    front = trunk.spine_front
    path = np.array([(-4, front + 24, REACH), (-6, front + 24, 110), (-16, front + 34, 88), (-32, -6, 78)])
    yield Part(Tube(list(path + rng.normal(0, 2, (4, 3))), (8, 8, 8.5, 9)), "soft", "esophagus")
    for side, structure in ((1, "right_adrenal"), (-1, "left_adrenal")):
        top = np.array([side * 30, front + 8, 34]) + rng.normal(0, 3, 3)
        for out in (9, -4):  # two limbs
            end = top + np.array([side * out, -14, -16])
            yield Part(Tube([top, end], (5.5, 4)), "soft", structure)
