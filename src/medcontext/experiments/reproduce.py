"""`medcontext reproduce`: run the grids of the paper's tables, and print the paper's numbers with ours."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.table import Table

import medcontext
from medcontext.console import console
from medcontext.data.formats import read_dataset
from medcontext.errors import InputError, unknown_name
from medcontext.experiments import results
from medcontext.experiments.cells import Cell, Conditions, make_cell
from medcontext.experiments.launch import run_local, run_on_cluster, say
from medcontext.experiments.smoke import split_file, write_data
from medcontext.experiments.tables import PAPER, REPRODUCED, STRUCTURES, Entry, Grid, Variant, get_grid, plain
from medcontext.files import write_text


def reproduce(
    tables: Sequence[str],
    output: Path,
    *,
    data: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    only: Sequence[str] = (),
    method: str = "paper",
    scale: Literal["full", "smoke"] = "full",
    steps: int | None = None,
    few_shot: int | None = None,
    settings: Sequence[str] = (),
    launcher: Literal["local", "slurm"] = "local",
    slurm: Sequence[str] = (),
    dry_run: bool = False,
) -> None:
    """Run what is not done yet of the tables' grids, and print the paper's numbers, ours, and the difference.

    Args:
        tables: such as `table1`, or `all`.
        output: the folder of everything; cells that tables have in common are run once.
        data: folders of the data sets, such as `btcv=DIR`.
        seeds: one run of every cell for each.
        only: a part of the grid, such as `model=unetr,swin_unetr` or `medcontext=true`.
        method: of the cells with MedContext.
        scale: `full`, or `smoke` to see that everything runs.
        steps: of every training, instead of the presets'.
        few_shot: training cases, where the table does not say.
        settings: further settings of every training, such as `precision=32`.
        launcher: here, or on a cluster.
        slurm: parameters of the jobs, such as `partition=gpu`.
        dry_run: list the cells and their cost, and run nothing.

    Raises:
        InputError: if anything that the user gave cannot be used; if a cell failed, after all others.
    """
    names = REPRODUCED if "all" in tables else tuple(dict.fromkeys(tables))
    grids = [get_grid(name) for name in names]
    chosen, chosen_seeds = choose(grids, seeds, pairs(only, "--only"))
    variants = list(dict.fromkeys(entry.variant for found in chosen for entry in found if entry.variant))
    if not variants or not chosen_seeds:
        raise InputError(f"Nothing of {', '.join(names)} is left by --only {' '.join(only)}.")
    needed = sorted({variant.dataset for variant in variants})
    folders, splits = find_data(needed, pairs(data, "--data"), output, scale == "smoke", dry_run)
    conditions = Conditions(folders, output, method, scale == "smoke", steps, few_shot, settings, splits)
    cells = {variant: [make_cell(variant, seed, conditions) for seed in chosen_seeds] for variant in variants}
    # Seed by seed: a grid that is stopped early then has some runs for every row.
    unique = {cell.name: cell for of_seed in zip(*cells.values(), strict=True) for cell in of_seed}
    todo = [cell for cell in unique.values() if not cell.is_done()]
    if dry_run:
        console.print(cost_table(list(unique.values()), todo))
        return
    output.mkdir(parents=True, exist_ok=True)
    say(f"{', '.join(names)}: {len(unique)} cell{'s' * (len(unique) != 1)}, {len(unique) - len(todo)} done before")
    failed: dict[str, str] = {}
    if todo and launcher == "local":
        failed = run_local(todo)
    elif todo:
        failed = run_on_cluster(todo, output / "jobs", pairs(slurm, "--slurm"))
    for grid, entries in zip(grids, chosen, strict=True):
        report(grid, entries, cells, conditions, part=bool(only))
    for name, error in failed.items():
        say(f"Failed: {name}: {error}")
    if failed:
        raise InputError(
            f"{len(failed)} of {len(unique)} cells failed, see above and the log.txt in {output / 'cells'}; the same "
            "command runs them again."
        )


def choose(grids: Sequence[Grid], seeds: Sequence[int], filters: dict[str, str]) -> tuple[list[list[Entry]], list[int]]:
    """The numbers of each table, and the seeds, that `--only` leaves.

    Raises:
        InputError: for a filter by something that no row has.
    """
    wanted = {key: value.casefold().split(",") for key, value in filters.items()}
    known = {"seed"}.union(*(entry.facts for grid in grids for entry in grid.entries))
    for key in wanted:
        if key not in known:
            raise unknown_name("key of --only", key, known)

    def fits(facts: Mapping[str, Any]) -> bool:
        return all(str(facts.get(key)).casefold() in values for key, values in wanted.items() if key != "seed")

    left = [seed for seed in dict.fromkeys(seeds) if "seed" not in wanted or str(seed) in wanted["seed"]]
    return [[entry for entry in grid.entries if fits(entry.facts)] for grid in grids], left


def find_data(
    needed: Sequence[str], given: Mapping[str, str], output: Path, smoke: bool, dry_run: bool
) -> tuple[dict[str, Path], dict[str, Path]]:
    """The folder of each data set, and the split files where they are not the presets'.

    At the scale of a smoke test, data is generated.

    Raises:
        InputError: for a data set that is missing or unknown.
    """
    for name in given:
        if name not in STRUCTURES:
            raise unknown_name("data set", name, STRUCTURES)
    if smoke and given:
        raise InputError("--scale smoke generates its data; leave --data out.")
    if smoke:
        folders = {name: output / "data" / name for name in needed}
        if not dry_run:
            for name, folder in folders.items():
                write_data(name, folder)
        return folders, {name: split_file(folder) for name, folder in folders.items()}
    missing = [name for name in needed if name not in given]
    if missing and not dry_run:
        raise InputError(f"Where are the scans? Give --data {' '.join(f'{name}=DIR' for name in missing)}.")
    folders = {name: Path(given[name]) for name in needed if name in given}
    for name, folder in folders.items():
        check_structures(name, folder)
    return folders, {}


def check_structures(name: str, folder: Path) -> None:
    """Refuse a data set that lacks what the tables score, before anything is trained on it.

    Raises:
        InputError: naming what is missing.
    """
    dataset = read_dataset(folder)
    if name.startswith("brats"):  # whose regions are in the presets
        return
    found = {plain(structure) for structure in dataset.structures}
    missing = [structure for structure in STRUCTURES[name] if structure not in found]
    if missing:
        raise InputError(
            f"{folder} has no {', '.join(missing)}, which the tables score on {name}; it has "
            f"{', '.join(dataset.structures)}. Give {name}, or name its structures so."
        )


def cost_table(cells: Sequence[Cell], todo: Sequence[Cell]) -> Table:
    """The cells, and what is left to pay for them."""
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_footer=True)
    costs = {cell.name: cell.settings.steps * cell.cost for cell in todo}
    table.add_column("cell", f"{len(cells)} cells, {len(todo)} to run", overflow="fold")
    footers = {
        "steps": f"{sum(cell.settings.steps for cell in todo):,}",
        "crops": "",
        "cost": f"{sum(costs.values()):,.0f}",
    }
    for heading, footer in footers.items():
        table.add_column(heading, footer, justify="right", no_wrap=True)
    for cell in cells:
        settings = cell.settings
        crop = "auto" if settings.crop_size == "auto" else "x".join(map(str, settings.crop_size))
        cost = f"{costs[cell.name]:,.0f}" if cell.name in costs else "done"
        batch = settings.batch_size * settings.accumulate
        table.add_row(cell.name, f"{settings.steps:,}", f"{batch} of {crop}", cost)
    table.caption = "cost: in steps of the same network's baseline; a backward pass counts as two forward ones"
    table.caption_justify = "left"
    return table


def report(
    grid: Grid, entries: Sequence[Entry], cells: Mapping[Variant, Sequence[Cell]], conditions: Conditions, part: bool
) -> None:
    """Print a table, and write it as Markdown and CSV; a `part` of it not over the whole."""
    if not any(entry.variant for entry in entries):
        return
    measured = results.measure(entries, cells)
    columns, lines = results.lines(measured)
    gained = results.gains(measured)
    notes = remarks(entries, cells, conditions)
    console.print(f"\n[bold]{grid.name}[/]: {grid.title}", highlight=False, soft_wrap=True)
    console.print(results.to_table(columns, lines))
    if gained[1]:
        console.print("What MedContext adds", highlight=False)
        console.print(results.to_table(*gained))
    for note in notes:
        console.print(note, highlight=False, markup=False)
    name = f"{grid.name}-part" if part else grid.name
    files = conditions.output / f"{name}.md", conditions.output / f"{name}.csv"
    write_text(files[0], to_page(grid, measured, notes))
    write_text(files[1], results.to_csv(grid, measured, facts(conditions)))
    say(f"Written: {files[0]}, {files[1]}")


def remarks(entries: Sequence[Entry], cells: Mapping[Variant, Sequence[Cell]], conditions: Conditions) -> list[str]:
    """What one must know to read the numbers."""
    found = [cell for entry in entries if entry.variant for cell in cells[entry.variant]]
    steps = sorted({cell.settings.steps for cell in found})
    counts = " to ".join(f"{count:,}" for count in dict.fromkeys((steps[0], steps[-1])))
    seeds = " ".join(map(str, sorted({cell.seed for cell in found})))
    whose = "given by --steps" if conditions.steps else "a smoke test's" if conditions.smoke else "the presets'"
    notes = [
        "Ours: the paper's conventions (legacy: HD95 in voxels, 0 for an empty mask); standard: a miss costs the worst "
        "score, HD95 in mm.",
        f"Method {conditions.method}, steps {counts} ({whose}), seeds {seeds}.",
    ]
    if conditions.few_shot:
        notes.append(f"Trained on {conditions.few_shot} cases, where the table does not say how many.")
    if conditions.smoke:
        notes.append("Tiny networks on generated scans: these scores show that everything runs, and nothing else.")
    return notes


def facts(conditions: Conditions) -> dict[str, Any]:
    """What all numbers have in common, for the CSV."""
    return {
        "method": conditions.method,
        "scale": "smoke" if conditions.smoke else "full",
        "steps": conditions.steps or "preset",
        "few_shot": conditions.few_shot or "table",
        "settings": " ".join(conditions.settings),
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


def pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """Names and values as they are given on the command line.

    Raises:
        InputError: for one without a value, or a name given twice.

    >>> pairs(["btcv=/scans", "acdc=/hearts"], "--data")
    {'btcv': '/scans', 'acdc': '/hearts'}
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise InputError(f"{option} takes NAME=VALUE, got '{text}'.")
        if name in found:
            raise InputError(f"{option} has '{name}' twice; give it once.")
        found[name] = value
    return found
