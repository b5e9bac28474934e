"""Fill values are found where they are clear, and in no ordinary scan."""

import numpy as np
import pytest

from medcontext.data.fill import Fill, find_fill

SHAPE = (24, 20, 16)


def ct(seed: int = 0) -> np.ndarray:
    """Half air, half tissue, and some metal."""
    rng = np.random.default_rng(seed)
    scan = np.where(rng.random(SHAPE) < 0.5, rng.normal(-1000, 20, SHAPE), rng.normal(50, 60, SHAPE))
    scan[4, 4, :6] = (2000, 3000, 5000, 8000, 9000, 9500)
    return scan.astype(np.float32)


def mr(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2, 200, SHAPE).astype(np.float32)


@pytest.mark.parametrize("scan", [ct(), mr(), np.round(mr()), -mr(), mr() * 1e6, np.zeros(SHAPE), np.full(SHAPE, -5e4)])
def test_ordinary_scans_have_none(scan: np.ndarray) -> None:
    assert find_fill(scan) is None


@pytest.mark.parametrize("value", [-32768, -9999, 65535, 1e14, -3e14])
@pytest.mark.parametrize("make", [ct, mr])
def test_a_margin_far_from_all_else_is_one(make, value: float) -> None:  # type: ignore[no-untyped-def]
    if abs(value) < 1e4 and make is ct:
        value *= 2
    scan = make()
    scan[:2] = value
    assert find_fill(scan) == Fill(np.float32(value), 2 * 20 * 16)
    assert find_fill(np.asfortranarray(scan)) == find_fill(scan)


def test_what_lies_in_reach_or_in_few_voxels_is_none() -> None:
    around, hot, masked = ct(), mr(), mr()
    around[:3] = -2048  # as many scanners fill around the field of view
    hot[3, 3, :9] = 60000
    masked[:12] = 0
    assert (find_fill(around), find_fill(hot), find_fill(masked)) == (None, None, None)
