"""What was found in a folder, as a JSON list and as tables."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medcontext.console import console
from medcontext.data.cases import Case
from medcontext.data.discovery.discover import Found
from medcontext.data.folders import listed

CASES = 5  # named


def to_json(found: Found, file: Path) -> str:
    """A JSON list with a case a line, for a person to read and edit, paths relative to where it will lie."""
    root = file.parent
    lines = [
        f'"name": {_text(found.folder.resolve().name)}',
        f'"channels": {_text(list(found.channels))}',
        f'"labels": {_text(found.labels)}',
        _block("cases", [_entry(case, root) for case in found.cases]),
    ]
    if found.unlabelled:
        lines.append(_block("unlabelled", [_entry(case, root) for case in found.unlabelled]))
    return "{\n  " + ",\n  ".join(lines) + "\n}\n"


def show(found: Found, given: Sequence[str], label: str | None, to: Console = console) -> None:
    """Print what was found, what was guessed, each label value with its volume, and what to look at."""
    lines = Table.grid(padding=(0, 2))
    lines.add_column(no_wrap=True, style="bold")
    lines.add_column(overflow="fold")
    lines.add_row("images", Text(_pattern_text("--image", found.image, bool(given))))
    lines.add_row("labels", Text(_pattern_text("--label", [found.label], label is not None)))
    lines.add_row("channels", Text(f"{', '.join(found.channels)}, {found.why}"))
    lines.add_row("cases", Text(_cases_text(found.cases)))
    if found.unlabelled:
        lines.add_row("without a label", Text(_cases_text(found.unlabelled)))
    lines.add_row("patients", Text(_patients_text([*found.cases, *found.unlabelled])))
    to.print(lines)
    to.print(_value_table(found))
    for remark in found.remarks:
        to.print(Text.assemble(("Warning: ", "yellow"), remark), soft_wrap=True)
    for note in found.notes:
        to.print(Text(note, "dim"), soft_wrap=True)


def _value_table(found: Found) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("label", overflow="fold")
    for column in ("value", "in cases", "mean ml"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, value in found.labels.items():
        if value in found.values:
            each = found.values[value]
            volume = f"{each.volume:.0f}" if each.volume >= 100 else f"{each.volume:.3g}"
            table.add_row(Text(name), str(value), f"{each.cases} of {len(found.cases)}", volume)
        elif value:
            table.add_row(Text(name), str(value), f"0 of {len(found.cases)}", "-")
    return table


def _pattern_text(option: str, patterns: Sequence[str], given: bool) -> str:
    text = ", ".join(patterns)
    quoted = " ".join(f"'{pattern}'" for pattern in patterns)
    return text if given else f"{text} (guessed; the option is {option} {quoted})"


def _cases_text(cases: Sequence[Case]) -> str:
    return f"{len(cases)}: {listed([case.name for case in cases], CASES)}"


def _patients_text(cases: Sequence[Case]) -> str:
    if any(case.patient for case in cases):
        return f'{len({case.owner for case in cases})}, by the names of folders or files; correct "patient" where not'
    return 'each case is its own; add "patient" where several are one person\'s'


def _entry(case: Case, root: Path) -> dict[str, Any]:
    images = [_relative(image, root) for image in case.images]
    entry: dict[str, Any] = {"name": case.name, "image": images[0] if len(images) == 1 else images}
    if case.label is not None:
        entry["label"] = _relative(case.label, root)
    return entry | ({"patient": case.patient} if case.patient else {})


def _relative(path: Path, root: Path) -> str:
    """The path as the file says it; from elsewhere by the real folders, for .. does not lead back through a link."""
    if path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return Path(os.path.relpath(path.absolute(), os.path.realpath(root))).as_posix()


def _block(key: str, entries: Sequence[dict[str, Any]]) -> str:
    inside = ",\n    ".join(map(_text, entries))
    return f'"{key}": [\n    {inside}\n  ]'


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
