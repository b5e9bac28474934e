"""One case, worked out by hand."""

import math

import numpy as np
import pytest
from medpy.metric.binary import dc, hd95

from medcontext.evaluation.metrics import diagonal, locate, score_case
from medcontext.evaluation.protocols import PROTOCOLS, get_protocol

SHAPE, SPACING = (10, 12, 8), (0.5, 2.0, 3.0)
DIAGONAL = math.sqrt(5.0**2 + 24.0**2 + 24.0**2)
LEGACY = PROTOCOLS["legacy"]
NAMES = {"liver": (1,), "spleen": (2,), "kidney": (200,), "aorta": (7,)}


def case() -> tuple[np.ndarray, np.ndarray]:
    """liver: in both, moved by a voxel along the second axis; spleen: missed; kidney: spurious; aorta: absent."""
    label, prediction = np.zeros((2, *SHAPE), dtype=np.int16)
    label[2:6, 2:6, 2:4] = 1
    prediction[2:6, 3:7, 2:4] = 1
    label[8, 8:10, 5] = 2
    prediction[0, 0, 0:3] = 200
    return label, prediction


def test_every_status_under_the_standard_protocol() -> None:
    liver, spleen, kidney, aorta = score_case(*case(), SPACING, NAMES)
    assert (liver.status, liver.dsc) == ("both", 0.75)
    assert (liver.label_voxels, liver.prediction_voxels, liver.label_mm3) == (32, 32, 96.0)
    # Each surface has 32 voxels, 8 of them a row of the other away: all others are shared.
    assert (liver.hd95_pooled, liver.hd95_max) == (2.0, 2.0)
    assert (spleen.status, spleen.label_voxels, spleen.prediction_voxels) == ("missed", 2, 0)
    assert (kidney.status, kidney.label_voxels, kidney.prediction_voxels) == ("spurious", 0, 3)
    assert kidney.prediction_mm3 == 9.0
    for wrong in (spleen, kidney):
        assert wrong.dsc == 0
        assert wrong.hd95_pooled == wrong.hd95_max == pytest.approx(DIAGONAL)
        assert wrong.counts
    assert aorta.status == "absent"
    assert not aorta.counts
    assert all(map(math.isnan, (aorta.dsc, aorta.hd95_pooled, aorta.hd95_max)))


def test_every_status_under_the_legacy_protocol() -> None:
    liver, spleen, kidney, aorta = score_case(*case(), SPACING, NAMES, LEGACY)
    assert (liver.dsc, liver.hd95_pooled, liver.hd95_max) == (0.75, 1.0, 1.0)  # in voxels
    assert liver.label_mm3 == 96.0
    for score, status in ((spleen, "missed"), (kidney, "spurious"), (aorta, "absent")):
        assert (score.status, score.dsc, score.hd95_pooled, score.hd95_max) == (status, 0, 0, 0)
        assert score.counts


def test_swapping_label_and_prediction_swaps_missed_and_spurious() -> None:
    forth, back = score_case(*case(), SPACING, NAMES), score_case(*case()[::-1], SPACING, NAMES)
    assert [score.status for score in back] == ["both", "spurious", "missed", "absent"]
    assert [score.hd95_pooled for score in forth[:3]] == [score.hd95_pooled for score in back[:3]]
    assert [score.label_voxels for score in forth] == [score.prediction_voxels for score in back]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("seed", range(3))
def test_many_structures_match_medpy(seed: int, order: str) -> None:
    rng = np.random.default_rng(seed)
    label, prediction = (rng.integers(0, 5, (4, 5, 3)).repeat(4, 0).repeat(3, 1).repeat(3, 2) for _ in range(2))
    label, prediction = (np.asarray(volume, dtype=np.uint8, order=order) for volume in (label, prediction))
    scores = score_case(label, prediction, SPACING, {str(value): (value,) for value in range(1, 5)})
    for value, score in enumerate(scores, start=1):
        masks = prediction == value, label == value
        assert score.dsc == pytest.approx(dc(*masks))
        assert score.hd95_pooled == pytest.approx(hd95(*masks, voxelspacing=SPACING))
        assert score.label_voxels == masks[1].sum()


def test_a_mixture_of_memory_orders_does_not_mix_up_axes() -> None:
    label, prediction = case()
    expected = score_case(label, prediction, SPACING, NAMES)[0]
    assert score_case(np.asfortranarray(label), prediction, SPACING, NAMES)[0] == expected


def test_several_values_make_one_structure() -> None:
    label, prediction = np.zeros((2, *SHAPE), dtype=np.uint8)
    label[2:4, 2:4, 2:4], label[4:6, 2:4, 2:4] = 1, 3
    prediction[2:6, 2:4, 2:4] = 3
    whole, core = score_case(label, prediction, SPACING, {"whole": (1, 3), "core": (3,)})
    assert (whole.dsc, whole.hd95_max) == (1, 0)
    assert core.dsc == pytest.approx(2 * 8 / (8 + 16))


def test_located_boxes_hold_exactly_their_values() -> None:
    rng = np.random.default_rng(0)
    for values in ([0, 1, 5], [1, 2], [0, 3, 2_000_000], [0]):
        drawn = rng.choice(values, (6, 5, 4)).astype(np.int32)
        for volume in (drawn, np.asfortranarray(drawn)):
            boxes = locate(volume)
            assert sorted(boxes) == sorted(set(np.unique(volume).tolist()) - {0})
            for value, box in boxes.items():
                where = np.argwhere(volume == value)
                assert [side.start for side in box] == where.min(0).tolist()
                assert [side.stop for side in box] == (where.max(0) + 1).tolist()


def test_no_distance_exceeds_the_diagonal() -> None:
    label, prediction = np.zeros((2, *SHAPE), dtype=np.uint8)
    label[0, 0, 0] = prediction[-1, -1, -1] = 1
    (score,) = score_case(label, prediction, SPACING, {"a": (1,)})
    assert score.dsc == 0
    assert 0.8 * DIAGONAL < score.hd95_max < diagonal(SHAPE, SPACING) == pytest.approx(DIAGONAL)


def test_volumes_of_different_shapes_are_refused() -> None:
    label, prediction = case()
    with pytest.raises(ValueError, match="shapes"):
        score_case(label, prediction[:-1], SPACING, NAMES)


def test_an_unknown_protocol_gets_a_suggestion() -> None:
    with pytest.raises(ValueError, match="did you mean 'legacy'"):
        get_protocol("legcy")
