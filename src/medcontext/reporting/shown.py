"""What the page shows of a training, whoever made it."""

from collections.abc import Mapping
from typing import Protocol

Curve = list[tuple[int, float]]
"""Steps and values."""


class Shown(Protocol):
    """A training behind a model's predictions: ours (`trainings.py`), or nnU-Net's (`nnunet.py`)."""

    @property
    def model(self) -> str:
        """Its name in the report."""

    @property
    def title(self) -> str:
        """What tells it from the model's other trainings, but for the fold."""

    @property
    def fold(self) -> int | str:
        """Of a cross-validation."""

    @property
    def dataset(self) -> str:
        """The data set's name."""

    @property
    def scans(self) -> int | None:
        """How many it was trained on; None where that is not known."""

    @property
    def network(self) -> str:
        """The network's name."""

    @property
    def known(self) -> dict[str, str]:
        """The facts of a methods section, in words, by the names of their rows."""

    @property
    def every_setting(self) -> str:
        """All settings, as text."""

    @property
    def drawn(self) -> Mapping[str, Curve]:
        """What was logged and means something, by name, such as `train/loss`."""
