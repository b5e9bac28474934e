"""The folder of a cross-validation, as far as its runs are concerned: one for each fold.

```
DIR/splits_final.json   the folds, as nnU-Net writes them: a list of {"train": [...], "val": [...]}
DIR/fold0/run           the run of the first fold, and so on
DIR/predictions         of every case that of the fold's network that was not trained on it
```
"""

from collections.abc import Sequence
from pathlib import Path

from medcontext.errors import InputError
from medcontext.files import read_json
from medcontext.run.folder import FILES, Run, read_run

FOLDS, PREDICTIONS = "splits_final.json", "predictions"


def fold_folder(folder: Path, fold: int) -> Path:
    """Where everything of a fold lies."""
    return folder / f"fold{fold}"


def read_runs(folder: Path) -> list[Run]:
    """The run in a folder, or those of a cross-validation, all folds.

    Raises:
        InputError: if the folder is neither, or a fold is not trained to its end.
    """
    content = read_json(folder / FOLDS) if (folder / FOLDS).is_file() else None
    if not isinstance(content, list) or (folder / FILES[0]).is_file():
        return [read_run(folder)]
    folders = [fold_folder(folder, fold) / "run" for fold in range(len(content))]
    runs = [read_run(each) for each in folders if all((each / name).is_file() for name in FILES)]
    whole = [run for run in runs if run.facts.step == run.settings.steps]
    if len(whole) < len(folders):
        raise InputError(
            f"{folder} is a cross-validation of which {len(whole)} of {len(folders)} folds are trained to the end. Go "
            f"on with it by the same `medcontext cross_validate`, or give single runs such as {folders[0]}."
        )
    return whole


def home(runs: Sequence[Run]) -> Path | None:
    """Where lies what was found out of networks: in the folder of the run, or of the cross-validation.

    None of other ensembles.
    """
    if len(runs) == 1:
        return runs[0].folder
    roots = {run.folder.parent.parent for run in runs}
    root = roots.pop()
    return root if not roots and (root / FOLDS).is_file() else None
