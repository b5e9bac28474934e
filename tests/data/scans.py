"""Small scans written as NIfTI, for the tests of preparing."""

from pathlib import Path

import nibabel as nib
import numpy as np

from medcontext.data.cases import Case, Dataset


def affine_of(codes: str, spacing: tuple[float, float, float]) -> np.ndarray:
    """An affine whose file axes run towards `codes`, such as "PIR"; the spacing is per file axis."""
    orientation = nib.orientations.axcodes2ornt(codes)
    affine = np.zeros((4, 4))
    for axis, (world, direction) in enumerate(orientation):
        affine[int(world), axis] = direction * spacing[axis]
    affine[:, 3] = (-31.0, 12.5, 7.0, 1.0)
    return affine


def rotation(degrees: float, axis: int) -> np.ndarray:
    """A 4 x 4 rotation about a world axis."""
    angle = np.deg2rad(degrees)
    first, second = (other for other in range(3) if other != axis)
    matrix = np.eye(4)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


def blobs(shape: tuple[int, int, int], centres: list[tuple[float, float, float]], radius: float) -> np.ndarray:
    """Balls 1, 2, ...; centres and radius are fractions of the shape."""
    grid = np.stack(np.meshgrid(*((np.arange(n) + 0.5) / n for n in shape), indexing="ij"))
    label = np.zeros(shape, dtype=np.uint8)
    for value, centre in enumerate(centres, start=1):
        label[((grid - np.reshape(centre, (3, 1, 1, 1))) ** 2).sum(0) < radius**2] = value
    return label


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def write_dataset(
    root: Path,
    cases: dict[str, tuple[np.ndarray, np.ndarray]],
    *,
    channels: tuple[str, ...] = ("MR",),
    labels: dict[str, int] | None = None,
    affine: np.ndarray | None = None,
) -> Dataset:
    """Write images ((X, Y, Z) or (X, Y, Z, C)) and labels; the labels default to left 1, right 2."""
    written = tuple(
        Case(
            name,
            (save(root / "images" / f"{name}.nii.gz", image.astype(np.float32), affine),),
            save(root / "labels" / f"{name}.nii.gz", label, affine),
        )
        for name, (image, label) in cases.items()
    )
    return Dataset(root.name, root, channels, labels or {"left": 1, "right": 2}, written)


def random_cases(count: int, shape: tuple[int, int, int], seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Noise around two balls."""
    rng = np.random.default_rng(seed)
    label = blobs(shape, [(0.3, 0.5, 0.5), (0.7, 0.5, 0.5)], 0.17)
    return {f"case{n:02d}": (rng.normal(100 + 50 * label, 10), label) for n in range(count)}
