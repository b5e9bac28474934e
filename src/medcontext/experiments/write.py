"""A reproduced table: printed, and written as Markdown and CSV with all that one must know to read it."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

import medcontext
from medcontext.console import console
from medcontext.data.known import SPLITS
from medcontext.errors import counted
from medcontext.experiments import results
from medcontext.experiments.cells import TableCell
from medcontext.experiments.conditions import Conditions
from medcontext.experiments.launch import say
from medcontext.experiments.only import Selection
from medcontext.experiments.pretrainings import PretrainingCell, pretrainings
from medcontext.experiments.tables import PAPER, Entry, Grid, Variant
from medcontext.files import write_text


def write_table(
    grid: Grid,
    entries: Sequence[Entry],
    cells: Mapping[Variant, Sequence[TableCell]],
    conditions: Conditions,
    selection: Selection,
) -> None:
    """Write a table's two files, and print it.

    Args:
        grid: the table.
        entries: what is left of it.
        cells: whose results may be used.
        conditions: of all cells.
        selection: for the files' names.
    """
    if not entries:
        return
    measured = results.measure(entries, cells)
    columns, lines = results.lines(measured)
    gained = results.gains(measured)
    notes = remarks([cell for entry in entries for cell in cells[entry.variant]], conditions)
    stem = file_stem(grid, conditions, selection)
    files = conditions.output / f"{stem}.md", conditions.output / f"{stem}.csv"
    write_text(files[0], to_page(grid, measured, notes))
    write_text(files[1], results.to_csv(grid, measured, facts(conditions)))
    console.print(Text.assemble("\n", (grid.name, "bold"), f": {grid.title}"), soft_wrap=True)
    console.print(results.to_table(columns, lines))
    if gained[1]:
        console.print("What MedContext adds")
        console.print(results.to_table(*gained))
    for note in notes:
        console.print(note, soft_wrap=True)
    say(f"Written: {files[0]}, {files[1]}")


def file_stem(grid: Grid, conditions: Conditions, selection: Selection) -> str:
    """A name for each table that one output can hold, so that none is written over another: `table1` is the whole
    table of seed 0 with the paper's method, `table1-reference-model=unetr-seeds=0,1` a part of another.
    """
    parts = [grid.name]
    parts += [Path(conditions.method).stem] if conditions.method != "paper" else []
    parts += [f"{conditions.few_shot}cases"] if conditions.few_shot else []
    if conditions.pretrain_on == "train" and any(entry.variant.objective for entry in grid.entries):
        parts.append("pretrain_on=train")
    parts += [selection.name] if selection.name else []
    parts += [f"seeds={','.join(map(str, selection.seeds))}"] if selection.seeds != [0] else []
    return "-".join(parts)


def remarks(cells: Sequence[TableCell], conditions: Conditions) -> list[str]:
    """What one must know to read the numbers."""
    notes = [
        "Ours: the paper's conventions (legacy: HD95 in voxels, 0 for an empty mask); standard: a miss costs the worst "
        "score, HD95 in mm.",
    ]
    if cells:
        steps = sorted({cell.settings.steps for cell in cells})
        counts = " to ".join(f"{count:,}" for count in dict.fromkeys((steps[0], steps[-1])))
        seeds = " ".join(map(str, sorted({cell.seed for cell in cells})))
        notes.append(f"Method {conditions.method}, steps {counts} ({whose_steps(cells, conditions)}), seeds {seeds}.")
    notes += [pretrained(cell) for cell in pretrainings(cells) if isinstance(cell, PretrainingCell)]
    if any(cell.after for cell in cells) and conditions.pretrain_on == "train":
        notes.append(
            "Different from the paper: pretrained on the training cases of the table's own data set, without their "
            "labels, where the paper has other scans, COVID-19 CT in Table 5 and LUNA16 in Table 6."
        )
    if conditions.settings:
        notes.append(f"Further settings: --set {shlex.join(conditions.settings)}")
    if conditions.few_shot:
        notes.append(f"Trained on {conditions.few_shot} cases, where the table does not say how many.")
    if conditions.smoke:
        notes.append("Tiny networks on generated scans: these scores show that everything runs, and nothing else.")
    return notes


def pretrained(cell: PretrainingCell) -> str:
    """How a pretraining was done, in a sentence."""
    settings = cell.settings
    own = cell.source in SPLITS
    scans = f"the training cases of the split {cell.source}" if own else f"{cell.source} ({cell.data})"
    batch = settings.batch_size * settings.accumulate
    return f"{cell.name}: {settings.objective} on {scans}, {settings.steps:,} steps of {counted(batch, 'crop')}."


def whose_steps(cells: Sequence[TableCell], conditions: Conditions) -> str:
    """Who decided how long to train."""
    if conditions.steps:
        return "given by --steps"
    datasets = {cell.variant.dataset for cell in cells}
    given = {name for name in datasets if any(item.key == "steps" for item in conditions.assigned(name))}
    others = "a smoke test's" if conditions.smoke else "the presets'"
    if not given:
        return others
    return "given by --set" if given == datasets else f"{others}, for {' and '.join(sorted(given))} given by --set"


def facts(conditions: Conditions) -> dict[str, Any]:
    """What all numbers have in common, for the CSV."""
    return {
        "method": conditions.method,
        "scale": "smoke" if conditions.smoke else "full",
        "settings": shlex.join(conditions.settings),
        "medcontext": medcontext.__version__,
    }


def to_page(grid: Grid, measured: Sequence[results.Measured], notes: Sequence[str]) -> str:
    """A table as a Markdown file."""
    command = " ".join(["medcontext", *map(shlex.quote, sys.argv[1:])])
    gained = results.gains(measured)
    parts = [f"# {grid.name}: {grid.title}", *notes, results.to_markdown(*results.lines(measured))]
    parts += ["## What MedContext adds", results.to_markdown(*gained)] if gained[1] else []
    parts += [f"`{command}`", f"MedContext {medcontext.__version__}. The paper's numbers: {PAPER['source']}"]
    return "\n\n".join(parts) + "\n"
