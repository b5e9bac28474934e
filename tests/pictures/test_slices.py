"""Which slices are shown, how they are turned, and where the errors are."""

import numpy as np
import pytest
from monai.metrics import DiceMetric
from torch import as_tensor

from medcontext.phantom import STRUCTURES, Phantom, draw
from medcontext.pictures.slices import choose_slices, display, frame, outlines, overlap, overlaps, window_of


def test_slices_with_most_structures_are_chosen_head_first() -> None:
    label = np.zeros((6, 6, 30), dtype=int)
    label[0, 0] = 1  # everywhere, like a vessel
    label[1, 1, 10:16] = 2
    label[2, 2, 12:24] = 3
    chosen = choose_slices(label, 2)
    assert chosen == sorted(chosen, reverse=True)
    assert any(z in range(12, 16) for z in chosen)
    assert all(10 <= z < 24 for z in chosen)


def test_chosen_slices_lie_apart_and_are_as_many_as_there_can_be() -> None:
    _, label = draw(0, 0, Phantom(size=(32, 32, 24)))
    chosen = choose_slices(label, 3)
    assert len(chosen) == 3
    assert min(-np.diff(chosen)) >= 2
    assert len(choose_slices(label[:, :, 10:12], 5)) == 2


def test_without_structures_the_middle_is_shown() -> None:
    assert choose_slices(np.zeros((4, 4, 9), dtype=int), 3) == [4]
    assert frame(np.zeros((4, 5, 9), dtype=int)) == ((0, 4), (0, 5))


def test_display_is_radiological() -> None:
    """The liver, on the patient's right, is on the viewer's left; the spine, posterior, is below."""
    image, label = draw(0, 2, Phantom(size=(48, 48, 40)))
    z = choose_slices(label, 1)[0]
    shown = display(label[:, :, z])
    liver, spleen = (
        np.argwhere(display((label == STRUCTURES[n]).any(axis=2))).mean(axis=0) for n in ("liver", "spleen")
    )
    assert liver[1] < spleen[1]
    bone = np.argwhere(display(image[0, 14:34, :, z]) > 300).mean(axis=0)
    assert bone[0] > np.argwhere(shown != 0).mean(axis=0)[0]


def test_frame_holds_all_structures_and_stays_inside() -> None:
    label = np.zeros((20, 30, 4), dtype=int)
    label[0:3, 10:20, 1] = 1
    (left, right), (back, front) = frame(label)
    assert (left, right) == (0, 4)
    assert back < 10
    assert front > 20


def test_outlines_go_around_every_pixel_of_the_mask() -> None:
    mask = np.zeros((4, 5), dtype=bool)
    mask[1, 2] = True
    lines = outlines(mask)
    assert {tuple(sorted(map(tuple, line.tolist()))) for line in lines} == {
        ((1.5, 0.5), (2.5, 0.5)),
        ((1.5, 1.5), (2.5, 1.5)),
        ((1.5, 0.5), (1.5, 1.5)),
        ((2.5, 0.5), (2.5, 1.5)),
    }
    mask[1, 3] = True
    assert len(outlines(mask)) == 6  # the edge between the two is not drawn
    assert len(outlines(np.ones((3, 4), dtype=bool))) == 14  # along the border of the picture too
    assert outlines(np.zeros((3, 3), dtype=bool)).shape == (0, 2, 2)


def test_overlaps_agree_with_monai() -> None:
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 4, (2, 8, 9, 7))
    one_hot = [as_tensor(np.stack([a == v for v in (1, 2, 3)])[None].astype(np.float32)) for a in (prediction, truth)]
    np.testing.assert_allclose(overlaps(truth, prediction, (1, 2, 3)), DiceMetric()(*one_hot)[0], rtol=1e-6)


def test_overlap_of_a_missed_and_of_an_absent_structure() -> None:
    some, none = np.array([True, False]), np.array([False, False])
    assert overlap(some, none) == 0
    assert overlap(none, some) == 0
    assert np.isnan(overlap(none, none))


def test_window_puts_the_structures_in_the_middle() -> None:
    rng = np.random.default_rng(0)
    label = np.zeros((10, 10, 10), dtype=int)
    label[2:8, 2:8, 2:8] = 1
    image = np.where(label == 1, rng.normal(100, 20, label.shape), -1000)
    low, high = window_of(image, label)
    assert -100 < low < 60
    assert 140 < high < 300
    low, high = window_of(np.zeros((3, 3, 3)), np.zeros((3, 3, 3)))
    assert low < high
    assert window_of(image, np.zeros_like(label))[0] == pytest.approx(window_of(image, np.ones_like(label))[0])
