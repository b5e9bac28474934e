"""The rules, on fingerprints whose answer is known, and on scans."""

from pathlib import Path

import numpy as np
import pytest

from medcontext.data.cases import Dataset
from medcontext.data.fingerprint import Fingerprint, Intensity, take_fingerprint
from medcontext.data.plan import Normalization, PrepareSettings
from medcontext.data.planning import decide, make_plan
from medcontext.errors import InputError
from tests.data.scans import affine_of, random_cases, write_dataset

CT = Dataset("abdomen", Path("abdomen"), ("CT",), {"liver": 1}, ())
MR = Dataset("brain", Path("brain"), ("T1", "T2"), {"tumour": 1}, ())
NUMBERS = Intensity(-100, 250, 80, 40)


def fingerprint(spacings: list[tuple[float, float, float]], kept: float = 1.0, channels: int = 1) -> Fingerprint:
    return Fingerprint(tuple(spacings), (kept,) * len(spacings), (NUMBERS,) * channels)


def test_spacing_is_the_median_of_each_axis() -> None:
    plan = decide(CT, CT.labels, fingerprint([(1, 2, 3), (2, 2, 3), (1.5, 2.5, 4)]), PrepareSettings())
    assert plan.spacing == (1.5, 2.0, 3.0)


def test_spacing_of_thick_slices_is_the_10th_percentile() -> None:
    spacings = [(1.0, 1.0, mm) for mm in (2, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5)]
    plan = decide(CT, CT.labels, fingerprint(spacings), PrepareSettings())
    assert plan.spacing == (1, 1, 5)
    spacings = [(1.0, 1.0, mm) for mm in (0.5, 0.5, 0.5, 5, 5, 5, 5)]
    plan = decide(CT, CT.labels, fingerprint(spacings), PrepareSettings())
    assert plan.spacing == (1, 1, 1)  # not 0.5: never finer than in plane
    assert "10th percentile" in plan.reasons["spacing"]


def test_spacing_given_or_original() -> None:
    numbers = fingerprint([(1, 1, 1)])
    assert decide(CT, CT.labels, numbers, PrepareSettings(spacing=(2, 3, 4))).spacing == (2.0, 3.0, 4.0)
    assert decide(CT, CT.labels, numbers, PrepareSettings(spacing="original")).spacing is None


def test_ct_is_clipped_and_scaled_and_not_cropped() -> None:
    plan = decide(CT, CT.labels, fingerprint([(1, 1, 1)]), PrepareSettings())
    assert plan.normalization == (Normalization("ct", -100, 250, 80, 40),)
    assert not plan.crop_foreground
    assert decide(CT, CT.labels, fingerprint([(1, 1, 1)]), PrepareSettings(crop_foreground=True)).crop_foreground


@pytest.mark.parametrize(("kept", "inside"), [(1.0, False), (0.4, True)])
def test_mr_is_zscore_and_inside_only_when_mostly_empty(kept: float, inside: bool) -> None:
    plan = decide(MR, MR.labels, fingerprint([(1, 1, 1)], kept, 2), PrepareSettings())
    assert plan.normalization == (Normalization("zscore", inside=inside),) * 2
    assert plan.crop_foreground


def test_zscore_of_each_channels_own_voxels_is_taken_whatever_the_scans_are() -> None:
    settings = PrepareSettings(normalization="zscore_nonzero")
    plan = decide(MR, MR.labels, fingerprint([(1, 1, 1)], 1.0, 2), settings)
    assert plan.normalization == (Normalization("zscore_nonzero", inside=True),) * 2


def test_a_range_is_taken_when_given() -> None:
    plan = decide(CT, CT.labels, fingerprint([(1, 1, 1)]), PrepareSettings(intensity_range=(-175, 250)))
    assert plan.normalization == (Normalization("range", -175, 250),)


@pytest.mark.parametrize("channel", ["CT", "MR"])
def test_no_foreground_anywhere(tmp_path: Path, channel: str) -> None:
    image = np.ones((6, 6, 6))
    dataset = write_dataset(tmp_path / "d", {"a": (image, np.zeros((6, 6, 6), np.uint8))}, channels=(channel,))
    with pytest.raises(InputError, match="None of the 1 training cases"):
        make_plan(dataset, dataset.cases, PrepareSettings())


def test_fingerprint_of_small_scans_is_exact(tmp_path: Path) -> None:
    cases = random_cases(3, (12, 10, 8))
    dataset = write_dataset(tmp_path / "d", cases, channels=("CT",), affine=affine_of("PIR", (1, 2, 3)))
    found = take_fingerprint(dataset, dataset.cases, {})
    foreground = np.concatenate([image.astype(np.float32)[label > 0] for image, label in cases.values()])
    assert found.spacings == ((3, 1, 2),) * 3
    intensity = found.foreground[0]
    assert intensity.mean == pytest.approx(foreground.mean(), rel=1e-5)
    assert intensity.std == pytest.approx(foreground.std(), rel=1e-5)
    assert (intensity.low, intensity.high) == pytest.approx(tuple(np.percentile(foreground, (0.5, 99.5))), rel=1e-5)


def test_fingerprint_samples_large_foregrounds_evenly_and_the_same_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medcontext.data.fingerprint.SAMPLES", 50)
    large, small = np.ones((20, 20, 20), np.uint8), np.zeros((20, 20, 20), np.uint8)
    small[:2, :5, :5] = 1  # 50 voxels
    dataset = write_dataset(tmp_path / "d", {"a": (large * 0.0, large), "b": (large * 1.0, small)})
    first = take_fingerprint(dataset, dataset.cases, {}).foreground[0]
    assert first == take_fingerprint(dataset, dataset.cases, {}).foreground[0]
    assert first.mean == pytest.approx(0.5)


def test_only_the_training_cases_count(tmp_path: Path) -> None:
    cases = random_cases(3, (8, 8, 8))
    cases["case02"] = (cases["case02"][0] + 1000, cases["case02"][1])
    dataset = write_dataset(tmp_path / "d", cases, channels=("CT",))
    plan = make_plan(dataset, dataset.cases[:2], PrepareSettings())
    assert plan.normalization[0].upper < 500
    assert make_plan(dataset, dataset.cases, PrepareSettings()).normalization[0].upper > 1000


def test_no_case_to_plan_from() -> None:
    with pytest.raises(InputError, match="No training case"):
        make_plan(CT, (), PrepareSettings())


@pytest.mark.parametrize("name", ["CT", " ct ", "CT_venous", "CT-arterial", "venous CT", "lateCT", "CTA", "CBCT"])
def test_every_channel_with_the_word_ct_is_ct(tmp_path: Path, name: str) -> None:
    dataset = write_dataset(tmp_path / "heads", random_cases(2, (8, 8, 8)), channels=(name,))
    plan = make_plan(dataset, dataset.cases, PrepareSettings())
    assert plan.normalization[0].kind == "ct"
    assert not plan.crop_foreground


@pytest.mark.parametrize("name", ["MR", "T1", "CT1", "PET/CT", "PT_CT", "MR_to_CT", "cine", "contrast", "act"])
def test_no_other_channel_is(tmp_path: Path, name: str) -> None:
    dataset = write_dataset(tmp_path / "heads", random_cases(2, (8, 8, 8)), channels=(name,))
    assert make_plan(dataset, dataset.cases, PrepareSettings()).normalization[0].kind == "zscore"
