"""Running cells: here, one after the other, or on a cluster through submitit."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from medcontext.console import console
from medcontext.errors import InputError
from medcontext.experiments.cells import Cell
from medcontext.experiments.only import pairs
from medcontext.experiments.pace import Pace
from medcontext.experiments.work import run_in_process
from medcontext.extras import need

NUMBERS = ("cpus_per_task", "gpus_per_node", "mem_gb", "nodes", "tasks_per_node", "timeout_min")
GENERAL = (*NUMBERS, "name")
"""submitit's parameters for any cluster; it wants all others with a prefix, such as `slurm_partition`."""

DEFAULTS = {"name": "medcontext", "gpus_per_node": 1, "cpus_per_task": 8, "timeout_min": 24 * 60}


def job_parameters(launcher: str, slurm: Sequence[str], dry_run: bool = False) -> dict[str, str | int] | None:
    """Those of the jobs on a cluster; None for cells that are run here.

    Raises:
        InputError: if they would be ignored, one is no whole number that must be, or jobs cannot be submitted.

    >>> job_parameters("slurm", ["partition=gpu", "timeout_min=600"], dry_run=True)
    {'partition': 'gpu', 'timeout_min': 600}
    """
    parameters: dict[str, str | int] = dict(pairs(slurm, "--slurm"))
    for name in NUMBERS:
        if not str(parameters.get(name, 0)).isdecimal():
            raise InputError(f"--slurm {name} takes a whole number, got '{parameters[name]}'.")
        if name in parameters:
            parameters[name] = int(parameters[name])
    if launcher == "slurm":
        if not dry_run:
            need("submitit")
        return parameters
    if parameters:
        raise InputError(f"--slurm {' '.join(slurm)} is only used with --launcher slurm; add that, or leave it out.")
    return None


def run_cells(cells: Sequence[Cell], folder: Path, jobs: Mapping[str, str | int] | None) -> dict[str, str]:
    """Run cells here, or on a cluster.

    Args:
        cells: to run.
        folder: of submitit's files.
        jobs: from `job_parameters`.

    Returns:
        The error of each cell that failed, by its name.
    """
    return run_local(cells) if jobs is None or not cells else run_on_cluster(cells, folder, jobs)


def run_local(cells: Sequence[Cell]) -> dict[str, str]:
    """Run cells here, one after the other.

    Returns:
        The error of each cell that failed, by its name; one that fails does not stop the others.
    """
    failed: dict[str, str] = {}
    pace = Pace(cells)
    for number, cell in enumerate(cells, start=1):
        say(f"[{number}/{len(cells)}] {cell.name}: started, see {cell.folder / 'log.txt'}")
        started = time.monotonic()
        cell.write()
        try:
            run_in_process(cell.folder, partial(pace.look, cell))
        except InputError as error:
            failed[cell.name] = str(error)
        pace.end(cell)
        left = f", {pace.left()}" if number < len(cells) else ""
        say(f"[{number}/{len(cells)}] {cell.name}: {_ended(cell, failed, time.monotonic() - started)}{left}")
    return failed


def run_on_cluster(
    cells: Sequence[Cell], folder: Path, parameters: Mapping[str, Any], cluster: str = "slurm"
) -> dict[str, str]:
    """Submit cells as arrays of jobs, and wait for them.

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
    submitit = need("submitit")
    try:
        executor = submitit.AutoExecutor(folder=folder / "%j", cluster=cluster)
        chosen = DEFAULTS | dict(parameters)
        executor.update_parameters(**{name if name in GENERAL else f"slurm_{name}": chosen[name] for name in chosen})
    except (AssertionError, RuntimeError, NameError, TypeError, ValueError) as error:
        raise InputError(f"Cannot submit to {cluster}: {error}") from error
    started = time.monotonic()
    jobs = submit(cells, executor, cluster)
    names = {job.job_id: cell for cell, job in jobs}
    failed = {}
    every = [job for _, job in jobs]
    for job in submitit.helpers.as_completed(every, poll_frequency=1 if cluster == "local" else 30):
        cell = names[job.job_id]
        problem = job.exception()
        if problem is not None:
            failed[cell.name] = _reason(problem)
        say(f"job {job.job_id}: {cell.name}: {_ended(cell, failed, time.monotonic() - started)}")
    return failed


def submit(cells: Sequence[Cell], executor: Any, cluster: str) -> list[tuple[Cell, Any]]:
    """Submit cells as arrays of jobs, one for those that may start at once and one for those after each pretraining.

    A cluster keeps the latter until that has ended, well or not; where not, they fail at once and say so. Nobody needs
    to wait for that beside it.

    Args:
        cells: to run.
        executor: submitit's.
        cluster: submitit's; `local` has no queue, so the pretrainings are waited for here.

    Returns:
        Each cell with its job.
    """
    arrays: dict[str, list[Cell]] = {"": []}
    names = {cell.name for cell in cells}
    for cell in cells:
        after = cell.after.name if cell.after is not None and cell.after.name in names else ""
        arrays.setdefault(after, []).append(cell)
    jobs: dict[str, tuple[Cell, Any]] = {}
    for after, array in arrays.items():
        if not array:
            continue
        if after and cluster == "local":
            jobs[after][1].wait()
        elif after:
            executor.update_parameters(slurm_dependency=f"afterany:{jobs[after][1].job_id}")
        for cell in array:
            cell.write()
        with executor.batch():
            found = [executor.submit(Job(cell.folder)) for cell in array]
        for cell, job in zip(array, found, strict=True):
            waits = f", after {after}" if after else ""
            say(f"job {job.job_id}: {cell.name}{waits}, see {cell.folder / 'log.txt'}")
            jobs[cell.name] = cell, job
    return list(jobs.values())


@dataclass
class Job:
    """What a job on a cluster runs: one cell."""

    folder: Path

    def __call__(self) -> None:
        run_in_process(self.folder)

    def checkpoint(self) -> Any:
        """When the cluster stops the job: queue it again; the cell goes on by itself."""
        return need("submitit").helpers.DelayedSubmission(self)


def report_failures(failed: Mapping[str, str], of: str, logs: Path) -> None:
    """Say which cells failed, and why.

    Args:
        failed: the error of each by name.
        of: how many there were, such as "3 folds".
        logs: the folder that has theirs.

    Raises:
        InputError: if there is any.
    """
    for name, error in failed.items():
        say(f"Failed: {name}: {error}")
    if failed:
        raise InputError(
            f"{len(failed)} of {of} failed, see above and the log.txt in {logs}. The same command runs "
            f"{'it' if len(failed) == 1 else 'them'} again; where it says that a file is damaged, delete what it names "
            "first."
        )


def say(text: str) -> None:
    """One line, whatever its length."""
    console.print(text, soft_wrap=True)


def _ended(cell: Cell, failed: Mapping[str, str], seconds: float) -> str:
    how = f"failed: {failed[cell.name]}" if cell.name in failed else "done"
    return f"{how} ({timedelta(seconds=round(seconds))})"


def _reason(error: BaseException) -> str:
    """What went wrong, of an error of submitit's, which holds the job's whole traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line.partition("InputError: ")[2] for line in lines if "InputError: " in line]
    return said[-1] if said else lines[0] if lines else type(error).__name__
