"""The paper's numbers, ours beside them, and the difference: in the terminal, in Markdown and as CSV."""

import csv
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from rich import box
from rich.table import Table

from medcontext.data.known import KNOWN
from medcontext.errors import InputError, counted
from medcontext.experiments.cells import SCORED_BY, Means, TableCell
from medcontext.experiments.pretrainings import PretrainingCell
from medcontext.experiments.tables import MODELS, Entry, Grid, Variant, plain, row_label

HEADINGS = {
    "spleen": "Spl",
    "right_kidney": "RKid",
    "left_kidney": "LKid",
    "gallbladder": "Gal",
    "liver": "Liv",
    "stomach": "Stom",
    "aorta": "Aor",
    "pancreas": "Pan",
    "esophagus": "Eso",
    "inferior_vena_cava": "IVC",
    "portal_and_splenic_veins": "PSV",
    "right_adrenal_gland": "RAG",
    "left_adrenal_gland": "LAG",
    "right_ventricle": "RV",
    "myocardium": "Myo",
    "left_ventricle": "LV",
    "dsc": "DSC",
    "hd95": "HD95",
    **{key: known.name for key, known in KNOWN.items()},
    **MODELS,
}
"""Columns in the terminal and in Markdown; the CSV has their full names."""

TRAINED = ("steps", "few_shot", "pretraining_steps", "pretrained_on")


@dataclass(frozen=True)
class Measured:
    """A number of a table, and ours.

    Args:
        entry: the paper's.
        runs: ours, by protocol and seed; in per cent, or HD95 in voxels (`legacy`) or millimetres (`standard`).
        cell: one of the trainings; None where there are none.
    """

    entry: Entry
    runs: Mapping[str, Mapping[int, float]]
    cell: TableCell | None = None

    def mean(self, protocol: str) -> float | None:
        values = self.runs[protocol].values()
        return statistics.fmean(values) if values else None


@dataclass(frozen=True)
class Line:
    """A line of a table: a name and a number for each column; without any, a heading of what follows.

    Args:
        name: of the line; indented beneath its heading.
        numbers: by column; None where there is none.
        signed: whether they are differences.
    """

    name: str
    numbers: Mapping[str, float | None] = field(default_factory=dict)
    signed: bool = False

    def texts(self, digits: Mapping[str, int]) -> list[str]:
        """The numbers as texts, with so many digits in each column; `-` for a missing one."""
        if not self.numbers:
            return [""] * len(digits)
        values = [(self.numbers.get(column), places) for column, places in digits.items()]
        return ["-" if value is None else f"{value:{'+' if self.signed else ''}.{places}f}" for value, places in values]


def measure(entries: Sequence[Entry], cells: Mapping[Variant, Sequence[TableCell]]) -> list[Measured]:
    """Ours for each number, from the cells that are done.

    Raises:
        InputError: if a cell's scores lack one of the table's structures.
    """
    scores = {cell.name: found for cell in chain(*cells.values()) if len(found := all_scores(cell)) == len(SCORED_BY)}
    measured = []
    for entry in entries:
        own = cells.get(entry.variant, ())
        done = {cell.seed: scores[cell.name] for cell in own if cell.name in scores}
        runs: dict[str, dict[int, float]] = {
            protocol: {
                seed: score for seed, found in done.items() if (score := read_score(found[protocol], entry)) is not None
            }
            for protocol in SCORED_BY
        }
        measured.append(Measured(entry, runs, own[0] if own else None))
    return measured


def all_scores(cell: TableCell) -> dict[str, Means]:
    """What is there of a cell's scores, by protocol."""
    return {protocol: scores for protocol in SCORED_BY if (scores := cell.scores(protocol))}


def read_score(measured: Means, entry: Entry) -> float | None:
    """The score that an entry asks for: of one structure, or the mean over the table's; None if none counts."""
    found = {plain(name): scores for name, scores in measured.items()}
    wanted = [entry.structure] if entry.structure else list(entry.scored)
    missing = [name for name in wanted if plain(name) not in found]
    if missing:
        raise InputError(
            f"The scores have no {', '.join(missing)}, but {', '.join(found)}. Name the structures of the data set "
            f"{entry.variant.dataset} as the table does."
        )
    metric, factor = ("dsc", 100) if entry.metric == "dsc" else ("hd95_pooled", 1)
    scores = [found[plain(name)][metric] for name in wanted]
    counted = [factor * score for score in scores if score is not None]
    return statistics.fmean(counted) if counted else None


def lines(measured: Sequence[Measured]) -> tuple[list[str], list[Line]]:
    """The columns, and for every row of the paper its number, ours, the difference, and ours by our protocol."""
    columns = list(dict.fromkeys(item.entry.column for item in measured))
    rendered: list[Line] = []
    for label, items in by_row(measured).items():
        paper = {column: item.entry.paper for column, item in items.items()}
        rendered += [Line(label), Line("  paper", paper)]
        ours = {column: item.mean("legacy") for column, item in items.items()}
        counts = sorted({len(item.runs["legacy"]) for item in items.values()})
        runs = " to ".join(str(count) for count in (counts[0], counts[-1])) if len(counts) > 1 else str(counts[0])
        rendered.append(Line(f"  ours ({runs} run{'s' * (counts[-1] != 1)})", ours))
        if counts[-1] > 1:
            spread = {column: spread_of(item.runs["legacy"].values()) for column, item in items.items()}
            rendered.append(Line("  ± over runs", spread))
        rendered.append(Line("  difference", subtract(ours, paper), signed=True))
        standard = {column: item.mean("standard") for column, item in items.items()}
        rendered.append(Line("  ours, standard", standard))
    return columns, rendered


def gains(measured: Sequence[Measured]) -> tuple[list[str], list[Line]]:
    """What MedContext adds to each baseline: in the paper, and here over the seeds that both have."""
    columns = list(dict.fromkeys(item.entry.column for item in measured))
    rows = by_row(measured)
    models = dict.fromkeys(item.entry.row.get("model") for item in measured if "medcontext" in item.entry.row)
    rendered: list[Line] = []
    for model in models:
        pair = [rows.get(row_label({"model": model, "medcontext": used}), {}) for used in (True, False)]
        both = [column for column in columns if all(column in row for row in pair)]
        if not both:
            continue
        paper = {column: pair[0][column].entry.paper - pair[1][column].entry.paper for column in both}
        ours: dict[str, float | None] = {}
        seeds = set()
        for column in both:
            with_it, without = (row[column].runs["legacy"] for row in pair)
            common = with_it.keys() & without.keys()
            seeds.add(len(common))
            ours[column] = statistics.fmean(with_it[seed] - without[seed] for seed in common) if common else None
        runs = counted(max(seeds), "pair")
        rendered += [
            Line(MODELS[str(model)]),
            Line("  paper", paper, signed=True),
            Line(f"  ours ({runs})", ours, True),
        ]
    return columns, rendered


def by_row(measured: Sequence[Measured]) -> dict[str, dict[str, Measured]]:
    """The numbers by row and column."""
    rows: dict[str, dict[str, Measured]] = {}
    for item in measured:
        rows.setdefault(row_label(item.entry.row), {})[item.entry.column] = item
    return rows


def to_table(columns: Sequence[str], rendered: Sequence[Line]) -> Table:
    """For the terminal; every table of the paper fits 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("")
    places = 2 if len(columns) <= 6 else 1 if len(columns) <= 10 else 0  # what 80 columns hold; the files have two
    digits = {column: max(places, 1) if column == "dsc" else places for column in columns}
    for column in columns:
        table.add_column(HEADINGS.get(column, column), justify="right", no_wrap=True)
    for index, line in enumerate(rendered):
        important = line.name.startswith("  ours (") or not line.name.startswith(" ")
        table.add_row(line.name, *line.texts(digits), style="bold" if important else None)
        if index + 1 < len(rendered) and not rendered[index + 1].name.startswith(" "):
            table.add_section()
    return table


def to_markdown(columns: Sequence[str], rendered: Sequence[Line]) -> str:
    """The same as a Markdown table."""
    rows = [["", *(HEADINGS.get(column, column) for column in columns)], ["---", *["---:"] * len(columns)]]
    for line in rendered:
        heading = not line.name.startswith(" ")
        name = f"**{line.name}**" if heading else line.name.strip()
        rows.append([name, *line.texts(dict.fromkeys(columns, 2))])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def to_csv(grid: Grid, measured: Sequence[Measured], conditions: Mapping[str, Any]) -> str:
    """One row for every number and protocol, and every condition that all have in common."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    where = ["table", "row", "dataset", "column", "metric", "protocol"]
    writer.writerow([*where, "paper", "ours", "std", "difference", "runs", "seeds", *TRAINED, *conditions])
    for item in measured:
        entry = item.entry
        if item.cell is None:
            continue
        trained = how_trained(item.cell).values()
        for protocol, runs in item.runs.items():
            ours, spread = item.mean(protocol), spread_of(runs.values())
            difference = None if ours is None else ours - entry.paper
            numbers = ["" if value is None else f"{value:.4f}" for value in (ours, spread, difference)]
            where = [grid.name, row_label(entry.row), entry.variant.dataset, entry.column, entry.metric, protocol]
            seeds = " ".join(map(str, sorted(runs)))
            writer.writerow([*where, entry.paper, *numbers, len(runs), seeds, *trained, *conditions.values()])
    return text.getvalue()


def how_trained(cell: TableCell) -> dict[str, Any]:
    """What the CSV says of a row's trainings, by column."""
    settings, before = cell.settings, cell.after
    pretrained = [before.settings.steps, before.source] if isinstance(before, PretrainingCell) else ["", ""]
    return dict(zip(TRAINED, [settings.steps, settings.few_shot or "all", *pretrained], strict=True))


def subtract(ours: Mapping[str, float | None], paper: Mapping[str, float]) -> dict[str, float | None]:
    """Ours minus the paper's, where there is one."""
    return {column: None if value is None else value - paper[column] for column, value in ours.items()}


def spread_of(values: Iterable[float]) -> float | None:
    """The sample's standard deviation; None of fewer than two values."""
    values = list(values)
    return statistics.stdev(values) if len(values) > 1 else None
