"""Train and validate two folds of real nnU-Net on blocks, in seconds: train_nnunet.py PACKAGES ROOT"""

import json
import sys
import types
from os import environ
from pathlib import Path

sys.path.append(sys.argv[1])  # last: what nnU-Net shares with us is ours
# Those trainers need torchvision, and nnU-Net imports every trainer.
sys.modules["nnunetv2.training.nnUNetTrainer.primus.primus_trainers"] = types.ModuleType("primus_trainers")

environ.update({f"nnUNet_{name}": f"{sys.argv[2]}/nnUNet_{name}" for name in ("raw", "preprocessed", "results")})
environ.update(nnUNet_compile="f", nnUNet_def_n_proc="1")

from tests import nnunet  # noqa: E402


def main() -> None:
    import torch
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    torch.set_num_threads(1)
    nnunet.write_raw(Path(sys.argv[2]), scale=4)
    extract_fingerprints([7], num_processes=1)
    plan_experiments([7])
    preprocess([7], configurations=("2d",), num_processes=(1,))
    environ.update(nnUNet_n_proc_DA="0")  # only now: planning does not stand it
    prepared = Path(sys.argv[2]) / "nnUNet_preprocessed" / nnunet.NAME
    for fold in (0, 1):
        plans, dataset = (json.loads((prepared / f"{name}.json").read_text()) for name in ("nnUNetPlans", "dataset"))
        trainer = nnUNetTrainer(plans | {"continue_training": False}, "2d", fold, dataset, torch.device("cpu"))
        trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 2, 2, 1
        trainer.run_training()
        trainer.perform_actual_validation()


if __name__ == "__main__":  # its validation starts processes
    main()
