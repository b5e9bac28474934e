"""`medcontext reproduce`: run the grids of the paper's tables, and print the paper's numbers with ours."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal

from rich import box
from rich.table import Table

from medcontext.console import console
from medcontext.data.formats import read_dataset
from medcontext.errors import counted
from medcontext.experiments.cells import Cell, TableCell, make_cell, sort_out
from medcontext.experiments.checks import check_kind, check_networks, divide, find_data
from medcontext.experiments.conditions import Conditions, check_rows
from medcontext.experiments.launch import job_parameters, report_failures, run_cells, say
from medcontext.experiments.only import choose, pairs
from medcontext.experiments.smoke import split_file, write_data
from medcontext.experiments.tables import REPRODUCED, get_grid
from medcontext.experiments.write import write_table
from medcontext.files import AnyPath


def reproduce(
    tables: Sequence[str],
    output: AnyPath,
    *,
    data: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    only: Sequence[str] = (),
    method: str = "paper",
    scale: Literal["full", "smoke"] = "full",
    steps: int | None = None,
    few_shot: int | None = None,
    set: Sequence[str] = (),
    launcher: Literal["local", "slurm"] = "local",
    slurm: Sequence[str] = (),
    dry_run: bool = False,
) -> None:
    """Run the grid of one of the paper's tables, and print the paper's numbers, ours, and the difference.

    What is done already is not run again.

    Args:
        tables: table1, 2, 3, 4, 6, 7, 8, 9, or all
        output: folder of everything; what is done there is not run again, cells that tables have in common are run once
        data: data sets: btcv=DIR acdc=DIR brats21=DIR ...
        seeds: one run of every cell for each
        only: a part: model=unetr,nnformer medcontext=yes ...
        method: of the cells with MedContext: paper, medcontext, reference, or a YAML file
        scale: full, or smoke: tiny networks on generated scans
        steps: of every training, instead of the presets'
        few_shot: training cases, where the table does not say
        set: settings of every training, or of one data set's: precision=32 acdc:split=FILE
            acdc:prepare.spacing=original ...
        launcher: here, one after the other, or as jobs on a cluster
        slurm: of those jobs: partition=gpu timeout_min=600 ...
        dry_run: list the cells and their cost, and run nothing

    Raises:
        InputError: if anything that the user gave cannot be used, before anything is run; if a cell failed, after all
            others.
    """
    root, smoke = Path(output).resolve(), scale == "smoke"
    jobs = job_parameters(launcher, slurm, dry_run)
    names = REPRODUCED if "all" in tables else tuple(dict.fromkeys(tables))
    selection = choose([get_grid(name) for name in names], seeds, pairs(only, "--only"))
    variants = list(dict.fromkeys(entry.variant for found in selection.entries for entry in found if entry.variant))
    needed = sorted({variant.dataset for variant in variants})
    folders = find_data(needed, pairs(data, "--data"), root, smoke, dry_run)
    splits = {name: split_file(folder) for name, folder in folders.items()} if smoke else {}
    conditions = Conditions(folders, root, method, smoke, steps, few_shot, set, splits)
    check_rows(chain(*selection.entries), method)
    planned = {variant: [make_cell(variant, seed, conditions) for seed in selection.seeds] for variant in variants}
    # Seed by seed: a grid that is stopped early then has some runs for every row.
    cells = check(chain(*zip(*planned.values(), strict=True)), conditions, dry_run)
    todo, damaged = sort_out(list(cells.values()))
    failed = dict(damaged)
    if dry_run:
        console.print(cost_table(list(cells.values()), todo, damaged))
    else:
        root.mkdir(parents=True, exist_ok=True)
        say(f"{', '.join(names)}: {counted(len(cells), 'cell')}, {len(cells) - len(todo) - len(damaged)} done before")
        failed |= run_cells(todo, root / "jobs", jobs)
        sound = {
            variant: [cells[cell.name] for cell in found if cell.name not in damaged]
            for variant, found in planned.items()
        }
        for name, entries in zip(names, selection.entries, strict=True):
            write_table(get_grid(name), entries, sound, conditions, selection)
    report_failures(failed, counted(len(cells), "cell"), root / "cells")


def check(cells: Iterable[TableCell], conditions: Conditions, dry_run: bool) -> dict[str, TableCell]:
    """The cells by name, with their splits, when all that can be found wrong beforehand is right.

    Raises:
        InputError: naming what is wrong.
    """
    unique = list({cell.name: cell for cell in cells}.values())
    check_networks(unique)
    if conditions.smoke and not dry_run:
        for name, folder in conditions.data.items():
            write_data(name, folder)
    there = {name: folder for name, folder in conditions.data.items() if folder.is_dir() or not conditions.smoke}
    datasets = {name: read_dataset(folder) for name, folder in there.items()}
    for name, dataset in datasets.items():
        check_kind(name, dataset)
    return {cell.name: cell for cell in divide(unique, datasets)}


def cost_table(cells: Sequence[Cell], todo: Sequence[Cell], damaged: Mapping[str, str]) -> Table:
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
        left = "damaged" if cell.name in damaged else "done"
        cost = f"{costs[cell.name]:,.0f}" if cell.name in costs else left
        batch = settings.batch_size * settings.accumulate
        table.add_row(cell.name, f"{settings.steps:,}", f"{batch} of {crop}", cost)
    table.caption = "cost: in steps of the same network's baseline; a backward pass counts as two forward ones"
    table.caption_justify = "left"
    return table
