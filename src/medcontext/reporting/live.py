"""The report of a training that is still going on: the same page, from the run's own folder."""

import json
from datetime import timedelta
from pathlib import Path

import numpy as np

from medcontext.console import console
from medcontext.data.nifti import read_label
from medcontext.errors import InputError
from medcontext.files import write_text
from medcontext.pictures.slices import overlap
from medcontext.reporting.content import methods, named_values
from medcontext.reporting.figures import training_figures
from medcontext.reporting.page import Page, ShownCase, pack_case, render
from medcontext.reporting.serve import serve
from medcontext.reporting.trainings import Training, last_step, read_curves
from medcontext.reporting.volumes import CaseFiles, read_volumes
from medcontext.run import Run, read_run
from medcontext.run.watched import VIEWS, Watched, read_watched, volume_path


def serve_live(run: Path, port: int = 0) -> None:
    """Show a training in a browser, up to date, until interrupted.

    Args:
        run: the folder that `medcontext train` writes.
        port: of this machine alone (127.0.0.1); 0 for any that is free.

    Raises:
        InputError: if the folder is not a run, or the port is taken.
    """
    read_run(run)
    serve(lambda: render(live_page(run)), lambda index: live_case(run, index), port, lambda: version(run))


def write_live(run: Path, output: Path) -> Path:
    """Write the page as it is now, with its cases inside.

    Raises:
        InputError: if the folder is not a run.
    """
    page = live_page(run, embed=True)
    write_text(output, render(page))
    step = page.live["step"] if page.live else "?"
    console.print(f"Written: {output} (step {step})", soft_wrap=True)
    return output


def version(run: Path) -> str:
    """The steps of the last logged losses and the last watched cases: what a page sees by that it is out of date."""
    return json.dumps({"logged": last_step(read_curves(run)), "watched": read_watched(run).step})


def live_page(run: Path, embed: bool = False) -> Page:
    """The page of a run as it is now.

    Args:
        run: its folder.
        embed: whether the cases are in the page; else the server hands them out.
    """
    found = read_run(run)
    curves = read_curves(run)
    training = Training(found.settings.method.name, found, curves, {})
    watch = read_watched(run)
    step, steps = max(last_step(curves), found.facts.step or 0), found.settings.steps
    cases: list[ShownCase] = []
    missing: list[str] = []
    for index, name in enumerate(watch.cases):
        try:
            cases.append(_shown(run, watch, index, live_case(run, index) if embed else None))
        except InputError as error:
            missing.append(f"{name} cannot be shown: {error}")
            if not embed:  # it keeps its place, by which the server knows the cases, and may be whole the next time
                cases.append(ShownCase(name, [], {}))
    note = (
        f"The cases below are as of step {watch.step}, on the prepared grid, scored there."
        if watch.step
        else "Cases appear with the first validation."
    )
    return Page(
        title=f"Training {run.resolve().name}",
        subtitle=f"{found.facts.dataset} · {found.settings.network} · method {found.settings.method.name} · "
        f"{len(found.split.train)} training scans",
        models=list(watch.views.values()),
        curves=training_figures([training]),
        methods=methods([training]),
        cases=cases,
        values=named_values(watch.structures),
        viewer_note="Of a masked view, the image is what the student saw.",
        about=[("run", str(run.resolve()))],
        live={"state": _state(found, step), "step": step, "steps": steps, "note": " ".join([note, *missing])},
        served=not embed,
    )


def live_case(run: Path, index: int) -> str:
    """A watched case, packed.

    Raises:
        InputError: if it is not there, or cannot be read.
        IndexError: if there is no such case.
    """
    watch = read_watched(run)
    case = _files(run, watch, watch.cases[index])
    return pack_case(read_volumes(case, list(named_values(watch.structures).values())))


def _files(run: Path, watch: Watched, name: str) -> CaseFiles:
    return CaseFiles(
        name,
        volume_path(run, name, "image"),
        volume_path(run, name, "label"),
        {view: volume_path(run, name, panel) for panel, view in watch.views.items()},
        {VIEWS["student_masked"]: volume_path(run, name, "masked")} if "masked" in watch.panels else {},
    )


def _shown(run: Path, watch: Watched, index: int, packed: str | None) -> ShownCase:
    """The DSC of each watched prediction, on the prepared grid.

    Raises:
        InputError: if a file is missing, damaged, or of another grid.
    """
    files = _files(run, watch, watch.cases[index])
    truth = files.read_truth()
    predictions = [read_label(path)[0] for path in files.predictions.values()]
    for path, each in zip(files.predictions.values(), predictions, strict=True):
        if each.shape != truth.shape:
            raise InputError(f"{path} has shape {each.shape}, its label {truth.shape}.")
    scores: dict[str, list[float | None]] = {}
    for structure, values in watch.structures.items():
        found = [overlap(np.isin(truth, values), np.isin(each, values)) for each in predictions]
        scores[structure] = [None if np.isnan(score) else score for score in found]
    by_model = zip(*scores.values(), strict=True)
    known = [[score for score in column if score is not None] for column in by_model]
    return ShownCase(files.name, [sum(each) / len(each) if each else None for each in known], scores, packed)


def _state(run: Run, step: int) -> str:
    """How far the training is, in a sentence; it is finished once its last checkpoint is written."""
    done, seconds, steps = run.facts.step or 0, run.facts.seconds or 0.0, run.settings.steps
    took = timedelta(seconds=round(seconds))
    if done >= steps:
        return f"Finished: {steps} steps in {took}."
    if run.facts.ended:
        return f"{run.facts.ended} It took {took}."
    left = f", {timedelta(seconds=round((steps - done) * seconds / done))} left" if done else ""
    return f"Training: step {step} of {steps}{left}."
