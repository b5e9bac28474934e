"""The way of a user: nnU-Net's own commands, with ours and, for predictions, without medcontext on the machine."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from conftest import PRIMUS
from medcontext.cli import main
from medcontext.commands.evaluate import evaluate
from medcontext.integrations.nnunet.command import trainer_folder
from medcontext.reporting.content import make_page, read_content
from tests.evaluation.test_nnunet import assert_same, dice, dice_by_nnunet, parts
from tests.integrations.nnunet.conftest import World, prepare

pytestmark = pytest.mark.slow
EXAMPLE = Path(__file__).parents[3] / "examples" / "nnunet"
TINY = """
import sys
sys.path.append(FOLDER)
from nnunet_own_trainer import nnUNetTrainerDA5MedContext

class nnUNetTrainerMedContextTiny(nnUNetTrainerDA5MedContext):
    epochs = 2

    def initialize(self):
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 2, 1
        super().initialize()
"""
TRAINER = "nnUNetTrainerMedContextTiny"


def run(module: str, entry: str, arguments: Sequence[str], known: bool = True) -> subprocess.CompletedProcess:
    """Call an entry point in a process of its own, where medcontext may be unknown."""
    code = (
        f"import sys, types; sys.modules[{PRIMUS!r}] = types.ModuleType({PRIMUS!r})\n"
        f"if not {known}: sys.modules['medcontext'] = None\n"
        f"from {module} import {entry}\nsys.exit({entry}(*({'[sys.argv[1:]]' if entry == 'main' else ''})))"
    )
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)


def called(module: str, entry: str, *arguments: str) -> str:
    """What an entry point prints, which must not fail."""
    done = run(module, entry, arguments)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return str(done.stdout)


def predict(world: World, output: Path, *options: str, known: bool = False) -> np.ndarray:
    arguments = ["-i", str(world.raw / "Dataset001_Balls" / "imagesTs"), "-o", str(output)]
    arguments += ["-d", "1", "-c", "3d_fullres", "-f", "0", "-device", "cpu", "-npp", "1", "-nps", "1", *options]
    done = run("nnunetv2.inference.predict_from_raw_data", "predict_entry_point", arguments, known)
    assert done.returncode == 0, done.stderr
    return np.asarray(nib.load(output / "test_0.nii.gz").dataobj)


@pytest.fixture(scope="module")
def fold(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training by `medcontext nnunet train`, the example's but for its length, validated by nnU-Net."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "tiny_trainer.py").write_text(TINY.replace("FOLDER", repr(str(EXAMPLE))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_extTrainer", str(folder))
        assert main(["nnunet", "preprocess", "1", "-np", "1"]) == 0
        arguments = ["nnunet", "train", "1", "3d_fullres", "0", "-tr", TRAINER, "-device", "cpu"]
        done = run("medcontext.cli", "main", arguments)
        assert done.returncode == 0, done.stderr
        assert "Epoch 1" in done.stdout
    return world.results / "Dataset001_Balls" / f"{TRAINER}__nnUNetPlans__3d_fullres" / "fold_0"


def test_a_training_is_validated_as_stocks(fold: Path) -> None:
    assert (fold / "validation" / "summary.json").is_file()
    log = "".join(file.read_text() for file in sorted(fold.glob("training_log_*.txt")))
    assert "MedContext: 3 scans without labels" in log
    assert "unlabelled" in log
    assert "Mean Validation Dice" in log


def test_evaluate_and_report_take_it_as_it_lies(fold: Path, world: World, tmp_path: Path) -> None:
    scores = evaluate(fold.parent, world.raw / "Dataset001_Balls", tmp_path / "scores", workers=1)
    assert_same(dice(scores), dice_by_nnunet(fold / "validation" / "summary.json"))
    assert set(parts(scores).values()) == {"out of fold"}
    page = make_page(read_content([str(scores.folder)]), [])
    rows = {name: values[0] for name, values in page.methods["rows"]}
    assert f"{TRAINER}; MedContext's method medcontext, tubes, ratio 0.4; labelled and unlabelled" in rows["method"]
    assert "target the teacher's answer (hard) from 0.5" in rows["method"]
    assert rows["cases"].endswith("3 without labels")


@pytest.fixture(scope="module")
def student(fold: Path, world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What plain nnU-Net predicts, without medcontext."""
    folder = tmp_path_factory.mktemp("student")
    assert predict(world, folder, "-tr", TRAINER, "--save_probabilities").shape == (28, 24, 20)
    return folder


def test_plain_nnunet_predicts_by_the_teacher_too(student: Path, world: World, tmp_path: Path) -> None:
    predict(world, tmp_path, "-tr", TRAINER, "--save_probabilities", "-chk", "checkpoint_final_teacher.pth")
    both = [np.load(folder / "test_0.npz")["probabilities"] for folder in (student, tmp_path)]
    assert both[0].shape == both[1].shape
    assert not np.array_equal(*both)


def test_an_exported_zip_needs_no_medcontext(
    student: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model.zip"
    options = ["-d", "1", "-o", str(file), "-c", "3d_fullres", "-tr", TRAINER, "-f", "0"]
    done = run("nnunetv2.model_sharing.entry_points", "export_pretrained_model_entry", options, known=False)
    assert done.returncode == 0, done.stderr
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "elsewhere"))
    done = run("nnunetv2.model_sharing.entry_points", "install_from_zip_entry_point", [str(file)], known=False)
    assert done.returncode == 0, done.stderr
    before = np.asarray(nib.load(student / "test_0.nii.gz").dataobj)
    assert np.array_equal(predict(world, tmp_path / "after", "-tr", TRAINER), before)


def test_nnunet_finds_our_trainers_by_the_variable(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    monkeypatch.setenv("nnUNet_extTrainer", str(trainer_folder()))
    for name in ("nnUNetTrainerMedContext", "nnUNetTrainerMedContextPaper", "nnUNetTrainerMedContext_250epochs"):
        found = recursive_find_trainer_class_by_name(name)
        assert found.__name__ == name
        assert found.__module__ in sys.modules, "it can be pickled"
    trainer = world.trainer(recursive_find_trainer_class_by_name("nnUNetTrainerMedContext_5epochs"))
    trainer.initialize()
    assert trainer.num_epochs == 5
    assert trainer.learner.total_steps == 10


def test_the_cascade_hides_the_previous_segmentation_too(world: World) -> None:
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from tests.integrations.nnunet.test_trainer import batches, ours, started

    file = world.prepared / "Dataset001_Balls" / "nnUNetPlans.json"
    kept = file.read_text()
    plans = json.loads(kept)
    plans["configurations"]["3d_lowres"] = {
        "data_identifier": "nnUNetPlans_3d_lowres", "inherits_from": "3d_fullres", "spacing": [2.0, 2.0, 2.0],
        "patch_size": [12, 12, 12], "median_image_size_in_voxels": [15.0, 12.0, 14.0],
        "next_stage": "3d_cascade_fullres",
    }  # fmt: skip
    plans["configurations"]["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    file.write_text(json.dumps(plans))
    try:
        assert main(["nnunet", "preprocess", "1", "-c", "3d_cascade_fullres", "-np", "1"]) == 2
        kind = ours(nnUNetTrainer)
        prepare(world, "Dataset001_Balls", "3d_lowres")
        first = started(world, kind, "3d_lowres")
        assert float(first.train_step(batches(first, 1)[0])["masked"]) > 0
        second = world.trainer(kind, "3d_cascade_fullres")
        previous = Path(second.folder_with_segs_from_previous_stage)
        previous.mkdir(parents=True)
        fullres = str(world.prepared / "Dataset001_Balls" / "nnUNetPlans_3d_fullres")
        for name in nnUNetDatasetBlosc2.get_identifiers(fullres):
            mask = nnUNetDatasetBlosc2(fullres, [name]).load_case(name)[1]
            nnUNetDatasetBlosc2.save_seg(np.asarray(mask[:])[0].astype(np.uint8), str(previous / name))
        second.on_train_start()
        (batch,) = batches(second, 1)
        assert batch["data"].shape[1] == 3, "the image and two structures of the previous stage"
        seen = []
        second.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
        with torch.no_grad():
            second.adapter.embedding.copy_(torch.tensor([7.0, 8.0, 9.0]))
        second.network.train()
        assert float(second.train_step(batch)["masked"]) > 0
        masked = seen[-1]
        hidden = masked[:, 0] == 7
        assert 0.2 < hidden.float().mean() < 0.6
        assert torch.equal(masked[:, 1] == 8, hidden)
        assert torch.equal(masked[:, 2] == 9, hidden)
    finally:
        file.write_text(kept)
