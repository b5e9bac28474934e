"""The folds of a cross-validation as cells, and what they predicted, pooled.

```
DIR/splits_final.json   the folds, as nnU-Net writes them
DIR/fold0/              the first one's cell: its run, log and predictions; and so on
DIR/predictions/        of every case that of the network that was not trained on it
DIR/scores/             their evaluation
```
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medcontext.console import warn
from medcontext.data.cases import Dataset
from medcontext.data.folders import listed
from medcontext.data.folds import make_folds, read_folds
from medcontext.data.splits import Split
from medcontext.errors import InputError
from medcontext.evaluation.summary import OUT_OF_FOLD
from medcontext.experiments.cells import TrainingCell
from medcontext.files import atomic_path, read_json, write_json
from medcontext.inference.origin import RECORD
from medcontext.run import FOLDS, Run, read_run


@dataclass(frozen=True)
class Fold(TrainingCell):
    """A training on all folds but one, which it predicts."""

    part = "validation"
    scored_by = ()

    @property
    def held_out(self) -> tuple[str, ...]:
        """Names of the cases that it predicts."""
        assert self.split is not None
        return self.split.validation

    def has_results(self) -> bool:
        return all((self.folder / "predictions" / f"{name}.nii.gz").is_file() for name in self.held_out)

    def run(self) -> Run:
        """Its training."""
        return read_run(self.folder / "run")


def find_folds(root: Path, dataset: Dataset, folds: int, seed: int, split: str | None) -> list[Split]:
    """The folds of a cross-validation: those of its folder, if they are still what is asked for, else new ones.

    Raises:
        InputError: if they cannot be made, or the folder has other folds or other files.
    """
    file = root / FOLDS
    if not file.is_file():
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise InputError(f"{root} is no folder of a cross-validation, and not empty; choose another --output.")
        return make_folds(dataset, folds, seed=seed, file=split)
    found = read_folds(file, [case.name for case in dataset.cases])
    own = {name for fold in found for name in fold.train + fold.validation + fold.test}
    late = sorted(case.name for case in dataset.cases if case.name not in own)
    before = replace(dataset, cases=tuple(case for case in dataset.cases if case.name in own))
    if found != make_folds(before, folds, seed=seed, file=split):
        source = f"--split {split}" if split else "no --split"
        raise InputError(
            f"{file} has other folds than --folds {folds}, --seed {seed} and {source} make of its cases. "
            "Give what it was made with, or choose another --output."
        )
    warn([f"cases came to the data set after the folds were made, and are not used: {listed(late)}."] if late else [])
    return found


def pool(folds: Sequence[Fold], output: Path) -> None:
    """Bring the folds' predictions together, with a record of which network each case is from.

    A case is noted as out of fold; but one whose image a training case of its fold has, under another name, as what
    `predict` called it.
    """
    output.mkdir(exist_ok=True)
    parts: dict[str, str] = {}
    dropped: dict[str, dict[str, float]] = {}
    networks = []
    for fold in folds:
        record = read_json(fold.folder / "predictions" / RECORD)
        for name in fold.held_out:
            with atomic_path(output / f"{name}.nii.gz") as temporary:
                shutil.copyfile(fold.folder / "predictions" / f"{name}.nii.gz", temporary)
            own = record["parts"][name]
            parts[name] = own if own == "training" else OUT_OF_FOLD
            dropped |= {key: volumes for key, volumes in record.get("dropped_ml", {}).items() if key == name}
        networks += [{**network, "cases": list(fold.held_out)} for network in record["predicted_by"]["networks"]]
    record["predicted_by"]["networks"] = networks
    write_json(output / RECORD, {**record, "parts": parts, **({"dropped_ml": dropped} if dropped else {})})
