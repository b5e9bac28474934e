"""nnU-Net's own integration data sets, made from hippocampus MRI by its own scripts, the way of a user.

Minutes of processes that start: with MEDCONTEXT_LONG=1, and where real scans are.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medcontext.cli import main
from tests.integrations.nnunet.conftest import ROOT
from tests.integrations.nnunet.test_commands import called

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("MEDCONTEXT_LONG"), reason="takes minutes; MEDCONTEXT_LONG=1 runs it"),
]
CASES, SCANS = 10, 4
SETS = {
    996: "IntegrationTest_Hippocampus_regions_ignore",
    997: "IntegrationTest_Hippocampus_regions",
    998: "IntegrationTest_Hippocampus_ignore",
    999: "IntegrationTest_Hippocampus",
}
TRAINER, STOCK = "nnUNetTrainerMedContextSet", "nnUNetTrainerStockSet"
QUICK = f"""
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from medcontext.integrations.nnunet import MedContextMixin
from medcontext.method import Unlabelled
from medcontext.method_settings import MethodSettings

class {TRAINER}(MedContextMixin, nnUNetTrainer):
    method = MethodSettings(unlabelled=Unlabelled(start=0.5))
    epochs = 1

    def initialize(self):
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 4, 1
        super().initialize()

class {STOCK}(nnUNetTrainer):
    def initialize(self):
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1, 4, 1
        super().initialize()
"""


def script(name: str, *arguments: str) -> None:
    """A module of nnU-Net's that is run as a program."""
    done = subprocess.run([sys.executable, "-m", f"nnunetv2.{name}", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def train(number: int, configuration: str, fold: int, *options: str, trainer: str = TRAINER) -> None:
    arguments = [str(number), configuration, str(fold), "-tr", trainer, "-device", "cpu", *options]
    called("nnunetv2.run.run_training", "run_training_entry", *arguments)


def predict(number: int, configuration: str, images: Path, output: Path, *options: str) -> None:
    chosen = ["-d", str(number), "-c", configuration, "-tr", TRAINER, *options]
    where = ["-i", str(images), "-o", str(output), "-device", "cpu", "-npp", "1", "-nps", "1"]
    called("nnunetv2.inference.predict_from_raw_data", "predict_entry_point", *where, *chosen)


@pytest.fixture(scope="module")
def root(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """nnU-Net's folders, with its Dataset004_Hippocampus of a few cases, and scans without labels."""
    if not (ROOT / ".nnunet").is_dir():
        pytest.skip("no nnU-Net; make nnunet installs it")
    root = tmp_path_factory.mktemp("sets")
    raw, source = root / "raw" / "Dataset004_Hippocampus", shared_data / "Task04_Hippocampus"
    images = sorted((source / "imagesTr").glob("[!.]*.nii.gz"))[: CASES + SCANS]
    for number, image in enumerate(images):
        folder = raw / ("imagesTr" if number < CASES else "imagesUn")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, folder / image.name.replace(".nii.gz", "_0000.nii.gz"))
        if number < CASES:
            (raw / "labelsTr").mkdir(exist_ok=True)
            shutil.copy(source / "labelsTr" / image.name, raw / "labelsTr")
    content = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "Anterior": 1, "Posterior": 2}}
    (raw / "dataset.json").write_text(json.dumps({**content, "numTraining": CASES, "file_ending": ".nii.gz"}))
    (root / "trainers").mkdir()
    (root / "trainers" / "set_trainer.py").write_text(QUICK)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("raw", "preprocessed", "results"):
            patch.setenv(f"nnUNet_{name}", str(root / name))
        patch.setenv("nnUNet_extTrainer", str(root / "trainers"))
        patch.setenv("nnUNet_def_n_proc", "1")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), str(ROOT / ".nnunet")]))
        for number, name in SETS.items():
            script(f"dataset_conversion.datasets_for_integration_tests.Dataset{number}_{name}")
        yield root


def plan(root: Path, number: int, *configurations: str, planner: str = "", changed: bool = False) -> str:
    """Plan, with networks of few features, and prepare; returns the name of the plans."""
    entry = "nnunetv2.experiment_planning.plan_and_preprocess_entrypoints"
    called(entry, "extract_fingerprint_entry", "-d", str(number), "-np", "1")
    called(entry, "plan_experiment_entry", "-d", str(number), *(["-pl", planner] if planner else []))
    folder = root / "preprocessed" / f"Dataset{number}_{SETS[number]}"
    (file,) = folder.glob("nnUNetResEnc*Plans.json" if planner else "nnUNetPlans.json")
    if changed:
        script("tests.integration_tests.add_lowres_and_cascade", "-d", str(number))
    plans = json.loads(file.read_text())
    for each in plans["configurations"].values():
        make_small(each)
    file.write_text(json.dumps(plans))
    options = ["-d", str(number), "-plans_name", file.stem, "-np", "1", "-c", *configurations]
    called(entry, "preprocess_entry", *options)
    return file.stem


def make_small(configuration: dict[str, Any]) -> None:
    if "architecture" in configuration:
        arguments = configuration["architecture"]["arch_kwargs"]
        arguments["features_per_stage"] = [4 * 2**stage for stage in range(arguments["n_stages"])]
    if "batch_size" in configuration:
        configuration["batch_size"] = 2


def values(folder: Path) -> set[int]:
    files = sorted(folder.glob("*.nii.gz"))
    assert files
    return {int(value) for file in files for value in np.unique(np.asarray(nib.load(file).dataobj))}


@pytest.mark.parametrize("number", SETS)
def test_each_is_trained_validated_and_predicted_with_scans(root: Path, tmp_path: Path, number: int) -> None:
    plan(root, number, "3d_fullres", "2d")
    for configuration in ("3d_fullres", "2d"):
        assert main(["nnunet", "preprocess", str(number), "-c", configuration, "-np", "1"]) == 0
        train(number, configuration, 0)
        fold = (
            root / "results" / f"Dataset{number}_{SETS[number]}" / f"{TRAINER}__nnUNetPlans__{configuration}" / "fold_0"
        )
        assert (fold / "validation" / "summary.json").is_file()
        log = "".join(file.read_text() for file in fold.glob("training_log_*.txt"))
        assert f"MedContext: {SCANS} scans without labels" in log
        scans = root / "raw" / "Dataset004_Hippocampus" / "imagesUn"
        predict(number, configuration, scans, tmp_path / configuration, "-f", "0")
        assert values(tmp_path / configuration) <= {0, 1, 2}


def test_a_stock_training_is_a_start_and_a_finished_training_goes_on(root: Path) -> None:
    plan(root, 999, "3d_fullres")
    assert main(["nnunet", "preprocess", "999", "-np", "1"]) == 0
    train(999, "3d_fullres", 1, trainer=STOCK)
    results = root / "results" / f"Dataset999_{SETS[999]}"
    weights = results / f"{STOCK}__nnUNetPlans__3d_fullres" / "fold_1" / "checkpoint_final.pth"
    train(999, "3d_fullres", 1, "-pretrained_weights", str(weights))
    fold = results / f"{TRAINER}__nnUNetPlans__3d_fullres" / "fold_1"
    before = (fold / "checkpoint_final.pth").read_bytes()
    train(999, "3d_fullres", 1, "--c")  # nothing is left, and it validates anew
    assert (fold / "checkpoint_final.pth").read_bytes() == before
    train(999, "3d_fullres", 1, "--val")
    assert (fold / "validation" / "summary.json").is_file()


def test_lowres_and_the_cascade_from_training_to_prediction(root: Path, tmp_path: Path) -> None:
    plan(root, 999, "3d_fullres", "3d_lowres", changed=True)
    assert main(["nnunet", "preprocess", "999", "-c", "3d_lowres", "-np", "1"]) == 0
    for fold in range(5):
        train(999, "3d_lowres", fold)
    train(999, "3d_cascade_fullres", 0)
    scans = root / "raw" / "Dataset004_Hippocampus" / "imagesUn"
    predict(999, "3d_lowres", scans, tmp_path / "lowres", "-f", "0")
    previous = ["-prev_stage_predictions", str(tmp_path / "lowres")]
    predict(999, "3d_cascade_fullres", scans, tmp_path / "cascade", "-f", "0", *previous)
    assert values(tmp_path / "cascade") <= {0, 1, 2}


def test_a_plan_of_the_residual_encoder_planner(root: Path, tmp_path: Path) -> None:
    plans = plan(root, 999, "3d_fullres", planner="nnUNetPlannerResEncM")
    assert main(["nnunet", "preprocess", "999", "-c", "3d_fullres", "-p", plans, "-np", "1"]) == 0
    train(999, "3d_fullres", 0, "-p", plans)
    train(999, "3d_fullres", 0, "-p", plans, "--val")
    scans = root / "raw" / "Dataset004_Hippocampus" / "imagesUn"
    predict(999, "3d_fullres", scans, tmp_path, "-f", "0", "-p", plans, "-chk", "checkpoint_final_teacher.pth")
    assert values(tmp_path) <= {0, 1, 2}
