"""A study's folder: each arm is trained, predicted and evaluated once; what a step costs is measured."""

import fcntl
import json
import multiprocessing
import os
import re
import shutil
import sys
from collections.abc import Callable, Collection
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from study_arms import ARMS, Arm, without_length
from study_data import COMMON, DEVICES, Study
from study_earlier import Rows, by_training, restore
from study_pace import WARM, paces, step_cost

import medcontext as mc
from medcontext.configuration import plain
from medcontext.data.cases import Case
from medcontext.data.formats import read_dataset
from medcontext.files import write_json
from medcontext.pretrain_settings import OBJECTIVES
from medcontext.run.calibration import FILE as CALIBRATION

SIZES = {"batch_size", "network_args.channels"}  # settings by which a plain step costs more or less
FREE = re.compile(  # and those by which one with all views does not
    r"method\.(mask\.|teacher\.momentum|unlabelled\.(threshold|weight|start|keep_open|place|target)$)"
)


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

    def trained(self, arm: str, turn: int, seed: int) -> Path:
        """Where the trainings lie that predict for an arm."""
        of = ARMS[arm].one_piece_of if arm in ARMS else ""
        return self.place(of or arm, turn, seed)

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

    def scans(self, arm: Arm, turn: int) -> list[str]:
        """As `--unlabelled` takes them."""
        found = ["rest"] if arm.unlabelled else []
        for part in arm.more:
            listed = self.folder / f"{part}-{turn}.json"
            self.write_list(listed, {}, getattr(self.study.parts(self.names, turn), part))
            found.append(str(listed))
        return found

    def cost(self, name: str) -> float:
        """What a step of an arm costs in steps of the baseline, measured once, in processor time.

        Both train at the same time: what else the machine does makes both dearer alike.
        """
        costs = self.folder / "costs.json"
        if name in ARMS:
            arm = ARMS[name]
            if arm.method == "none" and not SIZES & arm.changes.keys():
                return 1.0
            alike = arm.method == "medcontext" and arm.unlabelled and all(map(FREE.match, arm.changes))
            name = "medcontext" if arm.pretrain or alike else without_length(name)
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
        return self.data, output, self.settings(arm, 0, 0, **with_scans), self.scans(arm, 0), self.cache

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
            self.evaluate(place)

    def evaluate(self, place: Path) -> None:
        """Score a folder's `predictions` into its `scores`, also where an evaluation was cut off."""
        self.call(mc.evaluate, place / "predictions", self.data, place / "scores", overwrite=True)

    def make(self, name: str, turn: int, seed: int) -> None:
        """Train and predict."""
        arm, place = ARMS[name], self.place(name, turn, seed)
        self.check_same(place, plain(asdict(self.settings(arm, turn, seed))))
        run = self.trained(name, turn, seed) / "run"
        if (place / "predicted").exists():
            return
        if arm.one_piece_of:
            self.make(arm.one_piece_of, turn, seed)
            self.call(mc.postprocess, run, self.data, by="labels")
        elif arm.retrain:
            half = round(self.study.steps * arm.cost / 2)
            self.train(place / "first", self.settings(arm, turn, seed, steps=half))
            listed = self.relabelled(place / "first", place, turn)
            split = place / "split.json"
            chosen = [case["name"] for case in json.loads(listed.read_text())["cases"]]
            write_json(split, {"train": chosen, "validation": [], "test": []})
            again = self.settings(arm, turn, seed, steps=half, split=split, few_shot=len(chosen))
            self.train(run, again, listed)
        else:
            init = self.pretrain(arm.pretrain, turn, seed) if arm.pretrain else None
            scans = {"unlabelled": self.scans(arm, turn), "init": init}
            first = self.place(name, 0, seed) / "run"
            if arm.labels_alone and (first / "trained").exists() and not run.exists():  # it is the same in all turns
                copied = run.with_name("copied")
                shutil.rmtree(copied, ignore_errors=True)
                shutil.copytree(first, copied, ignore=shutil.ignore_patterns(CALIBRATION)).rename(run)
            self.train(run, self.settings(arm, turn, seed, steps=self.steps(name)), **scans)
        parts = self.study.parts(self.names, turn)
        self.predict(run, place / "predictions", parts.development + parts.report, bool(arm.one_piece_of))
        (place / "predicted").touch()

    def reported(self, name: str, seed: int) -> Path | None:
        """The evaluation of the reported cases of all turns, of an arm that is done with a seed."""
        places = [self.place(name, turn, seed) for turn in range(self.study.turns)]
        if not all((place / "scores" / "summary.json").exists() for place in places):
            return None
        folder = places[0].parent / f"reported-{seed}"
        chosen = folder / "predictions"
        files = {
            f"{case}.nii.gz": place / "predictions" / f"{case}.nii.gz"
            for turn, place in enumerate(places)
            for case in self.study.parts(self.names, turn).report
        }
        if {path.name for path in chosen.glob("*.nii.gz")} != files.keys():  # of a study with other turns, or none
            shutil.rmtree(folder, ignore_errors=True)
            chosen.mkdir(parents=True)
            for name, file in files.items():
                (chosen / name).symlink_to(file)
        if not (folder / "scores" / "summary.json").exists():
            self.evaluate(folder)
        return folder / "scores"

    def restored(self, earlier: Rows) -> dict[tuple[str, int], Path]:
        """Evaluations of the reported cases of arms and seeds, from the rows of an earlier result."""
        alike = next(self.folder.glob("*/reported-*/scores/summary.json"), None)
        folders = {}
        for (arm, seed), rows in by_training([row for row in earlier if row["part"] == "report"]).items():
            folders[arm, seed] = self.folder / "earlier" / f"{self.place(arm, 0, seed).parent.name}-{seed}"
            restore(rows, folders[arm, seed], alike)
        return folders

    def compared(self, arms: list[str], seeds: list[int], earlier: Rows) -> str:
        """`medcontext compare` of every arm with the first one, on the reported cases: its Markdown.

        An arm is compared by the seeds that both have: what chance does to a training is then alike in both.
        """
        if not self.study.parts(self.names, 0).report:
            return "None: all are to choose settings on."
        pairs = [(arm, seed) for arm in arms for seed in seeds]
        done = {pair: scores for pair in pairs if (scores := self.reported(*pair))}
        done = {**self.restored(earlier), **done}
        first, *others = arms
        alike: dict[tuple[int, ...], list[str]] = {}
        for arm in others:
            if both := tuple(seed for seed in seeds if {(first, seed), (arm, seed)} <= done.keys()):
                alike.setdefault(both, []).append(arm)
        texts = []
        for both, named in alike.items():
            output = self.folder / "comparison" / "-".join(map(str, both))
            mc.compare({arm: [done[arm, seed] for seed in both] for arm in (first, *named)}, output, overwrite=True)
            texts.append(f"Seeds {', '.join(map(str, both))}:\n\n{(output / 'comparison.md').read_text()}")
        return "\n".join(texts) or "Nothing to compare yet."

    def check_same(self, place: Path, made: dict[str, object]) -> None:
        """Refuse to take what was made with other settings for this arm's."""
        record = place / "arm.json"
        if record.exists() and json.loads(record.read_text()) != made:
            sys.exit(f"{place} was made with other settings, see {record}; remove it, or give another --work.")
        place.mkdir(parents=True, exist_ok=True)
        write_json(record, made)

    def train(self, run: Path, settings: mc.Settings, data: Path | None = None, **start: Any) -> None:
        """Train, going on where it was killed."""
        if not (run / "trained").exists():
            self.call(mc.train, data or self.data, run, settings, **start, cache=self.cache, resume=True)
            (run / "trained").touch()

    def predict(self, run: Path, output: Path, names: list[str], postprocess: bool = False) -> None:
        """The named cases, by way of a list that has no other."""
        listed = output.with_suffix(".json")
        self.write_list(listed, dict.fromkeys(names))
        how = {"part": "all", "postprocess": postprocess, "device": self.accelerator}
        self.call(mc.predict, run, listed, output, resume=True, **how)

    def relabelled(self, run: Path, place: Path, turn: int) -> Path:
        """A list of the labelled cases and, with a network's predictions as their labels, the others."""
        parts = self.study.parts(self.names, turn)
        self.predict(run, place / "relabelled", parts.rest)
        labels = {name: place / "relabelled" / f"{name}.nii.gz" for name in parts.rest}
        listed = place / "relabelled.list.json"
        self.write_list(listed, {**dict.fromkeys(parts.train), **labels})
        return listed

    def write_list(self, path: Path, labels: dict[str, Path | None], unlabelled: Collection[str] = ()) -> None:
        """A data set's JSON of cases, with their own labels where no other is given, and of others without labels."""

        def scan(case: Case) -> dict[str, Any]:
            return {"name": case.name, "image": [str(image.resolve()) for image in case.images]}

        dataset = read_dataset(self.data)
        cases = [
            {**scan(case), "label": str((labels[case.name] or case.label).resolve())}  # type: ignore[union-attr]
            for case in dataset.cases
            if case.name in labels
        ]
        scans = [scan(case) for case in dataset.cases if case.name in unlabelled]
        described = {"name": dataset.name, "channels": dataset.channels, "labels": dataset.labels}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {**described, "cases": cases, "unlabelled": scans})


def alone(function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """Call a function in a process of its own, whose processor time is its own, too."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(quietly, function, *arguments, **options).result()


def quietly(function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """Call a function for what it writes."""
    print(f"{function.__name__}: {', '.join(map(str, (*arguments[:2], *options.items())))[:300]}", flush=True)
    function(*arguments, **options)
