"""The commands on a GPU, with what they choose there by themselves: bfloat16, workers, pinned memory."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

import medcontext as mc
from medcontext.cli import main
from tests.training.commands import arguments, interrupt, logged
from tests.training.test_pretrain import OBJECTIVES
from tests.training.test_pretrain import arguments as pretraining

ON_GPU = ("--accelerator=gpu", "--steps=30", "--few_shot=3", "--unlabelled=rest", "--validate_every=15")


@pytest.fixture(scope="module")
def run(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("gpu") / "run"
    assert main(arguments(balls, output, *ON_GPU)) == 0
    return output


def test_a_run_says_what_it_ran_on(run: Path) -> None:
    facts = json.loads((run / "run.json").read_text())
    assert torch.cuda.get_device_name() in facts["hardware"]
    assert sorted(logged(run, "train/loss"))[-1] == 30


def test_a_stopped_training_goes_on_with_the_same_losses(run: Path, balls: Path, tmp_path: Path) -> None:
    stopped = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, "on_train_batch_end", 20)
        assert main(arguments(balls, stopped, *ON_GPU)) == 130
    assert main(arguments(balls, stopped, *ON_GPU, "--resume")) == 0
    ours, whole = logged(stopped, "train/loss"), logged(run, "train/loss")
    first = min(ours)
    assert 1 < first <= 21
    assert ours[first] == pytest.approx(whole[first], rel=2e-2)  # in bfloat16; convolutions there add in any order
    assert max(ours) == 30


def test_predictions_are_the_cpus(run: Path, balls: Path, tmp_path: Path) -> None:
    for device in ("cpu", "gpu"):
        mc.predict(run, balls, tmp_path / device, part="all", device=device)
    alike = [
        np.mean(np.asarray(nib.load(file).dataobj) == np.asarray(nib.load(tmp_path / "gpu" / file.name).dataobj))
        for file in (tmp_path / "cpu").glob("*.nii.gz")
    ]
    assert len(alike) == 8
    assert min(alike) > 0.999


def test_a_compiled_network_trains(balls: Path, tmp_path: Path) -> None:
    assert main(arguments(balls, tmp_path / "run", *ON_GPU, "--compile=true", "--steps=4", "--validate_every=4")) == 0


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_pretraining_in_half_precision_is_a_start(balls: Path, tmp_path: Path, objective: str) -> None:
    more = ("--steps=6", "--validate_every=3", "--accelerator=gpu", "--precision=bf16")
    assert main(pretraining(balls, tmp_path / "pre", objective, *more)) == 0
    assert all(np.isfinite(list(logged(tmp_path / "pre", "train/loss").values())))
    network = [each for each in OBJECTIVES[objective] if each.startswith(("--network", "--crop_size"))]
    train = [
        "train",
        "--data",
        str(balls),
        "--output",
        str(tmp_path / "run"),
        "--init",
        str(tmp_path / "pre"),
        *network,
    ]
    assert main([*train, "--steps=3", "--accelerator=gpu", "--method.mask.patch_size=16"]) == 0


def test_a_network_trained_on_a_gpu_is_exported(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    files = [tmp_path / "network.onnx", tmp_path / "network.pt2"]
    assert sorted(mc.export(run, onnx=files[0], torch=files[1])) == files
    assert all(file.is_file() for file in files)
