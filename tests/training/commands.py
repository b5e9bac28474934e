"""Trainings so small that they take seconds."""

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback

from medcontext.training.callbacks import Progress

TINY = (
    "--crop_size=[16,16,8]",
    "--network_args.channels=[4,8]",
    "--network_args.strides=[2]",
    "--method.mask.patch_size=8",
    "--accelerator=cpu",
    "--watch_cases=0",  # drawing takes longer than such a training
)

# A background job of a shell ignores SIGINT, and so does what it starts. Not undone by `preexec_fn`: that forks, and
# hangs where another thread, such as one of ONNX Runtime's, holds a lock.
HEED_INTERRUPTS = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def arguments(data: Path, output: Path, *more: str) -> list[str]:
    return ["train", "--data", str(data), "--output", str(output), *TINY, *more]


def start(data: Path, output: Path, *more: str) -> subprocess.Popen:
    """The command as a process of its own, which Ctrl-C reaches even where the tests themselves ignore it."""
    return start_command(arguments(data, output, *more))


def start_command(arguments: list[str]) -> subprocess.Popen:
    """Any command, likewise."""
    command = [sys.executable, "-c", HEED_INTERRUPTS, "-m", "medcontext.cli", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def interrupt(patch: pytest.MonkeyPatch, method: str, step: int, of: type[Callback] = Progress) -> None:
    """From now on Ctrl-C is pressed when a training comes to this method of a callback at this step."""
    goes_on = getattr(of, method)

    def stop(self: Callback, trainer: Any, task: Any, *rest: Any, **named: Any) -> None:
        if task.step == step:
            raise KeyboardInterrupt
        goes_on(self, trainer, task, *rest, **named)

    patch.setattr(of, method, stop)


def logged(output: Path, name: str) -> dict[int, float]:
    """Step to value, from the newest CSV log."""
    newest = max((output / "csv").iterdir(), key=lambda folder: int(folder.name.removeprefix("version_")))
    with (newest / "metrics.csv").open(newline="") as file:
        return {int(row["step"]): float(row[name]) for row in csv.DictReader(file) if row.get(name)}
