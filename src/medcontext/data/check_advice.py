"""What to do first about the findings of a check."""

import re
from collections import Counter

from medcontext.data.check import Problem, Report, undeclared
from medcontext.data.folders import listed
from medcontext.data.label_map import values_text

SHOWN = 12  # values that are written out for a person to copy


def advice(report: Report) -> str:
    """The next step, in a sentence or two: the errors that most cases share, then warnings, then the training."""
    errors = [problem for problem in report.problems if problem.level == "error"]
    if not errors:
        if any(problem.level == "warning" for problem in report.problems):
            return "Training can start. Look at the warnings first."
        return ""
    kinds = Counter(map(kind, errors))
    first = next((problem for problem in errors if not problem.case), None)  # of the data set as a whole
    most = first or max(errors, key=lambda problem: kinds[kind(problem)])
    values = undeclared(report.dataset, report.cases)
    if values and not first:
        having = sum(bool(set(case.voxels or ()) & set(values)) for case in report.cases)
        if having >= kinds[kind(most)]:
            return _declare(values)
    if len(kinds) == 1:
        return ""
    return f"Do first: {most.message.rstrip('.')} ({kinds[kind(most)]} such). Then check again."


def kind(problem: Problem) -> str:
    """What messages have in common that name different cases, files and figures."""
    message = problem.message.replace(problem.case, "*") if problem.case else problem.message
    return re.sub(r"[0-9.]+", "#", message)


def _declare(values: list[int]) -> str:
    if len(values) > SHOWN:
        return (
            f"Do first: find out what {values_text(values)} are; so many values are more often those of images than of "
            "structures. Then check again."
        )
    names = ", ".join(f'"NAME": {value}' for value in values)
    targets = ", ".join(f'"{value}": 0' for value in values)
    return (
        f"Do first: find out what {listed([str(value) for value in values], SHOWN)} {_are(values)}. Structures: add "
        f'{names} to "labels" in the JSON file. Background, or parts of what is declared: add "label_map": '
        f"{{{targets}}} there, with the declared value for 0. Then check again."
    )


def _are(values: list[int]) -> str:
    return "are" if len(values) > 1 else "is"
