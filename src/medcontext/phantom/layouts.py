"""How a generated data set is laid out on disk: file names, and the JSON file that describes it.

Every layout has the images of its test cases in `imagesTs` and, for evaluation, their labels in `labelsTs`, which no
JSON file mentions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

NAME = "phantom"
MANIFEST = "dataset.json"


@dataclass(frozen=True)
class Contents:
    """What there is to describe.

    Args:
        channels: their names, in order.
        labels: structure to value, background included.
        training: the names of the labelled cases.
        test: the names of the others.
    """

    channels: tuple[str, ...]
    labels: dict[str, int]
    training: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """One way of laying out a data set.

    Args:
        root: the data set's folder, below the output folder.
        images: the folder of the labelled cases' images.
        labels: the folder of their labels.
        files: a case's image files, given its name and the number of channels; a single one takes all channels.
        manifest: the content of the JSON file.
    """

    root: str
    images: str
    labels: str
    files: Callable[[str, int], list[str]]
    manifest: Callable[[Contents], dict[str, Any]]


def _one_file(name: str, channels: int) -> list[str]:
    return [f"{name}.nii.gz"]


def _numbered_files(name: str, channels: int) -> list[str]:
    return [f"{name}_{channel:04d}.nii.gz" for channel in range(channels)]


def _numbered_if_several(name: str, channels: int) -> list[str]:
    return _one_file(name, channels) if channels == 1 else _numbered_files(name, channels)


def _decathlon(contents: Contents) -> dict[str, Any]:
    return {
        "name": NAME,
        "description": "Generated scans of an abdomen",
        "tensorImageSize": "3D" if len(contents.channels) == 1 else "4D",
        "modality": by_index(contents.channels),
        "labels": {str(value): name for name, value in contents.labels.items()},
        "numTraining": len(contents.training),
        "numTest": len(contents.test),
        "training": [
            {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in contents.training
        ],
        "test": [f"./imagesTs/{name}.nii.gz" for name in contents.test],
    }


def _nnunet(contents: Contents) -> dict[str, Any]:
    return {
        "channel_names": by_index(contents.channels),
        "labels": contents.labels,
        "numTraining": len(contents.training),
        "file_ending": ".nii.gz",
    }


def _list(contents: Contents) -> dict[str, Any]:
    def image(folder: str, name: str) -> str | list[str]:
        paths = [f"{folder}/{file}" for file in _numbered_if_several(name, len(contents.channels))]
        return paths[0] if len(paths) == 1 else paths

    return {
        "name": NAME,
        "channels": list(contents.channels),
        "labels": contents.labels,
        "cases": [
            {"name": name, "image": image("images", name), "label": f"labels/{name}.nii.gz"}
            for name in contents.training
        ],
        "test": [{"name": name, "image": image("imagesTs", name)} for name in contents.test],
    }


def by_index(names: tuple[str, ...]) -> dict[str, str]:
    """Names by their index, as the Decathlon and nnU-Net have them."""
    return {str(index): name for index, name in enumerate(names)}


LAYOUTS = {
    "decathlon": Layout("", "imagesTr", "labelsTr", _one_file, _decathlon),
    "nnunet": Layout("Dataset999_Phantom", "imagesTr", "labelsTr", _numbered_files, _nnunet),
    "list": Layout("", "images", "labels", _numbered_if_several, _list),
}
