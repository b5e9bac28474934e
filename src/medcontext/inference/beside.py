"""What lies beside the predictions: volumes, and names and colours for 3D Slicer and ITK-SNAP."""

import csv
import io
import re
from pathlib import Path

import numpy as np

from medcontext.console import track
from medcontext.data.folders import nifti_files
from medcontext.data.nifti import case_name, read_label
from medcontext.data.placement import voxel_sizes
from medcontext.data.regions import Regions
from medcontext.evaluation.metrics import locate
from medcontext.files import write_text
from medcontext.pictures.colours import colours_of

VOLUMES, SLICER, SNAP = "volumes.csv", "labels.ctbl", "labels.txt"

SNAP_HEAD = """\
################################################
# ITK-SnAP Label Description File
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
################################################
"""


def write_volumes(output: Path, structures: Regions) -> None:
    """Write the volume of every structure, or region, in every segmentation that the folder holds, in ml.

    They are measured in the files, so that the table is whole also after an interruption. `volumes.csv` has a row for
    each case and structure: `case`, `structure`, `ml`.

    Args:
        output: the folder of the segmentations.
        structures: label values of each, or of each region.

    Raises:
        InputError: if a segmentation cannot be read.
    """
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["case", "structure", "ml"])
    for file in track(nifti_files(output), "measuring"):
        for name, ml in volumes(*read_label(file), structures).items():
            rows.writerow([case_name(file), name, f"{ml:.6g}"])
    write_text(output / VOLUMES, table.getvalue())


def volumes(label: np.ndarray, affine: np.ndarray, structures: Regions) -> dict[str, float]:
    """The volume of every structure, or region, in a label (X, Y, Z), in ml."""
    ml = float(np.prod(voxel_sizes(affine))) / 1000
    counts = {value: np.count_nonzero(label[box] == value) for value, box in locate(label).items()}
    return {name: ml * sum(counts.get(value, 0) for value in values) for name, values in structures.items()}


def write_colours(output: Path, labels: dict[str, int]) -> None:
    """Write names and colours of the label values: a colour table of 3D Slicer, a label description of ITK-SNAP.

    Slicer ends a name at a blank, so that blanks are written as `_`; ITK-SNAP at a quotation mark.

    Args:
        output: the folder of the segmentations.
        labels: structure name to value, without the background.
    """
    ordered = dict(sorted(labels.items(), key=lambda item: item[1]))
    slicer = ["# Color table file", f"# {len(ordered) + 1} values", "0 background 0 0 0 0"]
    snap = [f'{0:5} {0:5} {0:4} {0:4} {0:8} {0:2} {0:2}    "Clear Label"']
    for name, colour in colours_of(ordered).items():
        value, (red, green, blue) = ordered[name], bytes.fromhex(colour[1:])
        word, plain = re.sub(r"\s", "_", name), name.replace('"', "'")
        slicer.append(f"{value} {word} {red} {green} {blue} 255")
        snap.append(f'{value:5} {red:5} {green:4} {blue:4} {1:8} {1:2} {1:2}    "{plain}"')
    write_text(output / SLICER, "\n".join([*slicer, ""]))
    write_text(output / SNAP, SNAP_HEAD + "\n".join([*snap, ""]))
