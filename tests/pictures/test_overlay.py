"""The picture of a watched case: what it shows is read back from its pixels."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from medcontext.errors import InputError
from medcontext.pictures.colours import COLOURS, colours_of
from medcontext.pictures.mosaic import MosaicCase
from medcontext.pictures.overlay import DPI, GAP, LEFT, WIDTH, _legend_lines, draw_overlay, draw_unlabelled
from medcontext.pictures.panel import ERROR

STRUCTURES = {"liver": [1], "right_kidney": [7]}


def case(depth: int = 6) -> MosaicCase:
    image = np.random.default_rng(0).normal(0, 10, (20, 24, depth)).astype(np.float32)
    truth = np.zeros(image.shape, np.int32)
    truth[12:18, 8:20], truth[3:7, 5:9] = 1, 7
    missed = np.where(truth == 7, 0, truth)
    return MosaicCase("a", image, truth, {"Student": missed, "Teacher": truth.copy()})


def where(picture: np.ndarray, colour: str) -> np.ndarray:
    """Rows and columns of the pixels of exactly that colour."""
    return np.argwhere(np.abs(picture / 255 - np.array(to_rgb(colour))).max(axis=-1) < 0.02)


def columns(number: int, of: int) -> tuple[float, float]:
    """Where a column begins and ends, in pixels."""
    pitch = (WIDTH - LEFT) / of
    return DPI * (LEFT + number * pitch), DPI * (LEFT + (number + 1) * pitch - GAP)


def test_errors_are_outlined_in_the_panel_of_the_prediction_that_has_them() -> None:
    picture = draw_overlay(case(), STRUCTURES, "a, step 1 of 2")
    assert picture.dtype == np.uint8
    assert picture.shape[1:] == (1460, 3)
    red = where(picture, ERROR)
    left, right = columns(2, of=4)
    assert len(red) > 50
    assert left < red[:, 1].min()
    assert red[:, 1].max() < right
    assert red[:, 1].mean() > (left + right) / 2  # low H is the patient's left, the viewer's right


def test_a_perfect_prediction_has_no_red() -> None:
    perfect = replace(case(), predictions={"Student": case().truth})
    assert len(where(draw_overlay(perfect, STRUCTURES, ""), ERROR)) == 0


def test_pictures_of_one_case_lie_over_each_other_whatever_the_predictions() -> None:
    noise = np.random.default_rng(1).choice([0, 1, 7], case().truth.shape)
    before = draw_overlay(replace(case(), predictions={"Student": noise}), STRUCTURES, "")
    after = draw_overlay(replace(case(), predictions={"Student": case().truth}), STRUCTURES, "")
    assert before.shape == after.shape
    truth_ends = int(columns(1, of=3)[1])
    assert np.array_equal(before[80:, :truth_ends], after[80:, :truth_ends])


def test_a_masked_view_is_drawn_behind_its_prediction_alone() -> None:
    plain = draw_overlay(case(), STRUCTURES, "")
    masked = draw_overlay(case(), STRUCTURES, "", {"Teacher": np.full(case().image.shape, 1000.0)})
    changed = np.argwhere((plain != masked).any(-1))
    assert changed[:, 1].min() > columns(3, of=4)[0] - 2
    assert len(where(masked, "#FFFFFF")) > len(where(plain, "#FFFFFF")) + 5000


def test_regions_that_share_values_are_compared_as_regions() -> None:
    """A value that belongs to no region is neither drawn nor an error."""
    truth = case().truth
    truth[0, 0], truth[12:14, 8:20] = 5, 2
    regions = {"whole": [1, 2], "core": [2]}
    right = MosaicCase("a", case().image, truth, {"Student": np.where(truth <= 2, truth, 0)})
    picture = draw_overlay(right, regions, "")
    assert len(where(picture, ERROR)) == 0
    swapped = replace(right, predictions={"Student": np.where(truth == 2, 1, right.predictions["Student"])})
    assert len(where(draw_overlay(swapped, regions, ""), ERROR)) > 50


def test_the_legend_has_every_colour_in_lines_that_fit() -> None:
    picture = draw_overlay(case(), STRUCTURES, "")
    for colour in colours_of(STRUCTURES).values():
        assert len(where(picture, colour)) > 50
    lines = _legend_lines({f"a_structure_with_a_long_name_{n}": [n] for n in range(1, 15)})
    assert [colour for line in lines for _, colour, _ in line] == list(COLOURS)
    assert all(x + 0.085 * len(name) < WIDTH for line in lines for x, _, name in line)


def test_flat_tall_and_empty_cases_are_drawn() -> None:
    for shape in ((40, 6, 3), (6, 40, 3)):
        empty = np.zeros(shape, np.int32)
        picture = draw_overlay(MosaicCase("e", empty, empty, {"Student": empty}), STRUCTURES, "")
        assert picture.shape[0] < 700
    with pytest.raises(InputError, match="at least one structure"):
        draw_overlay(case(), {}, "")


def test_a_name_with_dollars_is_no_formula() -> None:
    names = {r"$liver \frac$": [1], "right_kidney": [7]}
    assert (
        draw_overlay(case(), names, r"case $a \frac$, step 1 of 2").shape == draw_overlay(case(), STRUCTURES, "").shape
    )


def test_of_a_scan_without_a_label_only_the_student_is_compared_and_what_is_no_target_is_dark() -> None:
    shown = replace(case(), predictions={"Student": case().predictions["Student"]})
    everywhere = np.ones(shown.truth.shape, bool)
    inside = everywhere & (shown.truth == 0)
    whole, part = (draw_unlabelled(shown, sure, STRUCTURES, "a (no label)") for sure in (everywhere, inside))
    assert whole.shape == part.shape
    start, end = (int(edge) for edge in columns(2, of=4))
    dark = [(picture[80:, start:end].max(axis=-1) < 40).mean() for picture in (whole, part)]
    assert dark[1] > dark[0] + 0.05  # the structures are no target there
    assert np.array_equal(whole[80:, :start], part[80:, :start])
    red = where(whole, ERROR)
    assert red[:, 1].min() > columns(3, of=4)[0]  # where the student differs from the teacher, in its panel alone
