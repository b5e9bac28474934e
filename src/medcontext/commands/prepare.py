"""Preparing a data set once, for many trainings."""

from pathlib import Path
from typing import TYPE_CHECKING

from medcontext.console import console, warn
from medcontext.data.plan import PrepareSettings
from medcontext.files import AnyPath

if TYPE_CHECKING:
    from medcontext.data.store import Store


def prepare(
    data: AnyPath,
    *,
    cache: AnyPath | None = None,
    split: AnyPath | None = None,
    fold: int = 0,
    few_shot: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    prepare: PrepareSettings = PrepareSettings(),  # noqa: B008 (frozen)
) -> "Store":
    """Resample and normalise a data set once, for all trainings with the same settings.

    Args:
        data: data set: a Decathlon, nnU-Net, BTCV, ACDC or BraTS folder, or a JSON list
        cache: folder of prepared cases; default $MEDCONTEXT_CACHE or ~/.cache
        split: split file, or a split's name; statistics come from its training cases alone
        fold: which fold of a split file with several
        few_shot: prepare for a training on so many cases
        seed: of the split, where there is no split file
        workers: processes; default: one for each processor
        prepare: spacing and intensities

    Returns:
        The prepared training and validation cases.

    Raises:
        InputError: if a case cannot be used, or the disk is full; cases finished before stay.
    """
    from medcontext.data.doubts import data_doubts
    from medcontext.data.formats import read_dataset
    from medcontext.data.planning import make_plan
    from medcontext.data.pool import processors
    from medcontext.data.prepare import prepare_dataset, preparing_remarks, print_plan
    from medcontext.data.splits import make_split

    workers = processors() if workers is None else workers
    dataset = read_dataset(Path(data))
    file = None if split is None else Path(split)
    chosen = make_split(dataset, file=file, seed=seed, few_shot=few_shot, fold=fold)
    training = [case for case in dataset.cases if case.name in chosen.train]
    plan = make_plan(dataset, training, prepare, workers)
    print_plan(plan)
    folder = None if cache is None else Path(cache)
    names = chosen.train + chosen.validation
    warn(data_doubts(dataset, names))
    store = prepare_dataset(dataset, names, plan, folder, workers)
    warn(preparing_remarks(store, names, chosen.train, plan))
    console.print(f"{len(store.names)} cases prepared: {store.root}", soft_wrap=True)
    return store
