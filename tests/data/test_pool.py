"""Work spread over processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from medcontext.data import pool
from medcontext.data.pool import in_processes
from medcontext.errors import InputError, NotEnoughMemory


def square(number: int) -> int:
    return number * number


def process(_: int) -> int:
    return os.getpid()


def threads(_: int) -> int:
    return torch.get_num_threads()


def refuse_three(number: int) -> int:
    if number == 3:
        raise InputError("case 3 is bad")
    return number


def refuse_memory(number: int) -> torch.Tensor:
    return torch.empty(10**15 if number == 2 else 1)


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def touch_or_fail(path: Path) -> None:
    if path.name == "0":
        raise InputError("the first is bad")
    time.sleep(0.1)
    path.touch()


@pytest.mark.parametrize("workers", [1, 2])
def test_every_result_comes_with_its_index(workers: int) -> None:
    assert dict(in_processes(square, [5, 6, 7], workers, "squaring")) == {0: 25, 1: 36, 2: 49}
    assert dict(in_processes(square, [], workers, "squaring")) == {}


def test_each_process_uses_one_thread() -> None:
    assert dict(in_processes(threads, [0, 1], 2, "counting")) == {0: 1, 1: 1}


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_arrive_as_they_are(workers: int) -> None:
    with pytest.raises(InputError, match="case 3 is bad"):
        list(in_processes(refuse_three, [1, 2, 3, 4], workers, "reading"))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_lack_of_memory_names_the_case_and_what_to_do(workers: int) -> None:
    with pytest.raises(NotEnoughMemory, match=r"memory for '2' while reading: .*allocate.*bytes\. Use fewer --workers"):
        list(in_processes(refuse_memory, [1, 2], workers, "reading"))


def test_a_killed_process_is_explained() -> None:
    with pytest.raises(InputError, match=r"A process died while preparing.*fewer workers than 2"):
        list(in_processes(die, [1, 2, 3], 2, "preparing"))


def test_nothing_more_is_started_after_a_failure(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(40)]
    with pytest.raises(InputError, match="the first is bad"):
        list(in_processes(touch_or_fail, paths, 2, "working"))
    assert len(list(tmp_path.iterdir())) < 20


@pytest.mark.slow
def test_a_long_temporary_folder_does_not_stop_the_processes(tmp_path: Path) -> None:
    """Their sockets would lie inside, and a socket's path may have 107 bytes; in a process that has none yet."""
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    code = "import math\nfrom medcontext.data.pool import in_processes\nif __name__ == '__main__':\n"
    code += "    print(dict(in_processes(math.sqrt, [4, 9], 2, 'drawing roots')))"
    (tmp_path / "script.py").write_text(code)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")],
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "{0: 2.0, 1: 3.0}\n" or done.stdout == "{1: 3.0, 0: 2.0}\n", done.stderr


def test_without_semaphores_the_work_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "can_start_processes", lambda: False)
    assert dict(in_processes(process, [5, 6], 2, "asking")) == {0: os.getpid(), 1: os.getpid()}


def test_a_script_without_a_guard_runs_once(tmp_path: Path) -> None:
    """Processes start from a fresh interpreter, which would run the script again, as multiprocessing does."""
    script = tmp_path / "script.py"
    script.write_text(
        "print('begun', flush=True)\n"
        "from medcontext.data.pool import in_processes\n"
        "print(sorted(in_processes(abs, [-1, -2, -3], 2, 'counting')))\n"
    )
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert ran.stdout.splitlines() == ["begun", "[(0, 1), (1, 2), (2, 3)]"], ran.stderr
