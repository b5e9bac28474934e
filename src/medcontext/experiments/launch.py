"""Running cells: here, one after the other, or on a cluster through submitit."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from medcontext.console import console
from medcontext.errors import InputError
from medcontext.experiments.cells import Cell
from medcontext.experiments.work import run_in_process

GENERAL = ("cpus_per_task", "gpus_per_node", "mem_gb", "name", "nodes", "tasks_per_node", "timeout_min")
"""submitit's parameters for any cluster; it wants all others with a prefix, such as `slurm_partition`."""

DEFAULTS = {"name": "medcontext", "gpus_per_node": 1, "cpus_per_task": 8, "timeout_min": 24 * 60}


def run_local(cells: Sequence[Cell]) -> dict[str, str]:
    """Run cells here, one after the other.

    Returns:
        The error of each cell that failed, by its name; one that fails does not stop the others.
    """
    failed = {}
    for number, cell in enumerate(cells, start=1):
        say(f"[{number}/{len(cells)}] {cell.name}: started, see {cell.folder / 'log.txt'}")
        started = time.monotonic()
        cell.write()
        try:
            run_in_process(cell.folder)
        except InputError as error:
            failed[cell.name] = str(error)
        say(f"[{number}/{len(cells)}] {cell.name}: {_ended(cell, failed, time.monotonic() - started)}")
    return failed


def run_on_cluster(
    cells: Sequence[Cell], folder: Path, parameters: Mapping[str, Any], cluster: str = "slurm"
) -> dict[str, str]:
    """Submit cells as an array of jobs, and wait for them.

    The jobs go on when this process is ended. One that its cluster stops, at its time limit or for another job, is
    queued again and goes on from its last checkpoint.

    Args:
        cells: to run.
        folder: of submitit's files.
        parameters: of each job, such as `{"partition": "gpu", "timeout_min": 600}`.
        cluster: submitit's; `local` runs processes on this machine.

    Returns:
        The error of each cell that failed, by its name.

    Raises:
        InputError: if submitit is not installed, or the jobs cannot be submitted.
    """
    submitit = import_submitit()
    try:
        executor = submitit.AutoExecutor(folder=folder / "%j", cluster=cluster)
        chosen = DEFAULTS | dict(parameters)
        executor.update_parameters(**{name if name in GENERAL else f"slurm_{name}": chosen[name] for name in chosen})
    except (RuntimeError, NameError, TypeError, ValueError) as error:
        raise InputError(f"Cannot submit to {cluster}: {error}") from error
    for cell in cells:
        cell.write()
    with executor.batch():
        jobs = [executor.submit(Job(cell.folder)) for cell in cells]
    for job, cell in zip(jobs, cells, strict=True):
        say(f"job {job.job_id}: {cell.name}, see {cell.folder / 'log.txt'}")
    names = {job.job_id: cell for job, cell in zip(jobs, cells, strict=True)}
    failed = {}
    started = time.monotonic()
    for job in submitit.helpers.as_completed(jobs, poll_frequency=1 if cluster == "local" else 30):
        cell = names[job.job_id]
        problem = job.exception()
        if problem is not None:
            failed[cell.name] = _reason(problem)
        say(f"job {job.job_id}: {cell.name}: {_ended(cell, failed, time.monotonic() - started)}")
    return failed


@dataclass
class Job:
    """What a job on a cluster runs: one cell."""

    folder: Path

    def __call__(self) -> None:
        run_in_process(self.folder)

    def checkpoint(self) -> Any:
        """When the cluster stops the job: queue it again; the cell goes on by itself."""
        return import_submitit().helpers.DelayedSubmission(self)


def import_submitit() -> ModuleType:
    """The package that submits jobs.

    Raises:
        InputError: if it is not installed.
    """
    try:
        import submitit
    except ImportError:
        raise InputError("submitit is not installed: pip install medcontext[slurm]") from None
    return submitit


def say(text: str) -> None:
    """One line, whatever its length."""
    console.print(text, soft_wrap=True)


def _ended(cell: Cell, failed: Mapping[str, str], seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    how = f"failed: {failed[cell.name]}" if cell.name in failed else "done"
    return f"{how} ({hours}:{minutes:02d}:{seconds:02d})"


def _reason(error: BaseException) -> str:
    """What went wrong, of an error of submitit's, which holds the job's whole traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line.partition("InputError: ")[2] for line in lines if "InputError: " in line]
    return said[-1] if said else lines[0] if lines else type(error).__name__
