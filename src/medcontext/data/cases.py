"""What a data set is: cases, channels and labels, whatever the folder layout they come from."""

import re
from dataclasses import dataclass, field
from pathlib import Path

_FRAME = re.compile(r"(patient\d{3})_frame\d{2}")


def patient(name: str) -> str:
    """Whose case it is, by its name: ACDC's frames of one heart are one patient's, every other case is one of its own.

    >>> patient("patient007_frame01"), patient("img0006"), patient("film_frame01")
    ('patient007', 'img0006', 'film_frame01')
    """
    found = _FRAME.fullmatch(name)
    return found[1] if found else name


@dataclass(frozen=True)
class Case:
    """One patient's scan, on disk.

    Args:
        name: unique within its data set; predictions are called `<name>.nii.gz`.
        images: one 3D file per channel, or a single 4D file with the channels last.
        label: the segmentation, or None where there is none.
        patient: whose scan it is, where the data set says so; see `owner`.
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None = None
    patient: str = ""

    @property
    def owner(self) -> str:
        """Whose scan it is: splits keep a patient's cases together, comparisons count them as one."""
        return self.patient or patient(self.name)

    @property
    def files(self) -> tuple[Path, ...]:
        """The images, and the label where there is one."""
        return self.images if self.label is None else (*self.images, self.label)


@dataclass(frozen=True)
class Dataset:
    """The cases of one data set and what their voxels mean.

    Args:
        name: for messages and for the cache.
        root: the folder it was read from.
        channels: the name of each channel, in order, such as `("CT",)` or `("FLAIR", "T1")`.
        labels: structure name to the value that the label files hold, once `label_map` has been applied. Values may
            have gaps. The value 0 is the background, always there.
        cases: those with a label.
        unlabelled: those without, such as the Decathlon's `imagesTs`.
        regions: where overlapping regions are segmented rather than structures: name to the label values that a
            region consists of, larger regions first, such as `{"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}`.
        label_map: values in the label files that stand for others, such as `{255: 0}`; `labels` are what is left.
        remarks: what a person should know of its files, a sentence each, such as which were passed over.
        ignored: the value of voxels that nobody labelled, nnU-Net's `ignore` label; None where every voxel is labelled.
    """

    name: str
    root: Path
    channels: tuple[str, ...]
    labels: dict[str, int]
    cases: tuple[Case, ...]
    unlabelled: tuple[Case, ...] = ()
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    label_map: dict[int, int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    ignored: int | None = None

    @property
    def structures(self) -> dict[str, int]:
        """The labels without the background, sorted by value.

        Training uses the class indices 0..K-1: the background, then these in this order.
        """
        named = ((name, value) for name, value in self.labels.items() if value != 0)
        return dict(sorted(named, key=lambda item: item[1]))
