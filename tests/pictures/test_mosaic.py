"""The picture: what it shows is read back from its pixels."""

from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from medcontext.errors import InputError
from medcontext.pictures.colours import colours_of
from medcontext.pictures.mosaic import MosaicCase, _scores, draw_mosaic
from medcontext.pictures.panel import ERROR

STRUCTURES = {"liver": 1, "right_kidney": 7}


def case(name: str = "a", *, wrong: bool = True, depth: int = 6) -> MosaicCase:
    image = np.random.default_rng(0).normal(0, 10, (20, 24, depth))
    truth = np.zeros(image.shape, dtype=np.uint8)
    truth[12:18, 8:20], truth[3:7, 5:9] = 1, 7
    prediction = truth.copy()
    if wrong:
        prediction[3:7, 5:9] = 0
    return MosaicCase(name, image, truth, {"baseline": prediction, "MedContext": truth.copy()})


def pixels_of(path: Path, colour: str) -> np.ndarray:
    """Rows and columns of the pixels of exactly that colour."""
    picture = matplotlib.image.imread(path)[..., :3]
    return np.argwhere(np.abs(picture - np.array(to_rgb(colour))).max(axis=-1) < 0.02)


def test_errors_are_outlined_in_the_panel_of_the_prediction_that_has_them(tmp_path: Path) -> None:
    path = draw_mosaic([case()], STRUCTURES, tmp_path / "a.png", slices=1)
    width = matplotlib.image.imread(path).shape[1]
    red = pixels_of(path, ERROR)
    assert len(red) > 50
    # Panels are 2.55 inches and 0.06 apart, after 0.48; the third is the baseline's.
    left, right = (150 * (0.48 + 2 * 2.61), 150 * (0.48 + 3 * 2.61))
    assert width > right
    assert (red[:, 1] > left).all()
    assert (red[:, 1] < right).all()
    # The left kidney's place: low H is the patient's left, so the viewer's right.
    assert red[:, 1].mean() > (left + right) / 2


def test_a_perfect_prediction_has_no_red(tmp_path: Path) -> None:
    path = draw_mosaic([case(wrong=False)], STRUCTURES, tmp_path / "a.png", slices=1)
    assert len(pixels_of(path, ERROR)) == 0


def test_an_error_far_from_every_structure_is_shown(tmp_path: Path) -> None:
    far = case(wrong=False)
    far.predictions["baseline"][0, 23] = 1
    assert len(pixels_of(draw_mosaic([far], STRUCTURES, tmp_path / "a.png", slices=1), ERROR)) > 20


def test_the_legend_has_every_colour(tmp_path: Path) -> None:
    path = draw_mosaic([case()], STRUCTURES, tmp_path / "a.png", slices=1)
    for colour in colours_of(STRUCTURES).values():
        assert len(pixels_of(path, colour)) > 100


def test_several_cases_slices_and_predictions_make_a_larger_picture(tmp_path: Path) -> None:
    one = matplotlib.image.imread(draw_mosaic([case()], STRUCTURES, tmp_path / "1.png", slices=1)).shape
    four = matplotlib.image.imread(
        draw_mosaic([case("a"), case("b")], STRUCTURES, tmp_path / "4.png", slices=2, title="Four rows")
    ).shape
    assert four[0] > 3 * one[0]
    assert four[1] == one[1]
    truth_only = replace(case(), predictions={})
    none = matplotlib.image.imread(draw_mosaic([truth_only], STRUCTURES, tmp_path / "0.png", slices=1)).shape
    assert none[1] < one[1]


def test_scores_average_cases_and_count_what_is_missed() -> None:
    both = [case(), case("b", wrong=False)]
    assert _scores(both, STRUCTURES, "baseline") == pytest.approx([1.0, 0.5, 0.75])
    assert _scores(both, STRUCTURES, "MedContext") == pytest.approx([1.0, 1.0, 1.0])
    absent = _scores(both, {**STRUCTURES, "spleen": 3}, "MedContext")
    assert np.isnan(absent[2])
    assert absent[3] == 1.0


def test_a_constant_image_and_an_empty_truth_are_drawn(tmp_path: Path) -> None:
    zeros = np.zeros((8, 8, 4))
    empty = MosaicCase("empty", zeros, zeros.astype(int), {"baseline": zeros.astype(int)})
    assert draw_mosaic([empty], STRUCTURES, tmp_path / "a.png").stat().st_size > 1000


def test_what_cannot_be_drawn_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Case 'a': the image is .* baseline is"):
        replace(case(), predictions={"baseline": np.zeros((2, 2, 2))})
    with pytest.raises(InputError, match="at least one case"):
        draw_mosaic([], STRUCTURES, tmp_path / "a.png")
    other = replace(case("b"), predictions={"other": case().truth})
    with pytest.raises(InputError, match="same predictions"):
        draw_mosaic([case(), other], STRUCTURES, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
