"""The same function over many cases, in several processes, behind a progress bar."""

import multiprocessing
import multiprocessing.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from medcontext.console import track
from medcontext.errors import InputError, enough_memory

T = TypeVar("T")
R = TypeVar("R")

LONGEST_FOLDER = 70  # characters; a socket's whole path may have 107, and its own folder and name take some 35
SHORT_FOLDER = "/tmp"
FEWER_OR_SMALLER = "Use fewer --workers, a machine with more memory, or a smaller scan: cropped, or with larger voxels."


def in_processes(
    function: Callable[[T], R], items: Sequence[T], workers: int, description: str
) -> Iterator[tuple[int, R]]:
    """Yield each item's index and result, in the order in which they are done.

    After the first failure no further item is started; those under way are finished, then the error is raised.

    Args:
        function: importable by name, as are its results.
        items: one call each.
        workers: processes; with 1 the work is done in this one.
        description: of the progress bar.

    Raises:
        InputError: from the function, or if a process was killed (most often for lack of memory).
        NotEnoughMemory: naming the item.
    """
    if not items:
        return
    function = partial(_guarded, function, description)
    if workers < 1:
        raise InputError(f"workers is {workers}; at least 1 is needed.")
    if workers == 1 or len(items) <= 1 or not can_start_processes():  # here, too, the work is only slower
        for index, item in enumerate(track(items, description, total=len(items))):
            yield index, function(item)
        return
    shorten_sockets()
    with ProcessPoolExecutor(min(workers, len(items)), _context(), _one_thread) as pool:
        with without_main():
            futures = {pool.submit(function, item): index for index, item in enumerate(items)}
        try:
            for future in track(as_completed(futures), description, total=len(items)):
                yield futures[future], future.result()
        except BrokenProcessPool:
            raise InputError(
                f"A process died while {description}, most likely for lack of memory. Use fewer workers than {workers}."
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def without_main() -> Iterator[None]:
    """While processes are started: a script that calls us would run again in each, unless it is guarded.

    What they are to do is importable from here, and needs nothing of that script.
    """
    main = sys.modules["__main__"]
    kept: dict[str, Any] = {name: vars(main)[name] for name in ("__file__", "__spec__") if name in vars(main)}
    vars(main).pop("__file__", None)
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(kept)


def processors() -> int:
    """Processors that this process may use: its own, of which SLURM may have given it a part.

    >>> processors() >= 1
    True
    """
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return max(1, min(own, int(given))) if given.isdecimal() else own


def can_start_processes() -> bool:
    """Whether processes can be started that talk to one another: not without semaphores, which lie in /dev/shm."""
    try:
        multiprocessing.get_context("spawn").Lock()
    except (OSError, ImportError):
        return False
    return True


def shorten_sockets() -> None:
    """Let processes talk to one another also where the temporary folder has a long name, as on clusters.

    Their sockets lie in a folder inside it, which multiprocessing makes once and remembers.
    """
    if len(os.fsencode(tempfile.gettempdir())) <= LONGEST_FOLDER:
        return
    usual, tempfile.tempdir = tempfile.tempdir, SHORT_FOLDER
    try:
        multiprocessing.util.get_temp_dir()
    except OSError as error:
        raise InputError(
            f"The temporary folder {usual} has too long a name for the sockets of processes (over {LONGEST_FOLDER} "
            f"characters), and {SHORT_FOLDER} cannot be used: {error.strerror}. Set TMPDIR to a shorter folder."
        ) from None
    finally:
        tempfile.tempdir = usual


def _guarded(function: Callable[[T], R], description: str, item: T) -> R:
    """Call the function; a lack of memory is told with the item's name."""
    with enough_memory(f"'{getattr(item, 'name', item)}' while {description}", FEWER_OR_SMALLER):
        return function(item)


def _context() -> multiprocessing.context.BaseContext:
    """Never a plain fork: it copies torch's locked thread pools, and hangs."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch", "monai.transforms", "nibabel", "blosc2"]
    )  # imported once, not once a process
    return context


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
