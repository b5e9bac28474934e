"""Generated scans: reproducible, anatomically arranged, and such that only context tells some structures apart."""

from functools import cache

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, uniform_filter
from scipy.stats import rankdata

from medcontext.errors import InputError
from medcontext.phantom import STRUCTURES, Phantom, draw
from medcontext.phantom.parts import DETAILS
from medcontext.phantom.pose import smooth_field

SMALL = Phantom(size=(32, 32, 24))
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])[:, :, None]  # in plane
PAIRS = [("spleen", "liver"), ("right_kidney", "left_kidney"), ("aorta", "vena_cava")]


@cache
def scans(count: int = 6, size: tuple[int, int, int] = (64, 64, 48)) -> list[tuple[np.ndarray, np.ndarray]]:
    return [draw(11, index, Phantom(size=size)) for index in range(count)]


def centre(label: np.ndarray, structure: str) -> np.ndarray:
    """Of a structure, as a fraction of the volume towards the right, the front and the head."""
    return (np.argwhere(label == STRUCTURES[structure]).mean(axis=0) + 0.5) / label.shape


def roc_area(first: np.ndarray, second: np.ndarray) -> float:
    """How often a value of the first exceeds one of the second: 0.5 if they cannot be told apart."""
    ranks = rankdata(np.concatenate([first, second]))
    return float((ranks[: first.size].sum() - first.size * (first.size + 1) / 2) / (first.size * second.size))


def interior_features(image: np.ndarray, structure: np.ndarray) -> np.ndarray:
    """Of each voxel away from the structure's edge: its intensity and the variance around it, (2, n)."""
    image = image.astype(np.float64)
    thick = binary_erosion(structure, np.ones((3, 3, 3)))
    inside = thick if thick.sum() > 100 else binary_erosion(structure, CROSS)  # vessels are thin
    weight = uniform_filter(inside.astype(np.float64), 5)[inside]
    mean, square = (uniform_filter(inside * power, 5)[inside] / weight for power in (image, image**2))
    return np.stack([image[inside], square - mean**2])


def test_same_seed_and_index_give_the_same_bits_whatever_else_is_drawn() -> None:
    image, label = draw(3, 2, SMALL)
    draw(3, 0, SMALL)
    again, label_again = draw(3, 2, SMALL)
    assert image.tobytes() == again.tobytes()
    assert label.tobytes() == label_again.tobytes()


@pytest.mark.parametrize(("seed", "index"), [(3, 3), (4, 2), (2, 3)])
def test_another_seed_or_index_gives_another_patient(seed: int, index: int) -> None:
    assert (draw(3, 2, SMALL)[1] != draw(seed, index, SMALL)[1]).mean() > 0.02


def test_shapes_and_types() -> None:
    image, label = draw(0, 0, Phantom(size=(40, 24, 17), spacing=(2.0, 3.0, 8.0), channels=3))
    assert (image.shape, image.dtype) == ((3, 40, 24, 17), np.int16)
    assert (label.shape, label.dtype) == ((40, 24, 17), np.uint8)


def test_intensities_are_hounsfield_units() -> None:
    image, label = draw(0, 1, Phantom(noise=0.0))
    assert image.min() == -1000  # air
    assert image.max() > 250  # bone
    fat = (image > -125) & (image < -80)
    assert 0.05 < fat.mean() < 0.5
    interior = binary_erosion(label == STRUCTURES["liver"], iterations=2)
    assert 60 < np.median(image[0][interior]) < 160


@pytest.mark.parametrize("size", [(32, 32, 24), (48, 32, 16), (24, 24, 64)])
def test_every_structure_is_there_at_any_size(size: tuple[int, int, int]) -> None:
    for index in range(5):
        _, label = draw(5, index, Phantom(size=size))
        assert set(np.unique(label)) == {0, *STRUCTURES.values()}, f"case {index}"


def test_what_is_seen_does_not_depend_on_the_spacing() -> None:
    fine, coarse = (draw(0, 0, Phantom(size=(32, 32, 24), spacing=(mm, mm, mm))) for mm in (1.0, 6.0))
    np.testing.assert_array_equal(fine[1], coarse[1])
    np.testing.assert_array_equal(fine[0], coarse[0])


def test_anatomy_is_the_same_at_another_size() -> None:
    _, small = draw(6, 1, SMALL)
    _, large = draw(6, 1, Phantom(size=(64, 64, 48)))
    for name in ("liver", "spleen", "left_kidney"):
        share = (large == STRUCTURES[name]).reshape(32, 2, 32, 2, 24, 2).mean(axis=(1, 3, 5))
        mask = small == STRUCTURES[name]
        assert 2 * np.minimum(share, mask).sum() / (share.sum() + mask.sum()) > 0.85, name


def test_organs_lie_where_they_do_in_a_patient() -> None:
    for image, label in scans():
        at = {name: centre(label, name) for name in STRUCTURES}
        for right, left in [("liver", "spleen"), ("right_kidney", "left_kidney"), ("vena_cava", "aorta")]:
            assert at[right][0] > at[left][0] + 0.03
        assert at["liver"][0] > at["stomach"][0]
        for kidney in ("left_kidney", "right_kidney"):
            assert at[kidney][1] < at["stomach"][1]
            assert at[kidney][2] < at["liver"][2]
        bone = np.argwhere(image[0, 20:44, :, 10:20] > 300).mean(axis=0)[1] / label.shape[1]
        assert bone < at["aorta"][1] < at["stomach"][1]
        lung = binary_erosion((image[0] < -700) & (image[0] > -950))
        assert np.argwhere(lung).mean(axis=0)[2] > 0.7 * label.shape[2]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_only_context_tells_the_pairs_apart(first: str, second: str) -> None:
    """Neither a voxel's intensity nor how it varies around it separates them, within a scan or over all."""
    pairs = []
    for image, label in scans():
        both = [interior_features(image[0], label == STRUCTURES[name]) for name in (first, second)]
        assert min(features.shape[1] for features in both) > 30
        pairs.append(both)
    intensity, texture = (np.mean([roc_area(one[n], two[n]) for one, two in pairs]) for n in range(2))
    assert abs(intensity - 0.5) < 0.07
    # Edges reach into all of a vessel, and into some of the spleen, so that textures agree less closely.
    assert first == "aorta" or abs(texture - 0.5) < 0.15
    pooled = [np.concatenate([pair[side][0] for pair in pairs]) for side in range(2)]
    assert 0.4 < roc_area(*pooled) < 0.6


def test_other_structures_can_be_told_apart_by_intensity() -> None:
    """So that the test above is able to fail."""
    pooled = [
        np.concatenate([image[0][binary_erosion(label == STRUCTURES[name])] for image, label in scans()])
        for name in ("gallbladder", "left_kidney")
    ]
    assert roc_area(*pooled) < 0.05


@pytest.mark.parametrize("structure", ["liver", "left_kidney", "aorta"])
def test_what_looks_like_an_organ_is_not_always_one(structure: str) -> None:
    """Thresholding at the range of an organ's intensities finds far more than the organ."""
    precision = []
    for image, label in scans():
        smooth = uniform_filter(image[0].astype(np.float32), 3)
        organ = label == STRUCTURES[structure]
        low, high = np.percentile(smooth[organ], (10, 90))
        precision.append(
            (organ & (smooth >= low) & (smooth <= high)).sum() / ((smooth >= low) & (smooth <= high)).sum()
        )
    assert np.mean(precision) < 0.6


def test_position_in_the_volume_does_not_give_the_answer() -> None:
    """An atlas, the most frequent label at each voxel over other patients, is a poor segmentation."""
    labels = [draw(12, index, SMALL)[1] for index in range(20)]
    votes = np.stack([(np.stack(labels[:14]) == value).sum(axis=0) for value in range(len(STRUCTURES) + 1)])
    atlas = votes.argmax(axis=0)
    for name, most in {"spleen": 0.65, "left_kidney": 0.65, "aorta": 0.65, "pancreas": 0.4}.items():
        value = STRUCTURES[name]
        scores = [
            2 * ((atlas == value) & (label == value)).sum() / ((atlas == value).sum() + (label == value).sum())
            for label in labels[14:]
        ]
        assert np.mean(scores) < most, name
    centres = np.array([centre(label, "left_kidney") for label in labels])
    assert (centres.std(axis=0) > 0.03).all()


def test_pose_deformation_and_noise_can_be_switched_off() -> None:
    still = Phantom(size=(32, 32, 24), pose=0.0, deformation=0.0, noise=0.0)
    bodies = [np.argwhere(draw(0, index, still)[0][0] > -300).mean(axis=0)[0] for index in range(3)]
    np.testing.assert_allclose(bodies, 15.5, atol=0.4)
    air = draw(0, 0, still)[0][0, :, -1, :]
    assert (air == -1000).all()


def test_noise_is_as_strong_as_asked() -> None:
    clean, noisy, noisier = (draw(0, 4, Phantom(noise=amount))[0].astype(float) for amount in (0.0, 1.0, 2.0))
    body = clean > -300  # air is clipped at -1024
    assert 8 < (noisy - clean)[body].std() < 25
    assert (noisier - clean)[body].std() == pytest.approx(2 * (noisy - clean)[body].std(), rel=0.02)


def test_contrasts_differ_and_share_the_confusable_pairs() -> None:
    image, label = draw(0, 0, Phantom(size=(48, 48, 40), channels=4, noise=0.0))
    assert image.min() >= 0
    assert image.max() < 2000
    spleen, liver, bladder = (
        np.median(image[:, binary_erosion(label == STRUCTURES[name])], axis=1)
        for name in ("spleen", "liver", "gallbladder")
    )
    np.testing.assert_allclose(spleen, liver, rtol=0.25)  # the bias field
    assert bladder[1] > 1.5 * bladder[0]  # fluid is bright on T2 only
    assert Phantom(channels=2).channel_names == ("T1", "T2")
    assert Phantom().channel_names == ("CT",)


def test_smooth_field_has_the_deviation_it_says() -> None:
    axes = [np.linspace(0, 300, 30)] * 3
    rng = np.random.default_rng(0)
    fields = [smooth_field(rng, axes, 60.0) for _ in range(8)]
    assert np.std(fields) == pytest.approx(1, abs=0.15)
    assert np.abs(np.diff(fields[0], axis=0)).max() < 1  # 10 mm apart


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"size": (64, 64, 8)}, "size"),
        ({"size": (64, 64)}, "size"),
        ({"spacing": (1.0, 0.0, 1.0)}, "spacing"),
        ({"spacing": (1.0, float("nan"), 1.0)}, "spacing"),
        ({"channels": 5}, "channels"),
        ({"channels": 0}, "channels"),
        ({"noise": -1.0}, "noise"),
        ({"pose": float("nan")}, "pose"),
    ],
)
def test_settings_that_cannot_be_used_are_named(settings: dict, named: str) -> None:
    with pytest.raises(InputError, match=f"^{named} is "):
        Phantom(**settings)


@pytest.mark.parametrize(("seed", "index"), [(-1, 0), (0, -1)])
def test_negative_seed_or_index_is_refused(seed: int, index: int) -> None:
    with pytest.raises(InputError, match="whole numbers from 0"):
        draw(seed, index, SMALL)


def test_details_add_small_organs_and_leave_the_rest_alone() -> None:
    settings = Phantom(size=(64, 64, 48), details=True)
    for index, (image, label) in enumerate(scans(3)):
        more, detailed = draw(11, index, settings)
        for value in DETAILS.values():
            assert np.count_nonzero(detailed == value) > 5
        elsewhere = detailed <= max(STRUCTURES.values())
        assert np.count_nonzero((detailed != label) & elsewhere) < 0.001 * label.size
        assert np.count_nonzero(more != image) < 0.02 * image.size
        centres = {name: np.argwhere(detailed == value).mean(axis=0) for name, value in DETAILS.items()}
        assert centres["right_adrenal"][0] > centres["left_adrenal"][0]  # to the patient's right
        assert centres["right_adrenal"][2] > np.argwhere(detailed == STRUCTURES["right_kidney"]).mean(axis=0)[2]
