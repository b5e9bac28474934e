"""What the tests of the report share."""

from pathlib import Path

import pytest

from tests.comparison.conftest import write  # noqa: F401, a fixture
from tests.reporting.evaluations import evaluate_moved, make_training


@pytest.fixture(scope="session")
def evaluated(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two evaluated models of the balls: `far` is off by two voxels, `near` by one and misses a ball of ball_3."""
    folder = tmp_path_factory.mktemp("evaluated")
    run = make_training(folder / "run")
    return {
        "far": evaluate_moved(balls, folder / "far", 2, run=run),
        "near": evaluate_moved(balls, folder / "near", 1, run=run, miss="ball_3"),
    }


@pytest.fixture
def arguments(evaluated: dict[str, Path]) -> list[str]:
    """The two models as the command line names them."""
    return [f"{name}={folder}" for name, folder in evaluated.items()]
