"""What is done to the predictions of a run, or of a cross-validation, as `medcontext postprocess` found it out.

```
RUN/postprocessing.json   for each structure what is kept of it, and why: the Dice before and after, or its pieces in
                          the labels of the training; for which networks, on which cases
RUN/postprocessing        of a run, its network's predictions of validation cases; a cross-validation has them already
```
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from medcontext.errors import InputError
from medcontext.files import read_json, write_json, writing

FILE, FOLDER = "postprocessing.json", "postprocessing"

By = Literal["validation", "labels"]
"""What decides: predictions of cases that were not trained on, or the labels that were."""


BySize = float | Literal["largest"]
"""Which components of a structure are kept: the largest, or those of at least so many ml."""


class Together(NamedTuple):
    """The largest component of a structure is kept, and what lies with it in a box of at most so many mm a side."""

    mm: float


Keep = BySize | Together


@dataclass(frozen=True)
class Choice:
    """What was chosen for one structure; Dice are means over the validation cases, fractions.

    Args:
        keep: `largest`, `together`, a volume in ml, or `all` where nothing helps.
        dice_before: of the structure.
        dice_after: with this step.
        tried: the Dice with each step that was tried.
        pieces: the most that a label has, where labels decided; 0 where none has the structure.
        labels: that have it.
        within_mm: of what is kept together.
    """

    keep: float | str
    dice_before: float | None = None
    dice_after: float | None = None
    tried: dict[str, float] = field(default_factory=dict)
    pieces: int | None = None
    labels: int | None = None
    within_mm: float | None = None

    @property
    def step(self) -> Keep | None:
        """What is to be done; None for nothing."""
        if self.keep == "together" and self.within_mm is not None:
            return Together(float(self.within_mm))
        if self.keep == "largest":
            return "largest"
        return None if self.keep == "all" else float(self.keep)


@dataclass(frozen=True)
class Postprocessing:
    """`postprocessing.json`.

    Args:
        cases: those that decided: the validation cases, of a cross-validation all that it predicted, or those that were
            trained on.
        weights: the student's or the teacher's; empty where labels decided.
        networks: SHA-256 of the checkpoint, or of each fold's; none where labels decided.
        structures: what was chosen for each.
        by: what decided.
    """

    cases: tuple[str, ...]
    weights: str
    networks: tuple[str, ...]
    structures: dict[str, Choice]
    by: By = "validation"

    def __post_init__(self) -> None:
        if self.by not in get_args(By):
            raise ValueError(f"by is one of {', '.join(get_args(By))}; got {self.by!r}")

    @property
    def steps(self) -> dict[str, Keep]:
        """What is to be done, by structure."""
        return chosen_steps(self.structures)

    def holds_for(self, networks: Sequence[str], weights: str) -> bool:
        """Whether it was found for these, by their checksums, in whatever order; what labels say holds for any."""
        return self.by == "labels" or (sorted(networks) == sorted(self.networks) and weights == self.weights)


def chosen_steps(choices: Mapping[str, Choice]) -> dict[str, Keep]:
    """What is to be done, by structure.

    >>> chosen_steps({"liver": Choice(0.5, 0.9, 0.91, {}), "spleen": Choice("all", 0.9, 0.9, {})})
    {'liver': 0.5}
    """
    return {name: step for name, choice in choices.items() if (step := choice.step) is not None}


def step_text(keep: Keep) -> str:
    """
    >>> step_text("largest"), step_text(0.25), step_text(Together(120.0))
    ('largest component', 'components of at least 0.25 ml', 'largest component, and what lies with it within 120 mm')
    """
    if isinstance(keep, Together):
        return f"largest component, and what lies with it within {keep.mm:g} mm"
    return "largest component" if keep == "largest" else f"components of at least {keep:g} ml"


def write_postprocessing(run: Path, found: Postprocessing) -> None:
    """Write what was found.

    Raises:
        InputError: if it cannot be written, as on a full disk.
    """
    with writing(run / FILE):
        write_json(run / FILE, asdict(found))


def read_postprocessing(run: Path) -> Postprocessing | None:
    """What was found for a run; None where nobody has looked.

    Raises:
        InputError: if the file is damaged.
    """
    if not (run / FILE).is_file():
        return None
    content: Any = read_json(run / FILE)
    try:
        structures = {name: Choice(**choice) for name, choice in content["structures"].items()}
        networks = tuple(content["networks"] if "networks" in content else [content["sha256"]])  # the name before 0.2
        by = content.get("by", "validation")
        found = Postprocessing(tuple(content["cases"]), content["weights"], networks, structures, by)
        _ = found.steps
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{run / FILE} is damaged ({type(error).__name__}: {error}). Run `medcontext postprocess` again, or remove "
            "the file."
        ) from None
    return found
