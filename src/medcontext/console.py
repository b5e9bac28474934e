"""The terminal: one console, one style of progress bar, and what is kept of it in a run's log.

Text is printed as it is: names of files and data sets may hold anything, `[/old]` or `:heart:` too. What is to be bold
or coloured is a `rich.text.Text`.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, TypeVar

from rich.console import Console, Group
from rich.control import Control
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")

_copies: list[Console] = []


class Terminal(Console):
    """Plain text, which goes wherever `copied` sends it as well; progress bars do not."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*objects, **options)
        # Progress bars are drawn by controls, in notebooks as groups, and end with a line of nothing.
        if objects and not any(isinstance(each, Control | Group) for each in objects):
            for copy in _copies:
                copy.print(*objects, **options)


console = Terminal()
errors = Terminal(stderr=True)


@contextmanager
def copied(stream: TextIO) -> Iterator[Console]:
    """Write what the terminal is told to a stream of text, too, without colours; gives the console that does."""
    # In a notebook rich would show it there once more, and leave the stream empty.
    plain: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False, "force_jupyter": False}
    copy = Console(file=stream, width=120, color_system=None, **plain)
    _copies.append(copy)
    try:
        yield copy
    finally:
        _copies.remove(copy)


def shows_bars() -> bool:
    """Whether somebody sees a progress bar move."""
    return console.is_terminal or console.is_jupyter


def note(line: str) -> None:
    """Print a line that a progress bar makes needless: where there is none, and in copies."""
    for place in _copies if shows_bars() else (console,):
        place.print(line, soft_wrap=True)


def tolerate_any_text() -> None:
    """Let standard output and error take every text: what their encoding lacks, as ASCII's do, is written as \\xfc."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def warn(sentences: Iterable[str]) -> None:
    """Print warnings, each on one line however long, with names as they are."""
    for sentence in sentences:
        console.print(f"Warning: {sentence}", soft_wrap=True)


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield `items` behind a progress bar with an estimate of the time left (on standard error)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors) as progress:
        yield from progress.track(items, total=total, description=description)
