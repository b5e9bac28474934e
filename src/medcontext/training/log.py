"""`RUN/log.txt`: everything that the terminal says of a training, and of each time that it went on."""

import io
import platform
import shlex
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import lightning
import monai
import torch

import medcontext
from medcontext.console import copied
from medcontext.errors import InputError, Unfinished
from medcontext.files import writing
from medcontext.run import INPUTS, go_on_command

LOG = "log.txt"


class Log(io.StringIO):
    """In memory until it is kept: an attempt that is refused leaves a run's folder as it was.

    Args:
        run: the run's folder.
    """

    def __init__(self, run: Path) -> None:
        super().__init__()
        self.path = run / LOG
        self.kept = False

    def keep(self) -> None:
        """Append what was said to the file, behind date, command and versions, and from now on all that follows.

        Raises:
            InputError: if it cannot be written, as on a full disk.
        """
        if self.kept:
            return
        said, self.kept = self.getvalue(), True
        shown = ", ".join(f"{name} {version}" for name, version in versions().items())
        self.write(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {shlex.join(_command())}\n{shown}\n{said}")

    def write(self, text: str) -> int:
        if not self.kept:
            return super().write(text)
        with writing(self.path), self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            return file.write(text)


def versions() -> dict[str, str]:
    """Of what a training runs with."""
    return {
        "medcontext": medcontext.__version__,
        "torch": str(torch.__version__),
        "monai": monai.__version__,
        "lightning": lightning.__version__,
        "python": platform.python_version(),
    }


def _command() -> list[str]:
    """As it was typed; for another program that trains, that."""
    program = Path(sys.argv[0])
    own = program.name in ("medcontext", "cli.py")
    return ["medcontext" if own else program.name or "python", *sys.argv[1:]]


@contextmanager
def logged(run: Path, first: bool, command: str = "train") -> Iterator[Log]:
    """Keep what is said, and how it ended; an end from which the training can go on says by which command.

    Args:
        run: the run's folder.
        first: whether this process is the one that writes.
        command: by which it goes on.
    """
    log, now = Log(run), ""
    if not first:
        yield log
        return
    with copied(log):
        try:
            yield log
        except KeyboardInterrupt as end:
            now = "Interrupted."
            if (run / INPUTS).is_file():
                now = f"Interrupted. Go on with: {go_on_command(run, command)}"
                log.keep()
            raise type(end)(now) from end
        except Unfinished as error:
            now = f"{error} The command: {go_on_command(run, command)}"
            raise type(error)(now) from error
        except InputError as error:
            now = f"Error: {error}"
            raise
        except Exception:  # a defect of ours: whoever looks into it needs to know how it came to it
            now = traceback.format_exc()
            log.keep()
            raise
        finally:
            if log.kept:
                with suppress(OSError, InputError):  # on a full disk; the terminal says what is wrong
                    log.write(f"{now}\n{datetime.now():%Y-%m-%d %H:%M:%S}  {'Stopped' if now else 'Ended'}.\n\n")
