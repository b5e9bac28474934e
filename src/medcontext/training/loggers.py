"""Where curves and pictures go: CSV and TensorBoard in the run's folder; Weights & Biases and MLflow if asked for."""

import math
import os
import re
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from medcontext.configuration import plain
from medcontext.errors import InputError, first_line
from medcontext.extras import EXTRAS, need
from medcontext.files import writing
from medcontext.run import Training

PROJECT = "medcontext"  # and MLflow's experiment, unless their own variables name another
OPTIONAL = ("wandb", "mlflow")


def check_loggers(names: Sequence[str]) -> None:
    """Refuse a logger whose package is missing.

    Raises:
        InputError: naming the extra that has it.
    """
    for name in OPTIONAL:
        if name in names:
            need(name)


@contextmanager
def open_loggers(run: Training, first: bool) -> Iterator[list[Logger]]:
    """The loggers of a run, closed at the end; a resumed run goes on in the same records.

    Args:
        run: its folder gets what is kept in files, its facts the records' ids.
        first: whether this process is the one that writes; the others have no part in records on servers.

    Raises:
        InputError: if Weights & Biases or MLflow cannot be reached.
    """
    # Written at once, a thousand rows a run at most: Lightning's own pace may be never, and a killed run lost them all.
    loggers: list[Logger] = [CSVLogger(run.folder, name="csv", flush_logs_every_n_steps=1)]
    if "tensorboard" in run.settings.loggers:
        loggers.append(TensorBoardLogger(run.folder, name="tensorboard", default_hp_metric=False))
    for logger in loggers:
        logger.log_hyperparams(plain(asdict(run.settings)))
    failed = True
    try:
        for name in OPTIONAL:
            if first and name in run.settings.loggers:
                try:
                    loggers.append(open_wandb(run) if name == "wandb" else open_mlflow(run))
                except Exception as error:  # a server may raise anything
                    raise InputError(f"{EXTRAS[name][0]} cannot be used: {first_line(error)}") from error
        with _hushed_writer():
            yield loggers
        failed = False
    finally:
        for logger in loggers:
            if isinstance(logger, WandbLogger):  # MLflow's is closed by Lightning
                logger.experiment.finish(exit_code=int(failed))


def open_wandb(run: Training) -> WandbLogger:
    """The run's record in Weights & Biases; WANDB_PROJECT, WANDB_MODE and their like count as always."""
    identity = run.facts.wandb_id = run.facts.wandb_id or uuid.uuid4().hex[:8]
    run.write_facts()
    logger = WandbLogger(
        name=run.folder.resolve().name,
        save_dir=run.folder,
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        id=identity,
    )
    logger.log_hyperparams(asdict(run.settings))
    return logger


def open_mlflow(run: Training) -> MLFlowLogger:
    """The run's record in MLflow: at MLFLOW_TRACKING_URI, else in RUN/mlflow.db, its pictures in RUN/mlflow."""
    folder = run.folder.resolve()
    server = os.environ.get("MLFLOW_TRACKING_URI")
    logger = MLFlowLogger(
        experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT),
        run_name=folder.name,
        tracking_uri=server or f"sqlite:///{folder / 'mlflow.db'}",
        artifact_location=None if server else (folder / "mlflow").as_uri(),
        run_id=run.facts.mlflow_id,
    )
    if run.facts.mlflow_id:
        logger.experiment.update_run(logger.run_id, "RUNNING")
    else:
        run.facts.mlflow_id = logger.run_id
        run.write_facts()
        logger.log_hyperparams(asdict(run.settings))  # once: MLflow refuses to change any
    return logger


def log_outcome(loggers: Sequence[Logger], run: Training, best: Mapping[str, float]) -> None:
    """Say where a training has come to, beside its settings in TensorBoard's table of runs."""
    reached = {"hp/step": float(run.facts.step or 0), "hp/seconds": run.facts.seconds or 0.0}
    reached |= {name: value for name, value in best.items() if math.isfinite(value)}
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            with writing(Path(logger.log_dir)):
                logger.log_hyperparams(plain(asdict(run.settings)), reached, run.facts.step)
                logger.finalize("success")  # Lightning did so before this: its thread may write after the end


def log_picture(logger: Logger, name: str, picture: np.ndarray, step: int) -> None:
    """Log a picture (H, W, 3), uint8, where the logger takes pictures.

    Raises:
        InputError: if it cannot be written, as on a full disk.
    """
    if isinstance(logger, TensorBoardLogger):
        with writing(Path(logger.log_dir)):
            logger.experiment.add_image(name, picture, step, dataformats="HWC")
            logger.experiment.flush()
    elif isinstance(logger, WandbLogger):
        logger.log_image(name, [picture], step)
    elif isinstance(logger, MLFlowLogger):
        key = re.sub(r"[^\w./ -]", "_", name, flags=re.ASCII)  # all that MLflow allows in a name
        logger.experiment.log_image(logger.run_id, picture, key=key, step=step)


@contextmanager
def _hushed_writer() -> Iterator[None]:
    """Keep TensorBoard's writing thread from printing, on a full disk, the error that it hands to the training too."""
    usual = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        ours = type(arguments.thread).__module__.startswith("tensorboard.")
        if not (ours and isinstance(arguments.exc_value, OSError)):
            usual(arguments)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = usual
