"""The terminal: one console, one style of progress bar."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")

console = Console()
errors = Console(stderr=True)


def warn(sentences: Iterable[str]) -> None:
    """Print warnings, each on one line however long, with names as they are."""
    for sentence in sentences:
        console.print(f"Warning: {sentence}", highlight=False, markup=False, soft_wrap=True)


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
