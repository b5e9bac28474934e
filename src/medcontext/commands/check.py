"""Looking at a data set before anyone trains on it."""

from pathlib import Path
from typing import TYPE_CHECKING

from medcontext.errors import InputError
from medcontext.files import AnyPath, output_folder

if TYPE_CHECKING:
    from medcontext.data.check import Report


def check(data: AnyPath, *, all: bool = False, output: AnyPath | None = None, workers: int | None = None) -> "Report":
    """Look at every scan and label of a data set and list all problems, before anyone trains.

    Args:
        data: data set: a Decathlon, nnU-Net, BTCV, ACDC or BraTS folder, or a JSON list
        all: list every case, however many there are
        output: also write the table of cases to this CSV file
        workers: processes; default: one for each processor

    Returns:
        What was found.

    Raises:
        InputError: if the data set cannot be read, or training would refuse one of its cases; if the table cannot be
            written, before anything is read.
    """
    from medcontext.data.check import check_dataset
    from medcontext.data.check_table import print_report, write_csv
    from medcontext.data.pool import processors

    table = None if output is None else _writable(Path(output))
    report = check_dataset(Path(data), workers=processors() if workers is None else workers)
    print_report(report, all_rows=all)
    if table is not None:
        write_csv(report, table)
    report.raise_errors()
    return report


def _writable(file: Path) -> Path:
    if file.is_dir():
        raise InputError(f"--output {file} is a folder; give a CSV file, such as {file / 'check.csv'}.")
    output_folder(file.parent, overwrite=True)
    return file
