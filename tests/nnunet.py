"""A raw data set and a results folder in the layout of nnU-Net 2.8.1, with files in the form that it writes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

NAME, TRAINER = "Dataset007_Blocks", "nnUNetTrainer__nnUNetPlans__3d_fullres"
LABELS = {"background": 0, "left": 1, "right": 2}
SHAPE, SPACING = (10, 12, 6), (1.0, 1.0, 2.0)
CASES = [f"block_{number}" for number in range(6)]


def label_of(number: int) -> np.ndarray:
    """Two blocks, the right one missing in case 3."""
    label = np.zeros(SHAPE, np.uint8)
    label[1:4, 2 : 7 + number % 3, 1:5] = 1
    label[6:9, 3:8, 1 : 3 + number % 3] = 2 if number != 3 else 0
    return label


def prediction_of(number: int, fold: int = 0) -> np.ndarray:
    """The label moved; case 0 has no left block, case 3 a right one that is not there."""
    moved = np.roll(label_of(number), 1 + fold, axis=1)
    if number == 0:
        moved[moved == 1] = 0
    if number == 3:
        moved[7, 7, 3] = 2
    return moved


def save(file: Path, array: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([*SPACING, 1])), file)


def write_raw(root: Path, labels: Mapping[str, object] = LABELS, *, scale: int = 1, **more: object) -> Path:
    """`nnUNet_raw/Dataset007_Blocks`: six training cases, and `test_0`, labelled in labelsTs; scaled in the plane."""
    raw = root / "nnUNet_raw" / NAME
    for part, name, number in [("Tr", name, i) for i, name in enumerate(CASES)] + [("Ts", "test_0", 1)]:
        label = label_of(number).repeat(scale, 0).repeat(scale, 1)
        save(raw / f"images{part}" / f"{name}_0000.nii.gz", label.astype(np.float32))
        save(raw / f"labels{part}" / f"{name}.nii.gz", label)
    write_dataset(raw, labels, **more)
    return raw


def write_dataset(folder: Path, labels: Mapping[str, object] = LABELS, **more: object) -> None:
    content = {"channel_names": {"0": "MRI"}, "labels": labels, "numTraining": len(CASES), "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content | more))


def write_results(
    root: Path, folds: Mapping[str, Sequence[int]], labels: Mapping[str, object] = LABELS, **more: object
) -> Path:
    """The folder of a training, each fold with the validation cases of these numbers; those without any have none."""
    trainer = root / "nnUNet_results" / NAME / TRAINER
    trainer.mkdir(parents=True)
    write_dataset(trainer, labels, **more)
    (trainer / "plans.json").write_text(json.dumps(PLANS))
    (trainer / "dataset_fingerprint.json").write_text("{}")
    for name, numbers in folds.items():
        fold = trainer / f"fold_{name}"
        fold.mkdir()
        (fold / "checkpoint_final.pth").write_bytes(f"weights of fold {name}".encode())
        (fold / "debug.json").write_text(json.dumps(DEBUG | {"fold": name}))
        write_log(fold, (2026, 9, 30, 8, 5, 0), range(3), len(numbers))
        for number in numbers:
            save(fold / "validation" / f"{CASES[number]}.nii.gz", prediction_of(number))
        if numbers:
            write_summary(fold / "validation", numbers)
    return trainer


def write_log(fold: Path, when: tuple[int, ...], epochs: Sequence[int], validation: int = 2, loss: float = 0.5) -> Path:
    """A training log: its name has months and days without zeros."""
    year, month, day, *time = when
    lines = [f"This split has {len(CASES) - validation} training and {validation} validation cases."]
    for epoch in epochs:
        lines += [
            "",
            f"Epoch {epoch}",
            f"Current learning rate: {0.01 - 0.002 * epoch}",
            f"train_loss {loss - epoch / 4}",
            f"val_loss {loss - epoch / 8}",
            f"Pseudo dice [np.float32({0.1 * epoch}), nan, np.float32({0.3 * epoch})]",
            "Epoch time: 600.0 s",
            "Yayy! New best EMA pseudo Dice: 0.4323",
        ]
    file = fold / f"training_log_{year}_{month}_{day}_{'_'.join(f'{part:02}' for part in time)}.txt"
    stamp = f"{year}-{month:02}-{day:02} 08:05:01.500000:"
    file.write_text("\n#####\nPlease cite\n#####\n \n" + "".join(f"{stamp} {line} \n" for line in lines))
    return file


def write_summary(validation: Path, numbers: Sequence[int]) -> None:
    """nnU-Net's own scores, by its formula."""
    cases = []
    for number in numbers:
        truth, answer = label_of(number), prediction_of(number)
        metrics = {}
        for value in (1, 2):
            tp, fp, fn = (
                int((one & other).sum())
                for one, other in (
                    (truth == value, answer == value),
                    (truth != value, answer == value),
                    (truth == value, answer != value),
                )
            )
            dice = 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else float("nan")
            metrics[str(value)] = {"Dice": dice, "TP": tp, "FP": fp, "FN": fn}
        cases.append({"metrics": metrics, "prediction_file": str(validation / f"{CASES[number]}.nii.gz")})
    mean = {key: {"Dice": float(np.nanmean([case["metrics"][key]["Dice"] for case in cases]))} for key in ("1", "2")}
    overall = {"Dice": float(np.mean([each["Dice"] for each in mean.values()]))}
    content = {"foreground_mean": overall, "mean": mean, "metric_per_case": cases}
    (validation / "summary.json").write_text(json.dumps(content, indent=4))


def dice_by_nnunet(summary: Path) -> dict[tuple[str, str], float]:
    """By case and value, from a summary.json of nnU-Net's."""
    return {
        (Path(case["prediction_file"]).name.removesuffix(".nii.gz"), value): scores["Dice"]
        for case in json.loads(summary.read_text())["metric_per_case"]
        for value, scores in case["metrics"].items()
    }


PLANS = {
    "dataset_name": NAME,
    "plans_name": "nnUNetPlans",
    "transpose_forward": [0, 1, 2],
    "configurations": {
        "2d": {"batch_size": 12, "patch_size": [56, 40], "spacing": [1.0, 1.0]},
        "3d_lowres": {"batch_size": 2, "spacing": [3.0, 1.5, 1.5], "inherits_from": "3d_fullres"},
        "3d_fullres": {
            "data_identifier": "nnUNetPlans_3d_fullres",
            "batch_size": 9,
            "patch_size": [40, 56, 40],
            "spacing": [2.0, 1.0, 1.0],
            "normalization_schemes": ["ZScoreNormalization"],
            "architecture": {
                "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                "arch_kwargs": {"n_stages": 4, "features_per_stage": [32, 64, 128, 256]},
            },
        },
    },
}

DEBUG = {  # every value is a text
    "batch_size": "9",
    "configuration_name": "3d_fullres",
    "cudnn_version": "91900",
    "device": "cuda:0",
    "gpu_name": "NVIDIA H100 80GB HBM3",
    "initial_lr": "0.01",
    "is_ddp": "False",
    "loss": "DeepSupervisionWrapper(\n  (loss): DC_and_CE_loss(\n    (ce): RobustCrossEntropyLoss()\n    (dc): "
    "MemoryEfficientSoftDiceLoss()\n  )\n)",
    "lr_scheduler": "<nnunetv2.training.lr_scheduler.polylr.PolyLRScheduler object at 0x7fc61a0e16d0>",
    "network": "OptimizedModule",
    "num_epochs": "3",
    "num_iterations_per_epoch": "250",
    "optimizer": "SGD (\nParameter Group 0\n    dampening: 0\n    initial_lr: 0.01\n    lr: 0.01\n"
    "    momentum: 0.99\n    nesterov: True\n    weight_decay: 3e-05\n)",
    "torch_version": "2.13.0+cu129",
}
