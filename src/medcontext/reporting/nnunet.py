"""How nnU-Net v2 trained: what its plans.json, debug.json and training logs say. Nothing is unpickled."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medcontext.data.nnunet_results import ALL, CHECKPOINT, PLANS
from medcontext.errors import InputError
from medcontext.files import file_hash, read_json
from medcontext.reporting.shown import Curve

_LINE = re.compile(
    r"[\d-]+ [\d:.]+: (?P<name>Epoch time:|Epoch|Current learning rate:|train_loss|val_loss|Pseudo dice)"
    r" (?P<value>.*?) *"
)
_SPLIT = re.compile(r"split has (\d+) training and (\d+) validation cases")
_NUMBER = re.compile(r"nan|-?\d+(?:\.\d*)?(?:e[-+]?\d+)?")
_LOGGED = {
    "train_loss": "train/nnunet_loss",
    "val_loss": "val/nnunet_loss",
    "Pseudo dice": "val/nnunet_dice",
    "Current learning rate:": "lr",
}
_WRAPPERS = ("OptimizedModule", "DistributedDataParallel")  # around the network: compiled, on several devices

Epochs = dict[int, dict[str, float]]
"""What the log says of each epoch, by its own words."""


@dataclass(frozen=True)
class NnunetTraining:
    """One fold of a training; see `Shown`.

    Args:
        model: its name in the report.
        folder: of the fold.
        fold: 0, 1, ... or all.
        plans: what plans.json says.
        debug: what debug.json says: the trainer's attributes, as text.
        epochs: see `read_epochs`.
        split: numbers of training and validation cases; None where the log does not say.
        sha256: of the checkpoint; None where there is none.
        postprocessed: whether its predictions were post-processed, by what was best for them.
    """

    model: str
    folder: Path
    fold: str
    plans: dict[str, Any]
    debug: dict[str, str]
    epochs: Epochs
    split: tuple[int, int] | None
    sha256: str | None
    postprocessed: bool = False

    @property
    def title(self) -> str:
        return self.model

    @property
    def dataset(self) -> str:
        return str(self.plans.get("dataset_name", ""))

    @property
    def scans(self) -> int | None:
        return self.split[0] if self.split else None

    @property
    def configuration(self) -> dict[str, Any]:
        """Its part of the plans, with what it takes over from others (`inherits_from`)."""
        found: dict[str, Any] = {}
        name: Any = self.debug.get("configuration_name")
        every = self.plans.get("configurations", {})
        while isinstance(every.get(name), dict):
            every = {other: content for other, content in every.items() if other != name}  # no circles
            content = self.plans["configurations"][name]
            found, name = content | found, content.get("inherits_from")
        return found

    @property
    def network(self) -> str:
        name = self.debug.get("network", "")
        if name and name not in _WRAPPERS:
            return name
        planned = self.configuration.get("architecture", {}).get("network_class_name", "")
        return str(planned or self.configuration.get("UNet_class_name", "")).rpartition(".")[2]

    @property
    def every_setting(self) -> str:
        return json.dumps(self.configuration, indent=2)

    @cached_property
    def drawn(self) -> dict[str, Curve]:
        """By steps, as everybody's: an epoch's value stands at its last."""
        length = int(self.debug["num_iterations_per_epoch"])
        curves = {
            curve: [
                ((epoch + 1) * length, said[name])
                for epoch, said in self.epochs.items()
                if not math.isnan(said.get(name, math.nan))
            ]
            for name, curve in _LOGGED.items()
        }
        return {name: curve for name, curve in curves.items() if curve}

    @property
    def known(self) -> dict[str, str]:
        debug, configuration = self.debug, self.configuration
        trainer, _, _ = self.folder.parent.name.partition("__")
        epochs, length = (int(debug[key]) for key in ("num_epochs", "num_iterations_per_epoch"))
        batch = debug.get("batch_size") or configuration.get("batch_size", "?")
        on = "" if self.fold == ALL or self.split is None else f", {self.split[1]} validation"
        without = f", {debug['unlabelled_scans']} without labels" if int(debug.get("unlabelled_scans", 0)) else ""
        found = {
            "method": f"nnU-Net v2, {trainer}" + (f"; MedContext's {debug['told']}" if debug.get("told") else ""),
            "data set": self.dataset,
            "cases": f"{self.scans} training{on}{without}" if self.scans else "",
            "fold": self.fold,
            "configuration": f"{debug.get('configuration_name', '')}, {self.plans.get('plans_name', '')}",
            "network": ", ".join(filter(None, [self.network, _size(configuration)])),
            "steps": f"{epochs * length:,} of batch {batch}, in {epochs:,} epochs of {length:,}{self._stopped(epochs)}",
            "crop": f"{_product(configuration.get('patch_size'))} voxels, in nnU-Net's order of the axes",
            "spacing": f"{_product(configuration.get('spacing'))} mm, in nnU-Net's order of the axes",
            "intensities": ", ".join(configuration.get("normalization_schemes", [])),
            "loss": _loss(debug.get("loss", "")),
            "optimizer": _optimizer(debug),
            "weights scored": f"{CHECKPOINT} ({self.sha256[:8]}), or the best by --val_best" if self.sha256 else "",
            "post-processing": "nnU-Net's, chosen on the scored cases" * self.postprocessed,
            "hardware": debug.get("gpu_name") or debug.get("device", "").upper(),
            "time": self._time(),
            "versions": f"torch {debug['torch_version']}" if "torch_version" in debug else "",
        }
        return {name: text for name, text in found.items() if text}

    def _stopped(self, epochs: int) -> str:
        done = len(self.epochs)
        return f"; its log has {done:,}" if done and done != epochs else ""

    def _time(self) -> str:
        """Of the epochs that the log has, without the validation at the end."""
        seconds = sum(said.get("Epoch time:", math.nan) for said in self.epochs.values())
        if not self.epochs or math.isnan(seconds):
            return ""
        text = f"{timedelta(seconds=round(seconds))} of training"
        if self.debug.get("is_ddp") == "True":  # on how many devices is not said
            return text
        return f"{text}, {seconds / 3600:.2f} {'GPU' if 'gpu_name' in self.debug else 'CPU process'} hours"


def read_nnunet(
    model: str, trainer: Path, fold: str, sha256: str | None, postprocessed: bool = False
) -> NnunetTraining:
    """One fold of a training.

    Args:
        model: its name in the report.
        trainer: the folder of the training.
        fold: 0, 1, ... or all.
        sha256: of the checkpoint when its predictions were evaluated; None if there was none.
        postprocessed: see `NnunetTraining`.

    Raises:
        InputError: if files are not there or damaged, or the fold was trained anew since.
    """
    folder = trainer / f"fold_{fold}"
    checkpoint = folder / CHECKPOINT
    if sha256 and checkpoint.is_file() and file_hash(checkpoint) != sha256:
        raise InputError(
            f"{checkpoint} is not the file that was there when its predictions were evaluated; the training is not "
            "shown. Evaluate again."
        )
    plans, debug = _object(trainer / PLANS), _object(folder / "debug.json")
    for key in ("num_epochs", "num_iterations_per_epoch"):
        if not str(debug.get(key, "")).isdecimal():
            raise InputError(f"{folder / 'debug.json'} does not say {key}; the training is not shown.")
    epochs, split = read_epochs(folder)
    debug = {key: value for key, value in debug.items() if isinstance(value, str) and value != "None"}
    return NnunetTraining(model, folder, fold, plans, debug, epochs, split, sha256, postprocessed)


def read_epochs(fold: Path) -> tuple[Epochs, tuple[int, int] | None]:
    """What the training logs of a fold say of each whole epoch, and the numbers of training and validation cases.

    Each start has a log of its own. Epochs that were done twice, as after a killed process, count once, the second
    time.

    Raises:
        InputError: if a log cannot be read.
    """
    epochs: Epochs = {}
    split = None
    for log in sorted(fold.glob("training_log_*.txt"), key=_when):
        try:
            text = log.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise InputError(f"{log} cannot be read: {error.strerror}; the training is not shown.") from None
        if sizes := _SPLIT.search(text):
            split = int(sizes[1]), int(sizes[2])
        found = parse_log(text)
        start = min(found, default=math.inf)
        epochs = {epoch: said for epoch, said in epochs.items() if epoch < start} | found
    return epochs, split


def parse_log(text: str) -> Epochs:
    """The whole epochs of one log; of several structures' Dice the mean.

    >>> said = "Epoch 7\\ntrain_loss -0.5\\nPseudo dice [np.float32(0.5), 0.7, nan]\\nEpoch time: 2.5 s"
    >>> parse_log("".join(f"2026-11-26 18:13:59.005: {line} \\n" for line in said.splitlines()))
    {7: {'train_loss': -0.5, 'Pseudo dice': 0.6, 'Epoch time:': 2.5}}
    """
    epochs: Epochs = {}
    said: dict[str, float] = {}
    for match in filter(None, map(_LINE.fullmatch, text.splitlines())):
        name, value = match["name"], match["value"]
        if name == "Epoch":
            said = epochs[int(value)] = {}
        else:
            said[name] = _mean(value)
    return {epoch: said for epoch, said in epochs.items() if "Epoch time:" in said}


def _mean(text: str) -> float:
    """Of the numbers in a text, which may be numpy's, those that are one."""
    numbers = [float(each) for each in _NUMBER.findall(re.sub(r"np\.float\d+", "", text))]
    known = [number for number in numbers if not math.isnan(number)]
    return round(float(np.mean(known)), 6) if known else math.nan


def _when(log: Path) -> tuple[int, ...]:
    """When a log begins; nnU-Net does not pad months and days with zeros."""
    return tuple(int(part) for part in re.findall(r"\d+", log.stem))


def _object(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise InputError(f"{file} is not there; the training is not shown.")
    content = read_json(file)
    if not isinstance(content, dict):
        raise InputError(f"{file} is damaged: it holds a {type(content).__name__}; the training is not shown.")
    return content


def _size(configuration: Mapping[str, Any]) -> str:
    features = configuration.get("architecture", {}).get("arch_kwargs", {}).get("features_per_stage")
    if not isinstance(features, list) or not features:
        return ""
    return f"{len(features)} stages of {features[0]} to {features[-1]} features"


def _product(sizes: Any) -> str:
    return " x ".join(f"{size:g}" for size in sizes) if isinstance(sizes, list) else "?"


def _loss(text: str) -> str:
    """
    >>> _loss("DeepSupervisionWrapper(\\n  (loss): DC_and_CE_loss(\\n    (ce): RobustCrossEntropyLoss()\\n))")
    'DC_and_CE_loss, deep supervision'
    """
    wrapped = text.startswith("DeepSupervisionWrapper")
    names = re.findall(r"(\w+)\(", text)[int(wrapped) :]
    return f"{names[0]}{', deep supervision' * wrapped}" if names else ""


def _optimizer(debug: Mapping[str, str]) -> str:
    """
    >>> _optimizer({"optimizer": "SGD (\\n    momentum: 0.99\\n    nesterov: True\\n)", "initial_lr": "0.01"})
    'SGD, learning rate 0.01, momentum 0.99, nesterov'
    """
    text = debug.get("optimizer", "")
    said = dict(re.findall(r"^ +(\w+): (\S+)$", text, re.MULTILINE))
    schedule = re.search(r"\.(\w+) object", debug.get("lr_scheduler", ""))
    follows = f" ({schedule[1]})" if schedule else ""
    parts = [
        text.partition(" ")[0],
        f"learning rate {debug['initial_lr']}{follows}" if "initial_lr" in debug else "",
        f"momentum {said['momentum']}" if "momentum" in said else "",
        "nesterov" if said.get("nesterov") == "True" else "",
        f"weight decay {said['weight_decay']}" if "weight_decay" in said else "",
    ]
    return ", ".join(filter(None, parts))
