"""One cell of a grid: a training with its predictions and scores, in a folder of its own.

```
CELL/settings.yaml    what is to be trained, every setting
CELL/cell.json        on which data, which of its cases for what, and what is to be predicted and scored
CELL/log.txt          what the process prints
CELL/run/             the training run
CELL/predictions/     of one of its parts
CELL/<protocol>/      their scores
```

A table's cell predicts its test cases, and is done when both scores are there: `legacy`, by the paper's conventions,
and `standard`, by ours. A fold (`folds.py`) predicts its validation cases.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import yaml

from medcontext.data.splits import Split
from medcontext.errors import InputError
from medcontext.experiments.conditions import Conditions, cell_settings
from medcontext.experiments.tables import Variant
from medcontext.files import read_json, write_json
from medcontext.settings import Settings

SCORED_BY: tuple[Literal["legacy", "standard"], ...] = ("legacy", "standard")
"""The protocols that a cell is scored by: the paper's, and ours."""

TABULATED = ("dsc", "hd95_pooled")

Means = Mapping[str, Mapping[str, float | None]]
"""The mean of each metric, by structure."""


AnyCell = TypeVar("AnyCell", bound="Cell")


class DamagedCellError(InputError):
    """A cell's folder whose files say no more what its results are of."""


@dataclass(frozen=True)
class Cell(ABC):
    """One training with its predictions.

    Args:
        name: for messages.
        folder: everything of it.
        data: the data set; None where it is not to be run.
        settings: of the training, resolved.
        cache: folder of prepared cases; None for the default.
        split: which cases are for what; None where the data is not there.
        unlabelled: scans without labels that join the training.
        skip_damaged: leave out those that cannot be used.
    """

    name: str
    folder: Path
    data: Path | None
    settings: Settings
    cache: Path | None = None
    split: Split | None = None
    unlabelled: tuple[str, ...] = ()
    skip_damaged: bool = False

    part: ClassVar[Literal["validation", "test"]]
    """Which is predicted."""
    scored_by: ClassVar[Sequence[Literal["legacy", "standard"]]]
    """The protocols by which that is scored."""

    @property
    def cost(self) -> float:
        """Of a step, in steps of the baseline."""
        return self.settings.method.step_cost

    def is_done(self) -> bool:
        """Whether it was run to its end.

        Raises:
            InputError: if its folder holds the results of other settings, data or cases.
            DamagedCellError: if one cannot tell.
        """
        self.check_same()
        return self.has_results()

    @abstractmethod
    def has_results(self) -> bool:
        """Whether all is there that a cell is run for."""

    def check_same(self) -> None:
        """Refuse a folder that holds another cell. One that came to nothing before its training holds none.

        Raises:
            InputError: naming what differs.
            DamagedCellError: if the files that say it are damaged.
        """
        results = [
            self.folder / "run" / "settings.yaml",
            *(self.folder / name / "summary.json" for name in self.scored_by),
        ]
        if not any(path.is_file() for path in results):
            return
        try:
            changes = self._changes()
        except (InputError, KeyError, TypeError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}".removesuffix(" Correct the file.")
            raise DamagedCellError(
                f"settings.yaml or cell.json in {self.folder} is damaged, so nobody knows what its results are of. "
                f"Delete that folder; the same command then runs it anew. ({reason})"
            ) from error
        if changes:
            raise InputError(
                f"{self.folder} holds results of other settings: {'; '.join(changes)}. Give the same ones, choose "
                "another --output, or delete that folder."
            )

    def _changes(self) -> list[str]:
        """What differs between what the folder holds and this cell."""
        from medcontext.training.changes import FREE

        saved, record = Settings.read(self.folder / "settings.yaml"), read_json(self.folder / "cell.json")
        changes = [
            f"{name} was {getattr(saved, name)}, now {value}"
            for name, value in vars(self.settings).items()
            if name not in FREE and getattr(saved, name) != value
        ]
        written = yaml.safe_load((self.folder / "settings.yaml").read_text(encoding="utf-8"))
        cut = [entry.name for entry in fields(Settings) if entry.name not in written]
        if changes and cut:
            raise InputError(f"settings.yaml lacks {', '.join(cut)}")
        if self.data is not None and record["data"] != str(self.data.resolve()):
            changes.append(f"the data were {record['data']}, now {self.data.resolve()}")
        if self.split is not None and record.get("split") is not None:
            now = self.split.to_dict()
            others = [f"{len(record['split'][part])} {part}" for part in now if record["split"][part] != now[part]]
            changes += [f"the split's {' and '.join(others)} cases were not all those of now"] if others else []
        scans = record.get("unlabelled", [])
        if scans != list(self.unlabelled):
            changes.append(
                f"--unlabelled was {' '.join(scans) or 'nothing'}, now {' '.join(self.unlabelled) or 'nothing'}"
            )
        return changes

    def write(self) -> None:
        """Write down what is to be run."""
        assert self.data is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        record: dict[str, Any] = {
            "name": self.name,
            "data": str(self.data.resolve()),
            "split": None if self.split is None else self.split.to_dict(),
            "unlabelled": list(self.unlabelled),
            "skip_damaged": self.skip_damaged,
            "cache": None if self.cache is None else str(self.cache),
            "part": self.part,
            "scored_by": list(self.scored_by),
        }
        write_json(self.folder / "cell.json", record)
        self.settings.write(self.folder / "settings.yaml")


@dataclass(frozen=True, kw_only=True)
class TableCell(Cell):
    """One of a table's; its name says all that tells it from the others, and is its folder's.

    Args:
        variant: of the table.
        seed: of the training.
    """

    variant: Variant
    seed: int

    part = "test"
    scored_by = SCORED_BY

    def has_results(self) -> bool:
        return all(self.scores(protocol) for protocol in self.scored_by)

    def scores(self, protocol: str) -> Means | None:
        """What was measured; None where nothing was yet, or the file is damaged, and is to be made again."""
        try:
            structures = read_json(self.folder / protocol / "summary.json")["structures"]
            means = {name: {key: scores[key]["mean"] for key in TABULATED} for name, scores in structures.items()}
        except (InputError, KeyError, TypeError, AttributeError):
            return None
        return means or None


def make_cell(variant: Variant, seed: int, conditions: Conditions) -> TableCell:
    """The cell of a variant and a seed.

    Raises:
        InputError: if a setting cannot be used.
    """
    settings = cell_settings(variant, seed, conditions)
    cases = conditions.cases(variant)
    parts = [variant.preset, Path(conditions.method).stem if variant.medcontext else "none"]
    parts += [f"{key.rpartition('.')[2]}={str(value).lower()}" for key, value in conditions.changes(variant)]
    parts += [] if cases is None else [f"{cases}cases"]
    name = "-".join([*parts, f"seed{seed}"])
    root = conditions.output.resolve()
    return TableCell(
        name,
        root / "cells" / name,
        conditions.data.get(variant.dataset),
        settings,
        cache=root / "cache",
        variant=variant,
        seed=seed,
    )


def sort_out(cells: Sequence[AnyCell]) -> tuple[list[AnyCell], dict[str, str]]:
    """The cells that are to be run, and why some cannot be, by name.

    Raises:
        InputError: if a folder holds the results of other settings.
    """
    todo, damaged = [], {}
    for cell in cells:
        try:
            if not cell.is_done():
                todo.append(cell)
        except DamagedCellError as error:
            damaged[cell.name] = str(error)
    return todo, damaged
