"""`medcontext reproduce`: run the grids of the paper's tables, and print the paper's numbers with ours."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal

from rich import box
from rich.table import Table

from medcontext.console import console
from medcontext.data.formats import read_dataset
from medcontext.data.known import KNOWN, SPLITS
from medcontext.errors import counted
from medcontext.experiments.cells import Cell, TableCell, make_cell, sort_out
from medcontext.experiments.checks import (
    check_kind,
    check_networks,
    check_pretrainings,
    divide,
    find_corpora,
    find_data,
)
from medcontext.experiments.conditions import Conditions, check_rows
from medcontext.experiments.launch import job_parameters, report_failures, run_cells, say
from medcontext.experiments.only import choose, pairs
from medcontext.experiments.pretrainings import add_pretrainings, in_order, pretrainings
from medcontext.experiments.smoke import split_file, write_data
from medcontext.experiments.tables import CORPORA, TABLES, Entry, get_grid
from medcontext.experiments.write import write_table
from medcontext.files import AnyPath


def reproduce(
    tables: Sequence[str],
    output: AnyPath,
    *,
    data: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    pretrain_on: Literal["corpus", "train"] = "corpus",
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
        tables: table1 to table9, or all
        output: folder of everything; what is done there is not run again, cells that tables have in common are run once
        data: data sets: btcv=DIR acdc=DIR brats21=DIR ..., and folders of scans to be pretrained on: covid19=DIR for
            table5, luna16=DIR for table6
        seeds: one run of every cell for each
        pretrain_on: covid19 and luna16 of --data (corpus), or the training cases of the table's own data set, without
            their labels (train)
        only: a part: model=unetr,nnformer medcontext=yes ...
        method: of the cells with MedContext: paper, medcontext, reference, or a YAML file
        scale: full, or smoke: tiny networks on generated scans
        steps: of every training and pretraining, instead of the presets'
        few_shot: training cases, where the table does not say
        set: settings of every training, or of one data set's: precision=32 acdc:split=FILE
            acdc:prepare.spacing=original ..., and of every pretraining: pretrain:batch_size=8
        launcher: here, one after the other, or as jobs on a cluster
        slurm: of those jobs: partition=gpu timeout_min=600 ...
        dry_run: list the cells and their cost, and run nothing

    Raises:
        InputError: if anything that the user gave cannot be used, before anything is run; if a cell failed, after all
            others.
    """
    root, smoke = Path(output).resolve(), scale == "smoke"
    jobs = job_parameters(launcher, slurm, dry_run)
    names = TABLES if "all" in tables else tuple(dict.fromkeys(tables))
    selection = choose([get_grid(name) for name in names], seeds, pairs(only, "--only"))
    entries = list(chain(*selection.entries))
    variants = list(dict.fromkeys(entry.variant for entry in entries))
    given, place = pairs(data, "--data"), "train" if smoke else pretrain_on
    folders = find_data(sorted({variant.split for variant in variants}), given, root, smoke, dry_run)
    splits = {name: split_file(folder) for name, folder in folders.items() if name in KNOWN} if smoke else {}
    corpora = sorted({CORPORA[variant.objective] for variant in variants if variant.objective})
    folders |= find_corpora(corpora, given, place, dry_run)
    conditions = Conditions(folders, root, method, smoke, steps, few_shot, set, splits, place)
    check_rows(entries, method)
    planned = {variant: [make_cell(variant, seed, conditions) for seed in selection.seeds] for variant in variants}
    # Seed by seed: a grid that is stopped early then has some runs for every row.
    cells = check(chain(*zip(*planned.values(), strict=True)), entries, conditions, dry_run)
    todo, unsound = sort_all(list(cells.values()))
    failed = dict(unsound)
    every = in_order(list(cells.values()), pretrainings(cells.values()))
    if dry_run:
        console.print(cost_table(every, todo, failed))
    else:
        root.mkdir(parents=True, exist_ok=True)
        say(f"{', '.join(names)}: {counted(len(every), 'cell')}, {len(every) - len(todo) - len(failed)} done before")
        failed |= run_cells(todo, root / "jobs", jobs)
        sound = {
            variant: [cells[cell.name] for cell in found if cell.name not in unsound]
            for variant, found in planned.items()
        }
        for name, chosen in zip(names, selection.entries, strict=True):
            write_table(get_grid(name), chosen, sound, conditions, selection)
    report_failures(failed, counted(len(every), "cell"), root / "cells")


def sort_all(cells: Sequence[TableCell]) -> tuple[list[Cell], dict[str, str]]:
    """What is to be run, pretrainings before the cells that come after them, and why some cannot be, by name.

    A pretraining that only finished cells came after is not run again.

    Raises:
        InputError: if a folder holds the results of other settings.
    """
    todo, damaged = sort_out(cells)
    before, unsound = sort_out(pretrainings(todo))
    lost = {
        cell.name: f"It starts from {cell.after.name}, which is damaged."
        for cell in todo
        if cell.after is not None and cell.after.name in unsound
    }
    return in_order([cell for cell in todo if cell.name not in lost], before), {**damaged, **unsound, **lost}


def check(
    cells: Iterable[TableCell], entries: Iterable[Entry], conditions: Conditions, dry_run: bool
) -> dict[str, TableCell]:
    """The cells by name, with their splits, when all that can be found wrong beforehand is right.

    Raises:
        InputError: naming what is wrong.
    """
    unique = list({cell.name: cell for cell in cells}.values())
    unique = add_pretrainings(unique, conditions)
    check_networks(unique)
    check_pretrainings(unique)
    folders = {name: folder for name, folder in conditions.data.items() if name in SPLITS}
    if conditions.smoke and not dry_run:
        for name, folder in folders.items():
            write_data(name, folder)
    there = {name: folder for name, folder in folders.items() if folder.is_dir() or not conditions.smoke}
    datasets = {name: read_dataset(folder) for name, folder in there.items()}
    for name, dataset in datasets.items():
        scored = dict.fromkeys(chain(*(entry.scored for entry in entries if entry.variant.split == name)))
        check_kind(SPLITS[name], dataset, scored)
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
    table.caption = (
        "cost: in steps of the same network's baseline; a backward pass counts as two forward ones, a pretraining's "
        "step as the voxels that its encoder sees"
    )
    table.caption_justify = "left"
    return table
