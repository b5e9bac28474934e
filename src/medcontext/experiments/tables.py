"""The paper's tables as grids: which run gives which number. Pure data; nothing is run here."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medcontext.data.known import KNOWN
from medcontext.errors import InputError, unknown_name

PAPER: dict[str, Any] = json.loads((Path(__file__).parent / "paper.json").read_text(encoding="utf-8"))

REPRODUCED = ("table1", "table2", "table3", "table4", "table6", "table7", "table8", "table9")
"""Table 5 compares with SimCLR, MAE and SimMIM, which need a pretraining on other data."""

MODELS = {"unetr": "UNETR", "swin_unetr": "Swin UNETR", "nnformer": "nnFormer", "pcrlv2": "PCRLv2"}

ROW_KEYS = ("model", "medcontext", "pretrained", "msl", "cl", "mask_ratio", "student_teacher")
"""What tells a table's rows apart; everything else in a row is a number."""


@dataclass(frozen=True)
class Variant:
    """What is trained, but for the seed.

    Args:
        dataset: one of `KNOWN`.
        model: the network's name; with the data set it names the preset.
        medcontext: else the baseline.
        overrides: settings that differ from the method's, such as `("method.mask.ratio", 0.3)`.
        few_shot: training cases, None for all.
    """

    dataset: str
    model: str
    medcontext: bool
    overrides: tuple[tuple[str, Any], ...] = ()
    few_shot: int | None = None

    @property
    def preset(self) -> str:
        return f"{self.dataset}_{self.model}"


@dataclass(frozen=True)
class Entry:
    """One number of a table.

    Args:
        row: what tells its row apart, such as `{"model": "unetr", "medcontext": True}`.
        column: as in `paper.json`.
        paper: the paper's number, in per cent or voxels.
        variant: what to train for it; None where that needs a pretraining.
        structure: whose score; None for the mean over all that are scored.
        metric: `dsc` or `hd95`.
    """

    row: Mapping[str, Any]
    column: str
    paper: float
    variant: Variant | None
    structure: str | None = None
    metric: str = "dsc"

    @property
    def facts(self) -> dict[str, Any]:
        """What `--only` can choose by, without the seed."""
        if self.variant is None:
            return dict(self.row)
        found = {"dataset": self.variant.dataset, "model": self.variant.model, "medcontext": self.variant.medcontext}
        return found | dict(self.row)


@dataclass(frozen=True)
class Grid:
    """A table.

    Args:
        name: `table1` and so on.
        title: the paper's, in short.
        entries: row by row.
    """

    name: str
    title: str
    entries: tuple[Entry, ...]


def get_grid(name: str) -> Grid:
    """A table of the paper.

    Raises:
        InputError: for a table that is not reproduced.

    >>> grid = get_grid("table8")
    >>> grid.entries[0].variant
    Variant(dataset='btcv', model='unetr', medcontext=True, overrides=(('method.mask.ratio', 0.3),), few_shot=None)
    """
    if name == "table5":
        raise InputError("Table 5 is of SimCLR, MAE and SimMIM, which need a pretraining; it is not reproduced.")
    if name not in REPRODUCED:
        raise unknown_name("table", name, REPRODUCED)
    table = PAPER["tables"][name]
    entries = [entry for row in table["rows"] for entry in _entries(name, table.get("dataset"), row)]
    return Grid(name, table["title"], tuple(entries))


def row_label(row: Mapping[str, Any]) -> str:
    """A row as a person calls it.

    >>> row_label({"model": "unetr", "medcontext": True}), row_label({"msl": True, "cl": False})
    ('UNETR + MedContext', 'MSL')
    """
    parts = [MODELS[row["model"]]] if "model" in row else []
    parts += ["MedContext"] if row.get("medcontext") else []
    parts += [name.upper() for name in ("msl", "cl") if row.get(name)]
    label = " + ".join(parts)
    if row.get("pretrained"):
        label += ", pretrained"
    if "student_teacher" in row:
        label += ", teacher" if row["student_teacher"] else ", no teacher"
    return f"mask ratio {row['mask_ratio']}" if "mask_ratio" in row else label


def plain(name: str) -> str:
    """A structure's name, however it is written.

    >>> plain("Right kidney"), plain("right-kidney")
    ('right_kidney', 'right_kidney')
    """
    return "_".join(name.casefold().replace("-", " ").replace("_", " ").split())


def _entries(table: str, dataset: Any, numbers: Mapping[str, Any]) -> Iterator[Entry]:
    """The numbers of one row. A column is a structure, a data set (Tables 4 and 6) or a network (7 and 8)."""
    row = {key: value for key, value in numbers.items() if key in ROW_KEYS}
    overrides = _overrides(row)
    for column, paper in numbers.items():
        if column in ROW_KEYS:
            continue
        model = column if column in MODELS else row["model"]
        place = column if column in KNOWN else dataset
        place = place[model] if isinstance(place, dict) else place
        variant = None
        if not row.get("pretrained"):
            few_shot = 5 if table == "table4" else None
            variant = Variant(place, model, row.get("medcontext", True), overrides, few_shot)
        structure = column if column in KNOWN[place].scored else None
        yield Entry(row, column, paper, variant, structure, "hd95" if column == "hd95" else "dsc")


def _overrides(row: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    found: dict[str, Any] = {}
    if row.get("msl") is False:
        found["method.masked_loss"] = False
    if row.get("cl") is False:
        found["method.consistency"] = "none"
    if "mask_ratio" in row:
        found["method.mask.ratio"] = row["mask_ratio"]
    if row.get("student_teacher") is False:
        found["method.target"] = "student"
    return tuple(found.items())
