"""What does nnU-Net make of the same labelled scans and the same processor time?

    make nnunet
    python benchmarks/nnunet_peer.py acdc --data ACDC --work DIR --configuration 2d --seed 0

Stock nnU-Net v2: its own fingerprint, plans, preprocessing, augmentation, loss, optimizer and mirrored prediction. Its
trainer is told one thing, how many steps to make: as many as cost what the baseline's of `study.py` do, both measured
side by side. Its rate falls to 0 over these. Planning, preparing and predicting are not counted, as they are not for
ours. DIR is a work folder of `study.py`, whose table then has it, too: `--arms baseline "nnunet 2d" --report`.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).parent))
from study_data import STUDIES
from study_pace import Enough, Pace, paces, step_cost
from study_work import Work, alone

import medcontext as mc
from medcontext.data.formats import read_dataset
from medcontext.files import write_json

PACKAGES = Path(__file__).parents[1] / ".nnunet"  # last on the path: what nnU-Net shares with us is ours
sys.path.append(str(PACKAGES))
NAME = "Dataset001_Study"
PROBE = 60.0  # seconds of training by which a step's cost is measured
BASELINE_STEPS = 600  # beside them: its first ones pass while nnU-Net is imported
EPOCHS = 50  # nnU-Net's rate falls from epoch to epoch


@dataclass(frozen=True)
class Place:
    """Where one training of nnU-Net lies. Two trainings of one turn share its plan and what a step costs.

    Args:
        shared: folder of the raw and the prepared scans.
        results: folder of the training.
        configuration: `2d` or `3d_fullres`.
    """

    shared: Path
    results: Path
    configuration: str

    def surroundings(self) -> None:
        """nnU-Net reads these when it is imported."""
        folders = {"raw": self.shared / "raw", "preprocessed": self.shared / "preprocessed", "results": self.results}
        for name, folder in folders.items():
            folder.mkdir(parents=True, exist_ok=True)
            os.environ[f"nnUNet_{name}"] = str(folder)
        os.environ.update(nnUNet_compile="f")
        torch.set_num_threads(1)

    def trainer(self, steps: int, seed: int) -> Any:
        """nnU-Net's own, of all labelled scans, with so many steps, the augmentation in this process."""
        self.surroundings()
        os.environ.update(nnUNet_n_proc_DA="0")  # so that one process's time is all of it
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 (nnU-Net's own source of chance)
        random.seed(seed)
        prepared = self.shared / "preprocessed" / NAME
        plans = json.loads((prepared / "nnUNetPlans.json").read_text()) | {"continue_training": False}
        dataset = json.loads((prepared / "dataset.json").read_text())
        trainer = nnUNetTrainer(plans, self.configuration, "all", dataset, torch.device("cpu"))
        trainer.num_epochs = min(EPOCHS, steps)
        trainer.num_iterations_per_epoch = round(steps / trainer.num_epochs)
        trainer.num_val_iterations_per_epoch = 1  # of a training case: for its log alone
        trainer.save_every = 1
        return trainer


def write_raw(work: Work, turn: int, folder: Path) -> None:
    """The labelled scans as nnU-Net's raw data set."""
    dataset = read_dataset(work.data)
    chosen = work.study.parts(work.names, turn).train
    for case in dataset.cases:
        if case.name in chosen:
            for channel, image in enumerate(case.images):
                link(image, folder / "imagesTr" / f"{case.name}_{channel:04d}.nii.gz")
            link(case.label, folder / "labelsTr" / f"{case.name}.nii.gz")
    content = {
        "channel_names": {str(number): name for number, name in enumerate(dataset.channels)},
        "labels": dataset.labels,
        "numTraining": len(chosen),
        "file_ending": ".nii.gz",
    }
    write_json(folder / "dataset.json", content)


def link(file: Path | None, place: Path) -> None:
    assert file is not None
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(file.resolve())


def plan(place: Place) -> None:
    """Its fingerprint, plan and prepared scans."""
    place.surroundings()
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess

    extract_fingerprints([1], num_processes=2, check_dataset_integrity=True)
    plan_experiments([1])
    preprocess([1], configurations=(place.configuration,), num_processes=(2,))


def nnunet_paces(place: Place) -> Pace:
    """Note when each of its first steps begins."""
    trainer, found = place.trainer(10**6, 0), []
    step, end = trainer.train_step, time.time() + PROBE

    def noted(batch: Any) -> Any:
        found.append((time.time(), time.process_time()))
        if time.time() > end and len(found) > 3:
            raise Enough
        return step(batch)

    trainer.train_step = noted
    with suppress(Enough):
        trainer.run_training()
    return found


def cost(work: Work, place: Place) -> float:
    """A step of nnU-Net's in steps of the baseline, measured once, while both train."""
    written = place.shared / f"cost-{place.configuration}.json"
    if not written.exists():
        probe = replace(place, results=place.shared / "probe")
        with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
            theirs = pool.submit(paces, *work.probe("baseline"), steps=BASELINE_STEPS)
            ours = pool.submit(nnunet_paces, probe)
            write_json(written, {"cost": step_cost(ours.result()[1:], theirs.result()[1:])})
        shutil.rmtree(probe.results)
    return json.loads(written.read_text())["cost"]


def train(place: Place, steps: int, seed: int) -> None:
    """Going on after a killed process from its last epoch."""
    start = time.time()
    trainer = place.trainer(steps, seed)
    output = Path(trainer.output_folder)
    if (output / "checkpoint_latest.pth").exists():
        trainer.load_checkpoint(str(output / "checkpoint_latest.pth"))
    trainer.run_training()
    made = trainer.num_epochs * trainer.num_iterations_per_epoch
    write_json(place.results / "run.json", {"step": made, "seconds": time.time() - start})


def predict(place: Place, images: dict[str, list[str]], output: Path) -> None:
    """As nnU-Net does by default, mirrored too."""
    trainer = place.trainer(1, 0)
    trainer.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    trainer.set_deep_supervision_enabled(False)
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    predictor.manual_initialization(
        trainer.network, trainer.plans_manager, trainer.configuration_manager, [trainer.network.state_dict()],
        trainer.dataset_json, "nnUNetTrainer", trainer.inference_allowed_mirroring_axes,
    )  # fmt: skip
    output.mkdir(exist_ok=True)
    for number, (name, files) in enumerate(images.items(), start=1):
        if not (output / f"{name}.nii.gz").exists():
            with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
                predictor.predict_from_files_sequential([files], [str(output / name)])
            print(f"predicted {number}/{len(images)}", flush=True)


def run(work: Work, configuration: str, turn: int, seed: int) -> None:
    """Plan, train, predict, evaluate; what is done is not done again."""
    folder = work.place(f"nnunet {configuration}", turn, seed)
    place = Place(work.folder / f"nnunet-{turn}", folder / "run", configuration)
    if not (place.shared / "preprocessed" / NAME / f"nnUNetPlans_{configuration}").exists():
        write_raw(work, turn, place.shared / "raw" / NAME)
        alone(plan, place)
    steps = round(work.study.steps / cost(work, place))
    print(f"{steps} steps", flush=True)
    if not (place.results / "run.json").exists():
        alone(train, place, steps, seed)
    chosen = work.study.parts(work.names, turn).report
    images = {case.name: [str(path) for path in case.images] for case in read_dataset(work.data).cases}
    alone(predict, place, {name: images[name] for name in chosen}, folder / "predictions")
    if not (folder / "scores" / "summary.json").exists():
        alone(mc.evaluate, folder / "predictions", work.data, folder / "scores")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--configuration", choices=["2d", "3d_fullres"], default="2d")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not PACKAGES.is_dir():
        sys.exit("nnU-Net is not there: make nnunet")
    work = Work(STUDIES[options.study], options.data, options.work)
    for turn in range(work.study.turns):
        run(work, options.configuration, turn, options.seed)


if __name__ == "__main__":
    main()
