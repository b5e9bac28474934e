"""`medcontext report`: which page is asked for."""

from collections.abc import Sequence
from pathlib import Path

from medcontext.errors import InputError
from medcontext.report.live import serve_live, write_live
from medcontext.report.make import html_file, make_report, serve_report, write_figures


def report(
    models: Sequence[str],
    *,
    output: Path | None = None,
    cases: Sequence[str] = ("12",),
    figures: Path | None = None,
    serve: bool = False,
    live: Path | None = None,
    port: int = 0,
    overwrite: bool = False,
) -> None:
    """Write the page, the figures, or both; or serve the page; of evaluations or of a training that goes on.

    Raises:
        InputError: if neither or too much is asked for; see `make_report` and `serve_live`.
    """
    if live is not None:
        if models or figures or serve:
            raise InputError("--live shows one training; leave out evaluations, --figures and --serve.")
        if output is None:
            serve_live(live, port)
        else:
            write_live(live, html_file(output, overwrite))
        return
    if not models:
        raise InputError("Give one or more folders that `medcontext evaluate` wrote, or a training with --live RUN.")
    if not (output or figures or serve):
        raise InputError("Give --output report.html, --figures DIR, or --serve.")
    if output is not None:
        make_report(models, output, cases=cases, overwrite=overwrite)
    if figures is not None:
        write_figures(models, figures, overwrite)
    if serve:
        serve_report(models, port)
