"""How far cells are that are run one after the other, and how long the rest will take."""

import time
from collections.abc import Sequence
from datetime import timedelta

from medcontext.console import console
from medcontext.errors import InputError
from medcontext.experiments.cells import Cell
from medcontext.reporting.trainings import last_step, read_curves

FIRST_SECONDS, LEAST_OFTEN_SECONDS = 30, 600
"""Between two lines: at first, and after hours."""


class Pace:
    """Of several cells: their steps so far, at what they cost, over the time that these took.

    Args:
        cells: to be run, one after the other.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.rest = list(cells)
        self.steps = {cell.name: steps_of(cell) for cell in cells}
        self.done = 0.0  # since then, in steps of the baseline
        self.started = self.said = time.monotonic()

    def look(self, cell: Cell) -> None:
        """Print how far a cell is that runs, if it is time for a line."""
        now = time.monotonic()
        if now - self.said < min(max(FIRST_SECONDS, (now - self.started) / 10), LEAST_OFTEN_SECONDS):
            return
        self.said = now
        self.count(cell)
        step = f"step {self.steps[cell.name]:,} of {cell.settings.steps:,}"
        console.print(f"{cell.name}: {step}; {self.left()}", soft_wrap=True)

    def count(self, cell: Cell) -> None:
        """See how far a cell is."""
        step = steps_of(cell)
        self.done += max(0, step - self.steps[cell.name]) * cell.cost
        self.steps[cell.name] = step

    def end(self, cell: Cell) -> None:
        """A cell has ended, well or not: no more of it will be done."""
        self.count(cell)
        self.rest.remove(cell)

    def left(self) -> str:
        """How long all that is left will take, at the pace so far."""
        if not self.done:
            return "no estimate yet"
        work = sum((cell.settings.steps - self.steps[cell.name]) * cell.cost for cell in self.rest)
        seconds = (time.monotonic() - self.started) * work / self.done
        return f"about {timedelta(seconds=round(seconds))} left in all"


def steps_of(cell: Cell) -> int:
    """How many steps of its training are done, by what it logged."""
    try:
        return last_step(read_curves(cell.folder / "run"))
    except InputError:  # its table is being written
        return 0
