"""One cell of a grid: a training with its predictions and scores, in a folder of its own and a process of its own.

```
CELL/settings.yaml    what is to be trained, every setting
CELL/cell.json        on which data
CELL/log.txt          what the process prints
CELL/run/             the training run
CELL/predictions/     of its test cases
CELL/legacy/          their scores by the paper's conventions
CELL/standard/        and by ours; when both are there, the cell is done
```
"""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from medcontext.configuration import parse_settings, read_settings, write_settings
from medcontext.errors import InputError
from medcontext.experiments.smoke import SMALL, SMOKE
from medcontext.experiments.tables import Variant
from medcontext.files import read_json, write_json
from medcontext.settings import MethodSettings, Settings

PROTOCOLS: tuple[Literal["legacy", "standard"], ...] = ("legacy", "standard")


@dataclass(frozen=True)
class Conditions:
    """What all cells of a reproduction have in common.

    Args:
        data: the folder of each data set; none for cells that are not to be run.
        output: the folder of everything.
        method: of the cells with MedContext.
        smoke: train tiny networks, only to see that everything runs.
        steps: of every training; None for the presets'.
        few_shot: training cases, where the table does not say; None for all.
        settings: further settings of every training, such as `precision=32`.
        splits: split files, where the presets' do not hold.
    """

    data: Mapping[str, Path]
    output: Path
    method: str = "paper"
    smoke: bool = False
    steps: int | None = None
    few_shot: int | None = None
    settings: Sequence[str] = ()
    splits: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One training with its evaluation.

    Args:
        name: of its folder; it says all that tells it from the other cells.
        variant: of the table.
        seed: of the training.
        folder: everything of it.
        data: the data set; None where it is not to be run.
        settings: of the training, resolved.
    """

    name: str
    variant: Variant
    seed: int
    folder: Path
    data: Path | None
    settings: Settings

    @property
    def cost(self) -> float:
        """Of a step, in steps of the baseline."""
        return step_cost(self.settings.method)

    def is_done(self) -> bool:
        """Whether it was run to its end.

        Raises:
            InputError: if its folder holds the results of other settings.
        """
        self.check_same()
        return all((self.folder / protocol / "summary.json").is_file() for protocol in PROTOCOLS)

    def check_same(self) -> None:
        """Refuse a folder that holds another cell.

        Raises:
            InputError: naming what differs.
        """
        if not (self.folder / "settings.yaml").is_file():
            return
        from medcontext.training.fit import FREE

        saved = read_settings(self.folder / "settings.yaml")
        changes = [
            f"{name} was {getattr(saved, name)}, now {value}"
            for name, value in vars(self.settings).items()
            if name not in FREE and getattr(saved, name) != value
        ]
        data = read_json(self.folder / "cell.json")["data"]
        if self.data is not None and data != str(self.data.resolve()):
            changes.append(f"the data were {data}, now {self.data.resolve()}")
        if changes:
            raise InputError(
                f"{self.folder} holds results of other settings: {'; '.join(changes)}. Give the same ones, choose "
                "another --output, or delete that folder."
            )

    def write(self) -> None:
        """Write down what is to be run."""
        assert self.data is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "cell.json", {"name": self.name, "data": str(self.data.resolve())})
        write_settings(self.folder / "settings.yaml", self.settings)


def make_cell(variant: Variant, seed: int, conditions: Conditions) -> Cell:
    """The cell of a variant and a seed.

    Raises:
        InputError: if a setting cannot be used.
    """
    method = conditions.method if variant.medcontext else "none"
    default = method_settings(method)
    overrides = [(key, value) for key, value in variant.overrides if _setting(default, key) != value]
    few_shot = conditions.few_shot if variant.few_shot is None else variant.few_shot
    options = ["--preset", variant.preset, "--method", method, f"--seed={seed}"]
    options += [f"--{key}={str(value).lower()}" for key, value in overrides]
    options += [] if few_shot is None else [f"--few_shot={few_shot}"]
    options += [f"--split={conditions.splits[variant.dataset]}"] if variant.dataset in conditions.splits else []
    options += [*SMOKE, *SMALL[variant.model]] if conditions.smoke else []
    options += [] if conditions.steps is None else [f"--steps={conditions.steps}"]
    options += [f"--{setting}" for setting in conditions.settings]
    settings = _parse(options)
    parts = [variant.preset, Path(method).stem]
    parts += [f"{key.rpartition('.')[2]}={str(value).lower()}" for key, value in overrides]
    parts += [] if few_shot is None else [f"{few_shot}cases"]
    name = "-".join([*parts, f"seed{seed}"])
    folder = conditions.output / "cells" / name
    return Cell(name, variant, seed, folder, conditions.data.get(variant.dataset), settings)


def step_cost(method: MethodSettings) -> float:
    """Of a training step, in steps of the baseline: a backward pass counts as two forward ones.

    >>> step_cost(MethodSettings()) == 7 / 3, step_cost(MethodSettings(consistency="none")), step_cost(
    ...     MethodSettings(masking=False))
    (True, 2.0, 1.0)
    """
    passes = 3 + 3 * method.masking  # forward and backward, of the whole and of the masked view
    teacher = method.masking and method.consistency != "none" and method.target == "teacher"
    return (passes + teacher) / 3


@cache
def method_settings(name: str) -> MethodSettings:
    """The settings of `--method NAME`."""
    return parse_settings(["--method", name]).method


def run_in_process(folder: Path) -> None:
    """Run the cell in a folder in a process of its own, which prints into its log.

    Raises:
        InputError: if it fails, with the last that it said.
    """
    command = [sys.executable, "-m", "medcontext.experiments.cells", str(folder)]
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        log.write(f"$ {' '.join(command)}\n")
        log.flush()
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if code:
        raise InputError(failure(folder / "log.txt", code))


def failure(log: Path, code: int) -> str:
    """Why a process ended that way: its last error, or what its code says."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    own = lines[max((index for index, line in enumerate(lines) if line.startswith("$ ")), default=-1) + 1 :]
    said = [line.removeprefix("Error: ") for line in own if line.startswith("Error: ")]
    if code < 0:
        return f"it was ended by signal {-code}" + (", for want of memory?" if code == -9 else "")
    return said[-1] if said else own[-1] if own else f"it ended with code {code}"


def run_cell(folder: Path) -> None:
    """Train, predict and evaluate the cell in a folder, going on where it was interrupted.

    Raises:
        InputError: if any of these cannot be done, or another process is at it.
    """
    from medcontext.evaluation.evaluate import evaluate_folder
    from medcontext.inference.predict import predict
    from medcontext.training.fit import is_first_process, preparing_workers, train

    data = Path(read_json(folder / "cell.json")["data"])
    settings = read_settings(folder / "settings.yaml")
    with locked(folder) if is_first_process() else nullcontext():
        train(data, folder / "run", settings, cache=folder.parent.parent / "cache", resume=True)
        if not is_first_process():  # one of several devices of the training: it has no part in the rest
            return
        predict([folder / "run"], data, folder / "predictions", part="test", resume=True)
        workers = preparing_workers(settings)
        for protocol in PROTOCOLS:
            scores = folder / protocol
            evaluate_folder(folder / "predictions", data, scores, protocol=protocol, workers=workers, overwrite=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second process from running the same cell; a process that is killed lets go.

    Raises:
        InputError: if another process has it.
    """
    try:
        import fcntl
    except ImportError:  # on Windows
        yield
        return
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise InputError(f"{file.read()} is running it already; wait for its end.") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        yield


def _parse(options: list[str]) -> Settings:
    try:
        return parse_settings(options)
    except InputError:
        raise
    except Exception as error:  # jsonargparse's own kinds
        raise InputError(f"These settings cannot be used: {' '.join(str(error).split())}") from error


def _setting(settings: MethodSettings, key: str) -> Any:
    value: Any = settings
    for name in key.removeprefix("method.").split("."):
        value = getattr(value, name)
    return value


if __name__ == "__main__":
    try:
        run_cell(Path(sys.argv[1]))
    except InputError as error:
        sys.stdout.write(f"Error: {error}\n")
        sys.exit(2)
