"""What a step of a training costs, in processor time, beside another training."""

import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import medcontext as mc

PROBE = 150  # first steps of two trainings, side by side, by which a step's cost is measured
WARM = 8  # of them, which do not count

Pace = list[tuple[float, float]]
"""The clock's and the processor's seconds at the start of each step."""


class Enough(BaseException):
    """Ends a training."""


def paces(
    data: Path,
    output: Path,
    settings: mc.Settings | mc.PretrainSettings,
    scans: list[str],
    cache: Path,
    steps: int = PROBE,
) -> Pace:
    """Note when each of a training's, or a pretraining's, first steps begins."""
    from medcontext.training.pretrain_task import PretrainTask
    from medcontext.training.task import Task

    found: Pace = []
    kind = Task if isinstance(settings, mc.Settings) else PretrainTask
    step = kind.training_step

    def noted(self: Any, *batch: Any) -> Any:
        found.append((time.time(), time.process_time()))
        if len(found) > steps:
            raise Enough
        return step(self, *batch)

    kind.training_step = noted  # type: ignore[method-assign]
    with suppress(Enough):
        if isinstance(settings, mc.Settings):
            mc.train(data, output, settings, unlabelled=scans, cache=cache)
        else:
            mc.pretrain([data], output, settings, cache=cache)
    shutil.rmtree(output)
    return found


def step_cost(ours: Pace, theirs: Pace) -> float:
    """Processor seconds of one training's step in those of the other's, while both ran."""
    start, end = max(ours[0][0], theirs[0][0]), min(ours[-1][0], theirs[-1][0])
    both = ([processor for clock, processor in pace if start <= clock <= end] for pace in (ours, theirs))
    one, other = ((used[-1] - used[0]) / (len(used) - 1) for used in both)
    return one / other
