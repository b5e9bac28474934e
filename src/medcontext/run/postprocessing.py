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
from typing import Any, Literal

from medcontext.errors import InputError
from medcontext.files import read_json, write_json, writing

FILE, FOLDER = "postprocessing.json", "postprocessing"

By = Literal["validation", "labels"]
"""What decides: predictions of cases that were not trained on, or the labels that were."""

Keep = float | Literal["largest"]
"""Which components of a structure are kept: the largest, or those of at least so many ml."""


@dataclass(frozen=True)
class Choice:
    """What was chosen for one structure; Dice are means over the validation cases, fractions.

    Args:
        keep: `largest`, a volume in ml, or `all` where nothing helps.
        dice_before: of the structure.
        dice_after: with this step.
        tried: the Dice with each step that was tried.
        pieces: the most that a label has, where labels decided; 0 where none has the structure.
    """

    keep: float | str
    dice_before: float | None = None
    dice_after: float | None = None
    tried: dict[str, float] = field(default_factory=dict)
    pieces: int | None = None


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
    kept = {name: choice.keep for name, choice in choices.items() if choice.keep != "all"}
    return {name: "largest" if keep == "largest" else float(keep) for name, keep in kept.items()}


def step_text(keep: Keep) -> str:
    """
    >>> step_text("largest"), step_text(0.25)
    ('largest component', 'components of at least 0.25 ml')
    """
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
