"""Does nnU-Net become better with MedContext at equal cost?

    make nnunet
    python benchmarks/nnunet_trainers.py hippocampus --data Task04_Hippocampus --work DIR --seeds 0 1 --bf16
    python benchmarks/nnunet_trainers.py acdc --data ACDC --work DIR --seeds 0 1

Fold 0 of splits_final.json has 5 cases to train on, and validates on those that study.py reports; those that it has
without labels lie in imagesUn. Stock nnUNetTrainer, and MedContext's with these scans and on labels alone: the
same plan, fold, loaders, augmentation, loss and optimizer; each makes as many steps as cost what stock's do, measured
side by side. nnU-Net's own validation, mirrored too, predicts the cases; `medcontext evaluate` scores its folder. The
plan is nnU-Net's own with an eighth of the features and 4 crops in a batch, which two processor cores can train for
longer. Hearts are planned at half their resolution in the plane, as study.py has them, and in 32 bits: oneDNN's
backward pass of flat kernels of few features crashes in bfloat16. A training goes on where it was killed.
"""

import argparse
import csv
import json
import os
import random
import shutil
import sys
import time
import types
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

sys.path.append(str(Path(__file__).parent))
from nnunet_peer import PACKAGES, link
from study_data import STUDIES
from study_earlier import by_training, read_rows, restore
from study_work import Work, alone

import medcontext as mc
from medcontext.data.formats import read_dataset
from medcontext.files import write_json

NAME = "Dataset001_Study"
CONFIGURATION = "3d_fullres"
FEATURES = [4, 8, 16, 32, 40, 40]
BATCH = 4
EPOCHS = 20
PRIMUS = "nnunetv2.training.nnUNetTrainer.primus.primus_trainers"  # needs timm, and so torchvision
ARMS = {
    "stock": "nnUNetTrainer",
    "medcontext": "nnUNetTrainerMedContextFine",
    "medcontext, late": "nnUNetTrainerMedContextFineLate",
    "labels alone": "nnUNetTrainerMedContextFineLabelled",
}
LATE = 0.6  # of the steps, from which scans join
PROBE = 12  # steps of each trainer, by turns, by which a step's cost is measured


@dataclass(frozen=True)
class Setting:
    """What nnU-Net is told of a data set.

    Args:
        title: of the report.
        patch_size: of the mask, as in all studies here.
        thickness: that slices are given, in pixels, where headers have no voxel sizes; None leaves headers as they are.
        spacing: that is planned for, slices first; None for nnU-Net's own.
    """

    title: str
    patch_size: int
    thickness: float | None = None
    spacing: tuple[float, float, float] | None = None


SETTINGS = {
    "hippocampus": Setting("hippocampus MRI", 8),
    "acdc": Setting("cardiac MRI", 16, 5.0, (5.0, 2.0, 2.0)),
}


@dataclass(frozen=True)
class Place:
    """The folders of one study.

    Args:
        study: its name.
        folder: of all.
        seed: whose results.
        bf16: whether training steps are computed in bfloat16, as nnU-Net computes them in half precision on a GPU.
    """

    study: str
    folder: Path
    seed: int = 0
    bf16: bool = False

    def surroundings(self) -> None:
        """nnU-Net reads these when it is imported."""
        folders = {"raw": "raw", "preprocessed": "preprocessed", "results": f"results-{self.seed}"}
        for name, folder in folders.items():
            (self.folder / folder).mkdir(parents=True, exist_ok=True)
            os.environ[f"nnUNet_{name}"] = str(self.folder / folder)
        os.environ.update(nnUNet_compile="f", nnUNet_def_n_proc="1")
        sys.modules[PRIMUS] = types.ModuleType(PRIMUS)
        torch.set_num_threads(1)

    @property
    def raw(self) -> Path:
        return self.folder / "raw" / NAME

    @property
    def prepared(self) -> Path:
        return self.folder / "preprocessed" / NAME

    def results(self, arm: str) -> Path:
        return self.folder / f"results-{self.seed}" / NAME / f"{ARMS[arm]}__nnUNetPlans__{CONFIGURATION}"

    def scores(self, arm: str) -> Path:
        return self.folder / f"scores-{arm.replace(', ', '_').replace(' ', '_')}-{self.seed}"

    def earlier(self, arm: str) -> Path:
        """Scores of an earlier result, where there are none of this folder."""
        return self.folder / "earlier" / self.scores(arm).name

    def scored(self, arm: str) -> Path | None:
        return next((path for path in (self.scores(arm), self.earlier(arm)) if (path / "summary.json").exists()), None)

    def trainer(self, arm: str, steps: int) -> Any:
        """Of an arm, with so many steps, its augmentation in this process."""
        self.surroundings()
        os.environ.update(nnUNet_n_proc_DA="0")  # so that one process's time is all of it
        torch.manual_seed(self.seed)
        np.random.seed(self.seed)  # noqa: NPY002 (nnU-Net's own source of chance)
        random.seed(self.seed)
        plans = json.loads((self.prepared / "nnUNetPlans.json").read_text()) | {"continue_training": False}
        dataset = json.loads((self.prepared / "dataset.json").read_text())
        trainer = kind(arm, SETTINGS[self.study].patch_size)(plans, CONFIGURATION, 0, dataset, torch.device("cpu"))
        trainer.num_epochs = EPOCHS
        trainer.num_iterations_per_epoch = round(steps / EPOCHS)
        trainer.num_val_iterations_per_epoch = 1
        trainer.save_every = 1
        trainer.train_step = torch.autocast("cpu", torch.bfloat16, enabled=self.bf16)(trainer.train_step)
        return trainer


def kind(arm: str, patch_size: int) -> type:
    """The class of an arm's trainer."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from medcontext.integrations.nnunet import MedContextMixin
    from medcontext.method import Unlabelled
    from medcontext.method_settings import MaskSettings, MethodSettings

    if arm == "stock":
        return nnUNetTrainer
    scans = {
        "medcontext": Unlabelled(),
        "medcontext, late": Unlabelled(start=LATE),
        "labels alone": Unlabelled(view="none"),
    }[arm]
    method = MethodSettings(mask=MaskSettings(patch_size=patch_size), unlabelled=scans)
    return type(ARMS[arm], (MedContextMixin, nnUNetTrainer), {"method": method})


def write_raw(work: Work, place: Place) -> None:
    """The labelled cases and, in imagesUn, the others' images; the folds."""
    parts, thickness = work.study.parts(work.names, 0), SETTINGS[place.study].thickness
    dataset = read_dataset(work.data)
    for case in dataset.cases:
        labelled = case.name in (*parts.train, *parts.report)
        if labelled or case.name in parts.rest:
            folder = place.raw / ("imagesTr" if labelled else "imagesUn")
            put(case.images[0], folder / f"{case.name}_0000.nii.gz", thickness)
        if labelled:
            put(case.label, place.raw / "labelsTr" / f"{case.name}.nii.gz", thickness)
    content = {
        "channel_names": dict(enumerate(dataset.channels)), "labels": dataset.labels, "file_ending": ".nii.gz",
        "numTraining": len(parts.train) + len(parts.report),
    }  # fmt: skip
    write_json(place.raw / "dataset.json", content)
    place.prepared.mkdir(parents=True, exist_ok=True)
    write_json(place.prepared / "splits_final.json", [{"train": parts.train, "val": parts.report}])


def put(file: Path | None, place: Path, thickness: float | None) -> None:
    """Link a file, or copy it with slices of another thickness."""
    if thickness is None or file is None:
        link(file, place)
        return
    image = nib.load(file)
    affine = image.affine.copy()
    affine[:3, 2] *= thickness
    place.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), affine), place)


def plan(place: Place) -> None:
    """nnU-Net's fingerprint, plan and prepared cases, and the scans of imagesUn."""
    place.surroundings()
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess

    from medcontext.integrations.nnunet.prepare import prepare
    from medcontext.integrations.nnunet.scans import Place as Prepared

    extract_fingerprints([1], num_processes=1)
    plan_experiments([1], overwrite_target_spacing=SETTINGS[place.study].spacing)
    file = place.prepared / "nnUNetPlans.json"
    plans = json.loads(file.read_text())
    configuration = plans["configurations"][CONFIGURATION]
    architecture = configuration["architecture"]["arch_kwargs"]
    architecture["features_per_stage"] = FEATURES[: architecture["n_stages"]]
    configuration["batch_size"] = BATCH
    write_json(file, plans)
    preprocess([1], configurations=(CONFIGURATION,), num_processes=(1,))
    prepare(Prepared.read(NAME, "nnUNetPlans", CONFIGURATION), workers=1)


def measure(place: Place) -> None:
    """Write what a step of each arm costs in stock's, by turns in one process: before and after scans join."""
    trainers = {arm: place.trainer(arm, 10**4) for arm in ("stock", "medcontext", "labels alone")}
    used: dict[str, list[float]] = {}
    for trainer in trainers.values():
        trainer.on_train_start()
        trainer.on_train_epoch_start()
    for turn in range(2 * PROBE):
        for arm, trainer in trainers.items():
            if turn == PROBE and arm == "medcontext":
                trainer.learner.step = trainer.learner.total_steps // 2
            batch = next(trainer.dataloader_train)
            start = time.process_time()
            trainer.train_step(batch)
            used.setdefault(f"{arm} {turn // PROBE}", []).append(time.process_time() - start)
    loading = []
    for arm, trainer in trainers.items():
        start = time.process_time()
        for _ in range(PROBE):
            next(trainer.dataloader_train)
        loading.append((arm, (time.process_time() - start) / PROBE))
    load = dict(loading)
    mean = {key: sum(values[2:]) / len(values[2:]) for key, values in used.items()}
    stock = (mean["stock 0"] + mean["stock 1"]) / 2 + load["stock"]
    costs = {key: (value + load[key.rpartition(" ")[0]]) / stock for key, value in mean.items()}
    write_json(place.folder / "costs.json", {"costs": costs, "stock_seconds": stock})
    shutil.rmtree(place.folder / f"results-{place.seed}")


def steps(place: Place, arm: str, stock: int) -> int:
    """As many as cost what stock's do, those before scans without labels join and those after."""
    costs = json.loads((place.folder / "costs.json").read_text())["costs"]
    start = {"medcontext": 0.25, "medcontext, late": LATE}.get(arm, 0.0)
    name = arm.removesuffix(", late")
    return round(stock / (start * costs[f"{name} 0"] + (1 - start) * costs[f"{name} 1"]))


def train(place: Place, arm: str, number: int) -> None:
    """Train, going on after a killed process from the last epoch, and validate."""
    start = time.time()
    trainer = place.trainer(arm, number)
    folder = Path(trainer.output_folder)
    for name in ("checkpoint_final.pth", "checkpoint_latest.pth"):
        if (folder / name).exists():
            trainer.load_checkpoint(str(folder / name))
            break
    if not (folder / "checkpoint_final.pth").exists():
        trainer.run_training()
    trainer.perform_actual_validation()
    made = EPOCHS * trainer.num_iterations_per_epoch
    write_json(folder / "made.json", {"steps": made, "minutes": (time.time() - start) / 60})


def run(place: Place, arm: str, stock: int) -> None:
    """Train and score an arm; what is done is not done again."""
    if not (place.results(arm) / "fold_0" / "made.json").exists():
        alone(train, place, arm, steps(place, arm, stock))
    if not (place.scores(arm) / "summary.json").exists():
        alone(mc.evaluate, place.results(arm), place.raw, place.scores(arm))


def report(options: argparse.Namespace, places: list[Place]) -> str:
    alike = next(options.work.glob("scores-*/summary.json"), None)
    for (arm, seed), rows in by_training(read_rows(options.earlier)).items():
        place = next((place for place in places if place.seed == seed), None)
        if place and not place.scores(arm).exists():
            restore(rows, place.earlier(arm), alike)
    models = {arm: done for arm in ARMS if (done := [found for place in places if (found := place.scored(arm))])}
    output = options.work / "comparison"
    if len(models) < 2:
        return "Nothing to compare yet."
    mc.compare(models, output, overwrite=True)
    costs = json.loads((options.work / "costs.json").read_text())
    lines = []
    for arm in models:
        found = [file for p in places if (file := p.results(arm) / "fold_0" / "made.json").exists()]
        made = [json.loads(file.read_text()) for file in found]
        minutes = ", ".join(str(round(one["minutes"])) for one in made) or "made before"
        lines.append(f"| {arm} | {ARMS[arm]} | {made[0]['steps'] if made else ''} | {minutes} |")
    others = f"\n--earlier {' '.join(path.name for path in options.earlier)}" if options.earlier else ""
    shown = ", ".join(f"{key.replace(' 0', ' before').replace(' 1', ' after')} {value:.2f}"
                      for key, value in costs["costs"].items())  # fmt: skip
    versions = ", ".join(f"{name} {version(name)}" for name in ("medcontext", "torch", "nnunetv2"))
    work = Work(STUDIES[options.study], options.data, options.work)
    parts = work.study.parts(work.names, 0)
    planned = json.loads((places[0].prepared / "nnUNetPlans.json").read_text())["configurations"][CONFIGURATION]
    features = planned["architecture"]["arch_kwargs"]["features_per_stage"]
    setting = SETTINGS[options.study]
    told = f" at a spacing of {setting.spacing}, slices {setting.thickness:g} thick" if setting.thickness else ""
    return f"""# nnU-Net's trainer with MedContext, {setting.title}

`python benchmarks/nnunet_trainers.py {options.study} --data DATA --work DIR --seeds
{" ".join(map(str, options.seeds))} --steps {options.steps}{" --bf16" * options.bf16}{others}`

{len(parts.train)} labelled cases, {len(parts.rest)} in imagesUn, {len(parts.report)} validated. Plan: nnU-Net's own for
{CONFIGURATION}{told}, patch {planned["patch_size"]}, features {features}, {BATCH} crops in a batch;
{EPOCHS} epochs. A step in stock's, loading included, before and after scans join (of the others the same twice):
{shown}. {versions}; {options.machine}.

| arm | trainer | steps | minutes of each seed, beside other work |
|---|---|---|---|
{chr(10).join(lines)}

{(output / "comparison.md").read_text()}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=SETTINGS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--steps", type=int, default=1000, help="of the stock trainer")
    parser.add_argument("--bf16", action="store_true", help="training steps of all arms in bfloat16")
    parser.add_argument("--machine", default="cpu")
    parser.add_argument("--earlier", nargs="+", type=Path, default=[], metavar="CSV", help="results of other arms")
    parser.add_argument("--report", action="store_true", help="write what is done to benchmarks/results/")
    options = parser.parse_args()
    if not PACKAGES.is_dir():
        sys.exit("nnU-Net is not there: make nnunet")
    places = [Place(options.study, options.work.resolve(), seed, options.bf16) for seed in options.seeds]
    if not options.report:
        first = places[0]
        if not (first.prepared / "nnUNetPlans_3d_fullres_unlabelled.json").exists():
            write_raw(Work(STUDIES[options.study], options.data, options.work), first)
            alone(plan, first)
        if not (first.folder / "costs.json").exists():
            alone(measure, first)
        for place in places:
            for arm in options.arms:
                run(place, arm, options.steps)
    text = report(options, places)
    print(text)
    if not options.report:
        return
    named = f"nnunet_trainers_{options.study}_{options.machine}_{date.today().isoformat()}"
    file = Path(__file__).parent / "results" / named
    file.with_suffix(".md").write_text(text)
    with file.with_suffix(".csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        for number, (place, arm) in enumerate((place, arm) for place in places for arm in ARMS):
            if scored := place.scored(arm):
                head, *rows = csv.reader((scored / "metrics.csv").open(newline=""))
                writer.writerows([["arm", "seed", *head]] * (number == 0) + [[arm, place.seed, *row] for row in rows])


if __name__ == "__main__":
    main()
