"""What tells a scan from the labelled ones by its intensities alone, as one of another modality."""

from collections.abc import Mapping, Sequence

import numpy as np

from medcontext.data.store import StoredCase

FAR, SPREADS = 0.25, 2.5  # of the deviation of prepared intensities, and of how far labelled scans lie apart
NEGATIVE = 0.1  # of the range of intensities: CT reaches further below 0, MR at most by interpolation


def unlike(scans: Mapping[str, np.ndarray], known: Sequence[np.ndarray]) -> dict[str, str]:
    """Scans that are further from the nearest labelled one than these are from one another, and far at all.

    The lowest and the highest intensity are left out: single voxels have them. Of hippocampus MR, cardiac MR and
    abdominal CT, each scan normalised by itself, with five labelled it names at most 2 % of the same kind and at least
    80 % of another (with one labelled up to a quarter of the same); but cardiac MR and abdominal CT look alike to it.

    Args:
        scans: the quantiles (C, Q) of each scan's prepared intensities by its name.
        known: those of the labelled scans.

    Returns:
        How far they are, by name.
    """
    inner = [each[:, 1:-1] for each in known]
    spread = [min(distance(one, two) for two in inner if two is not one) for one in inner if len(inner) > 1]
    # A scan that is empty but for a little has no spread but at its ends.
    deviations = [max(_deviation(most), _deviation(each) / 2) for most, each in zip(inner, known, strict=True)]
    scale = float(np.mean(deviations)) or 1.0
    limit, found = max(SPREADS * float(np.mean(spread or [0.0])), FAR * scale), {}
    for name, quantiles in scans.items():
        nearest = min(distance(quantiles[:, 1:-1], each) for each in inner)
        if nearest > limit:
            found[name] = f"distance {nearest:.2g}, at most {limit:.2g} among scans of a kind"
    return found


def _deviation(quantiles: np.ndarray) -> float:
    """The standard deviation of quantiles (C, Q), the mean over the channels."""
    return float(quantiles.std(axis=1).mean())


def below_zero(scans: Mapping[str, StoredCase], known: Sequence[StoredCase]) -> dict[str, str]:
    """Scans with a channel that reaches further below 0 than those of the labelled scans, as CT does among MR.

    Args:
        scans: by their names.
        known: the labelled ones.

    Returns:
        The lowest value of that channel, by name.
    """
    parts, lowest = np.max([_negative(case) for case in known], axis=0), np.min([c.extremes for c in known], axis=0)
    found = {}
    for name, case in scans.items():
        further = (_negative(case) > parts + NEGATIVE) & (case.extremes[:, 0] < lowest[:, 0])
        if further.any():
            found[name] = f"values down to {case.extremes[further, 0].min():g}"
    return found


def _negative(case: StoredCase) -> np.ndarray:
    """The part of each channel's range of intensities that lies below 0, (C,)."""
    low, high = case.extremes.T
    return np.clip(-low, 0, None) / np.maximum(high - low, 1e-6)


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """How far two scans' intensities are apart, from their quantiles (C, Q): the mean distance, the largest channel's.

    The mean distance of quantiles is the distance over which intensities would have to be moved (Wasserstein's).

    >>> distance(np.array([[0.0, 1.0, 2.0]]), np.array([[1.0, 2.0, 3.0]]))
    1.0
    """
    return float(np.abs(first - second).mean(axis=1).max())
