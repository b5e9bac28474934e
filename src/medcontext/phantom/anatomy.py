"""One drawn patient: a list of parts in the order of painting; later ones cover earlier ones."""

import numpy as np

from medcontext.phantom import organs, surroundings
from medcontext.phantom.parts import Part, draw_trunk

_GROUPS = (
    surroundings.walls,
    surroundings.chest,
    surroundings.spine,
    surroundings.bowel,
    surroundings.decoys,
    organs.liver,
    organs.spleen,
    organs.stomach,
    organs.kidneys,
    organs.pancreas,
    organs.vessels,
)


def draw_anatomy(rng: np.random.Generator, details: bool = False) -> list[Part]:
    """One random patient, in the millimetres of the reference body (see `parts.py`)."""
    trunk = draw_trunk(rng)
    groups = (*_GROUPS, organs.details) if details else _GROUPS
    return [part for group in groups for part in group(rng, trunk)]
