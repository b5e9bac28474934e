"""The one error that a user's input can raise, and telling a lack of memory from other errors."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Something the user gave cannot be used; the message says what, why, what is allowed, what to do.

    The command line prints the message without a traceback and exits with code 2.
    """


class CannotWrite(InputError):
    """A folder that the user gave cannot be written, as on a full disk: nothing is wrong with what was read."""


class Unfinished(InputError):
    """A training stopped for want of something, such as disk space; with that, it goes on where it stopped."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """An error for a name that is not known, with the nearest known name as a suggestion.

    >>> print(unknown_name("network", "unter", ["unet", "unetr"]))
    Unknown network 'unter'; did you mean 'unetr'? Known: unet, unetr.
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    return InputError(f"Unknown {kind} '{name}'{hint} Known: {', '.join(known)}.")


def first_line(error: BaseException) -> str:
    """What another library's error says, in one line.

    >>> first_line(ValueError("no such file\\nat line 3")), first_line(KeyboardInterrupt())
    ('no such file', 'KeyboardInterrupt')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class NotEnoughMemory(InputError):
    """There is too little memory for what the user asked for; nothing is wrong with what was read."""


def counted(number: int, noun: str) -> str:
    """
    >>> counted(1, "case"), counted(3, "process"), counted(2, "patch")
    ('1 case', '3 processes', '2 patches')
    """
    return f"{number} {noun}{('es' if noun.endswith(('ss', 'ch')) else 's') * (number != 1)}"


MEMORY_SIGNS = (
    "out of memory",
    "not enough memory",
    "allocate memory",  # torch's allocator on the CPU; errno 12
    "bad allocation",
    "bad_alloc",
    "alloc_failed",  # cuBLAS and cuDNN
    "can't start new thread",
)


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that memory was refused: by Python, numpy, the operating system, torch on a CPU or a GPU.

    >>> lacks_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 80 bytes"))
    True
    >>> lacks_memory(MemoryError()), lacks_memory(OSError(12, "Cannot allocate memory")), lacks_memory(ValueError("x"))
    (True, True, False)
    """
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError | OSError) and any(sign in text for sign in MEMORY_SIGNS)


def memory_words(error: BaseException) -> str:
    """The part of such an error that a person can use, to follow a sentence; empty where it says no more.

    >>> memory_words(RuntimeError("[enforce fail] err == 0. DefaultCPUAllocator: can't allocate memory: 12.5 GB. 12"))
    ": DefaultCPUAllocator: can't allocate memory: 12.5 GB"
    >>> memory_words(MemoryError("Unable to allocate 1.46 GiB for an array")), memory_words(MemoryError())
    (': Unable to allocate 1.46 GiB for an array', '')
    """
    sentences = first_line(error).rstrip(".").split(". ")
    found = [text for text in sentences if "allocat" in text.lower() or "memory" in text.lower()]
    return f": {found[0]}" if found and found[0] != "MemoryError" else ""


@contextmanager
def enough_memory(what: str, cure: str) -> Iterator[None]:
    """Around work that may need more memory than there is.

    Args:
        what: the memory is for, such as "case 'liver_7'".
        cure: a sentence on what to make smaller.

    Raises:
        NotEnoughMemory: in place of whatever error says that memory was refused.
    """
    try:
        yield
    except NotEnoughMemory:
        raise
    except Exception as error:
        if not lacks_memory(error):
            raise
        raise NotEnoughMemory(f"Not enough memory for {what}{memory_words(error)}. {cure}") from error
