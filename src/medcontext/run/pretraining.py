"""The folder of one pretraining, and what its checkpoints say of themselves.

```
PRE/settings.yaml      every setting, resolved
PRE/plan.json          how images are prepared
PRE/split.json         which scans are learnt from, and which are held out
PRE/pretraining.json   the facts, see `facts.py`
PRE/inputs.json        scans and all else that it was given, see `inputs.py`
PRE/log.txt            what the terminal said
PRE/checkpoints/last.ckpt, best.ckpt
PRE/csv, PRE/tensorboard   curves and pictures
PRE/restored.png       the latest picture
```
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medcontext.data.plan import Plan
from medcontext.data.splits import Split
from medcontext.errors import InputError
from medcontext.files import read_json
from medcontext.pretrain_settings import PretrainSettings
from medcontext.run.facts import Facts
from medcontext.run.folder import Training, check_files

RECORD = "pretraining.json"
FILES = ("settings.yaml", "plan.json", "split.json", RECORD)


@dataclass(frozen=True)
class Pretraining(Training):
    """A training without labels: its split has the scans that are learnt from and, as validation, those held out.

    Args:
        shapes: of each scan, by its image's digest; empty of one that was read from its folder.
    """

    settings: PretrainSettings
    shapes: Mapping[str, tuple[int, ...]]

    record = RECORD
    command = "pretrain"
    holds = ("network", "objective")

    def network_description(self) -> dict[str, Any]:
        return {
            "name": self.settings.network,
            "args": self.settings.network_args,
            "in_channels": len(self.plan.channels),
            "crop_size": list(self.crop_size),
            "objective": self.settings.objective,
            "images": self.plan.image_hash,
            "scans": {digest: list(shape) for digest, shape in self.shapes.items()},
        }


def read_pretraining(folder: Path) -> Pretraining:
    """The pretraining in a folder.

    Raises:
        InputError: if the folder is not one that `medcontext pretrain` wrote, or one of its files is damaged.
    """
    check_files(folder, FILES, Pretraining.command)
    settings = PretrainSettings.read(folder / "settings.yaml")
    plan, split, facts = (read_json(folder / name) for name in FILES[1:])
    try:
        parts = (tuple(split[part]) for part in ("train", "validation", "test"))
        return Pretraining(folder, settings, Plan.from_dict(plan), Split(*parts), Facts.from_dict(facts), {})
    except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{folder} is not a whole pretraining: its plan.json, split.json or {RECORD} is damaged "
            f"({type(error).__name__}: {error}). Copy it again, or pretrain again."
        ) from error
