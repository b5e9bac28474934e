"""The paper's tables as grids: which run gives which number. Pure data; nothing is run here."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medcontext.data.known import KNOWN
from medcontext.errors import unknown_name

PAPER: dict[str, Any] = json.loads((Path(__file__).parent / "paper.json").read_text(encoding="utf-8"))

TABLES = tuple(PAPER["tables"])

MODELS = {"unetr": "UNETR", "swin_unetr": "Swin UNETR", "nnformer": "nnFormer", "pcrlv2": "PCRLv2"}

METHODS = {"baseline": "Baseline", "simclr": "SimCLR", "mae": "MAE", "simmim": "SimMIM", "medcontext": "MedContext"}
"""Table 5's rows, all of UNETR."""

CORPORA = {"mae": "covid19", "simmim": "covid19", "simclr": "covid19", "pcrlv2": "luna16"}
"""On which scans the paper pretrains with which objective."""

ROW_KEYS = ("model", "method", "medcontext", "pretrained", "msl", "cl", "mask_ratio", "student_teacher")
"""What tells a table's rows apart; everything else in a row is a number."""


@dataclass(frozen=True)
class Variant:
    """What is trained, but for the seed.

    Args:
        dataset: one of `KNOWN`.
        model: the network's name; with the split it names the preset.
        medcontext: else the baseline.
        overrides: settings that differ from the method's, such as `("method.mask.ratio", 0.3)`.
        few_shot: training cases, None for all.
        objective: of the pretraining that it starts from; None for a random start.
        other_split: a packaged split that is not the data set's own.
    """

    dataset: str
    model: str
    medcontext: bool
    overrides: tuple[tuple[str, Any], ...] = ()
    few_shot: int | None = None
    objective: str | None = None
    other_split: str | None = None

    @property
    def split(self) -> str:
        """One of `medcontext.data.known.SPLITS`."""
        return self.other_split or self.dataset

    @property
    def preset(self) -> str:
        return f"{self.split}_{self.model}"


@dataclass(frozen=True)
class Entry:
    """One number of a table.

    Args:
        row: what tells its row apart, such as `{"model": "unetr", "medcontext": True}`.
        column: as in `paper.json`.
        paper: the paper's number, in per cent or voxels.
        variant: what to train for it.
        structure: whose score; None for the mean over all that are scored.
        metric: `dsc` or `hd95`.
        scored: the structures that the table scores.
    """

    row: Mapping[str, Any]
    column: str
    paper: float
    variant: Variant
    structure: str | None = None
    metric: str = "dsc"
    scored: tuple[str, ...] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """What `--only` can choose by, without the seed."""
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
        InputError: for a table that it does not have.

    >>> grid = get_grid("table8")
    >>> grid.entries[0].variant
    Variant(dataset='btcv', model='unetr', medcontext=True, overrides=(('method.mask.ratio', 0.3),), few_shot=None, ...)
    """
    if name not in TABLES:
        raise unknown_name("table", name, TABLES)
    table = PAPER["tables"][name]
    entries = [entry for row in table["rows"] for entry in _entries(name, table.get("dataset"), row)]
    return Grid(name, table["title"], tuple(entries))


def row_label(row: Mapping[str, Any]) -> str:
    """A row as a person calls it.

    >>> row_label({"model": "unetr", "medcontext": True}), row_label({"msl": True, "cl": False})
    ('UNETR + MedContext', 'MSL')
    """
    parts = [MODELS[row["model"]]] if "model" in row else []
    parts += [METHODS[row["method"]]] if "method" in row else []
    parts += ["MedContext"] if row.get("medcontext") else []
    parts += [name.upper() for name in ("msl", "cl") if row.get(name)]
    label = " + ".join(parts)
    if row.get("pretrained") and "method" not in row:  # which says it already
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
    overrides, few_shot = _overrides(row), 5 if table == "table4" else None
    objective = row.get("method", row.get("model")) if row.get("pretrained") else None
    medcontext = row["method"] == "medcontext" if "method" in row else row.get("medcontext", True)
    other_split = "btcv_24_6" if table == "table5" else None
    for column, paper in numbers.items():
        if column in ROW_KEYS:
            continue
        model = column if column in MODELS else row.get("model", "unetr")
        place = column if column in KNOWN else dataset
        place = place[model] if isinstance(place, dict) else place
        variant = Variant(place, model, medcontext, overrides, few_shot, objective, other_split)
        scored = KNOWN[place].structures if other_split else KNOWN[place].scored
        structure = column if column in scored else None
        yield Entry(row, column, paper, variant, structure, "hd95" if column == "hd95" else "dsc", scored)


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
