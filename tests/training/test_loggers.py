"""Where curves and pictures go. Weights & Biases and MLflow themselves where they are installed, else stand-ins."""

import json
import math
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from lightning.pytorch.loggers import Logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from medcontext.cli import main
from medcontext.errors import InputError
from medcontext.settings import Settings
from medcontext.training.loggers import check_loggers, log_outcome, log_picture, open_loggers
from medcontext.training.telling import Telling
from tests.training.commands import arguments, interrupt, logged

SAME = ("--steps=2", "--validate_every=1", "--watch_cases=1")

Train = Callable[..., int]


class StandIn(Logger):
    """Takes down what it is told."""

    made: ClassVar[list[Any]]

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options
        self.hyperparams: list[dict[str, Any]] = []
        self.metrics: list[tuple[int, str]] = []
        self.pictures: list[tuple[str, tuple[int, ...], int]] = []
        self.made.append(self)

    @property
    def name(self) -> str:
        return "stand-in"

    @property
    def version(self) -> int:
        return 0

    def log_hyperparams(self, params: Any, *_: Any) -> None:
        self.hyperparams.append(params)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.metrics += [(step or 0, name) for name in metrics]


class Wandb(StandIn):
    made: ClassVar[list[Any]] = []

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.ended: list[int] = []
        self.experiment = SimpleNamespace(finish=lambda exit_code: self.ended.append(exit_code))

    def log_image(self, key: str, images: list[np.ndarray], step: int) -> None:
        self.pictures += [(key, image.shape, step) for image in images]


class MLflow(StandIn):
    made: ClassVar[list[Any]] = []

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.run_id = options["run_id"] or "given by the server"
        self.status: list[str] = []
        self.experiment = SimpleNamespace(log_image=self.log_image, update_run=self.update_run)

    def log_image(self, run_id: str, image: np.ndarray, key: str, step: int) -> None:
        assert run_id == self.run_id
        self.pictures.append((key, image.shape, step))

    def update_run(self, run_id: str, status: str) -> None:
        assert run_id == self.run_id
        self.status.append(status)


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, logger in (("wandb", Wandb), ("mlflow", MLflow)):
        logger.made = []
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.setattr(f"medcontext.training.loggers.{logger.__name__.replace('MLf', 'MLF')}Logger", logger)
    for name in ("WANDB_PROJECT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def stopped(balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """A training in `tmp_path / "run"` that is interrupted at its last step."""

    def train(*more: str) -> int:
        with monkeypatch.context() as patch:
            interrupt(patch, "on_train_batch_end", step=1, of=Telling)
            return main(arguments(balls, tmp_path / "run", *SAME, *more))

    return train


def test_settings_curves_and_pictures_reach_both_and_a_resumed_run_goes_on_in_the_same_records(
    stand_ins: None, stopped: Train, balls: Path, tmp_path: Path
) -> None:
    both = "--loggers=[wandb,mlflow]"
    assert stopped(both) == 130
    assert main(arguments(balls, tmp_path / "run", *SAME, both, "--resume")) == 0
    assert logged(tmp_path / "run", "train/loss")  # though csv was not named
    assert not (tmp_path / "run" / "tensorboard").exists()
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    case = json.loads((tmp_path / "run" / "watch" / "watch.json").read_text())["cases"][0]

    wandb = Wandb.made
    assert [logger.options["id"] for logger in wandb] == [facts["wandb_id"]] * 2
    assert wandb[0].options["project"] == "medcontext"
    assert wandb[0].options["name"] == "run"
    assert wandb[0].options["save_dir"] == tmp_path / "run"
    assert [logger.ended for logger in wandb] == [[1], [0]]
    mlflow = MLflow.made
    assert [logger.options["run_id"] for logger in mlflow] == [None, "given by the server"]
    assert facts["mlflow_id"] == "given by the server"
    assert mlflow[0].options["tracking_uri"] == f"sqlite:///{tmp_path / 'run' / 'mlflow.db'}"
    assert mlflow[0].options["artifact_location"] == (tmp_path / "run" / "mlflow").as_uri()
    assert [len(logger.hyperparams) for logger in mlflow] == [1, 0]  # MLflow refuses to change any
    assert [logger.status for logger in mlflow] == [[], ["RUNNING"]]
    for first, second in (wandb, mlflow):
        assert first.hyperparams[0]["method"]["mask"]["patch_size"] == 8
        assert {(1, "train/loss"), (1, "val/dice_student")} <= set(first.metrics)
        assert {(2, "train/loss"), (2, "val/dice_student")} <= set(second.metrics)
        for step, logger in ((1, first), (2, second)):
            [(key, shape, at)] = logger.pictures
            assert (key, shape[1:], at) == (f"watch/{case}", (1460, 3), step)


def test_the_users_own_projects_and_servers_count(
    stand_ins: None, balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "liver")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "livers")
    assert main(arguments(balls, tmp_path / "run", "--steps=1", "--loggers+=wandb", "--loggers+=mlflow")) == 0
    assert Wandb.made[0].options["project"] == "liver"
    options = MLflow.made[0].options
    assert (options["tracking_uri"], options["experiment_name"]) == ("https://mlflow.example", "livers")
    assert options["artifact_location"] is None
    assert (tmp_path / "run" / "tensorboard").exists()


def test_a_server_that_cannot_be_used_is_one_clear_error(
    stand_ins: None, balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self, *_: Any) -> None:
        raise RuntimeError("api_key not configured\nwandb login")

    monkeypatch.setattr(Wandb, "log_hyperparams", fail)
    assert main(arguments(balls, tmp_path / "run", "--steps=1", "--loggers=[wandb]")) == 2
    assert "Error: Weights & Biases cannot be used: api_key not configured" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "title"), [("wandb", "Weights & Biases"), ("mlflow", "MLflow")])
def test_a_missing_package_is_found_before_any_scan_is_read(
    name: str, title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    assert main(arguments(tmp_path / "nowhere", tmp_path / "run", f"--loggers=[csv,{name}]")) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert message == f"Error: {title} is not installed: pip install medcontext[{name}]"
    assert not (tmp_path / "run").exists()
    check_loggers(["csv", "tensorboard"])


def test_an_unknown_logger_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="Unknown logger 'wandbb'; did you mean 'wandb'"):
        Settings(loggers=["wandbb"])


def test_names_that_mlflow_would_refuse_are_changed(stand_ins: None) -> None:
    logger = MLflow(run_id=None)
    log_picture(logger, "watch/Fälle (1)+a.b", np.zeros((2, 3, 3), np.uint8), 5)
    assert logger.pictures == [("watch/F_lle _1__a.b", (2, 3, 3), 5)]


@pytest.mark.slow
def test_weights_and_biases_itself(
    stopped: Train, balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert stopped("--loggers+=wandb") == 130
    assert wandb.run is None  # finished, so that another training in this process has a record of its own
    assert main(arguments(balls, tmp_path / "run", *SAME, "--loggers+=wandb", "--resume")) == 0
    identity = json.loads((tmp_path / "run" / "run.json").read_text())["wandb_id"]
    records = sorted((tmp_path / "run" / "wandb").glob("offline-run-*"))
    assert [record.name.rpartition("-")[2] for record in records] == [identity] * 2
    for record in records:
        [picture] = (record / "files" / "media" / "images" / "watch").glob("*.png")
        assert picture.stat().st_size > 10_000
        deadline = time.monotonic() + 30  # its own process writes the file, and may lag behind
        while b"val/dice_student" not in (content := (record / f"run-{identity}.wandb").read_bytes()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        for words in (b"patch_size", b"medcontext"):
            assert words in content


@pytest.mark.slow
def test_mlflow_itself(stopped: Train, balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy", reason="mlflow-skinny keeps nothing in files")
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert stopped("--loggers+=mlflow") == 130
    run = tmp_path / "run"
    more = ["--loggers+=mlflow", "--watch_cases=1", "--workers=0", "--resume"]  # a setting that may change
    assert main(arguments(balls, run, *SAME, *more)) == 0
    identity = json.loads((run / "run.json").read_text())["mlflow_id"]
    with sqlite3.connect(run / "mlflow.db") as database:
        assert database.execute("select run_uuid, status from runs").fetchall() == [(identity, "FINISHED")]
    client = MlflowClient(f"sqlite:///{run / 'mlflow.db'}")
    record = client.get_run(identity)
    assert record.data.params["method/mask/patch_size"] == "8"
    assert record.info.run_name == "run"
    assert [point.step for point in client.get_metric_history(identity, "val/dice_student")] == [1, 2]
    images = [path.name for path in (run / "mlflow").rglob("*.png")]
    assert len(images) == 2
    assert sorted(name.split("step")[1][1] for name in images) == ["1", "2"]


def test_where_a_training_came_to_is_written_when_it_ends(tmp_path: Path) -> None:
    """No thread of TensorBoard writes into the folder afterwards."""
    facts = SimpleNamespace(step=7, seconds=2.5)
    run = SimpleNamespace(folder=tmp_path, settings=Settings(loggers=["tensorboard"]), facts=facts)
    with open_loggers(run, first=True) as loggers:  # type: ignore[arg-type]
        log_outcome(loggers, run, {"best/dice": 0.5, "best/never": math.nan})  # type: ignore[arg-type]
    assert not [thread for thread in threading.enumerate() if type(thread).__module__.startswith("tensorboard")]
    written = EventAccumulator(str(tmp_path / "tensorboard" / "version_0")).Reload()
    assert {name: written.Scalars(name)[0].value for name in written.Tags()["scalars"]} == {
        "hp/step": 7,
        "hp/seconds": 2.5,
        "best/dice": 0.5,
    }


def test_a_full_disk_under_tensorboard_is_told_once(tmp_path: Path) -> None:
    """Its writing thread fails, the training hears of it, and only that speaks; any other thread's error is printed."""
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("threading.excepthook", lambda arguments: printed.append(str(arguments.exc_value)))
        with pytest.raises(InputError, match=r"Cannot write .*tensorboard/version_0: No space left"):
            tensorboard_on_a_full_disk(tmp_path)
    assert printed == ["something else"]


def tensorboard_on_a_full_disk(folder: Path) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    def other() -> None:
        raise ValueError("something else")

    run = SimpleNamespace(folder=folder, settings=Settings(loggers=["tensorboard"]))
    with open_loggers(run, first=True) as loggers:  # type: ignore[arg-type]
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        writer = loggers[1].experiment.file_writer.event_writer._async_writer  # type: ignore[attr-defined]
        writer._writer.write = full
        log_picture(loggers[1], "watch/a", np.zeros((2, 3, 3), np.uint8), 1)
