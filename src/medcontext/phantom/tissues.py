"""How bright each tissue is: Hounsfield units in CT, arbitrary units in the MR-like contrasts."""

import numpy as np

CONTRASTS = ("CT",)
MR_CONTRASTS = ("T1", "T2", "PD", "DWI")

# What shares a row here shares its intensity in every scan: liver and spleen are both `parenchyma`, the two
# kidneys `cortex` and `medulla`, aorta and vena cava `blood`, the pancreas and bowel walls `soft`.
_HOUNSFIELD: dict[str, tuple[float, float]] = {
    "air": (-1000, -1000),
    "lung": (-870, -790),
    "fat": (-115, -92),
    "skin": (10, 40),
    "muscle": (45, 68),
    "marrow": (130, 230),
    "bone": (380, 620),
    "cord": (15, 40),
    "parenchyma": (88, 135),
    "cortex": (120, 200),
    "medulla": (95, 165),
    "blood": (120, 210),
    "soft": (65, 105),
    "fluid": (0, 18),
    "content": (15, 55),
    "contrast": (190, 320),
    "table": (-120, 60),
}
_MR: dict[str, tuple[float, float, float, float]] = {
    "air": (10, 10, 10, 10),
    "lung": (45, 50, 60, 30),
    "fat": (850, 600, 760, 70),
    "skin": (420, 260, 420, 120),
    "muscle": (390, 190, 460, 170),
    "marrow": (560, 330, 500, 110),
    "bone": (110, 70, 120, 30),
    "cord": (330, 480, 560, 420),
    "parenchyma": (520, 310, 560, 330),
    "cortex": (480, 520, 640, 560),
    "medulla": (330, 610, 640, 480),
    "blood": (250, 160, 330, 90),
    "soft": (560, 380, 580, 360),
    "fluid": (170, 920, 820, 260),
    "content": (330, 640, 620, 180),
    "contrast": (230, 850, 760, 150),
    "table": (10, 10, 10, 10),
}
_MR_VARIATION = 0.18
_CINE: dict[str, tuple[float, float]] = {  # of the muscle's brightness; the blood's is drawn in `draw_cine`
    "skin": (1.2, 1.8),
    "marrow": (0.9, 1.6),
    "bone": (0.2, 0.4),
    "cord": (1.0, 1.5),
    "parenchyma": (0.85, 1.4),
    "soft": (1.1, 1.7),
    "fluid": (2.6, 3.6),
    "content": (0.5, 1.6),
}


def contrast_names(channels: int) -> tuple[str, ...]:
    """The channels' names: CT alone, or the first of the MR-like contrasts.

    >>> contrast_names(2)
    ('T1', 'T2')
    """
    return CONTRASTS if channels == 1 else MR_CONTRASTS[:channels]


def draw_tissues(rng: np.random.Generator, channels: int) -> dict[str, np.ndarray]:
    """One patient's intensities: for each tissue its value in each channel, float32 (C,)."""
    if channels == 1:
        return {name: np.array([rng.uniform(*span)], dtype=np.float32) for name, span in _HOUNSFIELD.items()}
    tissues = {}
    for name, values in _MR.items():
        variation = rng.uniform(1 - _MR_VARIATION, 1 + _MR_VARIATION, channels)
        tissues[name] = (variation * values[:channels]).astype(np.float32)
    return tissues


def draw_cine(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One patient's intensities in cine MR, where blood, fat and fluid are bright; float32 (1,) for each tissue."""
    blood = rng.uniform(430, 850)
    muscle = blood * rng.uniform(0.26, 0.5)
    tissues = {name: muscle * rng.uniform(*span) for name, span in _CINE.items()}
    tissues |= {"blood": blood, "muscle": muscle, "fat": blood * rng.uniform(0.75, 1.25)}
    tissues |= {"air": 10.0, "table": 10.0, "lung": rng.uniform(25, 70)}
    return {name: np.array([value], dtype=np.float32) for name, value in tissues.items()}
