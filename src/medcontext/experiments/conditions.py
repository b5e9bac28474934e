"""What a cell is trained with: its preset, its method, what its row says, and what the user adds to all rows alike."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from medcontext.data.known import KNOWN
from medcontext.data.split_files import PACKAGED, find_split
from medcontext.errors import InputError, unknown_name
from medcontext.experiments.smoke import SMALL, SMOKE
from medcontext.experiments.tables import CORPORA, TABLES, Entry, Variant, get_grid, row_label
from medcontext.method_settings import MethodSettings
from medcontext.settings import Settings

ELSEWHERE = {
    "config": "give its settings one by one",
    "few_shot": "--few_shot is meant for it",
    "method": "--method is meant for it, and takes a YAML file of all of the method's settings too",
    "network": "--only model=... chooses among the tables' networks",
    "objective": "--only method=... chooses among Table 5's pretrainings",
    "preset": "a row's network and data set name it",
    "regions": "the tables score those of the presets",
    "seed": "--seeds is meant for it",
}
"""What `--set` does not take, because rows would no longer be what they say; and what to do instead."""

PRETRAIN = "pretrain"
"""In the place of a data set in `--set`: the pretrainings."""


@dataclass(frozen=True)
class Assignment:
    """One setting of `--set`.

    Args:
        dataset: whose cells it is for, or `PRETRAIN`; None for all trainings.
        key: the setting, such as `prepare.spacing`.
        value: as on the command line.
    """

    dataset: str | None
    key: str
    value: str

    @classmethod
    def parse(cls, text: str) -> "Assignment":
        """What `SETTING=VALUE` or `DATASET:SETTING=VALUE` says.

        Raises:
            InputError: if it is neither, or sets what the tables' rows set.

        >>> Assignment.parse("acdc:split=my:own.json")
        Assignment(dataset='acdc', key='split', value='my:own.json')
        """
        name, equals, value = text.partition("=")
        dataset, colon, key = name.rpartition(":")
        if not equals or not key or (colon and not dataset):
            raise InputError(f"--set takes SETTING=VALUE or DATASET:SETTING=VALUE, got '{text}'.")
        if colon and dataset not in (*KNOWN, PRETRAIN):
            raise unknown_name("data set of --set", dataset, [*KNOWN, PRETRAIN])
        if key in ELSEWHERE:
            raise InputError(f"--set cannot change {key}: {ELSEWHERE[key]}.")
        if any(_overlap(key, other) for other in of_rows()):
            raise InputError(f"--set cannot change {key}, which tells the tables' rows apart: {ELSEWHERE['method']}.")
        return cls(dataset if colon else None, key, value)


@dataclass(frozen=True)
class Conditions:
    """What all cells of a reproduction have in common.

    Args:
        data: the folder of each split's data set, and of each corpus; none for cells that are not to be run.
        output: the folder of everything.
        method: of the cells with MedContext.
        smoke: train tiny networks, only to see that everything runs.
        steps: of every training; None for the presets'.
        few_shot: training cases, where the table does not say; None for all.
        settings: further settings, of every training (`precision=32`), of one data set's (`acdc:split=FILE`) or of
            every pretraining (`pretrain:batch_size=8`).
        splits: split files, where the presets' do not hold.
        pretrain_on: the paper's `corpus`, or the data set's own training cases (`train`).

    Raises:
        InputError: if these contradict each other, or what the tables' rows say.
    """

    data: Mapping[str, Path]
    output: Path
    method: str = "paper"
    smoke: bool = False
    steps: int | None = None
    few_shot: int | None = None
    settings: Sequence[str] = ()
    splits: Mapping[str, Path] = field(default_factory=dict)
    pretrain_on: Literal["corpus", "train"] = "corpus"

    def __post_init__(self) -> None:
        if not method_settings(self.method).masking:
            raise InputError(
                f"--method {self.method} hides nothing: rows with MedContext would be the baseline, which is run "
                "anyway. Give paper, medcontext, reference, or a YAML file with `masking: true`."
            )
        given = [item.key for item in self.assignments if item.dataset != PRETRAIN]
        if self.steps is not None and "steps" in given:
            raise InputError("--steps and --set steps=... are both given; give one.")

    @property
    def assignments(self) -> list[Assignment]:
        """`settings`, understood."""
        return [Assignment.parse(text) for text in self.settings]

    def assigned(self, dataset: str) -> list[Assignment]:
        """Those for a data set's trainings, its own after those for all."""
        return [item for place in (None, dataset) for item in self.assignments if item.dataset == place]

    def cases(self, variant: Variant) -> int | None:
        """How many training cases a row has; None for all."""
        return self.few_shot if variant.few_shot is None else variant.few_shot

    def source(self, variant: Variant) -> str:
        """The scans that a row's pretraining learns from: a corpus, or the training cases of a split."""
        return variant.split if self.pretrain_on == "train" else CORPORA[str(variant.objective)]

    def changes(self, variant: Variant) -> list[tuple[str, Any]]:
        """What a row sets otherwise than its method does anyway."""
        method = method_settings(self.method)
        return [(key, value) for key, value in variant.overrides if get_setting(method, key) != value]


def cell_settings(variant: Variant, seed: int, conditions: Conditions) -> Settings:
    """Every setting of a cell's training.

    Raises:
        InputError: if a setting cannot be used, or the row would not be what it says.
    """
    method = conditions.method if variant.medcontext else "none"
    cases = conditions.cases(variant)
    values = {"seed": seed, **dict(conditions.changes(variant))}
    values |= {} if cases is None else {"few_shot": cases}
    values |= {"split": conditions.splits[variant.split]} if variant.split in conditions.splits else {}
    values |= {**SMOKE, **SMALL[variant.model]} if conditions.smoke else {}
    values |= {} if conditions.steps is None else {"steps": conditions.steps}
    values |= {item.key: item.value for item in conditions.assigned(variant.dataset)}
    settings = Settings.preset(variant.preset, method=method, **values)
    own = {key: get_setting(method_settings(method), key) for key in of_rows()} | dict(variant.overrides)
    expected = {"network": variant.model, "seed": seed, "few_shot": cases, **own}
    for key, value in expected.items():
        if (found := get_setting(settings, key)) != value:
            raise InputError(
                f"{variant.preset}: {key} is {found} by --set {' '.join(conditions.settings)}, but {value} is what the "
                "table's row says. Leave it out."
            )
    return replace(settings, split=absolute_split(settings.split))


def check_rows(entries: Iterable[Entry], method: str) -> None:
    """Refuse a method that lacks what a row says that it has.

    Raises:
        InputError: naming the row.
    """
    chosen = method_settings(method)
    there = {
        "msl": ("masked_loss: true", chosen.masked_loss),
        "cl": ("a consistency", chosen.consistency != "none"),
        "student_teacher": ("target: teacher", chosen.target == "teacher"),
    }
    for entry in entries:
        for key, (wanted, has) in there.items():
            if entry.row.get(key) and not has:
                raise InputError(f"The row '{row_label(entry.row)}' needs {wanted}, which --method {method} has not.")


@cache
def of_rows() -> tuple[str, ...]:
    """The method's settings that tell rows of the tables apart."""
    entries = [entry for name in TABLES for entry in get_grid(name).entries]
    overridden = [key for entry in entries for key, _ in entry.variant.overrides]
    return tuple(dict.fromkeys(["method.name", "method.masking", *overridden]))


@cache
def method_settings(name: str) -> MethodSettings:
    """The settings of `--method NAME`."""
    return Settings.preset(method=name).method


def get_setting(settings: Settings | MethodSettings, key: str) -> Any:
    """A setting by its name on the command line.

    >>> get_setting(Settings(), "method.mask.ratio"), get_setting(MethodSettings(), "method.mask.ratio")
    (0.4, 0.4)
    """
    value: Any = settings
    for name in key.removeprefix("method." if isinstance(settings, MethodSettings) else "").split("."):
        value = getattr(value, name)
    return value


def absolute_split(split: str | None) -> str | None:
    """A split setting that means the same in any folder: the name of a packaged split, or an absolute path."""
    if not split:
        return None
    file = find_split(split)
    return split if file.parent == PACKAGED else str(file.resolve())


def _overlap(one: str, other: str) -> bool:
    return f"{other}.".startswith(f"{one}.") or f"{one}.".startswith(f"{other}.")
