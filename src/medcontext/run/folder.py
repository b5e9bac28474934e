"""The folder of one training run, and what it holds.

```
RUN/settings.yaml         every setting, resolved
RUN/plan.json             how images are prepared
RUN/split.json            which case was used for what
RUN/run.json              the facts, see `facts.py`
RUN/postprocessing.json   which components of a structure are kept, see `postprocessing.py`
RUN/inputs.json           data and all else that it was given, see `inputs.py`
RUN/initial.txt           what became of the weights that it started from, tensor by tensor, see `weights.py`
RUN/log.txt               what the terminal said
RUN/checkpoints/last.ckpt, best.ckpt
RUN/csv, RUN/tensorboard  curves, and pictures of the watched cases
RUN/watch                 the watched cases' volumes, see `watched.py`
```
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from medcontext.data.geometry import Shape3
from medcontext.data.plan import Plan
from medcontext.data.regions import Regions
from medcontext.data.splits import Split
from medcontext.errors import InputError
from medcontext.files import read_json, write_json, writing
from medcontext.run.facts import Facts
from medcontext.settings import Settings, TrainingSettings

FILES = ("settings.yaml", "plan.json", "split.json", "run.json")  # of a run, beside its checkpoints


@dataclass(frozen=True)
class Training(ABC):
    """What was trained, on what, how; a path, too: its folder.

    Args:
        folder: of the training.
        settings: resolved.
        plan: how images are prepared.
        split: which case was used for what.
        facts: what it took, and all else that is known of it.
    """

    folder: Path
    settings: TrainingSettings
    plan: Plan
    split: Split
    facts: Facts

    record: ClassVar[str]  # the facts' file
    command: ClassVar[str]  # that wrote it
    holds: ClassVar[tuple[str, ...]]  # a checkpoint of it, among others

    def __fspath__(self) -> str:
        return str(self.folder)

    @property
    def crop_size(self) -> Shape3:
        return self.facts.crop_size

    def checkpoint(self, name: str) -> Path:
        """The path of the checkpoint `last` or `best`, or of another file."""
        if name not in ("last", "best"):
            return Path(name)
        return self.folder / "checkpoints" / f"{name}.ckpt"

    @abstractmethod
    def network_description(self) -> dict[str, Any]:
        """What the network's weights mean, and for which images; a checkpoint must have the same."""

    def write(self) -> None:
        """Write all but the checkpoints."""
        self.settings.write(self.folder / "settings.yaml")
        write_json(self.folder / "plan.json", self.plan.to_dict())
        write_json(self.folder / "split.json", self.split.to_dict())
        self.write_facts()

    def write_facts(self) -> None:
        """Write the facts alone.

        Raises:
            InputError: if they cannot be written, as on a full disk; those before stay.
        """
        with writing(self.folder / self.record):
            write_json(self.folder / self.record, self.facts.to_dict())


@dataclass(frozen=True)
class Run(Training):
    """A training with labels."""

    settings: Settings

    record = "run.json"
    command = "train"
    holds = ("network", "learner")

    @property
    def regions(self) -> Regions:
        return self.facts.regions

    @property
    def structures(self) -> dict[str, tuple[int, ...]]:
        """What is segmented: the label values of each structure or, where these are, of each overlapping region."""
        return self.regions or {name: (value,) for name, value in self.plan.labels.items()}

    def network_description(self) -> dict[str, Any]:
        return {
            "name": self.settings.network,
            "args": self.settings.network_args,
            "in_channels": len(self.plan.channels),
            "out_channels": len(self.regions or self.plan.values),
            "crop_size": list(self.crop_size),
            "labels": self.plan.labels,
            "regions": self.facts.to_dict()["regions"],
            "plan": self.plan.hash,
        }


def check_files(folder: Path, files: Sequence[str], command: str, other: str = "") -> None:
    """Refuse a folder that lacks some of the files that a command writes.

    Args:
        folder: to be read.
        files: their names.
        command: of `medcontext`.
        other: what the folder is instead, where that is known.

    Raises:
        InputError: naming the files.
    """
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        found = f"there is no {', '.join(missing)}" if folder.is_dir() else "there is no such folder"
        raise InputError(f"{folder} is not a folder that `medcontext {command}` wrote: {other or found}.")


def read_run(folder: Path) -> Run:
    """The run in a folder.

    Raises:
        InputError: if the folder is not one that `medcontext train` wrote, or one of its files is damaged.
    """
    other = "it is a pretraining, which segments nothing; a training starts from it by --init"
    check_files(folder, FILES, Run.command, other if (folder / "pretraining.json").is_file() else "")
    settings = Settings.read(folder / "settings.yaml")
    plan, split, facts = (read_json(folder / name) for name in ("plan.json", "split.json", "run.json"))
    try:
        known = Facts.from_dict(facts)
    except InputError as error:
        raise InputError(f"{folder / 'run.json'} is damaged: {error} Copy it again, or train again.") from None
    try:
        parts = (tuple(split[part]) for part in ("train", "validation", "test"))
        run = Run(folder, settings, Plan.from_dict(plan), Split(*parts), known)
    except InputError as error:
        raise InputError(f"{folder / 'plan.json'}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{folder} is not a whole run: a field of its plan.json or split.json is missing or damaged "
            f"({type(error).__name__}: {error}). Copy it again, or train again."
        ) from error
    return run
