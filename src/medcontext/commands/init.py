"""Describing a folder of scans, so that every other command can read it."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from medcontext.errors import InputError
from medcontext.files import AnyPath, several


def init(
    folder: AnyPath,
    *,
    image: str | Sequence[str] = (),
    label: str | None = None,
    channels: str | Sequence[str] = (),
    labels: Mapping[str, int] | Sequence[str] = (),
    output: AnyPath | None = None,
    workers: int | None = None,
) -> Path:
    """Write the dataset.json of a folder of scans of your own, for you to read and correct.

    Finds cases in flat or nested folders, reads every label, and shows what it found. It asks nothing, changes no
    scan, and overwrites nothing. A pattern is a file name or a glob, relative to the folder or to a case's folder, such
    as ct.nii.gz, '*_ct.nii.gz' or 'images/*.nii.gz'; of files that fit two, the pattern that says more of the name
    counts. Scans without a label are listed as unlabelled.

    Args:
        folder: of NIfTI files, or of folders of them; images may be DICOM series, each in a folder
        image: pattern of the images; for several channels one each, in order; default: guessed from names, and said
        label: pattern of the labels; default: guessed
        channels: what they are, such as CT, or FLAIR T1; CT in a name decides how intensities are normalised
        labels: names of the label values, such as liver=1 tumour=2, or for all in order; default: value_1, ...
        output: the JSON file, which must not be there; default: dataset.json in the folder
        workers: processes; default: one for each processor

    Returns:
        The JSON file, which `check`, `train` and all others take.

    Raises:
        InputError: if it is not clear which files belong together, with the option that says so; if there is a JSON
            file already; nothing is written then.
    """
    import shlex

    from rich.text import Text

    from medcontext.console import console, warn
    from medcontext.data.discovery.describe import show, to_json
    from medcontext.data.discovery.discover import discover
    from medcontext.data.formats import MANIFEST, scan_dataset
    from medcontext.data.pool import processors
    from medcontext.files import write_text

    folder = Path(folder)
    file = folder / MANIFEST if output is None else Path(output)
    images = several(image)
    refuse_output(file, folder)
    if not images and label is None:
        refuse_known(folder)
    names = several(channels)
    found = discover(folder, images, label, names, labels, processors() if workers is None else workers)
    refuse_output(file, folder)  # the look took a while
    try:
        write_text(file, to_json(found, file))
    except OSError as error:
        raise InputError(f"Cannot write {file}: {error.strerror}. Write it elsewhere: --output FILE.json.") from None
    show(found, images, label)
    warn([f"To be corrected in {file.name}: {problem}." for problem in scan_dataset(file)[1]])
    data = shlex.quote(str(folder if output is None else file))
    console.print(Text(f"Written: {file}. Read it, correct names, then: medcontext check {data}"), soft_wrap=True)
    return file


def refuse_output(file: Path, folder: Path) -> None:
    """Refuse to write over a file, or where nothing can be written.

    Raises:
        InputError: with what to do.
    """
    if file.exists() or file.is_symlink():
        raise InputError(
            f"{file} is there already, and init overwrites nothing. Correct it by hand; or move it away; or write "
            "another one: --output other.json."
        )
    if file.suffix != ".json":
        raise InputError(f"--output {file} must be a JSON file, such as dataset.json.")
    if not file.parent.is_dir() and file.parent != folder:
        raise InputError(f"--output {file}: the folder {file.parent} is not there.")
    if file.parent.is_dir() and not os.access(file.parent, os.W_OK):
        raise InputError(f"{file.parent} cannot be written to; write the file elsewhere: --output FILE.json.")


def refuse_known(folder: Path) -> None:
    """Refuse to describe what is read without a description, with the names of its structures.

    Raises:
        InputError: naming it.
    """
    from medcontext.data.official import scan_official

    known = scan_official(folder) if folder.is_dir() else None
    if known is not None:
        raise InputError(
            f"{folder} is {known[0].name} as it is distributed, which every command reads: there is nothing to write. "
            "To describe it all the same, give --image and --label."
        )
