"""Generated hearts: arranged as in short-axis cine MR, and told apart from their surroundings by place alone."""

from functools import cache

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion

from medcontext.data.known import ACDC
from medcontext.phantom.official import draw_official, drawn_settings, official_names

RIGHT, MUSCLE, LEFT = (ACDC.labels[name] for name in ("right_ventricle", "myocardium", "left_ventricle"))
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])[:, :, None]  # in plane
CASES = 12


@cache
def hearts(size: tuple[int, int, int] = (48, 48, 8)) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    names = official_names("acdc", CASES, 0)[0]
    settings, thin = drawn_settings("acdc", size, (7.5, 7.5, 25.0), None)
    return {name: draw_official("acdc", 5, names, index, settings, thin) for index, name in enumerate(names)}


@pytest.mark.parametrize("size", [(32, 32, 4), (32, 32, 8), (64, 64, 9), (24, 32, 16)])
def test_the_whole_heart_is_there_at_any_size(size: tuple[int, int, int]) -> None:
    for image, label in hearts(size).values():
        assert image.shape == (1, *size)
        assert set(np.unique(label)) == {0, RIGHT, MUSCLE, LEFT}
        assert (label[..., size[2] // 6 : -size[2] // 6] > 0).any(axis=(0, 1)).all()  # but perhaps the outermost slices
        heart = np.argwhere(label.any(axis=2))
        assert heart.min() > 0  # nothing is cut off
        assert (heart.max(axis=0) < np.array(size[:2]) - 1).all()


def test_the_muscle_encloses_the_left_ventricle() -> None:
    for _, label in hearts().values():
        middle = label[..., 2:6]
        around = binary_dilation(middle == LEFT, CROSS) & (middle != LEFT)
        assert (middle == LEFT).any(axis=(0, 1)).all()
        assert (middle[around] == MUSCLE).all()


def test_the_right_ventricle_lies_against_the_septum_and_ends_before_the_apex() -> None:
    for _, label in hearts().values():
        right, muscle, left = (np.argwhere(label == value) for value in (RIGHT, MUSCLE, LEFT))
        assert right[:, 0].mean() > left[:, 0].mean() + 2  # the patient's right
        assert right[:, 2].mean() > muscle[:, 2].mean()
        for plane in np.moveaxis(label[..., 3:6], 2, 0):
            shared = binary_dilation(plane == RIGHT, CROSS[..., 0]) & (plane == MUSCLE)
            assert shared.sum() > 5
    assert not any((label[..., 0] == RIGHT).any() for _, label in hearts().values())


def test_other_things_are_as_bright_as_the_blood_and_the_muscle() -> None:
    for image, label in hearts().values():
        inner = binary_erosion(label == RIGHT, CROSS)
        blood, muscle, beside = image[0][inner], image[0][label == MUSCLE], image[0][label == 0]
        assert np.median(blood) > 1.3 * np.median(muscle)
        for values in (blood, muscle):
            low, high = np.percentile(values, (5, 95))
            assert ((beside > low) & (beside < high)).sum() > values.size


def test_systole_empties_the_ventricles_and_thickens_the_muscle() -> None:
    scans, pairs = hearts(), 0
    for name, (_, full) in scans.items():
        patient = name.removesuffix("_frame01")
        others = [label for other, (_, label) in scans.items() if other.startswith(patient) and other != name]
        for emptied in others if name != patient else []:
            area = {value: ((full == value)[..., 2:6].sum(), (emptied == value)[..., 2:6].sum()) for value in range(4)}
            for ventricle in (LEFT, RIGHT):
                assert area[ventricle][1] < 0.95 * area[ventricle][0]
            assert 0.8 < area[MUSCLE][1] / area[MUSCLE][0] < 1.2
            pairs += 1
    assert pairs > 0


def test_patients_differ_a_lot() -> None:
    cavities = [(label == LEFT).sum() for _, label in hearts().values()]
    share = [(label == MUSCLE).sum() / (label == LEFT).sum() for _, label in hearts().values()]
    assert max(cavities) > 2 * min(cavities)
    assert max(share) > 2 * min(share)
