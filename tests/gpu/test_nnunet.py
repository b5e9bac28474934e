"""nnU-Net's own commands on a GPU, as people run them: half precision, compiled, augmentation in other processes."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from medcontext.cli import main
from tests.integrations.nnunet.conftest import ROOT, write_raw
from tests.integrations.nnunet.test_commands import called

TRAINER = "nnUNetTrainerMedContextQuick"
QUICK = f"""
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from medcontext.integrations.nnunet import MedContextMixin

class {TRAINER}(MedContextMixin, nnUNetTrainer):
    epochs = 2

    def initialize(self):
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 8, 2
        self.save_every = 1
        super().initialize()

class nnUNetTrainerQuick(nnUNetTrainer):
    def initialize(self):
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1, 8, 2
        super().initialize()
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    pytest.importorskip("nnunetv2", reason="no nnU-Net; make nnunet installs it")
    root = tmp_path_factory.mktemp("nnunet")
    write_raw(root / "raw" / "Dataset001_Balls", {"background": 0, "left": 1, "right": 2})
    file = root / "raw" / "Dataset001_Balls" / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"overwrite_image_reader_writer": "NibabelIO"}))
    (root / "trainers").mkdir()
    (root / "trainers" / "quick.py").write_text(QUICK)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("raw", "preprocessed", "results"):
            patch.setenv(f"nnUNet_{name}", str(root / name))
        paths = [str(ROOT / "src"), str(ROOT / ".nnunet"), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        patch.setenv("nnUNet_extTrainer", str(root / "trainers"))
        patch.setenv("nnUNet_def_n_proc", "2")
        patch.setenv("nnUNet_n_proc_DA", "2")
        called("nnunetv2.experiment_planning.plan_and_preprocess_entrypoints", "plan_and_preprocess_entry",
               "-d", "1", "-c", "3d_fullres", "-np", "2")  # fmt: skip
        assert main(["nnunet", "preprocess", "1", "-np", "2"]) == 0
        yield root


def train(*options: str) -> str:
    return called("nnunetv2.run.run_training", "run_training_entry", "1", "3d_fullres", "0", *options)


def log_of(root: Path, trainer: str) -> str:
    fold = root / "results" / "Dataset001_Balls" / f"{trainer}__nnUNetPlans__3d_fullres" / "fold_0"
    return "".join(file.read_text() for file in sorted(fold.glob("training_log_*.txt")))


def losses(log: str) -> Sequence[float]:
    return [float(line.split()[-1]) for line in log.splitlines() if "train_loss" in line]


def test_it_trains_goes_on_validates_and_predicts(folders: Path, tmp_path: Path) -> None:
    train("-tr", TRAINER)
    log = log_of(folders, TRAINER)
    assert "Using torch.compile" in log
    assert len(losses(log)) == 2
    assert all(abs(loss) < 100 for loss in losses(log))
    assert "Mean Validation Dice" in log
    train("-tr", TRAINER, "--c")
    train("-tr", TRAINER, "--val", "--val_best")
    for options in ((), ("-chk", "checkpoint_final_teacher.pth")):
        output = tmp_path / f"predicted{len(options)}"
        raw = folders / "raw" / "Dataset001_Balls" / "imagesTs"
        called("nnunetv2.inference.predict_from_raw_data", "predict_entry_point", "-i", str(raw), "-o", str(output),
            "-d", "1", "-c", "3d_fullres", "-f", "0", "-tr", TRAINER, "-npp", "1", "-nps", "1", *options)  # fmt: skip
        assert (output / "test_0.nii.gz").is_file()


def test_a_stock_training_is_a_start(folders: Path) -> None:
    train("-tr", "nnUNetTrainerQuick")
    stock = folders / "results" / "Dataset001_Balls" / "nnUNetTrainerQuick__nnUNetPlans__3d_fullres" / "fold_0"
    train("-tr", TRAINER, "-p", "nnUNetPlans", "-pretrained_weights", str(stock / "checkpoint_final.pth"))
    assert "MedContext" in log_of(folders, TRAINER)
