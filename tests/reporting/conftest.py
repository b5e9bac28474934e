"""What the tests of the report share."""

from pathlib import Path
from typing import NamedTuple

import pytest

from medcontext.commands.calibrate import calibrate
from medcontext.commands.predict import predict
from medcontext.commands.suggest import suggest
from medcontext.data.splits import Split
from tests.comparison.conftest import write  # noqa: F401, a fixture
from tests.inference.faint import faint_run, write_data
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


class Predicted(NamedTuple):
    """Predictions of a calibrated run, and the data set that they are of."""

    folder: Path
    data: Path


@pytest.fixture(scope="session")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> Predicted:
    """Eight scans, the last the faintest, all predicted."""
    folder = tmp_path_factory.mktemp("predicted")
    data = write_data(folder / "data")
    run = faint_run(folder / "run", data, Split(("a", "b"), tuple("cdefg"), ("h",)))
    calibrate(run)
    predict(run, data, folder / "predictions", part="all")
    return Predicted(folder / "predictions", data)


@pytest.fixture(scope="session")
def suggested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `suggest` wrote: two scans to label of eight."""
    folder = tmp_path_factory.mktemp("suggested")
    data = write_data(folder / "data")
    run = faint_run(folder / "run", data, Split(("a",), tuple("bcd"), ()))
    calibrate(run)
    suggest(run, data, folder / "next", count=2)
    return folder / "next"
