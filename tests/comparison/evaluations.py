"""Evaluations whose scores are given."""

import math
from collections.abc import Callable

from medcontext.evaluation.metrics import Score

UNITS = {"dsc": "fraction, 0 to 1", "hd95_pooled": "mm", "hd95_max": "mm"}
Write = Callable[..., str]


def score(structure: str, dsc: float, status: str = "both") -> Score:
    """With an HD95 that follows the DSC, and as many voxels in the label as its status allows."""
    hd95 = math.nan if math.isnan(dsc) else 10 * (1 - dsc)
    return Score(structure, status, dsc, hd95, hd95, label_voxels=100 if status in ("both", "missed") else 0)


def plain(values: list[float], shift: float = 0.0) -> dict[str, list[Score]]:
    return {f"case_{i}": [score("liver", v + shift), score("spleen", v)] for i, v in enumerate(values)}
