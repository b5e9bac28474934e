"""Running one cell: in a process of its own, which prints into the cell's log."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from medcontext.errors import InputError
from medcontext.experiments.pretrainings import is_finished
from medcontext.files import locked, read_json
from medcontext.pretrain_settings import PretrainSettings
from medcontext.settings import Settings

POLL_SECONDS = 5


def run_in_process(folder: Path, look: Callable[[], None] = lambda: None) -> None:
    """Run the cell in a folder in a process of its own, which prints into its log.

    Args:
        folder: the cell's.
        look: called every few seconds while it runs.

    Raises:
        InputError: if it fails, with the last that it said.
    """
    command = [sys.executable, "-m", "medcontext.experiments.work", str(folder)]
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        log.write(f"$ {' '.join(command)}\n")
        log.flush()
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            while (code := _ended(process)) is None:
                look()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if code:
        raise InputError(failure(folder / "log.txt", code))


def _ended(process: subprocess.Popen) -> int | None:
    """Its code, once it has ended; None after a few seconds without."""
    try:
        return process.wait(timeout=POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def failure(log: Path, code: int) -> str:
    """Why a process ended that way: its last error, or what its code says."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    own = lines[max((index for index, line in enumerate(lines) if line.startswith("$ ")), default=-1) + 1 :]
    said = [line.removeprefix("Error: ") for line in own if line.startswith("Error: ")]
    if code < 0:
        return f"it was ended by signal {-code}" + (", for want of memory?" if code == -9 else "")
    return said[-1] if said else own[-1] if own else f"it ended with code {code}"


def run_cell(folder: Path) -> None:
    """Run the cell in a folder, going on where it was interrupted.

    Raises:
        InputError: if any of these cannot be done, or another process is at it.
    """
    record = read_json(folder / "cell.json")
    cache = None if record["cache"] is None else Path(record["cache"])
    if record.get("pretraining"):
        run_pretraining(folder, Path(record["data"]), cache)
    else:
        check_start(record)
        run_training(folder, record, cache)


def run_pretraining(folder: Path, data: Path, cache: Path | None) -> None:
    """Pretrain what the cell in a folder says."""
    from medcontext.commands.pretrain import pretrain
    from medcontext.training.processes import find_place

    settings = PretrainSettings.read(folder / "settings.yaml")
    with locked(folder) if find_place(settings).first else nullcontext():
        pretrain([data], folder / "run", settings, cache=cache, resume=True)


def check_start(record: Mapping[str, Any]) -> None:
    """Refuse to train a cell before the pretraining that it starts from is there.

    Raises:
        InputError: naming that.
    """
    start = record.get("start")
    if start is not None and not is_finished(Path(start["run"]), start["settings"]["steps"]):
        before = Path(start["run"]).parent
        raise InputError(f"It starts from {before.name}, which has not come to its end; see {before / 'log.txt'}.")


def run_training(folder: Path, record: Mapping[str, Any], cache: Path | None) -> None:
    """Train, predict and evaluate the cell in a folder."""
    from medcontext.commands.evaluate import evaluate
    from medcontext.commands.predict import predict
    from medcontext.commands.train import train
    from medcontext.training.loop import preparing_workers
    from medcontext.training.processes import find_place

    data, scans, start = Path(record["data"]), record["unlabelled"], record.get("start")
    settings = Settings.read(folder / "settings.yaml")
    first = find_place(settings).first
    with locked(folder) if first else nullcontext():
        check_whole(folder)
        run = train(
            data,
            folder / "run",
            settings,
            unlabelled=scans,
            series=record.get("series", ()),
            skip_damaged=record["skip_damaged"],
            cache=cache,
            resume=True,
            init=None if start is None else start["run"],
        )
        if not first:  # one of several devices of the training: it has no part in the rest
            return
        predict(run, data, folder / "predictions", part=record["part"], resume=True)
        workers = preparing_workers(settings)
        for protocol in record["scored_by"]:
            scores = folder / protocol
            evaluate(folder / "predictions", data, scores, protocol=protocol, workers=workers, overwrite=True)


def check_whole(folder: Path) -> None:
    """Refuse to go on with a cell whose training is damaged, as a broken disk or an unfinished copy leaves it.

    Raises:
        InputError: saying what to delete: all of the cell, for its predictions were made by that training.
    """
    from medcontext.run import read_checkpoint, read_run

    if not (folder / "run" / "checkpoints" / "last.ckpt").is_file():
        return
    try:
        run = read_run(folder / "run")
        read_checkpoint(run.checkpoint("last"), run)
    except InputError as error:
        raise InputError(f"{error} Delete {folder}; the same command then runs the cell anew.") from error


if __name__ == "__main__":
    try:
        run_cell(Path(sys.argv[1]))
    except InputError as error:
        sys.stdout.write(f"Error: {error}\n")
        sys.exit(2)
