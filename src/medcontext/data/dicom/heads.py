"""What the files of a folder say of themselves, voxels and the patient's data left unread."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from medcontext.data.dicom.planes import PLACE_TAGS, Plane, planes_of
from medcontext.errors import first_line
from medcontext.extras import need

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
VOLUMES = {  # storage classes whose images are slices at places in the patient
    *("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"),  # CT
    *("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4"),  # MR
    *("1.2.840.10008.5.1.4.1.1.128", "1.2.840.10008.5.1.4.1.1.128.1", "1.2.840.10008.5.1.4.1.1.130"),  # PET
    *("1.2.840.10008.5.1.4.1.1.13.1.1", "1.2.840.10008.5.1.4.1.1.13.1.2"),  # cone beam CT
}
"""Each plain, converted to multi-frame and enhanced multi-frame (DICOM PS3.4, B.5)."""

HEAD_TAGS = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "SeriesNumber", "SeriesDescription"),
    *("Modality", "ImageType", "SpecificCharacterSet", "SamplesPerPixel", "PhotometricInterpretation"),
)
_NEEDED = ("SOPInstanceUID", "SeriesInstanceUID", "Rows", "Columns")


class Head(NamedTuple):
    """Of one file.

    Args:
        file: its path.
        kind: the name of its storage class.
        volume: whether it can be a part of a volume.
        series, study: UIDs.
        number: of the series, or None.
        description: of the series.
        modality: such as CT, MR, PT.
        scout: whether it says that it is a localizer.
        planes: its slices; of what cannot be a part of a volume none.
        problem: why it cannot be read, or nothing.
    """

    file: Path
    kind: str
    volume: bool = False
    series: str = ""
    study: str = ""
    number: int | None = None
    description: str = ""
    modality: str = ""
    scout: bool = False
    planes: tuple[Plane, ...] = ()
    problem: str = ""


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, whatever its name: `DICM` comes after 128 bytes; of .dcm files this is taken for said.

    Names of NIfTI files and hidden ones are not looked into.
    """
    if path.name.startswith(".") or path.name.lower().endswith((".nii", ".nii.gz")):
        return False
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM" or (path.suffix.lower() == ".dcm" and path.stat().st_size > 0)
    except OSError:
        return False


def folders_below(path: Path) -> Iterator[tuple[Path, list[str]]]:
    """A folder and all below it but hidden ones, each once, through links too, with the sorted names of their files."""
    seen = {os.path.realpath(path)}
    for place, folders, names in os.walk(path, followlinks=True):
        targets = {name: os.path.realpath(os.path.join(place, name)) for name in sorted(folders)}
        folders[:] = [name for name in targets if not name.startswith(".") and targets[name] not in seen]
        seen |= {targets[name] for name in folders}
        yield Path(place), sorted(names)


def dicom_files(path: Path) -> list[Path]:
    """The DICOM files of a folder and all below it, or beside a file, sorted."""
    if not path.is_dir():
        return sorted(file for file in path.parent.iterdir() if file.is_file() and is_dicom(file))
    return sorted(place / name for place, names in folders_below(path) for name in names if is_dicom(place / name))


def is_dicom_path(path: Path) -> bool:
    """Whether a path is a DICOM file, or a folder with one in it or below it."""
    if not path.is_dir():
        return is_dicom(path)
    return any(is_dicom(place / name) for place, names in folders_below(path) for name in names)


def folder_state(path: Path) -> list[Any]:
    """What tells whether DICOM files have changed: the path, their bytes, and a number for names and times."""
    files = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in dicom_files(path)]
    digest = hashlib.blake2b(repr(files).encode(errors="surrogateescape"), digest_size=6).hexdigest()
    return [str(path.resolve()), sum(size for _, size, _ in files), int(digest, 16)]


def read_heads(path: Path) -> tuple[Head, ...]:
    """Of every DICOM file below a folder, or beside a file; read anew only if one has changed.

    Raises:
        InputError: if pydicom is not installed.
    """
    return _read_heads(path, repr(folder_state(path)))


@lru_cache(maxsize=4)
def _read_heads(path: Path, state: str) -> tuple[Head, ...]:
    pydicom = need("pydicom")
    with quiet():
        return tuple(_head(file, pydicom) for file in dicom_files(path))


@contextmanager
def quiet() -> Iterator[None]:
    """Without pydicom's own checks and warnings: they show values, and so perhaps the patient's."""
    import logging
    import warnings

    from pydicom import config

    logger = logging.getLogger("pydicom")
    level, settings = logger.level, config.settings
    modes = settings.reading_validation_mode, settings.writing_validation_mode
    logger.setLevel(logging.CRITICAL)
    settings.reading_validation_mode = settings.writing_validation_mode = config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        settings.reading_validation_mode, settings.writing_validation_mode = modes


def _head(file: Path, pydicom: Any) -> Head:
    try:
        data = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=[*HEAD_TAGS, *PLACE_TAGS])
        return _of_dataset(file, data, pydicom)
    except Exception as error:  # a damaged file raises whatever its first senseless value leads to
        what = f"{type(error).__name__}: {first_line(error)}"
        return Head(file, "damaged file", problem=f"Cannot read {file}: {what}. Copy or export it again.")


def _of_dataset(file: Path, data: Any, pydicom: Any) -> Head:
    uid = str(data.get("SOPClassUID") or getattr(data, "file_meta", {}).get("MediaStorageSOPClassUID") or "")
    if not uid:
        problem = f"{file} is called or marked as DICOM, but holds no image or other object. Copy or export it again."
        return Head(file, "damaged file", problem=problem)
    kind = pydicom.uid.UID(uid).name.removesuffix(" Storage")
    if uid not in VOLUMES:
        return Head(file, kind)
    gone = [name for name in _NEEDED if not data.get(name)]
    if gone:
        problem = f"{file} is truncated or damaged: it has no {' and no '.join(gone)}. Copy or export it again."
        return Head(file, "damaged file", problem=problem)
    types = [str(word).upper() for word in data.get("ImageType") or ()]
    number, description = data.get("SeriesNumber"), str(data.get("SeriesDescription") or "")
    colour = str(data.get("PhotometricInterpretation") or "MONOCHROME2")
    if colour not in ("MONOCHROME1", "MONOCHROME2"):
        return Head(file, f"colour image ({colour})")
    return Head(
        file,
        kind,
        True,
        str(data.SeriesInstanceUID),
        str(data.get("StudyInstanceUID") or ""),
        None if number in (None, "") else int(number),
        " ".join("".join(letter if letter.isprintable() else " " for letter in description).split()),
        str(data.get("Modality") or ""),
        "LOCALIZER" in types,
        planes_of(data, file),
    )
