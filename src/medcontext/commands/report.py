"""Which page of results is asked for."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from medcontext.errors import InputError
from medcontext.files import AnyPath


def report(
    models: Mapping[str, AnyPath | Sequence[AnyPath]] | Sequence[str] = (),
    output: AnyPath | None = None,
    *,
    cases: Sequence[str] = ("12",),
    figures: AnyPath | None = None,
    serve: bool = False,
    live: AnyPath | None = None,
    predictions: AnyPath | None = None,
    port: int = 0,
    overwrite: bool = False,
) -> Path | None:
    """Show results in one HTML page: tables, curves, and every error in a case viewer.

    Args:
        models: folders that `medcontext evaluate` wrote; of one model several seeds, joined by commas. In Python also
            `{"a": [scores, ...], "b": [...]}`, with what `evaluate` returned.
        output: the HTML file, such as report.html
        cases: in the file's viewer: a number, all, or names
        figures: folder for every figure as SVG and PNG, new or empty
        serve: show all cases in a browser, read from disk, until Ctrl-C
        live: instead of evaluations: a training that is still going on
        predictions: instead of evaluations: a folder that `medcontext predict` wrote of a calibrated run, or
            `medcontext suggest`; no labels are needed
        port: of --serve and --live, on this machine alone; 0 for any that is free
        overwrite: replace the file, and what the figures' folder holds

    Returns:
        The path of the HTML file, if there is one.

    Raises:
        InputError: if neither or too much is asked for, the evaluations cannot be read, or the output not be written.
    """
    from medcontext.reporting.live import serve_live, write_live
    from medcontext.reporting.make import html_file, make_report, serve_report, write_figures
    from medcontext.reporting.unscored_page import serve_unscored, write_unscored

    page = None if output is None else Path(output)
    if live is not None:
        if models or figures or serve or predictions:
            raise InputError("--live shows one training; leave out evaluations, --predictions, --figures and --serve.")
        if page is None:
            serve_live(Path(live), port)
            return None
        return write_live(Path(live), html_file(page, overwrite))
    if predictions is not None:
        if models or figures or not (page or serve):
            raise InputError(
                "--predictions shows one folder that `medcontext predict` or `suggest` wrote: give --output report.html"
                " or --serve, and leave out evaluations and --figures."
            )
        if page is not None:
            write_unscored(Path(predictions), html_file(page, overwrite), cases)
        if serve:
            serve_unscored(Path(predictions), port)
        return page
    if not models:
        raise InputError(
            "Give one or more folders that `medcontext evaluate` wrote, predictions with --predictions DIR, or a "
            "training with --live RUN."
        )
    if not (page or figures or serve):
        raise InputError("Give --output report.html, --figures DIR, or --serve.")
    if page is not None:
        make_report(models, page, cases=cases, overwrite=overwrite)
    if figures is not None:
        write_figures(models, Path(figures), overwrite)
    if serve:
        serve_report(models, port)
    return page
