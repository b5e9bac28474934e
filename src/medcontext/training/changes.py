"""Which settings may change when a run goes on."""

from collections.abc import Iterator
from typing import Any

from medcontext.configuration import plain
from medcontext.errors import InputError
from medcontext.run import Training
from medcontext.settings import TrainingSettings

FREE = ("workers", "accelerator", "compile", "watch_cases", "loggers", "patience")  # without a trace in the weights
CHANGEABLE = ("steps", "optimizer.lr", "optimizer.lr_end")  # with one, and so noted in the run


def changes(settings: TrainingSettings, run: Training) -> list[str]:
    """What differs from the settings that a run has, in words, where it may.

    Raises:
        InputError: naming the settings that differ and may not.
    """
    before = dict(_leaves(run.settings))
    different = {
        name: f"{name} was {before[name]}, now {value}"
        for name, value in _leaves(settings)
        if value != before[name] and name.partition(".")[0] not in FREE
    }
    refused = [text for name, text in different.items() if name not in CHANGEABLE]
    if refused:
        raise InputError(
            f"{run.folder} was trained with other settings: {'; '.join(refused)}. Resume without naming them (of "
            f"those that leave a trace only {' and '.join(CHANGEABLE)} may change), or choose another output."
        )
    if settings.steps < run.settings.steps:
        raise InputError(
            f"{run.folder} was started for {run.settings.steps} steps, and --steps {settings.steps} are fewer. Resume "
            "for as many or more; its checkpoints are there, if it has trained enough."
        )
    return list(different.values())


def _leaves(settings: TrainingSettings) -> Iterator[tuple[str, Any]]:
    """Every setting by its whole name, as options have it.

    >>> from medcontext.settings import Settings
    >>> dict(_leaves(Settings()))["method.teacher.momentum"]
    0.99
    """

    def within(name: str, value: Any) -> Iterator[tuple[str, Any]]:
        if hasattr(value, "__dataclass_fields__"):
            for key, each in vars(value).items():
                yield from within(f"{name}.{key}", each)
        else:
            yield name.removeprefix("."), plain(value)

    return within("", settings)
