"""The one error that a user's input can raise."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave cannot be used; the message says what, why, what is allowed, what to do.

    The command line prints the message without a traceback and exits with code 2.
    """


class CannotWrite(InputError):
    """A folder that the user gave cannot be written, as on a full disk: nothing is wrong with what was read."""


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
