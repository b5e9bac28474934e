"""Pretrainings as cells: each is run once, before the cells of all tables that start from it.

```
CELL/settings.yaml    what is to be pretrained, every setting
CELL/cell.json        on which scans
CELL/log.txt          what the process prints
CELL/run/             the pretraining, which `medcontext train --init` takes
```
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from medcontext.errors import InputError
from medcontext.experiments.cells import Cell, TableCell
from medcontext.experiments.conditions import PRETRAIN, Conditions
from medcontext.experiments.smoke import SMALL_PRETRAINING
from medcontext.files import read_json
from medcontext.pretrain_settings import PretrainSettings
from medcontext.settings import TrainingSettings

PRESETS = {"mae": "btcv_mae", "simmim": "btcv_simmim", "simclr": "btcv_simclr", "pcrlv2": "luna16_pcrlv2"}
"""Of each objective."""

MACHINE = ("workers", "precision", "accelerator", "devices", "nodes", "loggers")
"""Settings that say where and how something is run."""


@dataclass(frozen=True, kw_only=True)
class PretrainingCell(Cell):
    """One pretraining.

    Args:
        source: on which scans: a corpus, or the training cases of a split.
        baseline: voxels that a step sees of the baseline of the cells that come after it.
    """

    settings: PretrainSettings
    source: str
    baseline: int

    @property
    def cost(self) -> float:
        return voxels_seen(self.settings) / self.baseline

    @property
    def results(self) -> list[Path]:
        return [self.folder / "run" / name for name in ("settings.yaml", "pretraining.json")]

    def has_results(self) -> bool:
        return is_finished(self.folder / "run", self.settings.steps)

    def record(self) -> dict[str, Any]:
        return {**super().record(), "pretraining": True}


def is_finished(run: Path, steps: int) -> bool:
    """Whether a pretraining's folder holds one that made so many steps."""
    try:
        return int(read_json(run / "pretraining.json")["step"]) >= steps
    except (InputError, KeyError, TypeError):
        return False


def add_pretrainings(cells: Iterable[TableCell], conditions: Conditions) -> list[TableCell]:
    """The same cells, after their pretrainings where they have one; cells that need the same one share it.

    Raises:
        InputError: if a setting cannot be used, or such cells do not agree on it.
    """
    made: dict[str, PretrainingCell] = {}
    found: list[TableCell] = []
    for cell in cells:
        if cell.variant.objective:
            own = make_pretraining(cell, conditions)
            shared = made.setdefault(own.name, own)
            if own.settings != shared.settings:
                names = [name for name, value in vars(own.settings).items() if value != getattr(shared.settings, name)]
                raise InputError(
                    f"{own.name} is one pretraining for several data sets, but --set gives them different "
                    f"{', '.join(names)}. Give these for all alike, without DATASET: before them, or give "
                    "--pretrain_on train."
                )
            cell = replace(cell, after=shared)
        found.append(cell)
    return found


def pretrainings(cells: Iterable[Cell]) -> list[Cell]:
    """Those that these cells come after, each once."""
    return list({cell.after.name: cell.after for cell in cells if cell.after is not None}.values())


def in_order(cells: Sequence[Cell], before: Sequence[Cell]) -> list[Cell]:
    """Cells to be run, each pretraining right before the first that comes after it."""
    waiting = {cell.name: cell for cell in before}
    ordered: list[Cell] = []
    for cell in cells:
        first = waiting.pop(cell.after.name, None) if cell.after is not None else None
        ordered += [cell] if first is None else [first, cell]
    return ordered


def make_pretraining(cell: TableCell, conditions: Conditions) -> PretrainingCell:
    """The pretraining that a cell comes after.

    Raises:
        InputError: if a setting cannot be used.
    """
    source = conditions.source(cell.variant)
    name = f"pretrain-{cell.variant.objective}-{source}-seed{cell.seed}"
    root = conditions.output.resolve()
    settings = cell_pretraining(cell, conditions)
    return PretrainingCell(
        name=name,
        folder=root / "cells" / name,
        data=conditions.data.get(source),
        settings=settings,
        cache=root / "cache",
        source=source,
        baseline=cell.settings.batch_size * cell.settings.accumulate * voxels(cell.settings),
    )


def cell_pretraining(cell: TableCell, conditions: Conditions) -> PretrainSettings:
    """Every setting of the pretraining that a cell comes after.

    The network is the cell's, and it is run as the cell is, on images that are prepared alike. But LUNA16's are as its
    preset says, and PCRLv2's views are cut from crops of their own.

    Raises:
        InputError: if a setting cannot be used.
    """
    variant, tuned, source = cell.variant, cell.settings, conditions.source(cell.variant)
    small = SMALL_PRETRAINING[str(variant.objective)] if conditions.smoke else {}
    values: dict[str, Any] = {"seed": cell.seed, **small}
    values |= {} if conditions.steps is None else {"steps": conditions.steps}
    values |= {name: getattr(tuned, name) for name in ("network_args", *MACHINE)}
    if conditions.pretrain_on == "train":
        values |= {"fold": tuned.fold, **({"split": tuned.split} if tuned.split else {})}
    values |= {"crop_size": tuned.crop_size} if variant.model == "unetr" else {}
    values |= {} if source == "luna16" else {"prepare": asdict(tuned.prepare)}
    values |= {item.key: item.value for item in conditions.assignments if item.dataset == PRETRAIN}
    return PretrainSettings.preset(PRESETS[str(variant.objective)], **values)


def voxels(settings: TrainingSettings) -> int:
    """How many a crop has."""
    from medcontext.listing import CROP

    return math.prod(CROP if settings.crop_size == "auto" else settings.crop_size)


def voxels_seen(settings: PretrainSettings) -> float:
    """How many the encoder sees in a step: of MAE only those that are not hidden, of others those of all views."""
    crop, pcrlv2 = voxels(settings), settings.pcrlv2
    views = 2 * math.prod(pcrlv2.global_size) + pcrlv2.local_views * math.prod(pcrlv2.local_size)
    seen = {"mae": crop * (1 - settings.mae.ratio), "simmim": crop, "simclr": 2 * crop, "pcrlv2": views}
    return settings.batch_size * settings.accumulate * seen[str(settings.objective)]
