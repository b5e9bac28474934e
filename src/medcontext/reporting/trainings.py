"""How the models of a report were trained: found from their predictions, read from their runs."""

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from medcontext.comparison.study import Study
from medcontext.errors import InputError, counted
from medcontext.evaluation.scores import Evaluation
from medcontext.files import file_hash, read_json
from medcontext.inference.origin import RECORD
from medcontext.method_settings import MethodSettings
from medcontext.reporting.nnunet import read_nnunet
from medcontext.reporting.shown import Curve, Shown
from medcontext.run import Facts, Run, UnlabelledFacts, read_run

OF_MASKING = ("train/masked", "train/consistency", "beta")  # a baseline logs them too, but has none


@dataclass(frozen=True)
class Training:
    """One training of ours behind a model's predictions; see `Shown`.

    Args:
        model: its name in the report.
        run: settings and facts.
        curves: what was logged, by name, such as `train/loss`.
        prediction: how the predictions were made of it (`predicted_by` of their dataset.json); empty while it runs.
    """

    model: str
    run: Run
    curves: dict[str, Curve]
    prediction: dict[str, Any]

    @property
    def title(self) -> str:
        return f"{self.model}, seed {self.run.settings.seed}"

    @property
    def fold(self) -> int:
        return self.run.settings.fold

    @property
    def dataset(self) -> str:
        return self.run.facts.dataset

    @property
    def scans(self) -> int:
        return len(self.run.split.train)

    @property
    def network(self) -> str:
        return self.run.settings.network

    @property
    def known(self) -> dict[str, str]:
        return _facts(self)

    @property
    def every_setting(self) -> str:
        return (self.run.folder / "settings.yaml").read_text(encoding="utf-8")

    @property
    def drawn(self) -> dict[str, Curve]:
        masking = self.run.settings.method.masking
        return {name: curve for name, curve in self.curves.items() if masking or name not in OF_MASKING}


def find_trainings(study: Study) -> tuple[list[Shown], list[str]]:
    """The trainings of all models and seeds, ours and nnU-Net's, and a sentence on each that is not known.

    Predictions of another tool have none; a run may have been moved since, trained on, or be damaged. None of that is
    an error.
    """
    found: list[Shown] = []
    unknown: list[str] = []
    for model in study.models:
        for evaluation in model.evaluations:
            try:
                readers = _readers(model.name, evaluation)
            except InputError as error:
                unknown.append(f"{model.name}: {error}")
                continue
            for read in readers:
                try:
                    found.append(read())
                except InputError as error:
                    unknown.append(f"{model.name}: {error}")
    return found, unknown


def _readers(model: str, evaluation: Evaluation) -> list[Callable[[], Shown]]:
    """For each training behind an evaluation what reads it; several where an ensemble predicted, or folds their cases.

    Raises:
        InputError: if the predictions do not say what made them.
    """
    nnunet = evaluation.summary.get("nnunet")
    if nnunet is None:
        prediction = read_prediction(evaluation)
        made = [
            (network, {**prediction, "networks": [network]} if "cases" in network else prediction)
            for network in prediction["networks"]
        ]
        return [partial(read_training, model, network, its) for network, its in made]
    if nnunet["trainer"] is None:
        raise InputError(
            f"{evaluation.summary['predictions']} is of nnUNetv2_predict, which does not note by which training; it is "
            "not shown."
        )
    read = partial(read_nnunet, model, Path(nnunet["trainer"]), postprocessed=bool(nnunet.get("postprocessed")))
    return [partial(read, *fold) for fold in nnunet["folds"].items()]


def read_prediction(evaluation: Evaluation) -> dict[str, Any]:
    """What `medcontext predict` recorded of the evaluated predictions: `weights` and `networks`.

    Raises:
        InputError: if it recorded nothing, or something else.
    """
    folder = Path(evaluation.summary.get("predictions", ""))
    record = read_json(folder / RECORD) if (folder / RECORD).is_file() else {}
    prediction = record.get("predicted_by") if isinstance(record, dict) else None
    if not isinstance(prediction, dict) or not prediction.get("networks"):
        raise InputError(f"{folder} does not say what predicted it; its training is not shown.")
    networks = prediction["networks"]
    whole = isinstance(networks, list) and all(
        isinstance(each, dict) and isinstance(each.get("checkpoint"), str) and isinstance(each.get("sha256"), str)
        for each in networks
    )
    if not whole or not isinstance(prediction.get("weights"), str):
        raise InputError(f"{folder / RECORD} is damaged or of another version; its training is not shown.")
    return prediction


def read_training(model: str, network: dict[str, Any], prediction: dict[str, Any]) -> Training:
    """The training of one network that predicted.

    Args:
        model: its name in the report.
        network: one of the prediction's.
        prediction: from `read_prediction`.

    Raises:
        InputError: if the run is not there or damaged, or is no longer what predicted: its facts would be others.
    """
    checkpoint = Path(network["checkpoint"])
    run = read_run(checkpoint.parent.parent)
    if not checkpoint.is_file():
        raise InputError(f"{checkpoint}, which predicted, is not there any more; its training is not shown.")
    if _hash(checkpoint) != network["sha256"]:
        raise InputError(
            f"the run has been trained on since these predictions were made: {checkpoint} is not the file that "
            "predicted; its training is not shown. Predict and evaluate again."
        )
    return Training(model, run, read_curves(run.folder), prediction)


def _hash(checkpoint: Path) -> str:
    try:
        return file_hash(checkpoint)
    except OSError as error:
        raise InputError(f"Cannot read {checkpoint}: {error.strerror}; its training is not shown.") from None


def read_curves(run: Path) -> dict[str, Curve]:
    """What a run logged to `csv/`, one table for each time that it was started.

    Where a run was killed and resumed from a checkpoint, the steps done twice count once, the second time.

    Raises:
        InputError: if a table cannot be read.
    """
    curves: dict[str, Curve] = {}
    tables = [path for path in run.glob("csv/version_*/metrics.csv") if _version(path).isdecimal()]
    for table in sorted(tables, key=lambda path: int(_version(path))):
        try:
            with table.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if (row.get("step") or "").isdecimal()]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(
                f"{table} cannot be read: {error}. Remove it; the curves of that start are lost."
            ) from None
        start = min((int(row["step"]) for row in rows), default=math.inf)
        curves = {name: [point for point in curve if point[0] < start] for name, curve in curves.items()}
        for row in rows:
            for name, text in row.items():
                value = as_number(text)
                if name != "step" and not math.isnan(value):
                    curves.setdefault(name, []).append((int(row["step"]), value))
    return {name: curve for name, curve in curves.items() if curve}


def last_step(curves: Mapping[str, Curve]) -> int:
    """The step that a training logged last; 0 before the first."""
    return max((curve[-1][0] for curve in curves.values()), default=0)


def _version(table: Path) -> str:
    return table.parent.name.removeprefix("version_")


def as_number(text: Any) -> float:
    """A value of a table that may still be being written; NaN for what is none."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def methods_rows(trainings: Sequence[Shown]) -> list[tuple[str, list[str]]]:
    """What the methods section of a paper needs: a row a fact, a column a training."""
    columns = [training.known for training in trainings]
    names = list(dict.fromkeys(name for column in columns for name in column))
    return [(name, [column.get(name, "") for column in columns]) for name in names]


def _facts(training: Training) -> dict[str, str]:
    run = training.run
    facts, settings, optimizer = run.facts, run.settings, run.settings.optimizer
    spacing = " x ".join(f"{size:g}" for size in run.plan.spacing) + " mm" if run.plan.spacing else "each scan's own"
    found = {
        "method": _method(settings.method, bool(facts.unlabelled.scans)),
        "seed": str(settings.seed),
        "data set": facts.dataset,
        "cases": f"{len(run.split.train)} training, {len(run.split.validation)} validation, {len(run.split.test)} test",
        "scans without labels": _unlabelled(facts.unlabelled),
        "network": f"{settings.network}, {facts.parameters or 0:,} parameters",
        "starts from": _started(facts),
        "network arguments": ", ".join(f"{key} {json.dumps(value)}" for key, value in settings.network_args.items()),
        "steps": _steps(run),
        "changed on the way": "; ".join(f"{change} from step {step:,} on" for step, change in facts.changes),
        "crop": " x ".join(map(str, run.crop_size)) + " voxels",
        "spacing": spacing,
        "optimizer": f"{optimizer.name}, learning rate {optimizer.lr:g} ({optimizer.schedule}), weight decay "
        f"{optimizer.weight_decay:g}",
        "weights scored": _weights(training),
        "post-processing": _postprocessing(training.prediction.get("postprocessing")),
        "precision": facts.precision or settings.precision,
        "hardware": facts.hardware or "",
        "time": _time(facts),
        "versions": ", ".join(f"{name} {number}" for name, number in facts.versions.items()),
    }
    return {name: text for name, text in found.items() if text}


def _started(facts: Facts) -> str:
    """The weights that it began with; nothing where they were random."""
    seen = f"; it had seen {counted(len(facts.init_tested), 'test image')}" if facts.init_tested else ""
    return f"{facts.init}{seen}"


def _unlabelled(facts: UnlabelledFacts) -> str:
    """How many, and what of them is no ordinary scan."""
    if not facts.scans:
        return ""
    kinds = {
        "tested": ("test image", "seen without labels"),
        "validated": ("validation image", "seen without labels"),
        "unlike": ("scan", "with intensities far from the labelled ones'"),
    }
    found = {kind: len(getattr(facts, kind)) for kind in kinds}
    remarks = [f"{counted(found[kind], noun)} {text}" for kind, (noun, text) in kinds.items() if found[kind]]
    left = len(facts.damaged) + len(facts.labelled) + len(facts.doubled)
    remarks += [f"{counted(left, 'more scan')} left out"] if left else []
    return "; ".join([str(len(facts.scans)), *remarks])


def _steps(run: Run) -> str:
    """How many were made, and why no more."""
    facts, settings = run.facts, run.settings
    size = settings.batch_size * settings.accumulate * (facts.devices or 1)
    made = settings.steps if facts.step is None else facts.step
    if made >= settings.steps:
        return f"{made:,} of batch {size}"
    return f"{made:,} of batch {size}, {settings.steps:,} were planned. {facts.ended or ''}".rstrip(" ")


def _method(method: MethodSettings, with_scans: bool = False) -> str:
    return f"{method.name}: {method.told(with_scans)}"


def _time(facts: Facts) -> str:
    """How long it took, and what it cost in device hours, from which energy can be estimated."""
    if facts.seconds is None:
        return ""
    kind = "CPU process" if "CPU" in (facts.hardware or "CPU") else "GPU"
    memory = facts.peak_gpu_memory_gib
    peak = f", peak memory {memory:.1f} GiB" if memory else ""
    hours = facts.seconds * (facts.devices or 1) / 3600
    return f"{timedelta(seconds=round(facts.seconds))}, {hours:.2f} {kind} hours{peak}"


def _weights(training: Training) -> str:
    made = training.prediction
    if not made:
        return ""
    names = ", ".join(f"{Path(each['checkpoint']).name} ({each['sha256'][:8]})" for each in made["networks"])
    return f"{made['weights']}'s, {names}"


def _postprocessing(steps: Any) -> str:
    """What was kept of each structure, as `medcontext predict` noted it."""
    return "; ".join(f"{name}: {kept}" for name, kept in steps.items()) if isinstance(steps, dict) else ""
