"""From the training cases to a plan: the rules that decide what the user did not."""

import re
from collections.abc import Sequence

import numpy as np

from medcontext.data.cases import Case, Dataset
from medcontext.data.fingerprint import Fingerprint, Intensity, look_at_scans, take_fingerprint
from medcontext.data.label_map import follow_in_training, map_text
from medcontext.data.labelled import mapped_labels
from medcontext.data.plan import Normalization, Plan, PrepareSettings
from medcontext.errors import InputError

ANISOTROPIC = 3.0  # coarsest over finest axis; Isensee et al., Nature Methods 2021, supplementary note 2
_CT = {"ct", "cta", "cbct", "ncct", "cect", "hrct", "ldct"}
_NOT_CT = {"pet", "pt", "suv", "spect", "mr", "mri", "t1", "t2", "flair", "adc", "dwi"}
SOFT_TISSUE = (-175.0, 250.0)  # HU: the window of the public code ZEKAICHEN/MIM-Med3D for abdominal CT
SCANS = 100  # without labels, at most, that a plan is made from
MOSTLY_EMPTY = 0.75  # of the volume left by the crop to non-zero, below which only the inside is normalised


def make_plan(dataset: Dataset, cases: Sequence[Case], settings: PrepareSettings, workers: int = 1) -> Plan:
    """Decide how to prepare a data set.

    Args:
        dataset: for its channels and labels.
        cases: the training cases, and no others: what the rules choose is learnt from them.
        settings: what the user has decided already.
        workers: processes that read the cases.

    Raises:
        InputError: if a case cannot be used; if `label_map` leads to an undeclared value, or contradicts the data
            set's; if there is no case, or none with a labelled voxel.
    """
    label_map = follow_in_training(dataset.label_map, settings.label_map)
    labels = mapped_labels(dataset, label_map)
    fingerprint = take_fingerprint(dataset, cases, label_map, workers)
    return decide(dataset, labels, fingerprint, settings)


def make_scan_plan(dataset: Dataset, cases: Sequence[Case], settings: PrepareSettings, workers: int = 1) -> Plan:
    """Decide how to prepare scans without labels; as `make_plan`, but that CT is scaled by a fixed window.

    Args:
        dataset: for its channels.
        cases: at most `SCANS` of them are looked at, evenly spread. Those that cannot be read are passed over here;
            preparing them says what is wrong.
        settings: what the user has decided already.
        workers: processes that read the cases.

    Raises:
        InputError: if none can be read; for a normalization that needs labels.
    """
    step = max(1, -(-len(cases) // SCANS))
    return decide(dataset, {}, look_at_scans(dataset, cases[::step], workers), settings)


def decide(dataset: Dataset, labels: dict[str, int], fingerprint: Fingerprint, settings: PrepareSettings) -> Plan:
    """Apply the rules to a fingerprint."""
    reasons: dict[str, str] = {}
    spacing, reasons["spacing"] = _choose_spacing(fingerprint, settings)
    crop, reasons["crop_foreground"] = _choose_crop(dataset, settings)
    channels = []
    for index, name in enumerate(dataset.channels):
        normalization, reasons[f"normalization of {name}"] = _choose_normalization(index, name, fingerprint, settings)
        channels.append(normalization)
    label_map = follow_in_training(dataset.label_map, settings.label_map)
    if label_map:
        given = [f"given: {map_text(settings.label_map)}"] if settings.label_map else []
        reasons["label_map"] = ", then ".join(["the data set's"] * bool(dataset.label_map) + given)
    return Plan(dataset.channels, labels, label_map, spacing, tuple(channels), crop, reasons=reasons)


def _choose_spacing(
    fingerprint: Fingerprint, settings: PrepareSettings
) -> tuple[tuple[float, float, float] | None, str]:
    if settings.spacing == "original":
        return None, "asked for: each scan keeps its own"
    if not isinstance(settings.spacing, str):
        h, w, d = (float(length) for length in settings.spacing)
        return (h, w, d), "given"
    spacings = np.array(fingerprint.spacings)  # (cases, 3)
    target = np.median(spacings, axis=0)
    reason = f"median of {len(spacings)} {'training ' if fingerprint.foreground else ''}scans"
    coarsest = int(target.argmax())
    if target[coarsest] > ANISOTROPIC * target.min():
        # Between thin and thick slices the median would throw away too much of the thin ones. Never finer
        # than the other axes, so that no voxels are made up (as in nnU-Net).
        others = max(target[axis] for axis in range(3) if axis != coarsest)
        target[coarsest] = max(others, np.percentile(spacings[:, coarsest], 10))
        reason += f"; {'HWD'[coarsest]} is over {ANISOTROPIC:g} times coarser: its 10th percentile"
    h, w, d = (_rounded(value) for value in target)
    return (h, w, d), reason


def _choose_crop(dataset: Dataset, settings: PrepareSettings) -> tuple[bool, str]:
    if settings.crop_foreground is not None:
        return settings.crop_foreground, "given"
    if any(is_ct(name) for name in dataset.channels):
        return False, "CT: 0 is water, not background"
    return True, "to the non-zero voxels: 0 is background outside of CT"


def _choose_normalization(
    channel: int, name: str, fingerprint: Fingerprint, settings: PrepareSettings
) -> tuple[Normalization, str]:
    kind, why = settings.normalization, "given"
    if kind == "auto" and settings.intensity_range is not None:
        kind, why = "range", "an intensity_range is given"
    elif kind == "auto":
        kind, why = ("ct", "the channel is CT") if is_ct(name) else ("zscore", "the channel is not CT")
    if kind == "range":
        assert settings.intensity_range is not None
        lower, upper = settings.intensity_range
        return Normalization("range", float(lower), float(upper)), f"{why}: {lower:g}..{upper:g} to 0..1"
    if kind == "ct" and not fingerprint.foreground:
        if settings.normalization == "ct":
            raise InputError(
                "normalization 'ct' takes the intensities of labelled voxels, and there are no labels. Give an "
                "intensity_range, or --like RUN to prepare as a run that had labels."
            )
        low, high = SOFT_TISSUE
        return Normalization("range", low, high), f"{why}, and no label: soft tissue, {low:g}..{high:g} to 0..1"
    if kind == "ct":
        return _ct(fingerprint.foreground[channel], why)
    if kind == "zscore":
        kept = float(np.median(fingerprint.kept_by_crop))
        inside = kept < MOSTLY_EMPTY
        over = f"non-zero voxels (their box is {kept:.0%} of a scan)" if inside else "all voxels"
        return Normalization("zscore", inside=inside), f"{why}: per case over {over}"
    if kind == "zscore_nonzero":
        return Normalization("zscore_nonzero", inside=True), f"{why}: per case over the channel's non-zero voxels"
    return Normalization("none"), why


def _ct(intensity: Intensity, why: str) -> tuple[Normalization, str]:
    low, high, mean = (_rounded(value) for value in (intensity.low, intensity.high, intensity.mean))
    std = _rounded(intensity.std) or 1.0  # a constant foreground
    reason = f"{why}: foreground percentiles {low:g}..{high:g}, mean {mean:g}, deviation {std:g}"
    return Normalization("ct", low, high, mean, std), reason


def is_ct(name: str) -> bool:
    """Whether a channel's name has CT as a word and no other modality.

    >>> [name for name in ("CT", "CT_venous", "lateCT", "CTA", "PET/CT", "CT1", "MR") if is_ct(name)]
    ['CT', 'CT_venous', 'lateCT', 'CTA']
    """
    words = {word.lower() for word in re.findall(r"[A-Z]+[0-9]*(?![a-z])|[A-Z]?[a-z]+[0-9]*", name)}
    return bool(words & _CT) and not words & _NOT_CT


def _rounded(value: float) -> float:
    """Six digits: more would only make the plan's hash depend on the machine."""
    return float(f"{value:.6g}")
