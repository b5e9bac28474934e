"""What do the second view and scans without labels bring at equal cost?

    python benchmarks/study.py acdc --data ACDC --work DIR --seeds 0 1 2 [--arms baseline medcontext ...]

Five labelled scans, others without their labels, tests on patients that are neither. Every arm costs what the
baseline's steps cost, in processor time that is measured first, each arm beside the baseline (augmentation,
loading and losses included). A study goes on where it was killed: in a training, a prediction, an evaluation. At the
end a table, with every case in a CSV beside it, is written to benchmarks/results/. `development` cases are those that
settings were chosen on; what is reported are the others.
"""

import argparse
import csv
import fcntl
import json
import multiprocessing
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any

import medcontext as mc
from medcontext.configuration import plain
from medcontext.data.cases import patient
from medcontext.data.formats import read_dataset
from medcontext.files import write_json
from medcontext.pretrain_settings import OBJECTIVES

PROBE = 150  # first steps of two trainings, side by side, by which a step's cost is measured
WARM = 8  # of them, which do not count
FIVE_FRAMES = (
    "patient001_frame12",
    "patient004_frame15",
    "patient005_frame01",
    "patient013_frame14",
    "patient043_frame07",
)


@dataclass(frozen=True)
class Arm:
    """One way to spend the hours.

    Args:
        method: a name, as `--method` takes it.
        changes: settings that differ from the method's, and from those of all arms.
        unlabelled: whether the scans without labels take part.
        cost: in units of the baseline's.
        all_labels: the scans without labels have theirs after all: the ceiling of what they can bring at this cost.
        retrain: half of the cost trains on the labels, the other half anew on these and on the first network's
            predictions of the scans without labels.
        pretrain: the objective by which half of the cost pretrains the encoder, on the images of all training cases;
            the other half starts from that.
        on_top: the pretraining costs nothing: as many steps follow it as an arm without it has.
    """

    method: str = "none"
    changes: dict[str, Any] = field(default_factory=dict)
    unlabelled: bool = False
    cost: float = 1.0
    retrain: bool = False
    all_labels: bool = False
    pretrain: str = ""
    on_top: bool = False

    @property
    def scans(self) -> list[str]:
        """As `--unlabelled` takes them."""
        return ["rest"] if self.unlabelled else []


def without_length(name: str) -> str:
    """An arm's name without its length.

    >>> without_length("baseline four times"), without_length("simmim on top")
    ('baseline', 'simmim on top')
    """
    return re.sub(" (twice|four times)$", "", name)


def ours(**changes: Any) -> Arm:
    """The default with scans without labels, where settings of these differ."""
    return Arm("medcontext", {f"method.unlabelled.{name}": value for name, value in changes.items()}, unlabelled=True)


def pretrained(objective: str, on_top: bool = False) -> dict[str, Arm]:
    """A plain training, and MedContext, that start from a pretraining; they share it."""
    name = f"{objective} on top" if on_top else objective
    return {
        name: Arm(pretrain=objective, on_top=on_top),
        f"{name}, medcontext": Arm("medcontext", unlabelled=True, pretrain=objective, on_top=on_top),
    }


HALF = {"method.share": 0.5, "method.clean": "rest"}
ARMS = {
    "baseline": Arm(),
    "baseline twice": Arm(cost=2.0),
    "baseline four times": Arm(cost=4.0),
    "equation 4": Arm("paper", {"method.teacher.warmup": True}),
    "equation 4, half": Arm("medcontext", HALF),
    "labelled in labelled": Arm("medcontext", {**HALF, "method.fill": "labelled"}),
    "retrain": Arm(retrain=True),
    "all labels": Arm(all_labels=True),
    "mean teacher": Arm("mean_teacher", unlabelled=True),
    "masked": ours(view="masked"),
    "masked, equation 2": ours(view="masked", target="consistency"),
    "medcontext": ours(),
    "medcontext twice": Arm("medcontext", unlabelled=True, cost=2.0),
    "medcontext four times": Arm("medcontext", unlabelled=True, cost=4.0),
    "any place": ours(place="any"),
    "any place twice": replace(ours(place="any"), cost=2.0),
    "not kept open": ours(keep_open=False),
    "no start": ours(start=0),
    "clean pass": ours(clean="all"),
    "every crop filled": ours(share=1),
    "every crop filled, both ways": ours(share=1, both=True),
    "threshold 0.95": ours(threshold=0.95),
    "weight 1": ours(weight=1),
    "soft": ours(target="soft"),
    "cubes": Arm("medcontext", {"method.mask.shape": "cube"}, unlabelled=True),
    "momentum 0.999": Arm(
        "medcontext", {"method.teacher.momentum": 0.999, "method.teacher.momentum_end": 0.999}, unlabelled=True
    ),
    **{
        name: arm
        for on_top in (False, True)
        for objective in OBJECTIVES
        for name, arm in pretrained(objective, on_top).items()
    },
}


PEERS = {f"nnunet {configuration}": f"stock nnU-Net v2, {configuration}" for configuration in ("2d", "3d_fullres")}
"""Trained by `benchmarks/nnunet_peer.py`, and shown here."""


@dataclass(frozen=True)
class Parts:
    """Names of cases: with labels, without, to choose settings on, and to report."""

    train: list[str]
    rest: list[str]
    development: list[str]
    report: list[str]


@dataclass(frozen=True)
class Study:
    """One data set.

    Args:
        title: of the report.
        steps: of the baseline.
        common: settings of all arms.
        masked: settings of the arms that hide something.
        train: the labelled cases; None for the first five patients.
        counts: patients without labels, and to choose settings on; all others are reported.
        turns: the patients without labels are these parts by turns, and the others are tested, so that each is once.
        development: the cases to choose settings on, where all others have no labels and none is reported.
        pretraining: settings of the arms that pretrain.
    """

    title: str
    steps: int
    common: dict[str, Any]
    masked: dict[str, Any]
    train: tuple[str, ...] | None = None
    counts: tuple[int, int] = (0, 0)
    turns: int = 1
    development: tuple[str, ...] = ()
    pretraining: dict[str, Any] = field(default_factory=dict)

    def parts(self, names: list[str], turn: int) -> Parts:
        """Which case does what, by patient."""
        chosen = set(self.train or sorted(names)[:5])
        seen = {patient(name) for name in chosen}
        others = sorted({patient(name) for name in names} - seen)
        if self.development:
            groups = [[p for p in others if p not in self.development], list(self.development), []]
        elif self.turns > 1:
            groups = [others[turn :: self.turns], [], [p for i, p in enumerate(others) if i % self.turns != turn]]
        else:
            rest, development = self.counts
            groups = [others[:rest], others[rest : rest + development], others[rest + development :]]
        return Parts(sorted(chosen), *([name for name in names if patient(name) in set(group)] for group in groups))


PLAIN = {"network_args.num_res_units": 0}  # half the cost of a step; thin organs need the residual units
TURNED = {  # in the plane alone, where slices are thick, and more than the default does
    "augment.rotation": (0, 0, 30),
    "augment.scale": (0.7, 1.4),
    "augment.affine_probability": 0.8,
}
PAPER_FIVE = ("img0006", "img0007", "img0009", "img0010", "img0021")
ABDOMEN: dict[str, Any] = {
    "prepare.spacing": (4, 4, 4),
    "prepare.intensity_range": (-175, 250),
    "crop_size": (48, 48, 48),
}
ACDC = Study(
    "Cardiac cine MRI, the training part of ACDC at half its in-plane resolution, 3 structures (the spacing is "
    "unknown: HD95 is in units of the header)",
    4000,
    {**PLAIN, **TURNED, "prepare.spacing": (2, 2, 1), "crop_size": (96, 96, 8)},
    {"method.mask.patch_size": 16},
    train=FIVE_FRAMES,
    counts=(25, 20),
)
STUDIES = {
    "acdc": ACDC,
    "acdc_three": replace(ACDC, train=FIVE_FRAMES[:3], counts=(27, 20)),  # the same patients are reported
    "acdc_seven": replace(ACDC, train=(*FIVE_FRAMES, "patient002_frame01", "patient003_frame01"), counts=(23, 20)),
    "btcv": Study(
        "Abdominal CT, the training part of BTCV at 4 mm, 13 organs",
        2500,
        ABDOMEN,
        {"method.mask.patch_size": 8},
        train=PAPER_FIVE,
        turns=2,
    ),
    "btcv_development": Study(
        "Abdominal CT, the training part of BTCV at 4 mm, 13 organs: to choose settings on",
        2500,
        ABDOMEN,
        {"method.mask.patch_size": 8},
        train=("img0005", "img0023", "img0026", "img0028", "img0031"),
        development=PAPER_FIVE,
    ),
    "hippocampus": Study(
        "Hippocampus MRI, Medical Segmentation Decathlon Task04, 2 structures",
        1000,
        {**PLAIN, "crop_size": (40, 56, 40)},
        {"method.mask.patch_size": 8},
        counts=(110, 25),
    ),
}
UNETR = {
    "network": "unetr",
    **{f"network_args.{name}": value for name, value in (("feature_size", 4), ("hidden_size", 96), ("num_heads", 4))},
    "network_args.mlp_dim": 384,
}
DECODER = {f"mae.decoder_{name}": value for name, value in (("width", 96), ("depth", 2), ("heads", 4), ("mlp", 384))}
VIEWS: dict[str, Any] = {
    "pcrlv2.global_size": (32, 32, 32),
    "pcrlv2.local_size": (16, 16, 16),
    "pcrlv2.local_boxes": ((16, 16, 16), (8, 8, 8)),
    "pcrlv2.local_views": 4,
    "pcrlv2.swap_patch": (4, 4, 4),
}
SMALL_CNN = {"network": "pcrlv2", "network_args.width": 8}
ABDOMEN_ONCE = replace(STUDIES["btcv"], steps=1500, turns=1, counts=(6, 0))
STUDIES |= {
    "hippocampus_unetr": replace(
        STUDIES["hippocampus"],
        steps=1500,
        common={**UNETR, "crop_size": (32, 48, 32)},
        pretraining={**DECODER, "batch_size": 4},
    ),
    "hippocampus_pcrlv2": replace(
        STUDIES["hippocampus"],
        common={**SMALL_CNN, "crop_size": (32, 48, 32)},
        pretraining={**VIEWS, "pcrlv2.global_boxes": ((32, 48, 32), (32, 40, 24), (24, 40, 32)), "batch_size": 4},
    ),
    "btcv_unetr": replace(
        ABDOMEN_ONCE,
        common={**ABDOMEN, **UNETR, "crop_size": (48, 48, 32), "precision": "bf16"},
        pretraining={**DECODER, "batch_size": 4},
    ),
    "btcv_pcrlv2": replace(
        ABDOMEN_ONCE,
        common={**ABDOMEN, **SMALL_CNN, "crop_size": (32, 32, 32), "precision": "bf16"},
        pretraining={**VIEWS, "pcrlv2.global_boxes": ((48, 48, 32), (40, 48, 48), (32, 32, 32)), "batch_size": 4},
    ),
}
COMMON = {"batch_size": 2, "validation_cases": 0, "watch_cases": 0, "workers": 0}
DEVICES = {"cpu": {"accelerator": "cpu"}, "gpu": {"accelerator": "gpu", "precision": "32"}}


@dataclass
class Work:
    """A study's folder: `ARM/turn-SEED/...`, and what a step of each arm costs in `costs.json`.

    Args:
        study: what is compared.
        data: the data set.
        folder: of everything that is made.
        accelerator: that trains and predicts.
        call: runs each training, pretraining, prediction and evaluation.
        cache: of prepared scans.
    """

    study: Study
    data: Path
    folder: Path
    accelerator: str = "cpu"
    call: Callable[..., None] = field(default_factory=lambda: alone)
    cache: Path = field(default=Path())
    names: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.names = sorted(case.name for case in read_dataset(self.data).cases)
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.cache == Path():
            self.cache = self.folder / "cache"

    def place(self, arm: str, turn: int, seed: int) -> Path:
        return self.folder / re.sub(r"[^a-z0-9]+", "_", arm) / f"{turn}-{seed}"

    def settings(self, arm: Arm, turn: int, seed: int, **changes: Any) -> mc.Settings:
        """Of an arm's training, with the study's number of steps where the changes have no other."""
        parts = self.study.parts(self.names, turn)
        split = self.folder / f"split-{turn}.json"
        few = {str(len(parts.train)): parts.train}
        content = {"train": parts.train + parts.rest, "validation": [], "test": parts.development + parts.report}
        write_json(split, {**content, "few_shot": few})
        masked = {} if arm.method in ("none", "mean_teacher") else self.study.masked
        few_shot = None if arm.all_labels else len(parts.train)
        own = {"steps": self.study.steps, "split": split, "few_shot": few_shot, "seed": seed}
        common = {**COMMON, **DEVICES[self.accelerator], **self.study.common}
        values = {**common, **masked, **arm.changes, **own, **changes}
        return mc.Settings.preset(method=arm.method, **values)

    def pretraining_settings(self, objective: str, turn: int, seed: int, **changes: Any) -> mc.PretrainSettings:
        """Those of all arms that start from an objective."""
        common = {name: value for name, value in self.study.common.items() if not name.startswith("augment.")}
        own = {"workers": COMMON["workers"], **DEVICES[self.accelerator], "seed": seed, "held_out": 0.05}
        split = self.settings(Arm(), turn, seed).split
        others = tuple(f"{name}." for name in OBJECTIVES if name != objective)
        pretraining = {name: value for name, value in self.study.pretraining.items() if not name.startswith(others)}
        values = {**own, **common, **pretraining, "split": split, **changes}
        return mc.PretrainSettings.preset(objective=objective, **values)

    def pretrain(self, objective: str, turn: int, seed: int) -> Path:
        """Pretrain for half of the cost, going on where it was killed; once for all arms."""
        folder = self.folder / f"pretrained_{objective}" / f"{turn}-{seed}"
        made = plain(asdict(self.pretraining_settings(objective, turn, seed)))
        self.check_same(self.folder / f"pretrained_{objective}" / f"settings-{turn}-{seed}", made)
        steps = round(self.study.steps / 2 / self.cost(f"pretraining {objective}"))
        folder.mkdir(parents=True, exist_ok=True)
        with (folder.parent / f"lock-{turn}-{seed}").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # another process may be at it
            if not (folder / "trained").exists():
                settings = self.pretraining_settings(objective, turn, seed, steps=steps)
                self.call(mc.pretrain, [self.data], folder, settings, cache=self.cache, resume=True)
                (folder / "trained").touch()
        return folder

    def start(
        self, arm: Arm, run: Path, settings: mc.Settings, data: Path | None = None, init: Path | None = None
    ) -> None:
        """Train, going on where it was killed."""
        scans = {"unlabelled": arm.scans, "init": init}
        self.call(mc.train, data or self.data, run, settings, **scans, cache=self.cache, resume=True)

    def cost(self, name: str) -> float:
        """What a step of an arm costs in steps of the baseline, measured once, in processor time.

        Both train at the same time: what else the machine does makes both dearer alike.
        """
        costs = self.folder / "costs.json"
        if name in ARMS:
            arm = ARMS[name]
            if arm.method == "none":
                return 1.0
            name = "medcontext" if arm.pretrain else without_length(name)
        known = json.loads(costs.read_text()) if costs.exists() else {}
        if name not in known:
            with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
                jobs = [pool.submit(paces, *self.probe(each)) for each in (name, "baseline")]
                ours, theirs = (job.result()[WARM:] for job in jobs)
            known = json.loads(costs.read_text()) if costs.exists() else {}
            known[name] = step_cost(ours, theirs)
            write_json(costs, known)
        return known[name]

    def probe(self, name: str) -> tuple[Path, Path, mc.Settings | mc.PretrainSettings, list[str], Path]:
        """A training of an arm with all of its views from the first step on, or a pretraining."""
        output = self.folder / f"probe-{name}-{os.getpid()}"
        if name not in ARMS:
            settings = self.pretraining_settings(name.removeprefix("pretraining "), 0, 0, steps=self.study.steps)
            return self.data, output, settings, [], self.cache
        arm = ARMS[name]
        with_scans = {"method.unlabelled.start": 0} if arm.unlabelled else {}
        return self.data, output, self.settings(arm, 0, 0, **with_scans), arm.scans, self.cache

    def steps(self, name: str) -> int:
        """As many as cost what the baseline's do; those before unlabelled scans join cost what a plain one does."""
        arm = ARMS[name]
        start = self.settings(arm, 0, 0).method.unlabelled.start if arm.unlabelled else 0.0
        cost = arm.cost / 2 if arm.pretrain and not arm.on_top else arm.cost
        return round(self.study.steps * cost / (start + (1 - start) * self.cost(name)))

    def run(self, name: str, turn: int, seed: int) -> None:
        """Train, predict, evaluate."""
        place = self.place(name, turn, seed)
        if not (place / "scores" / "summary.json").exists():
            self.make(name, turn, seed)
            self.call(mc.evaluate, place / "predictions", self.data, place / "scores")

    def make(self, name: str, turn: int, seed: int) -> None:
        """Train and predict."""
        arm, place = ARMS[name], self.place(name, turn, seed)
        self.check_same(place, plain(asdict(self.settings(arm, turn, seed))))
        if (place / "predicted").exists():
            return
        if arm.retrain:
            half = self.study.steps // 2
            self.train(arm, place / "first", self.settings(arm, turn, seed, steps=half))
            listed = self.relabelled(place / "first", place, turn)
            split = place / "split.json"
            chosen = [case["name"] for case in json.loads(listed.read_text())["cases"]]
            write_json(split, {"train": chosen, "validation": [], "test": []})
            again = self.settings(arm, turn, seed, steps=half, split=split, few_shot=len(chosen))
            self.train(arm, place / "run", again, listed)
        else:
            init = self.pretrain(arm.pretrain, turn, seed) if arm.pretrain else None
            self.train(arm, place / "run", self.settings(arm, turn, seed, steps=self.steps(name)), init=init)
        parts = self.study.parts(self.names, turn)
        self.predict(place / "run", place / "predictions", parts.development + parts.report)
        (place / "predicted").touch()

    def reported(self, name: str, seed: int) -> Path | None:
        """The evaluation of the reported cases of all turns, of an arm that is done with a seed."""
        places = [self.place(name, turn, seed) for turn in range(self.study.turns)]
        if not all((place / "scores" / "summary.json").exists() for place in places):
            return None
        folder = places[0].parent / f"reported-{seed}"
        if not (folder / "scores" / "summary.json").exists():
            chosen = folder / "predictions"
            chosen.mkdir(parents=True, exist_ok=True)
            for turn, place in enumerate(places):
                for case in self.study.parts(self.names, turn).report:
                    (chosen / f"{case}.nii.gz").unlink(missing_ok=True)
                    (chosen / f"{case}.nii.gz").symlink_to(place / "predictions" / f"{case}.nii.gz")
            self.call(mc.evaluate, chosen, self.data, folder / "scores")
        return folder / "scores"

    def compared(self, arms: list[str], seeds: list[int]) -> str:
        """`medcontext compare` of every arm with the first one, on the reported cases: its Markdown."""
        if not self.study.parts(self.names, 0).report:
            return "None: all are to choose settings on."
        found = {arm: [scores for seed in seeds if (scores := self.reported(arm, seed))] for arm in arms}
        models = {arm: done for arm, done in found.items() if done}
        if len(models) < 2:
            return "Nothing to compare yet."
        output = self.folder / "comparison"
        mc.compare(models, output, overwrite=True)
        return (output / "comparison.md").read_text()

    def check_same(self, place: Path, made: dict[str, object]) -> None:
        """Refuse to take what was made with other settings for this arm's."""
        record = place / "arm.json"
        if record.exists() and json.loads(record.read_text()) != made:
            sys.exit(f"{place} was made with other settings, see {record}; remove it, or give another --work.")
        place.mkdir(parents=True, exist_ok=True)
        write_json(record, made)

    def train(
        self, arm: Arm, run: Path, settings: mc.Settings, data: Path | None = None, init: Path | None = None
    ) -> None:
        if not (run / "trained").exists():
            self.start(arm, run, settings, data, init)
            (run / "trained").touch()

    def predict(self, run: Path, output: Path, names: list[str]) -> None:
        """The named cases, by way of a list that has no other."""
        listed = run.parent / f"{output.name}.json"
        self.write_list(listed, dict.fromkeys(names))
        self.call(mc.predict, run, listed, output, part="all", resume=True, device=self.accelerator)

    def relabelled(self, run: Path, place: Path, turn: int) -> Path:
        """A list of the labelled cases and, with a network's predictions as their labels, the others."""
        parts = self.study.parts(self.names, turn)
        self.predict(run, place / "relabelled", parts.rest)
        labels = {name: place / "relabelled" / f"{name}.nii.gz" for name in parts.rest}
        listed = place / "relabelled.list.json"
        self.write_list(listed, {**dict.fromkeys(parts.train), **labels})
        return listed

    def write_list(self, path: Path, labels: dict[str, Path | None]) -> None:
        """A data set's JSON of these cases, with their own labels where no other is given."""
        dataset = read_dataset(self.data)
        cases = [
            {
                "name": case.name,
                "image": [str(image.resolve()) for image in case.images],
                "label": str((labels[case.name] or case.label).resolve()),  # type: ignore[union-attr]
            }
            for case in dataset.cases
            if case.name in labels
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"name": dataset.name, "channels": dataset.channels, "labels": dataset.labels, "cases": cases})


def alone(function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """Call a function in a process of its own, whose processor time is its own, too."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(quietly, function, *arguments, **options).result()


def quietly(function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """Call a function for what it writes."""
    print(f"{function.__name__}: {', '.join(map(str, (*arguments[:2], *options.items())))[:300]}", flush=True)
    function(*arguments, **options)


Pace = list[tuple[float, float]]
"""The clock's and the processor's seconds at the start of each step."""


class Enough(BaseException):
    """Ends a training."""


def paces(
    data: Path,
    output: Path,
    settings: mc.Settings | mc.PretrainSettings,
    scans: list[str],
    cache: Path,
    steps: int = PROBE,
) -> Pace:
    """Note when each of a training's, or a pretraining's, first steps begins."""
    from medcontext.training.pretrain_task import PretrainTask
    from medcontext.training.task import Task

    found: Pace = []
    kind = Task if isinstance(settings, mc.Settings) else PretrainTask
    step = kind.training_step

    def noted(self: Any, *batch: Any) -> Any:
        found.append((time.time(), time.process_time()))
        if len(found) > steps:
            raise Enough
        return step(self, *batch)

    kind.training_step = noted  # type: ignore[method-assign]
    with suppress(Enough):
        if isinstance(settings, mc.Settings):
            mc.train(data, output, settings, unlabelled=scans, cache=cache)
        else:
            mc.pretrain([data], output, settings, cache=cache)
    shutil.rmtree(output)
    return found


def step_cost(ours: Pace, theirs: Pace) -> float:
    """Processor seconds of one training's step in those of the other's, while both ran."""
    start, end = max(ours[0][0], theirs[0][0]), min(ours[-1][0], theirs[-1][0])
    both = ([processor for clock, processor in pace if start <= clock <= end] for pace in (ours, theirs))
    one, other = ((used[-1] - used[0]) / (len(used) - 1) for used in both)
    return one / other


def collect(work: Work, arms: list[str], seeds: list[int]) -> list[dict[str, str]]:
    """One row per arm, seed, case and structure of what is done."""
    rows = []
    for arm in arms:
        for seed in seeds:
            for turn in range(work.study.turns):
                place = work.place(arm, turn, seed)
                if not (place / "scores" / "summary.json").exists():
                    continue
                report = set(work.study.parts(work.names, turn).report)
                runs = [json.loads(path.read_text()) for path in sorted(place.glob("*/run.json"))]  # of retrain two
                steps = sum(facts["step"] for facts in runs)
                with (place / "scores" / "metrics.csv").open(newline="") as file:
                    rows += [
                        {
                            "arm": arm, "seed": str(seed), "turn": str(turn), "steps": str(steps),
                            "seconds": f"{sum(facts['seconds'] for facts in runs):.0f}",
                            "part": "report" if row["case"] in report else "development", **row,
                        }
                        for row in csv.DictReader(file)
                    ]  # fmt: skip
    return rows


def average(rows: list[dict[str, str]], metric: str = "dsc", **where: str) -> float | None:
    """The mean over cases and structures; a structure absent in both label and prediction has no value."""
    values = [
        float(row[metric])
        for row in rows
        if all(row[key] == value for key, value in where.items()) and row[metric] not in ("", "nan")
    ]
    return mean(values) if values else None


def percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def table(rows: list[dict[str, str]], arms: list[str], seeds: list[int], part: str) -> str:
    names = list(dict.fromkeys(row["structure"] for row in rows))
    lines = [
        f"| arm | steps | minutes | DSC % | {' | '.join(f'seed {seed}' for seed in seeds)} | {' | '.join(names)} |",
        f"|---|---|---|---|{'---|' * (len(seeds) + len(names))}",
    ]
    for arm in arms:
        mine = [row for row in rows if row["arm"] == arm and row["part"] == part]
        if mine:
            by_seed = [percent(average(mine, seed=str(seed))) for seed in seeds]
            each = [percent(average(mine, structure=name)) for name in names]
            minutes = mean({(r["seed"], r["turn"]): float(r["seconds"]) for r in mine}.values()) / 60
            cells = [mine[0]["steps"], f"{minutes:.0f}", percent(average(mine)), *by_seed, *each]
            lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def report(options: argparse.Namespace, work: Work, rows: list[dict[str, str]]) -> str:
    study = work.study
    compared = work.compared(options.arms, options.seeds)
    versions = ", ".join(f"{name} {version(name)}" for name in ("medcontext", "torch", "monai", "lightning"))
    parts = [study.parts(work.names, turn) for turn in range(study.turns)]
    written = work.folder / "costs.json"
    costs = json.loads(written.read_text()) if written.exists() else {}
    named = " ".join(f'"{arm}"' if " " in arm else arm for arm in options.arms)
    sizes = "; ".join(
        f"{len(p.train)} labelled, {len(p.rest)} without labels, {len(p.development)} to choose settings on, "
        f"{len(p.report)} reported"
        for p in parts
    )
    development = table(rows, options.arms, options.seeds, "development")
    return f"""# {study.title}

`python benchmarks/study.py {options.study} --data DATA --work DIR --seeds {" ".join(map(str, options.seeds))}
--arms {named}`

Cases ({"each turn" if study.turns > 1 else "by patient"}): {sizes}.
All arms: {shown({**COMMON, **DEVICES[work.accelerator], **study.common})},
AdamW 1e-3 down a cosine, raw weights of the last step. Every arm costs the processor seconds
of {study.steps} baseline steps but where its name says otherwise. What a step with all views costs in those of the
baseline, measured: {", ".join(f"{key} {value:.2f}" for key, value in costs.items())}.
Minutes are those of the clock, beside other work. {versions}; {options.machine}. {options.note}

## Reported cases

{table(rows, options.arms, options.seeds, "report")}

{compared}

## Cases to choose settings on

{development}

## Arms

{chr(10).join(f"- {arm}: {told(arm)}" for arm in options.arms)}
"""


def told(arm: str) -> str:
    if arm in PEERS:
        return PEERS[arm]
    beside = " on top of all steps" if ARMS[arm].on_top else ", half of the cost"
    start = f", from a pretraining by {ARMS[arm].pretrain}{beside}" if ARMS[arm].pretrain else ""
    return f"method {ARMS[arm].method} {shown(ARMS[arm].changes)}{start}"


def shown(settings: dict[str, Any]) -> str:
    """Settings as options of `medcontext train`."""
    return " ".join(f"`--{name} {json.dumps(value).replace(' ', '')}`" for name, value in settings.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", choices=[*ARMS, *PEERS], default=["baseline", "retrain", "medcontext"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--accelerator", choices=DEVICES, default="cpu")
    parser.add_argument("--machine", default="cpu")
    parser.add_argument("--note", default="", help="of what else there is to know, for the report")
    parser.add_argument("--report", action="store_true", help="only collect what is done")
    options = parser.parse_args()
    work = Work(STUDIES[options.study], options.data, options.work, options.accelerator)
    if not options.report:
        for seed in options.seeds:
            for arm in (arm for arm in options.arms if arm not in PEERS):
                for turn in range(work.study.turns):
                    work.run(arm, turn, seed)
    rows = collect(work, options.arms, options.seeds)
    place = Path(__file__).parent / "results" / f"study_{options.study}_{options.machine}_{date.today().isoformat()}"
    text = report(options, work, rows)
    place.with_suffix(".md").write_text(text)
    with place.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    print(text)


if __name__ == "__main__":
    main()
