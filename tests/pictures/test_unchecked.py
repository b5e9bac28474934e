"""A picture of segmentations that nobody has checked."""

from pathlib import Path

import numpy as np
from matplotlib.image import imread

from medcontext.pictures.unchecked import Unchecked, draw_unchecked


def test_the_first_column_is_the_scan_alone_and_the_others_show_the_structures(tmp_path: Path) -> None:
    label = np.zeros((20, 20, 9), int)
    label[5:15, 5:15, 2:7] = 3
    image = np.zeros((20, 20, 9))
    scans = [Unchecked(name, "expected DSC 50 $%$", image, label, (1, 1, 3)) for name in ("a", "b_$1$")]
    file = draw_unchecked(scans, {"liver": 3}, tmp_path / "out.png", "Two scans")
    picture = imread(file)[..., :3]
    coloured = np.abs(picture - picture.mean(-1, keepdims=True)).max(-1) > 0.1
    columns = coloured.mean(axis=0)
    width = picture.shape[1]
    assert not columns[: round(0.4 * width)].any(), "the texts and the scan as it is"
    assert columns[round(0.45 * width) :].max() > 0.3


def test_a_scan_in_which_nothing_was_found_is_drawn(tmp_path: Path) -> None:
    empty = Unchecked("a", "", np.random.default_rng(0).normal(size=(8, 9, 5)), np.zeros((8, 9, 5), int), (1, 1, 1))
    assert draw_unchecked([empty], {"liver": 3}, tmp_path / "out.png", "One").is_file()
