"""Prepared cases on disk, from which a crop is read without the rest of its volume.

One folder a case: `image.b2nd` (C, H, W, D) and `label.b2nd` (H, W, D), blosc2 arrays in small chunks;
`positions.npz`, sampled voxels of each class; `case.json`, written last: a case without it does not exist. A scan
without a label has the image and the record alone. A folder's name has a part that tells the files that the case is
from: where a label is corrected, or another scan has the name, a training that reads the case keeps what it had.
Nothing is held in memory between two reads, so a store of a thousand cases costs what one crop costs.
"""

import os
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import blosc2
import numpy as np
import torch
from torch import Tensor

from medcontext.data.dicom.heads import folder_state, is_dicom_path
from medcontext.data.geometry import Geometry
from medcontext.data.plan import Plan
from medcontext.errors import CannotWrite, InputError, NotEnoughMemory, lacks_memory, memory_words, unknown_name
from medcontext.files import atomic_path, read_json, write_json

IMAGE, LABEL, PLACES = ARRAYS = ("image.b2nd", "label.b2nd", "positions.npz")
QUANTILES = tuple(np.linspace(0, 1, 21))  # by which a scan's intensities are told from another's
POSITIONS = 2000  # voxels sampled a class and case
CHUNK, BLOCK = 64, 16  # voxels; a chunk is what is compressed together, a block what a crop has to unpack
STALE = 3600.0  # seconds after which a temporary file is a killed process's, not a working one's

Slices = tuple[slice, slice, slice]


@dataclass(frozen=True)
class FileFacts:
    """What is known of a prepared case's files.

    Args:
        digest: of the image, equal for equal images.
        label_digest: of the label, as class indices; empty for a scan without one.
        lost: class indices that the label has and the prepared one does not.
        outside: how many labelled voxels were cropped away.
        extremes: of each channel the lowest and the highest intensity, in the file's units.
    """

    digest: str = ""
    label_digest: str = ""
    lost: Sequence[int] = ()
    outside: int = 0
    extremes: Sequence[Sequence[float]] = ()


class Store:
    """A folder of prepared cases.

    Args:
        root: as `prepare_dataset` wrote it.
        folders: of the cases that are meant, by name; all in `root` where nothing is said, each called like its folder.

    Raises:
        InputError: if the folder does not exist.
    """

    def __init__(self, root: Path, folders: Mapping[str, Path] | None = None) -> None:
        if not root.is_dir():
            raise InputError(f"No prepared cases at {root}; prepare the data set first.")
        self.root = root
        if folders is None:
            folders = {path.parent.name: path.parent for path in root.glob("*/case.json")}
        self.folders = folders

    @property
    def names(self) -> tuple[str, ...]:
        """All cases, sorted."""
        return tuple(sorted(self.folders))

    @property
    def plan(self) -> Plan:
        """How the cases were prepared."""
        return Plan.from_dict(read_json(self.root / "plan.json"))

    def case(self, name: str) -> "StoredCase":
        """One case; nothing is read but its record.

        Raises:
            InputError: if it is not prepared.
        """
        if name not in self.folders:
            raise unknown_name("prepared case", name, self.names)
        return StoredCase(self.folders[name], name)


class StoredCase:
    """One prepared case.

    Args:
        folder: the case's own.
        name: the case's; the folder's where nothing is said.
    """

    def __init__(self, folder: Path, name: str = "") -> None:
        self.folder = folder
        self.name = name or folder.name

    @cached_property
    def record(self) -> dict[str, Any]:
        """`case.json`."""
        return read_json(self.folder / "case.json")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(C, H, W, D)."""
        channels, h, w, d = self.record["shape"]
        return channels, h, w, d

    @property
    def classes(self) -> tuple[int, ...]:
        """Class indices with at least one voxel, without the background; none of a scan without a label."""
        return tuple(self.record["classes"] or ())

    @property
    def background(self) -> tuple[float, ...]:
        """The value to pad each channel with."""
        return tuple(self.record["background"])

    @property
    def digest(self) -> str:
        """Of the file's image, equal for equal images."""
        return self.record["digest"]

    @property
    def label_digest(self) -> str:
        """Of the file's label, as class indices; empty for a scan without one."""
        return self.record["label_digest"]

    @property
    def quantiles(self) -> np.ndarray:
        """(C, 21): of each channel's prepared intensities, from the lowest to the highest in steps of 5 %."""
        return np.array(self.record["quantiles"])

    @property
    def extremes(self) -> np.ndarray:
        """(C, 2): each channel's lowest and highest intensity, in the file's units."""
        return np.array(self.record["extremes"]).reshape(-1, 2)

    @property
    def geometry(self) -> Geometry:
        """The way back to the file's grid."""
        return Geometry.from_dict(self.record["geometry"])

    @property
    def lost(self) -> tuple[int, ...]:
        """Class indices that the file's label has and the prepared one does not."""
        return tuple(self.record["lost"])

    @property
    def outside(self) -> int:
        """How many labelled voxels of the file were cropped away."""
        return self.record["outside"]

    def positions(self, class_index: int) -> np.ndarray:
        """Voxels of a class, (n, 3) along H, W, D: all, or a seeded sample of `POSITIONS`.

        Raises:
            InputError: if the file is damaged.
        """
        path = self.folder / PLACES
        try:
            with np.load(path) as arrays:
                return arrays[str(class_index)]
        except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
            raise _damaged(path, error) from None

    def read(self, crop: Slices = (slice(None), slice(None), slice(None))) -> tuple[Tensor, Tensor]:
        """A crop's image (C, h, w, d), float32, and class indices (1, h, w, d), uint8 or int16.

        Raises:
            InputError: if the files are damaged.
        """
        return self.read_image(crop), self.read_label(crop)

    def read_label(self, crop: Slices = (slice(None), slice(None), slice(None))) -> Tensor:
        """A crop's class indices (1, h, w, d), uint8 or int16.

        Raises:
            InputError: if the file is damaged.
        """
        return torch.from_numpy(_read(self.folder / LABEL, crop)[None])

    def read_image(self, crop: Slices = (slice(None), slice(None), slice(None))) -> Tensor:
        """A crop's image (C, h, w, d), float32; also of scans without a label.

        Raises:
            InputError: if the file is damaged.
        """
        return torch.from_numpy(_read(self.folder / IMAGE, (slice(None), *crop)))

    def is_current(self, sources: list[list[Any]]) -> bool:
        """Whether the case was prepared, from these very files (as `describe_sources` gives them)."""
        try:
            record = read_json(self.folder / "case.json")
            same, arrays = record["sources"] == sources, ARRAYS if record["classes"] is not None else (IMAGE,)
        except (InputError, KeyError, TypeError):
            return False
        return (
            same
            and {field.name for field in fields(FileFacts)} <= record.keys()
            and all((self.folder / name).is_file() for name in arrays)
        )


def shapes_by_digest(cases: Iterable[StoredCase]) -> dict[str, tuple[int, ...]]:
    """By which images are told again whatever they are called: the shape of each, in its file, by its digest."""
    return {case.digest: tuple(case.geometry.shape) for case in cases}


def describe_sources(paths: list[Path]) -> list[list[Any]]:
    """What tells whether files have changed: path, size in bytes, time of the last change in ns.

    Of a DICOM series, a path, all bytes in its folder, and a number made of their names, sizes and times.
    """
    return [
        folder_state(path)
        if is_dicom_path(path)
        else [str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns]
        for path in paths
    ]


def case_folder(root: Path, name: str, sources: list[list[Any]]) -> Path:
    """Where a case that is made of these files (as `describe_sources` gives them) lies in a store."""
    return root / f"{name}-{sha256(repr(sources).encode(errors='surrogateescape')).hexdigest()[:8]}"


def write_case(
    folder: Path,
    image: Tensor,
    label: Tensor | None,
    geometry: Geometry,
    background: tuple[float, ...],
    sources: list[list[Any]],
    facts: FileFacts = FileFacts(),
    name: str = "",
) -> None:
    """Write a prepared case; killed at any moment, it leaves a whole case or none.

    Args:
        folder: the case's own.
        image: (C, H, W, D), float32.
        label: class indices (H, W, D), uint8 or int16; None for a scan without a label.
        geometry: the way back to the file's grid.
        background: the value to pad each channel with.
        sources: from `describe_sources`.
        facts: what is known of the files.
        name: the case's, by which its positions are drawn; the folder's where nothing is said.

    Raises:
        CannotWrite: if the disk is full or the folder cannot be written.
    """
    positions = None if label is None else sample_positions(label.numpy(), zlib.crc32((name or folder.name).encode()))
    record = {
        "shape": list(image.shape),
        "classes": None if positions is None else sorted(positions),
        "quantiles": quantiles(image).tolist(),
        "background": list(background),
        "geometry": geometry.to_dict(),
        "sources": sources,
        **asdict(facts),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder)
        if (folder / "case.json").exists() and not StoredCase(folder).is_current(sources):
            (folder / "case.json").unlink(missing_ok=True)  # files have changed; what another run just wrote stays
        _write(folder / IMAGE, image.numpy())
        if label is not None and positions is not None:
            _write(folder / LABEL, label.numpy())
            with atomic_path(folder / PLACES) as temporary:
                np.savez(temporary, **{str(index): voxels for index, voxels in positions.items()})  # type: ignore[arg-type]
        write_json(folder / "case.json", record)
    except OSError as error:
        with suppress(OSError):
            folder.rmdir()  # if it is empty
        raise CannotWrite(
            f"Cannot write the prepared case {folder}: {error.strerror or error}. Free some space, or choose "
            "another cache (MEDCONTEXT_CACHE); what is prepared already is kept."
        ) from None


def quantiles(image: Tensor) -> np.ndarray:
    """`QUANTILES` of the intensities of (C, H, W, D), (C, 21); of a large image from every n-th voxel."""
    values = image.numpy().reshape(len(image), -1)
    return np.quantile(values[:, :: max(1, values.shape[1] // 100_000)], QUANTILES, axis=1).T


def sample_positions(label: np.ndarray, seed: int) -> dict[int, np.ndarray]:
    """For each class present but the background: at most `POSITIONS` of its voxels, (n, 3), drawn at random."""
    rng = np.random.default_rng(seed)
    where = np.flatnonzero(label)
    classes = label.ravel()[where]
    positions = {}
    for index in np.unique(classes):
        voxels = where[classes == index]
        if len(voxels) > POSITIONS:
            voxels = rng.choice(voxels, POSITIONS, replace=False, shuffle=False)
        positions[int(index)] = np.stack(np.unravel_index(voxels, label.shape), axis=1).astype(np.int32)
    return positions


def _write(path: Path, array: np.ndarray) -> None:
    lead = (1,) * (array.ndim - 3)  # each channel by itself
    compressed = blosc2.asarray(
        np.ascontiguousarray(array),
        chunks=(*lead, *(min(CHUNK, size) for size in array.shape[-3:])),
        blocks=(*lead, *(min(BLOCK, size) for size in array.shape[-3:])),
        cparams={"codec": blosc2.Codec.LZ4, "clevel": 5, "filters": [blosc2.Filter.SHUFFLE], "nthreads": 1},
    )
    # Compressed in memory, written by Python: blosc2's own writing does not tell that the disk is full.
    with atomic_path(path) as temporary:
        temporary.write_bytes(compressed.to_cframe())


def _read(path: Path, slices: tuple[slice, ...]) -> np.ndarray:
    try:
        array = blosc2.open(str(path), mode="r", mmap_mode="r", dparams={"nthreads": 1})
        return array[slices]
    except (OSError, RuntimeError, ValueError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> InputError:
    if lacks_memory(error):
        return NotEnoughMemory(f"Not enough memory to read {path}{memory_words(error)}. Use a machine with more.")
    return InputError(
        f"Cannot read the prepared file {path}: {error}. Delete its folder and prepare the data set again."
    )


def _remove_stale(folder: Path) -> None:
    for path in folder.glob(".tmp-*"):
        with suppress(FileNotFoundError):  # another run has just renamed it
            if time.time() - path.stat().st_mtime > STALE:
                os.unlink(path)
