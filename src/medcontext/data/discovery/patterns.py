"""Names and globs that a person gives for files, and what they leave open in a file that fits."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from medcontext.data.discovery.words import stem
from medcontext.errors import InputError


@dataclass(frozen=True)
class Fit:
    """How a file fits a pattern.

    Args:
        file: relative to the data folder.
        folder: the folders that the pattern does not speak of.
        open: what its wildcards stand for, those of folders and those of the file's name, without empty ones.
        name: what those of the file's name stand for.
        case: the file's name up to the last wildcard: what a case may be called by; empty without wildcards.
    """

    file: PurePosixPath
    folder: tuple[str, ...]
    open: tuple[str, ...] = ()
    name: tuple[str, ...] = ()
    case: str = ""


class Pattern:
    """A file name or a glob, relative to the data folder or to any folder below it.

    >>> Pattern("images/*_ct.nii.gz").fit(PurePosixPath("hospital/images/a_ct.nii.gz"))
    Fit(file=PurePosixPath('hospital/images/a_ct.nii.gz'), folder=('hospital',), open=('a',), name=('a',), case='a')

    Raises:
        InputError: if it is empty, absolute, or leads upwards.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        parts = [part for part in unicodedata.normalize("NFC", text.replace("\\", "/")).split("/") if part != "."]
        if not text or not all(parts) or ".." in parts:
            raise InputError(
                f"The pattern '{text}' cannot be used; give a file name or a glob relative to the data folder or to a "
                "case's folder, such as ct.nii.gz, *_ct.nii.gz or images/*.nii.gz."
            )
        self.literal = "/".join(parts)
        self.exact = sum(len(re.sub(r"\*|\?|\[[^]]+\]", "", part)) for part in parts)
        *folders, last = parts
        body = "".join(r"((?:[^/]+/)*)" if part == "**" else f"{_expression(part)}/" for part in folders)
        self.folders = re.compile(body).groups
        self.expression = re.compile(rf"(?:(.*)/)?{body}{_expression(last)}")
        self.wildcards = re.compile(_expression(last)).groups

    def fit(self, file: PurePosixPath) -> Fit | None:
        """How a file fits; None if it does not."""
        text = unicodedata.normalize("NFC", file.as_posix())
        if text == self.literal or text.endswith(f"/{self.literal}"):
            return Fit(file, tuple(filter(None, text.removesuffix(self.literal).split("/"))))
        match = self.expression.fullmatch(text)
        if match is None:
            return None
        folder = tuple(match[1].split("/")) if match[1] else ()
        groups = [stem(group) for group in match.groups()[1:]]  # a wildcard at the end takes .nii.gz along
        last = groups[self.folders :]
        case = stem(text[: match.end(match.re.groups)].rpartition("/")[2]) if self.wildcards else ""
        return Fit(file, folder, tuple(filter(None, groups)), tuple(filter(None, last)), case.rstrip(" _-."))


def assign(files: Sequence[PurePosixPath], patterns: Sequence[Pattern]) -> tuple[list[list[Fit]], list[PurePosixPath]]:
    """The files that fit each pattern, and those that fit none.

    A file that fits several goes to the one that says most of its name.

    Raises:
        InputError: if two say equally much of it.
    """
    fits: list[list[Fit]] = [[] for _ in patterns]
    left = []
    for file in files:
        found = [(pattern.exact, index) for index, pattern in enumerate(patterns) if pattern.fit(file)]
        best = [index for exact, index in found if exact == max(found)[0]]
        if len(best) > 1:
            both = " and ".join(f"'{patterns[index].text}'" for index in best[:2])
            raise InputError(f"{file} fits the patterns {both}; give patterns that no file has in common.")
        if best:
            fit = patterns[best[0]].fit(file)
            assert fit is not None
            fits[best[0]].append(fit)
        else:
            left.append(file)
    return fits, left


def _expression(part: str) -> str:
    """A part of a glob as a regular expression, each wildcard a group."""
    pieces = re.split(r"(\*+|\?|\[[^]]+\])", part)
    return "".join(
        "([^/]*)"
        if piece.startswith("*")
        else "([^/])"
        if piece == "?"
        else f"({piece.replace('[!', '[^', 1)})"
        if piece.startswith("[") and piece.endswith("]") and len(piece) > 2
        else re.escape(piece)
        for piece in pieces
    )
