"""What the page tells apart by colour stays apart for colour-blind eyes.

Simulated as by Machado, Oliveira and Fernandes (2009), in full severity; differences are CIE 1976 in Lab.
"""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from medcontext.pictures.colours import COLOURS, ERRORS
from medcontext.reporting.drawing import MARKERS, MODEL_COLOURS

EYES = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
CLEARLY = 20  # one is a just noticeable difference, side by side


def lab(colour: str, eyes: str) -> np.ndarray:
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(np.array(EYES[eyes]) @ linear, 0, 1) / (TO_XYZ @ np.ones(3))
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(a: str, b: str) -> float:
    """The ratio of luminances that WCAG defines."""
    luminances = sorted(float(TO_XYZ[1] @ (np.array(to_rgb(c)) ** 2.2)) for c in (a, b))
    return (luminances[1] + 0.05) / (luminances[0] + 0.05)


@pytest.mark.parametrize("eyes", EYES)
def test_the_kinds_of_errors_stay_apart_whatever_light_falls_on_them(eyes: str) -> None:
    for a, b in combinations(ERRORS.values(), 2):
        hues = lab(a, eyes)[1:] - lab(b, eyes)[1:]
        assert np.linalg.norm(hues) > CLEARLY, (a, b)


@pytest.mark.parametrize(("eyes", "least"), [("normal", CLEARLY), *((eyes, 10) for eyes in list(EYES)[1:])])
def test_any_two_structures_may_be_neighbours_and_beside_any_error(eyes: str, least: float) -> None:
    for a, b in combinations([*COLOURS, *ERRORS.values()], 2):
        assert np.linalg.norm(lab(a, eyes) - lab(b, eyes)) > least, (a, b)


@pytest.mark.parametrize("eyes", EYES)
def test_the_first_models_stay_apart_and_all_have_their_marker(eyes: str) -> None:
    for a, b in combinations(MODEL_COLOURS[:3], 2):
        assert np.linalg.norm(lab(a, eyes) - lab(b, eyes)) > CLEARLY, (a, b)
    assert len(set(MARKERS)) == len(MODEL_COLOURS)


@pytest.mark.parametrize("paper", ["#ffffff", "#16181b"])
def test_models_stand_out_in_light_and_dark(paper: str) -> None:
    for colour in MODEL_COLOURS:
        assert contrast(colour, paper) > 2.5, colour
