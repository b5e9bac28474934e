"""The report of evaluated runs, from their folders to one HTML file or to a server that shows every case."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation

from medcontext.comparison.read import Given
from medcontext.console import console
from medcontext.data.nifti import read_header
from medcontext.errors import InputError, counted
from medcontext.files import output_folder, write_text
from medcontext.pictures.mosaic import MosaicCase, draw_mosaic
from medcontext.reporting.choice import choose_cases
from medcontext.reporting.content import Content, expected_tables, make_page, read_content, shown_case
from medcontext.reporting.figures import difference_figures, save_figures, score_figures, training_figures
from medcontext.reporting.packing import LARGEST, pack_cases
from medcontext.reporting.page import ShownCase, pack_case, render
from medcontext.reporting.serve import serve
from medcontext.reporting.volumes import CaseFiles, CaseVolumes, first_channel, read_volumes

MOSAIC_CASES = 3


def make_report(models: Given, output: Path, *, cases: Sequence[str] = ("12",), overwrite: bool = False) -> Path:
    """Write one HTML file with the results, the training and a viewer of chosen cases.

    Args:
        models: one or more, see `read_study`.
        output: the HTML file.
        cases: those in the viewer: a number, `all`, or names; see `choose_cases`.
        overwrite: replace the file.

    Returns:
        The path of the file.

    Raises:
        InputError: see `read_content` and `choose_cases`; if the file exists already, or the viewer is not installed.
    """
    html_file(output, overwrite)
    content = read_content(models)
    chosen = choose_cases(content.scores, cases, list(content.files))
    asked_for_by_name = list(cases) == ["all"] or list(cases) == chosen
    largest = None if asked_for_by_name else LARGEST
    shown, missing = pack_cases(chosen, partial(read_case, content), partial(shown_case, content), largest)
    for sentence in missing:
        console.print(f"In the viewer: {sentence}", soft_wrap=True)
    page = render(make_page(content, shown, _viewer_note(content, shown, missing)))
    write_text(output, page)
    size = f"{output.stat().st_size / 2**20:.1f} MiB"
    console.print(f"Written: {output} ({size}, {counted(len(shown), 'case')} in the viewer)", soft_wrap=True)
    return output


def html_file(path: Path, overwrite: bool) -> Path:
    """The path, if a page can be written there.

    Raises:
        InputError: if it is not an HTML file's, exists already, or its folder cannot be written to.
    """
    if path.is_dir() or path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--output {path} must be an HTML file, such as report.html.")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already; choose another file, or pass --overwrite.")
    output_folder(path.parent, overwrite=True)
    return path


def read_case(content: Content, name: str) -> CaseVolumes:
    """A case's volumes.

    Raises:
        InputError: if its files are not known, or cannot be read.
    """
    if name not in content.files:
        raise InputError(content.unseen or "the evaluations do not say where its files are; evaluate again.")
    return read_volumes(content.files[name], list(content.values.values()))


def serve_report(models: Given, port: int = 0) -> None:
    """Show a report of all cases in a browser, read from disk as they are looked at, until interrupted.

    Args:
        models: as for `make_report`.
        port: of this machine alone (127.0.0.1); 0 for any that is free.
    """
    content = read_content(models)
    names = list(content.files)
    page = render(make_page(content, [shown_case(content, name) for name in names], "Every case, read from disk."))
    serve(lambda: page, lambda index: pack_case(read_case(content, names[index])), port)


def write_figures(models: Given, folder: Path, overwrite: bool = False) -> list[Path]:
    """Every figure of the report as SVG and PNG, among them slices of cases with the errors outlined.

    Raises:
        InputError: see `read_content`; if the folder has files already.
    """
    content = read_content(models)
    output_folder(folder, overwrite=overwrite)
    figures = difference_figures(content.comparisons) | score_figures(content.study)
    figures |= {table.name: table.figure for table in expected_tables(content) if table.figure}
    paths = save_figures(figures | training_figures(content.trainings), folder)
    cases = mosaic_cases(content)
    if cases:
        structures = content.study.summary["values"]
        for name in ("mosaic.svg", "mosaic.png"):
            paths.append(draw_mosaic(cases, structures, folder / name, slices=2))
    console.print(f"Written: {len(paths)} figures in {folder}", soft_wrap=True)
    return paths


def mosaic_cases(content: Content) -> list[MosaicCase]:
    """The first of the cases that a report chooses, those whose files can be read, for a picture."""
    found: list[MosaicCase] = []
    for name in choose_cases(content.scores, [str(2 * MOSAIC_CASES)]):
        files = content.files.get(name)
        if files is not None and files.image is not None and len(found) < MOSAIC_CASES:
            try:
                found.append(_mosaic_case(files))
            except InputError as error:
                console.print(f"Not in the picture: {name}: {error}", soft_wrap=True)
    return found


def _mosaic_case(files: CaseFiles) -> MosaicCase:
    assert files.image is not None
    files.check_grid(files.image, *files.predictions.values())
    affine = read_header(files.reference).affine
    turn = io_orientation(affine)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[np.argsort(turn[:, 0])]
    image, truth = (apply_orientation(array, turn) for array in (first_channel(files.image), files.read_truth()))
    turned = [apply_orientation(prediction, turn) for prediction in files.read_predictions()]
    predictions = dict(zip(files.predictions, turned, strict=True))
    x, y, z = (float(size) for size in spacing)
    return MosaicCase(files.name, image, truth, predictions, (x, y, z))


def _viewer_note(content: Content, shown: Sequence[ShownCase], missing: Sequence[str]) -> str:
    text = (
        f"This page holds {len(shown)} of {len(content.scores)} cases, cropped to what is labelled or predicted and a "
        "margin, the images in 256 greys."
    )
    text += " Of several seeds it shows, and scores here, the first that has the case." * (content.study.seeds > 1)
    return " ".join([text, *(f"Not as it should be: {sentence}" for sentence in missing)])
