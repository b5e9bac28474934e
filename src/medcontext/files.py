"""Writing files so that a killed process leaves either the whole file or none of it."""

import hashlib
import io
import json
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import IO, Any

from medcontext.errors import InputError, Unfinished

LONGEST_END = 200  # bytes
LOCK = ".lock"
MOST_TRIES = 10

AnyPath = str | os.PathLike[str]
"""A path as people write it, or what has one: a `Run`, `Scores`."""


def several(given: str | Sequence[str]) -> tuple[str, ...]:
    """An argument that takes one text or several, as several.

    >>> several("venous"), several(["flair", "t1"])
    (('venous',), ('flair', 't1'))
    """
    return (given,) if isinstance(given, str) else tuple(given)


def temporary_name(path: Path) -> Path:
    """A name beside `path` that nobody else takes: in containers and on other machines process numbers are the same.

    It keeps the file's suffixes (`.nii.gz`), because writers choose the format by them, and only the end of a long
    name: a name may have 255 bytes, and it has something before it.
    """
    end = os.fsdecode(os.fsencode(path.name)[-LONGEST_END:])
    return path.with_name(f".tmp-{token_hex(4)}-{end}")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` on success, remove it on failure."""
    temporary = temporary_name(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_utf8(name: str | Path) -> None:
    """Refuse a path or a name that is not UTF-8, such as one written on an old system: tables could not hold it.

    >>> check_utf8("münster_1.nii.gz")

    Raises:
        InputError: with the bytes that are not.
    """
    text = str(name)
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = text.encode(errors="backslashreplace").decode()
        raise InputError(
            f"The name {shown} is not UTF-8. Rename it, for example by `convmv -f latin1 -t utf8 --notest`."
        ) from None


def write_text(path: Path, text: str) -> None:
    """Write text to `path`, whole or not at all.

    Raises:
        InputError: if a line of it holds a name that is not UTF-8.
    """
    with atomic_path(path) as temporary:
        try:
            temporary.write_text(text, encoding="utf-8")
        except UnicodeEncodeError:
            for line in text.splitlines():
                check_utf8(line)
            raise


def write_from_memory(path: Path, save: Callable[[io.BytesIO], object]) -> None:
    """Let torch save to memory, and write that to a temporary path: on a full disk torch's writer ends the process."""
    content = io.BytesIO()
    save(content)
    path.write_bytes(content.getbuffer())


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content, as `sha256sum` prints it."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: if the file is missing or unreadable, is not JSON (the message names the line), or has a
            key twice.
    """

    def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if len(set(keys)) < len(keys):
            twice = sorted({key for key in keys if keys.count(key) > 1})
            raise InputError(f"{path} has the key {', '.join(map(repr, twice))} twice in one object; remove one.")
        return dict(pairs)

    try:
        # As bytes: the encoding, UTF-8 or 16, with a mark or without, is found out.
        return json.loads(path.read_bytes(), object_pairs_hook=unique_keys)
    except FileNotFoundError:
        raise InputError(f"File not found: {path}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not valid JSON: {error}. Save the file as UTF-8.") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not valid JSON: {error}. {_json_remedy(error)}") from None
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None


def _json_remedy(error: json.JSONDecodeError) -> str:
    before, after = error.doc[: error.pos].rstrip(), error.doc[error.pos :].lstrip()
    if before.endswith(",") and after[:1] in ("]", "}"):
        line = before.count("\n") + 1
        return f"Remove the comma at the end of line {line}: nothing comes after it."
    if "escape" in error.msg:
        return "In paths write / instead of \\."
    return "Correct the file."


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around the writing of a file of a run: where it fails, as on a full disk, say how to go on.

    Raises:
        InputError: instead of the OSError.
    """
    try:
        yield
    except OSError as error:
        raise Unfinished(
            f"Cannot write {path}: {error.strerror or error}. Free some space, then go on with --resume."
        ) from error


def output_folder(path: Path, *, overwrite: bool = False, flag: str = "--overwrite") -> Path:
    """Create an output folder that is writable and, unless `overwrite`, empty.

    Args:
        path: the folder.
        overwrite: whether it may hold files.
        flag: the option that a message about a folder with files should name.

    Raises:
        InputError: if the folder holds files already, is a file, or cannot be written to.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"Output {path} is a file; give a folder.")
    if path.is_dir() and any(each.name != LOCK for each in path.iterdir()) and not overwrite:
        raise InputError(f"Output folder {path} exists and is not empty; choose another, or pass {flag}.")
    probe = temporary_name(path / "probe")
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"Cannot write to output folder {path}: {error.strerror}.") from None
    return path


def _locked(path: Path) -> IO[str]:
    """A file, opened and locked; only opened where the file system has no locks.

    Raises:
        InputError: see `locked`.
    """
    import fcntl

    try:
        file = path.open("a+")
    except OSError as error:
        raise InputError(f"Cannot write {path}: {error.strerror}. Remove it, or choose another folder.") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        with file:
            file.seek(0)
            holder = file.read() or "Another process"
        raise InputError(
            f"{holder} is at work in {path.parent}. Wait for its end, or choose another folder. If that process is "
            f"gone, as after a machine's crash, remove {path}."
        ) from None
    except OSError:
        pass
    return file


def _is_at(file: IO[str], path: Path) -> bool:
    """Whether an open file is what lies at this path now."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from working in a folder; one that is killed lets go.

    Those of other machines, too, where the file system shares its locks (flock), as NFS does on Linux.

    Raises:
        InputError: if another process has it, or left a file there that is another user's.
    """
    if os.name == "nt":  # Windows has no such locks
        yield
        return
    path, tries = folder / LOCK, 1
    file = _locked(path)
    while not _is_at(file, path) and tries < MOST_TRIES:  # its holder has removed it since it was opened
        file.close()
        file, tries = _locked(path), tries + 1
    with file:
        with suppress(OSError):  # on a full disk nobody can read whose it is
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"Process {os.getpid()} on {platform.node()}".encode())
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def kept_if_used(path: Path, resume: bool) -> Iterator[None]:
    """Create an output folder and have it alone; if nothing came into it, take it away again.

    Raises:
        InputError: see `output_folder` and `locked`; with `resume` it may hold files.
    """
    existed = path.exists()
    output_folder(path, overwrite=resume, flag="--resume")
    try:
        with locked(path):
            yield
    finally:
        if not existed:
            with suppress(OSError):  # it is not empty
                path.rmdir()
