"""Which scans to label next: those that stand for many whose segmentations are bad and that no labelled scan is like.

Each choice is the scan that takes away most of the need that is left, the sum over all scans of

    (1 - expected DSC) x distance to the nearest scan that is labelled or chosen

so that what is chosen is unlike the labelled scans, unlike each other, and typical of what is segmented badly: the
greedy way to the facility location problem, as in suggestive annotation (Yang et al., MICCAI 2017), with the expected
DSC for the uncertainty.

Letters: N scans, L labelled ones, F numbers that describe one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SMALL = 0.1
"""Of a structure's median volume: what is smaller is as good as absent."""


class Description(NamedTuple):
    """What a scan looks like.

    Args:
        quantiles: (C, 21), of its prepared intensities.
        extent: of its field of view along three axes, in mm.
        volumes: of each structure, labelled or predicted, in ml.
    """

    quantiles: np.ndarray
    extent: Sequence[float]
    volumes: Sequence[float]


class Suggestion(NamedTuple):
    """A scan to label.

    Args:
        scan: its index.
        distance: to the nearest one that is labelled or was chosen before, in spreads of all scans.
        stands_for: scans that it is the nearest to, itself among them.
        gain: share of the need that was left which it takes away.
    """

    scan: int
    distance: float
    stands_for: int
    gain: float


def suggest_scans(
    need: Sequence[float], scans: Sequence[Description], labelled: Sequence[Description], count: int
) -> list[Suggestion]:
    """The scans to label next, the most useful first.

    Args:
        need: of each scan, 1 - its expected DSC; not below 0.
        scans: N of them.
        labelled: L of them.
        count: how many to choose, at most N.
    """
    points = features([*scans, *labelled])
    between = np.linalg.norm(points[:, None] - points[None], axis=-1)  # (N + L, N + L)
    among, left = between[: len(scans), : len(scans)], between[: len(scans), len(scans) :].min(axis=1)
    weights = np.maximum(np.asarray(need, float), 1e-3)  # a scan that looks perfect counts a little, too
    found: list[Suggestion] = []
    for _ in range(count):
        gains = (weights[:, None] * np.maximum(left[:, None] - among, 0)).sum(axis=0)
        gains[[each.scan for each in found]] = -1
        best = int(gains.argmax())
        total = float((weights * left).sum())
        nearer = int((among[:, best] < left).sum())
        found.append(Suggestion(best, float(left[best]), max(1, nearer), float(gains[best]) / total if total else 0.0))
        left = np.minimum(left, among[:, best])
    return found


def features(scans: Sequence[Description]) -> np.ndarray:
    """Intensities, fields of view and volumes, each kind with the same weight: (N, F)."""
    volumes = np.array([scan.volumes for scan in scans], float)
    usual = np.array([np.median(own[own > 0]) if (own > 0).any() else 1.0 for own in volumes.T])
    kinds = (
        np.array([np.ravel(scan.quantiles) for scan in scans]),
        np.log(np.array([scan.extent for scan in scans], float)),
        np.log(np.maximum(volumes / usual, SMALL)),
    )
    return np.concatenate([_scaled(kind) for kind in kinds], axis=1)


def _scaled(kind: np.ndarray) -> np.ndarray:
    """With a mean square of 1 around the mean scan; what is alike in all scans stays 0."""
    centred = kind - kind.mean(axis=0)
    spread = float(np.sqrt((centred**2).sum(axis=1).mean()))
    return centred / spread if spread > 1e-9 else centred
