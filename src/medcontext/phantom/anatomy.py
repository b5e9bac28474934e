"""One drawn abdomen."""

import numpy as np

from medcontext.phantom import organs, surroundings
from medcontext.phantom.parts import DETAILS, STRUCTURES, Patient, draw_trunk
from medcontext.phantom.settings import Phantom
from medcontext.phantom.tissues import draw_tissues

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


def draw_abdomen(anatomy: np.random.Generator, tissues: np.random.Generator, settings: Phantom) -> Patient:
    """One random patient, as `parts.Drawer` says."""
    trunk = draw_trunk(anatomy)
    groups = (*_GROUPS, organs.details) if settings.details else _GROUPS
    parts = [part for group in groups for part in group(anatomy, trunk)]
    labels = STRUCTURES | DETAILS if settings.details else STRUCTURES
    return Patient(parts, labels, draw_tissues(tissues, settings.channels), mr=settings.channels > 1)
