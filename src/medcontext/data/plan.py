"""How scans are prepared: what the user asks, what the training cases suggest, and the plan that results."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np

from medcontext.errors import InputError

PLAN_VERSION = 1
"""Raised when the same plan would prepare other voxels than before, so that older stores are not reused."""

NormalizationName = Literal["auto", "ct", "zscore", "zscore_nonzero", "range", "none"]
NORMALIZATIONS = get_args(NormalizationName)


@dataclass(frozen=True)
class PrepareSettings:
    """What the user decides about preparing; everything on "auto" or None is decided from the training cases.

    Args:
        spacing: voxel size in mm to the right, anterior and superior; "auto" takes the training median,
            "original" does not resample.
        normalization: "ct" clips to the foreground's percentiles and scales by its mean and deviation,
            "zscore" gives each case mean 0 and deviation 1, over the voxels that are not 0 in some channel where
            these are few, as nnU-Net; "zscore_nonzero" over those that are not 0 in the channel itself, as MONAI's
            NormalizeIntensity(nonzero=True, channel_wise=True); "range" scales `intensity_range` to 0..1; "none"
            leaves the values alone; "auto" is "range" where a range is given, else "ct" for channels with
            the word CT in their name and "zscore" for all others.
        intensity_range: lowest and highest intensity for "range"; values outside are clipped.
        crop_foreground: crop each case to the box of its non-zero voxels; None crops unless a channel is CT,
            where 0 is water and not background.
        label_map: from the values in the label files to declared values (or 0), such as `{255: 0}`, on top of the
            data set's own. Nothing else ever changes a label value.
    """

    spacing: tuple[float, float, float] | Literal["auto", "original"] = "auto"
    normalization: NormalizationName = "auto"
    intensity_range: tuple[float, float] | None = None
    crop_foreground: bool | None = None
    label_map: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_spacing(self.spacing)
        if self.normalization not in NORMALIZATIONS:
            raise InputError(f"normalization is '{self.normalization}'; allowed are {', '.join(NORMALIZATIONS)}.")
        if self.intensity_range is None:
            if self.normalization == "range":
                raise InputError("normalization 'range' needs an intensity_range, such as [-175, 250].")
        elif self.normalization not in ("auto", "range"):
            raise InputError(
                f"intensity_range is only used by normalization 'range', not by '{self.normalization}'; leave "
                "one of them out."
            )
        elif len(self.intensity_range) != 2 or not -np.inf < self.intensity_range[0] < self.intensity_range[1] < np.inf:
            raise InputError(f"intensity_range is {self.intensity_range}; give the lowest value, then the highest.")
        if 0 in self.label_map:
            raise InputError(f"label_map {self.label_map} changes 0; the background is always 0. Leave it out.")


@dataclass(frozen=True)
class Normalization:
    """How one channel's intensities are scaled; the numbers are in the file's units.

    Args:
        kind: "ct", "zscore", "zscore_nonzero", "range" or "none".
        lower: values below are raised to it ("ct" and "range").
        upper: values above are lowered to it.
        mean: subtracted after clipping ("ct").
        std: divided by ("ct").
        inside: over non-zero voxels alone, and the others stay 0: always with "zscore_nonzero", whose voxels are
            the channel's own; with "zscore" those that are not 0 in some channel.
    """

    kind: Literal["ct", "zscore", "zscore_nonzero", "range", "none"]
    lower: float = 0.0
    upper: float = 0.0
    mean: float = 0.0
    std: float = 1.0
    inside: bool = False


@dataclass(frozen=True)
class Plan:
    """Everything that decides how a scan is prepared, for training and for prediction alike.

    Args:
        channels: names, in order.
        labels: structure name to value, after `label_map`; without the background.
        label_map: from values in the label files to the values above.
        spacing: mm along H, W, D; None keeps each file's own.
        normalization: one for each channel.
        crop_foreground: whether cases are cropped to their non-zero voxels.
        version: of the preparing code.
        reasons: for a person, why each choice was made; not part of the hash.
    """

    channels: tuple[str, ...]
    labels: dict[str, int]
    label_map: dict[int, int]
    spacing: tuple[float, float, float] | None
    normalization: tuple[Normalization, ...]
    crop_foreground: bool
    version: int = PLAN_VERSION
    reasons: dict[str, str] = field(default_factory=dict, compare=False)

    @property
    def values(self) -> tuple[int, ...]:
        """The label value of each class index 0..K-1: sorted, the background's 0 first."""
        return tuple(sorted({0, *self.labels.values()}))

    @property
    def structures(self) -> tuple[str, ...]:
        """The name of each class index 1..K-1; of several names for one value, the first."""
        names = {value: name for name, value in reversed(self.labels.items())}
        return tuple(names[value] for value in self.values if value in names)

    @property
    def hash(self) -> str:
        """Ten hexadecimal digits that change whenever a prepared voxel could."""
        content = {key: value for key, value in self.to_dict().items() if key != "reasons"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def image_hash(self) -> str:
        """The same of images alone, whatever their channels are called and is done with labels."""
        return replace(self, channels=(), labels={}, label_map={}).hash

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Plan":
        """The inverse of `to_dict`, also after JSON has turned tuples into lists and keys into strings.

        Raises:
            InputError: if the plan was written by another version of the preparing code, or is not a plan.
        """
        if values.get("version") != PLAN_VERSION:
            raise InputError(
                f"The preparing plan has version {values.get('version')}, this medcontext knows {PLAN_VERSION}. "
                "Use the medcontext that wrote it, or train again."
            )
        try:
            plan = cls(**values)
            return replace(
                plan,
                channels=tuple(plan.channels),
                label_map={int(key): value for key, value in plan.label_map.items()},
                spacing=tuple(plan.spacing) if plan.spacing else None,  # type: ignore[arg-type]
                normalization=tuple(Normalization(**channel) for channel in values["normalization"]),
            )
        except (TypeError, KeyError) as error:
            raise InputError(f"The preparing plan is damaged: {error}.") from None


def _check_spacing(spacing: Any) -> None:
    if isinstance(spacing, str):
        if spacing not in ("auto", "original"):
            raise InputError(f"spacing is '{spacing}'; give 'auto', 'original' or three lengths in mm.")
        return
    if len(spacing) != 3 or not all(0 < length < np.inf for length in spacing):
        raise InputError(f"spacing is {spacing}; give three lengths in mm above 0, 'auto' or 'original'.")
