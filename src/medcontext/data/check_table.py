"""The findings of a check, for a person at a terminal and as a CSV file."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medcontext.console import console
from medcontext.data.check import CaseReport, Problem, Report
from medcontext.data.check_advice import advice, kind
from medcontext.data.placement import triple_text
from medcontext.errors import counted
from medcontext.files import atomic_path

ROWS = 40  # tables of more cases are cut to the first few, those with a problem, and the last few
NAMES = 4  # cases named after a problem that many share
ALIKE = 10  # messages printed of those that differ in the file or in figures alone
_STYLE: dict[str, Any] = {
    "box": box.SIMPLE_HEAD,
    "pad_edge": False,
    "title_justify": "left",
}
_COLORS = {"error": "red", "warning": "yellow", "note": "cyan"}


def print_report(report: Report, to: Console = console, *, all_rows: bool = False) -> None:
    """Print the table of cases, what they have in common, the structures' volumes, and every problem.

    Args:
        report: of `check_dataset`.
        to: where.
        all_rows: print every case; otherwise long tables are cut.
    """
    if report.cases:
        to.print(_case_table(report, to.width, all_rows))
        to.print(_summary(report))
        to.print(_structure_table(report))
    _print_problems(report, to)


def write_csv(report: Report, path: Path) -> None:
    """Write one row per case, with each structure's volume in millilitres; whole or not at all."""
    structures = report.dataset.structures
    fixed = ["case", "shape", "spacing_mm", "orientation", "lowest", "highest"]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([*fixed, *(f"{name}_ml" for name in structures), "problems"])
        for case in report.cases:
            shape, spacing = " ".join(map(str, case.shape or ())), " ".join(f"{mm:.6g}" for mm in case.spacing or ())
            low, high = _range(case) or ("", "")
            volumes = [f"{case.volume(v):.6g}" if case.voxels is not None else "" for v in structures.values()]
            problems = "; ".join(f"{p.level}: {p.message} {p.detail}".strip() for p in case.problems)
            writer.writerow([case.name, shape, spacing, case.orientation or "", low, high, *volumes, problems])


def _case_table(report: Report, width: int, all_rows: bool) -> Table:
    structures = report.dataset.structures
    longest = min(max(len("... 9999 more"), *(len(case.name) for case in report.cases)), 24)
    each = sum(max(len(name), 5) + 2 for name in structures) + longest + 60 <= width
    title = f"{report.dataset.name}: {counted(len(report.cases), 'case')}" + (", structures in ml" if each else "")
    table = Table(title=Text(title), **_STYLE)
    table.add_column("case", overflow="fold", min_width=longest)
    for column in ("shape", "spacing, mm", "axes", "intensity"):
        table.add_column(column, no_wrap=True)
    for column in list(structures) if each else ["labels", "ml"]:
        table.add_column(Text(column), justify="right", no_wrap=True)
    shown = range(len(report.cases)) if all_rows else _worth_showing(report.cases)
    following = 0
    for index in shown:
        if index > following:
            table.add_row(Text(f"... {index - following} more", "dim"))
        table.add_row(*_row(report.cases[index], list(structures.values()), each))
        following = index + 1
    return table


def _worth_showing(cases: Sequence[CaseReport]) -> list[int]:
    if len(cases) <= ROWS:
        return list(range(len(cases)))
    conspicuous = [i for i, case in enumerate(cases) if _worst(case) in ("error", "warning")]
    chosen = {*range(6), *conspicuous[: ROWS - 9], *range(len(cases) - 3, len(cases))}
    # A gap of one case takes no more room filled.
    return [i for i in range(len(cases)) if i in chosen or {i - 1, i + 1} <= chosen]


def _row(case: CaseReport, values: list[int], each: bool) -> list[str | Text]:
    row: list[str | Text] = [
        Text(case.name, _COLORS.get(_worst(case), "")),
        "x".join(map(str, case.shape)) if case.shape else "?",
        triple_text(case.spacing) if case.spacing else "?",
        case.orientation or "?",
        _range_text(case),
    ]
    if case.voxels is None:
        return [*row, *["?" if case.labelled else "-"] * (len(values) if each else 2)]
    if each:
        return [*row, *(_ml(case.volume(value)) for value in values)]
    present = sum(value in case.voxels for value in values)
    return [*row, f"{present}/{len(values)}", _ml(sum(case.volume(value) for value in values))]


def _summary(report: Report) -> Table:
    """What the cases have in common, a line for each property."""
    lines = Table.grid(padding=(0, 2))
    lines.add_column(no_wrap=True, style="bold")
    lines.add_column()
    labelled = sum(case.labelled for case in report.cases)
    without = len(report.cases) - labelled
    lines.add_row("cases", f"{labelled} labelled" + (f", {without} without a label" if without else ""))
    readable = [case for case in report.cases if case.shape and case.spacing]
    if readable:
        lines.add_row("shape", _spread(np.array([case.shape for case in readable])))
        lines.add_row("spacing, mm", _spread(np.array([case.spacing for case in readable])))
        axes = Counter(case.orientation or "unknown" for case in readable).most_common()
        lines.add_row("axes", ", ".join(f"{code} ({count})" for code, count in axes))
    for channel, name in enumerate(report.dataset.channels):
        ranges = np.array([case.intensity[channel] for case in readable])  # (cases, 2)
        if len(ranges):
            low, high = np.median(ranges, axis=0)
            outer = f"{_number(ranges[:, 0].min())} to {_number(ranges[:, 1].max())}"
            lines.add_row(Text(name), f"{outer}; median scan {_number(low)} to {_number(high)}")
    return lines


def _spread(values: np.ndarray) -> str:
    """Median and range of each axis, from (cases, 3)."""
    low, middle, high = (triple_text(f(values, axis=0)) for f in (np.min, np.median, np.max))
    return middle if low == high else f"median {middle}, from {low} to {high}"


def _structure_table(report: Report) -> Table:
    table = Table(**_STYLE)
    table.add_column("structure", overflow="fold")
    for column in ("value", "in cases", "median ml", "range ml"):
        table.add_column(column, justify="right", no_wrap=True)
    labelled = [case for case in report.cases if case.voxels is not None]
    for name, value in report.dataset.structures.items():
        volumes = [case.volume(value) for case in labelled if value in (case.voxels or {})]
        spread = (
            (_ml(float(np.median(volumes))), f"{_ml(min(volumes))} to {_ml(max(volumes))}") if volumes else ("-", "-")
        )
        table.add_row(Text(name), str(value), f"{len(volumes)} of {len(labelled)}", *spread)
    return table


def _print_problems(report: Report, to: Console) -> None:
    """Errors first; a problem that several cases share is printed once, and few of those that differ by the file."""
    groups: dict[tuple[str, str], list[Problem]] = {}
    for level in _COLORS:
        for problem in report.problems:
            if problem.level == level:
                groups.setdefault((level, problem.message), []).append(problem)
    lines = Table.grid(padding=(0, 2))
    alike = Counter((level, kind(problems[0])) for (level, _), problems in groups.items())
    printed: Counter[tuple[str, str]] = Counter()
    for (level, message), problems in groups.items():
        same = level, kind(problems[0])
        printed[same] += 1
        if printed[same] == ALIKE + 1:
            rest = f"and {alike[same] - ALIKE} more like these; --output lists all"
            lines.add_row(Text(level, _COLORS[level]), rest)
        if printed[same] > ALIKE:
            continue
        text = Text(message.replace(f"{report.dataset.root}/", ""))
        if problems[0].case:
            named = [f"{p.case} ({p.detail})" if p.detail else p.case for p in problems]
            rest = f" and {len(named) - NAMES} more" if len(named) > NAMES else ""
            text = Text.assemble((f"{', '.join(named[:NAMES])}{rest}", "bold"), ": ", text)
        lines.add_row(Text(level, _COLORS[level]), text)
    to.print(lines)
    counts = Counter(problem.level for problem in report.problems)
    if counts["error"] or counts["warning"]:
        to.print(f"{counted(counts['error'], 'error')}, {counted(counts['warning'], 'warning')}.", highlight=False)
    else:
        to.print(Text("No problems found.", "green"))
    if step := advice(report):
        to.print(Text(step.replace(f"{report.dataset.root}/", ""), "bold"), soft_wrap=True)
    if unlabelled := sum(not case.labelled for case in report.cases):
        scans = "scan without a label joins" if unlabelled == 1 else "scans without a label join"
        to.print(Text(f"{unlabelled} {scans} a training by --unlabelled, with this data set."))


def _worst(case: CaseReport) -> str:
    levels = {problem.level for problem in case.problems}
    return next((level for level in _COLORS if level in levels), "")


def _range(case: CaseReport) -> tuple[float, float] | None:
    """Over all channels."""
    if not case.intensity:
        return None
    return min(low for low, _ in case.intensity), max(high for _, high in case.intensity)


def _range_text(case: CaseReport) -> str:
    found = _range(case)
    return f"{_number(found[0])} to {_number(found[1])}" if found else "?"


def _number(value: float) -> str:
    return f"{value:.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"


def _ml(volume: float) -> str:
    return f"{volume:.0f}" if volume >= 100 else f"{volume:.3g}"
