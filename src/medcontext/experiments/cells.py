"""One cell of a grid, in a folder of its own: a training with its predictions and scores, or a pretraining.

```
CELL/settings.yaml    what is to be trained, every setting
CELL/cell.json        on which data, which of its cases for what, and what is to be predicted and scored
CELL/log.txt          what the process prints
CELL/run/             the training run
CELL/predictions/     of one of its parts
CELL/<protocol>/      their scores
```

A table's cell predicts its test cases, and is done when both scores are there: `legacy`, by the paper's conventions,
and `standard`, by ours. A fold (`folds.py`) predicts its validation cases. A pretraining (`pretrainings.py`) predicts
nothing; the cells that start from it come after it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import yaml

from medcontext.configuration import plain
from medcontext.data.splits import Split
from medcontext.errors import InputError
from medcontext.experiments.conditions import Conditions, cell_settings
from medcontext.experiments.tables import Variant
from medcontext.files import read_json, write_json
from medcontext.settings import Settings, TrainingSettings

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
    """One training, with labels or without.

    Args:
        name: for messages.
        folder: everything of it.
        data: the scans; None where it is not to be run.
        settings: of the training, resolved.
        cache: folder of prepared cases; None for the default.
        after: the pretraining that it starts from, which must be done before.
    """

    name: str
    folder: Path
    data: Path | None
    settings: TrainingSettings
    cache: Path | None = None
    after: "Cell | None" = field(default=None, kw_only=True)

    @property
    @abstractmethod
    def cost(self) -> float:
        """Of a step, in steps of the baseline."""

    @property
    @abstractmethod
    def results(self) -> list[Path]:
        """Files of which any shows that the folder holds results."""

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
        if not any(path.is_file() for path in self.results):
            return
        try:
            changes = self._changes(read_json(self.folder / "cell.json"))
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

    def _changes(self, record: Mapping[str, Any]) -> list[str]:
        """What differs between what the folder holds, by its cell.json, and this cell."""
        from medcontext.training.changes import FREE

        saved = self.settings.read(self.folder / "settings.yaml")
        changes = [
            f"{name} was {getattr(saved, name)}, now {value}"
            for name, value in vars(self.settings).items()
            if name not in FREE and getattr(saved, name) != value
        ]
        written = yaml.safe_load((self.folder / "settings.yaml").read_text(encoding="utf-8"))
        cut = [entry.name for entry in fields(self.settings) if entry.name not in written]
        if changes and cut:
            raise InputError(f"settings.yaml lacks {', '.join(cut)}")
        if self.data is not None and record["data"] != str(self.data.resolve()):
            changes.append(f"the data were {record['data']}, now {self.data.resolve()}")
        return changes

    def write(self) -> None:
        """Write down what is to be run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "cell.json", self.record())
        self.settings.write(self.folder / "settings.yaml")

    def record(self) -> dict[str, Any]:
        """What is to be run, but for the settings."""
        assert self.data is not None
        cache = None if self.cache is None else str(self.cache)
        return {"name": self.name, "data": str(self.data.resolve()), "cache": cache}


@dataclass(frozen=True)
class TrainingCell(Cell):
    """One training with its predictions.

    Args:
        split: which cases are for what; None where the data is not there.
        unlabelled: scans without labels that join the training.
        series: which are meant, of DICOM folders among them with several.
        skip_damaged: leave out those that cannot be used.
    """

    settings: Settings
    split: Split | None = None
    unlabelled: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    skip_damaged: bool = False

    part: ClassVar[Literal["validation", "test"]]
    """Which is predicted."""
    scored_by: ClassVar[Sequence[Literal["legacy", "standard"]]]
    """The protocols by which that is scored."""

    @property
    def cost(self) -> float:
        return self.settings.method.step_cost

    @property
    def results(self) -> list[Path]:
        return [
            self.folder / "run" / "settings.yaml",
            *(self.folder / name / "summary.json" for name in self.scored_by),
        ]

    @property
    def start(self) -> dict[str, Any] | None:
        """The pretraining that it starts from: its folder, and what it was pretrained with."""
        from medcontext.training.changes import FREE

        if self.after is None:
            return None
        settings = {name: value for name, value in plain(asdict(self.after.settings)).items() if name not in FREE}
        return {"run": str(self.after.folder / "run"), "data": self.after.record()["data"], "settings": settings}

    def _changes(self, record: Mapping[str, Any]) -> list[str]:
        changes = super()._changes(record)
        if self.split is not None and record.get("split") is not None:
            now = self.split.to_dict()
            others = [f"{len(record['split'][part])} {part}" for part in now if record["split"][part] != now[part]]
            changes += [f"the split's {' and '.join(others)} cases were not all those of now"] if others else []
        for name, given in (("unlabelled", self.unlabelled), ("series", self.series)):
            before = record.get(name, [])
            if before != list(given):
                changes.append(f"--{name} was {' '.join(before) or 'nothing'}, now {' '.join(given) or 'nothing'}")
        if self.after is not None and self.after.data is not None and record["start"] != self.start:
            changes.append(f"it started from another pretraining than {self.after.name} would now be")
        return changes

    def record(self) -> dict[str, Any]:
        return {
            **super().record(),
            "split": None if self.split is None else self.split.to_dict(),
            "unlabelled": list(self.unlabelled),
            "series": list(self.series),
            "skip_damaged": self.skip_damaged,
            "part": self.part,
            "scored_by": list(self.scored_by),
            "start": self.start,
        }


@dataclass(frozen=True, kw_only=True)
class TableCell(TrainingCell):
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
    """The cell of a variant and a seed, without the pretraining that it comes after.

    Raises:
        InputError: if a setting cannot be used.
    """
    settings = cell_settings(variant, seed, conditions)
    cases = conditions.cases(variant)
    parts = [variant.preset, Path(conditions.method).stem if variant.medcontext else "none"]
    parts += [f"{variant.objective}-{conditions.source(variant)}"] if variant.objective else []
    parts += [f"{key.rpartition('.')[2]}={str(value).lower()}" for key, value in conditions.changes(variant)]
    parts += [] if cases is None else [f"{cases}cases"]
    name = "-".join([*parts, f"seed{seed}"])
    root = conditions.output.resolve()
    return TableCell(
        name,
        root / "cells" / name,
        conditions.data.get(variant.split),
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
