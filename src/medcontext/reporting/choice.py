"""Which cases to show: those that say most about the models."""

import re
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest

from medcontext.errors import InputError, unknown_name

CaseScores = Mapping[str, Sequence[float]]
"""For each case, the mean DSC over its structures of every model, averaged over the seeds that have the case."""


def choose_cases(scores: CaseScores, wanted: Sequence[str], unscored: Sequence[str] = ()) -> list[str]:
    """The cases that a user asks for.

    Args:
        scores: of all cases.
        wanted: `all`, names, or a number: so many, taken in turn from the most improved, the most worsened, the worst
            and the best of the second model against the first; of a single model from its worst and its best.
        unscored: further cases, that no structure counts in, for `all` and by name.

    Raises:
        InputError: for a name that is not a case, or a number that cannot be meant.

    >>> scores = {"a": [0.5, 0.8], "b": [0.9, 0.6], "c": [0.2, 0.2], "d": [0.9, 0.9], "e": [0.7, 0.7]}
    >>> choose_cases(scores, ["3"]), choose_cases(scores, ["d", "e"])
    (['a', 'b', 'c'], ['d', 'e'])
    """
    known = list(dict.fromkeys([*scores, *unscored]))
    if list(wanted) == ["all"]:
        return known
    if len(wanted) == 1 and wanted[0].isdecimal() and wanted[0] not in scores:
        in_turn = chain.from_iterable(zip_longest(*rankings(scores).values()))
        return [name for name in dict.fromkeys(in_turn) if name][: int(wanted[0])]
    for name in wanted:
        if name not in known:
            if re.fullmatch(r"-?[\d.]+", name):
                raise InputError(f"--cases {name}: give a whole number, all, or names of cases.")
            raise unknown_name("case", name, known)
    return list(dict.fromkeys(wanted))


def rankings(scores: CaseScores) -> dict[str, list[str]]:
    """All cases in several orders, by what the order shows."""
    last = {name: values[min(1, len(values) - 1)] for name, values in scores.items()}
    worst = sorted(last, key=lambda name: last[name])
    orders = {"worst": worst, "best": worst[::-1]}
    if all(len(values) > 1 for values in scores.values()):
        gains = {name: values[1] - values[0] for name, values in scores.items()}
        by_gain = sorted(gains, key=lambda name: gains[name])
        improved = [name for name in reversed(by_gain) if gains[name] > 0]
        orders = {"most improved": improved, "most worsened": [name for name in by_gain if gains[name] < 0], **orders}
    return orders
