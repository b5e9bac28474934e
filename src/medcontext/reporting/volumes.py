"""The volumes of a case as the page shows them: cropped to what is labelled, 8 bits, compressed NIfTI.

Arrays are (X, Y, Z) along the file's axes, whatever their orientation; the affine goes with them.
"""

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np

from medcontext.data.cases import Case
from medcontext.data.label_map import apply_map
from medcontext.data.nifti import check_same_grid, read_header, read_image, read_label
from medcontext.errors import InputError
from medcontext.evaluation.metrics import Extent
from medcontext.pictures.slices import window_of

MARGIN = 0.15  # around what is labelled, as a share of its extent
LEAST_MARGIN = 4  # voxels
OUTLIERS = 0.05  # per cent of the voxels at either end that share the darkest and the brightest grey
GREYS = 255

Intensities = tuple[float, float]


@dataclass(frozen=True)
class CaseFiles:
    """Where the volumes of a case are.

    Args:
        name: of the case.
        image: None where it is not known; of a file with several channels the first is shown.
        truth: the label; None where there is none, and the first prediction's grid counts.
        predictions: model to segmentation.
        label_map: values in the label's file that stand for others.
        ignored: the value in the label's file where nothing was scored; None where all was.
        own_images: models that saw another image, such as one with parts hidden, which is shown below theirs.
    """

    name: str
    image: Path | None
    truth: Path | None
    predictions: Mapping[str, Path]
    own_images: Mapping[str, Path] = field(default_factory=dict)
    label_map: Mapping[int, int] = field(default_factory=dict)
    ignored: int | None = None

    @property
    def reference(self) -> Path:
        """The file on whose grid all lie."""
        return self.truth or next(iter(self.predictions.values()))

    def read_truth(self) -> np.ndarray:
        """The label (X, Y, Z), as it was scored."""
        if self.truth is None:
            raise ValueError(f"case '{self.name}' has no label")
        truth = read_label(self.truth)[0]
        return apply_map(self._scored(truth, truth), dict(self.label_map))

    def read_predictions(self) -> list[np.ndarray]:
        """The segmentations (X, Y, Z), as they were scored."""
        predictions = [read_label(path)[0] for path in self.predictions.values()]
        if self.ignored is None or self.truth is None:
            return predictions
        truth = read_label(self.truth)[0]
        return [self._scored(each, truth) for each in predictions]

    def _scored(self, values: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return values if self.ignored is None else np.where(truth == self.ignored, 0, values)

    def check_grid(self, *paths: Path) -> None:
        """Raise InputError where a file does not lie on the reference's grid."""
        header = read_header(self.reference)
        kind = "label" if self.truth else "segmentation"
        for path in paths:
            check_same_grid(header, read_header(path), (f"{kind} {self.reference}", str(path)))


class CaseVolumes(NamedTuple):
    """A case, ready for the page.

    `files` are compressed NIfTI: `image`, `truth` if there is one, each prediction by its position, `0`, `1`, ..., and
    where it has an image of its own `image-0`. In segmentations a voxel holds the position of its value among those
    shown, from 1; 0 is the background. `window` has the intensities shown black and white at first, `limits` the
    darkest and brightest that the 8 bits hold; `box` what is left of the whole `shape`, start and stop along each axis;
    `note` what is amiss.
    """

    files: dict[str, bytes]
    window: Intensities
    limits: Intensities
    box: list[tuple[int, int]]
    shape: tuple[int, ...]
    note: str = ""


def read_volumes(case: CaseFiles, values: Sequence[Sequence[int]]) -> CaseVolumes:
    """Read, crop and pack a case.

    Args:
        case: its files.
        values: that share a colour, in the order of the colours.

    Raises:
        InputError: if a label or prediction is missing or damaged, or lies on another grid than the label. An image
            that is such only leaves its place black, and a note.
    """
    header = read_header(case.reference)
    images = {"image": case.image} if case.image else {}
    images |= {
        f"image-{i}": case.own_images[name] for i, name in enumerate(case.predictions) if name in case.own_images
    }
    case.check_grid(*case.predictions.values())
    predictions = {str(index): prediction for index, prediction in enumerate(case.read_predictions())}
    labels = ({"truth": case.read_truth()} if case.truth else {}) | predictions
    box = labelled_box(list(labels.values()))
    affine = header.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [part.start for part in box]
    shown, note = {}, ""
    for key, path in images.items():
        try:
            case.check_grid(path)
            shown[key] = first_channel(path)[box]
        except InputError as error:
            note = f"shown without its image: {error}"
    image = shown.setdefault("image", np.zeros([part.stop - part.start for part in box], np.float32))
    window = window_of(image, next(iter(labels.values()))[box])
    limits = limits_of(image, window)
    files = {key: pack(grey_levels(array, limits), affine, limits) for key, array in shown.items()}
    files |= {key: pack(positions(label[box], values), affine) for key, label in labels.items()}
    return CaseVolumes(files, window, limits, [(part.start, part.stop) for part in box], header.shape[:3], note)


def labelled_box(labels: Sequence[np.ndarray]) -> Extent:
    """Where any of the labels has a structure, with a margin; the whole where none has.

    >>> label = np.zeros((40, 40, 40), dtype=int)
    >>> label[10:30, 0:20, 39] = 1
    >>> [(part.start, part.stop) for part in labelled_box([label])]
    [(6, 34), (0, 24), (35, 40)]
    """
    parts = []
    for axis, size in enumerate(labels[0].shape):
        others = tuple(other for other in range(3) if other != axis)
        inside = np.flatnonzero(np.any([(label != 0).any(axis=others) for label in labels], axis=0))
        low, high = (int(inside[0]), int(inside[-1]) + 1) if inside.size else (0, size)
        margin = max(LEAST_MARGIN, round(MARGIN * (high - low)))
        parts.append(slice(max(0, low - margin), min(size, high + margin)))
    return tuple(parts)


def limits_of(image: np.ndarray, window: Intensities) -> Intensities:
    """Intensities that 256 greys are spread over: all but outliers, and the window where it reaches further."""
    low, high = (float(value) for value in np.percentile(image, (OUTLIERS, 100 - OUTLIERS)))
    low, high = min(low, max(window[0], float(image.min()))), max(high, min(window[1], float(image.max())))
    return low, max(high, low + 1e-6)


def grey_levels(image: np.ndarray, limits: Intensities) -> np.ndarray:
    """
    >>> grey_levels(np.array([-5.0, 0.0, 1.0, 2.0, 9.0]), (0.0, 2.0)).tolist()
    [0, 0, 128, 255, 255]
    """
    scaled = (image.astype(np.float64) - limits[0]) / (limits[1] - limits[0])
    return np.rint(GREYS * np.clip(scaled, 0, 1)).astype(np.uint8)


def positions(label: np.ndarray, values: Sequence[Sequence[int]]) -> np.ndarray:
    """The position of each voxel's value among `values`, from 1; any other value is 0.

    >>> positions(np.array([0, 500, 200, 7, 9]), [(200, 9), (500,)]).tolist()
    [0, 2, 1, 0, 1]
    """
    result = np.zeros(label.shape, np.uint8)
    for position, together in enumerate(values, start=1):
        result[np.isin(label, together)] = position
    return result


def pack(array: np.ndarray, affine: np.ndarray, limits: Intensities | None = None) -> bytes:
    """An 8-bit array as compressed NIfTI, the same bytes each time; with limits, its values are intensities."""
    file = nib.Nifti1Image(array, affine)
    file.header.set_xyzt_units("mm")
    if limits:
        file.header.set_slope_inter((limits[1] - limits[0]) / GREYS, limits[0])
    else:
        file.header.set_intent("label")  # only then does NiiVue draw outlines
    file.header["cal_min"], file.header["cal_max"] = limits or (0, GREYS)  # else NiiVue guesses
    return gzip.compress(file.to_bytes(), compresslevel=6, mtime=0)


def first_channel(path: Path) -> np.ndarray:
    """The image (X, Y, Z); of a file with several channels the first."""
    shape = read_header(path).shape
    channels = [f"channel {index}" for index in range(shape[3] if len(shape) == 4 else 1)]
    return read_image(Case(path.name, (path,), None), channels)[0][0]
