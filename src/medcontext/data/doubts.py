"""What is doubtful in the headers of many files, said once for all files that share it."""

from collections.abc import Iterable
from pathlib import Path

from medcontext.data.cases import Dataset
from medcontext.data.folders import listed
from medcontext.data.nifti import read_doubts
from medcontext.errors import InputError


def data_doubts(dataset: Dataset, names: Iterable[str], scans: Iterable[Dataset] = ()) -> list[str]:
    """What to tell a person of a data set's files, and of the headers of the named cases and of scans beside it."""
    named = set(names)
    cases = [case for case in dataset.cases if case.name in named]
    cases += [case for source in scans for case in source.cases]
    return [*dataset.remarks, *header_doubts(file for case in cases for file in case.files)]


def header_doubts(files: Iterable[Path]) -> list[str]:
    """A sentence for each thing that other programs may read otherwise; only headers are read.

    Files that cannot be read are left to those who read their voxels.
    """
    found: dict[str, list[str]] = {}
    for file in files:
        try:
            doubts = read_doubts(file)
        except InputError:
            continue
        for doubt in doubts:
            found.setdefault(doubt.message, []).append(f"{file} ({doubt.detail})")
    return [f"{message}: {listed(names)}." for message, names in found.items()]
