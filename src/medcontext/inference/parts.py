"""Which part a predicted case had in the trainings of the networks that predict it."""

from collections.abc import Collection, Sequence

from medcontext.run import Run

PARTS = ("training", "validation", "test", "unknown")


def part_of(name: str, digest: str, runs: Sequence[Run], tested: Collection[str] = ()) -> str:
    """One of `PARTS`; of several networks the part that says least of new patients.

    Training and validation cases are known by their content, whatever they are called and wherever they lie.

    Args:
        name: of the case.
        digest: of its image's values.
        runs: of the networks.
        tested: names of cases of the runs' own data set that all of them test on.
    """
    seen = set()
    for run in runs:
        same = {case for case, (known, *_) in run.facts.cases.items() if known == digest}
        if same:
            seen.add("training" if same & set(run.split.train) else "validation")
    return next((part for part in PARTS if part in seen), "test" if name in tested else "unknown")
