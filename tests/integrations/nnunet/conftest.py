"""A tiny data set, planned and prepared by real nnU-Net, and its trainers."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[3]
LABELLED, UNLABELLED, SHAPE = 6, 3, (28, 24, 20)


def write_case(
    rng: np.random.Generator, folder: Path, name: str, labels: Path | None = None, ignored: bool = False
) -> None:
    """Two balls that only their side tells apart; voxels of 1 x 1 x 1.5 mm; slices of which nothing is known."""
    label = np.zeros(SHAPE, np.uint8)
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    for value, side in ((1, 0.3), (2, 0.7)):
        centre = np.array(SHAPE) * (side, 0.5, 0.5) + rng.uniform(-2, 2, 3)
        label[((grid - centre) ** 2).sum(-1) < 16] = value
    image = (np.where(label > 0, 100.0, 0.0) + rng.normal(0, 10, SHAPE)).astype(np.float32)
    affine = np.diag([1.0, 1.0, 1.5, 1.0])
    nib.save(nib.Nifti1Image(image, affine), folder / f"{name}_0000.nii.gz")
    if ignored:
        label[..., :6] = 3
    if labels is not None:
        nib.save(nib.Nifti1Image(label, affine), labels / f"{name}.nii.gz")


def write_raw(folder: Path, labels: dict[str, Any], ignored: bool = False) -> None:
    for name in ("imagesTr", "labelsTr", "imagesUn", "imagesTs"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(LABELLED):
        write_case(rng, folder / "imagesTr", f"ball_{number}", folder / "labelsTr", ignored)
    for number in range(UNLABELLED):
        write_case(rng, folder / "imagesUn", f"scan_{number}")
    write_case(rng, folder / "imagesTs", "test_0")
    content = {"channel_names": {"0": "MRI"}, "labels": labels, "numTraining": LABELLED, "file_ending": ".nii.gz"}
    if any(isinstance(value, list) for value in labels.values()):
        content["regions_class_order"] = [1, 2]
    (folder / "dataset.json").write_text(json.dumps(content))


@dataclass(frozen=True)
class World:
    """The three folders of nnU-Net, with data sets in them."""

    root: Path

    @property
    def raw(self) -> Path:
        return self.root / "raw"

    @property
    def prepared(self) -> Path:
        return self.root / "preprocessed"

    @property
    def results(self) -> Path:
        return self.root / "results"

    def trainer(self, kind: type, configuration: str = "3d_fullres", dataset: str = "Dataset001_Balls") -> Any:
        """One for fold 0, of two epochs of two steps, in a folder of results of its own."""
        plans = json.loads((self.prepared / dataset / "nnUNetPlans.json").read_text()) | {"continue_training": False}
        torch.manual_seed(0)
        trainer = kind(
            plans, configuration, 0, json.loads((self.prepared / dataset / "dataset.json").read_text()),
            torch.device("cpu"),
        )  # fmt: skip
        trainer.num_epochs = trainer.num_iterations_per_epoch = 2
        trainer.num_val_iterations_per_epoch = 1
        return trainer


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if not (ROOT / ".nnunet").is_dir():
        pytest.skip("no nnU-Net; make nnunet installs it")
    world = World(tmp_path_factory.mktemp("nnunet"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("raw", "preprocessed", "results"):
            patch.setenv(f"nnUNet_{name}", str(world.root / name))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), str(ROOT / ".nnunet")]))
        patch.setenv("nnUNet_def_n_proc", "1")
        # It forks twelve processes to list files; one of them hangs now and then beside the threads of other tests.
        patch.setattr("nnunetv2.utilities.utils.Pool", ThreadPool)
        write_raw(world.raw / "Dataset001_Balls", {"background": 0, "left": 1, "right": 2})
        plan(world, 1, "Dataset001_Balls")
        patch.setenv("nnUNet_n_proc_DA", "0")  # from here on: planning fails with it
        yield world


def plan(world: World, number: int, name: str) -> None:
    """Fingerprint, plans made small, prepared cases."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments

    extract_fingerprints([number], num_processes=1, show_progress_bar=False)
    plan_experiments([number])
    file = world.prepared / name / "nnUNetPlans.json"
    plans = json.loads(file.read_text())
    for configuration in plans["configurations"].values():
        if "architecture" in configuration:
            make_small(configuration)
    file.write_text(json.dumps(plans))
    prepare(world, name, "2d", "3d_fullres")


def plan_alike(world: World, name: str) -> None:
    """The same images with other labels, by the plans of the first data set."""
    first, folder = world.prepared / "Dataset001_Balls", world.prepared / name
    folder.mkdir()
    shutil.copy(first / "dataset_fingerprint.json", folder)
    shutil.copy(world.raw / name / "dataset.json", folder)
    plans = json.loads((first / "nnUNetPlans.json").read_text()) | {"dataset_name": name}
    (folder / "nnUNetPlans.json").write_text(json.dumps(plans))
    prepare(world, name, "3d_fullres")


def prepare(world: World, name: str, *configurations: str) -> None:
    """As nnU-Net does it, in this process: its own way starts others, which costs more than the work."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(str(world.prepared / name / "nnUNetPlans.json"))
    dataset = json.loads((world.prepared / name / "dataset.json").read_text())
    shutil.copytree(world.raw / name / "labelsTr", world.prepared / name / "gt_segmentations", dirs_exist_ok=True)
    for each in configurations:
        configuration = manager.get_configuration(each)
        folder = world.prepared / name / configuration.data_identifier
        folder.mkdir()
        for label in sorted((world.raw / name / "labelsTr").glob("*.nii.gz")):
            case = label.name.removesuffix(".nii.gz")
            image = world.raw / name / "imagesTr" / f"{case}_0000.nii.gz"
            preprocessor = configuration.preprocessor_class(verbose=False)
            preprocessor.run_case_save(str(folder / case), [str(image)], str(label), manager, configuration, dataset)


def make_small(configuration: dict[str, Any]) -> None:
    arguments = configuration["architecture"]["arch_kwargs"]
    axes = len(configuration["patch_size"])
    arguments.update(
        n_stages=3, features_per_stage=[4, 8, 8], n_conv_per_stage=[1, 1, 1], n_conv_per_stage_decoder=[1, 1],
        kernel_sizes=[[3] * axes] * 3, strides=[[1] * axes, [2] * axes, [2] * axes],
    )  # fmt: skip
    configuration["patch_size"] = [16, 24, 20][-axes:]
    configuration["batch_size"] = 2
