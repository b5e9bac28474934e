"""The terminal: one console, one style of progress bar.

Text is printed as it is: names of files and data sets may hold anything, `[/old]` or `:heart:` too. What is to be bold
or coloured is a `rich.text.Text`.
"""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")

console = Console(markup=False, emoji=False, highlight=False)
errors = Console(markup=False, emoji=False, highlight=False, stderr=True)


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
