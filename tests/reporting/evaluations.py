"""Evaluated models whose errors are known, with the runs that they seem to come from."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np

from medcontext.commands.evaluate import evaluate
from medcontext.files import file_hash
from medcontext.run import Run
from tests.inference.runs import make_network as network_of
from tests.inference.runs import make_run, save_networks

LEFT, RIGHT = 200, 500  # the values of the two balls of `write_blobs`


def evaluate_moved(data: Path, folder: Path, steps: int, *, run: Run | None = None, miss: str = "") -> Path:
    """Predictions that are the labels moved by so many voxels along the first axis, evaluated.

    Args:
        data: from `write_blobs`.
        folder: for `predictions` and `scores`.
        steps: voxels.
        run: that the predictions say they are of.
        miss: a case whose right ball is missed.
    """
    predictions = folder / "predictions"
    predictions.mkdir(parents=True)
    for path in sorted((data / "labelsTr").iterdir()):
        label = nib.load(path)
        moved = np.roll(np.asanyarray(label.dataobj), steps, axis=0)
        if path.name.startswith(f"{miss}."):
            moved = np.where(moved == RIGHT, 0, moved)
        nib.save(nib.Nifti1Image(moved.astype(np.int16), label.affine), predictions / path.name)
    if run is not None:
        record = {
            "labels": {"background": 0, "left": LEFT, "right": RIGHT},
            "predicted_by": {
                "weights": "student",
                "networks": [{"checkpoint": str(run.checkpoint("last")), "sha256": file_hash(run.checkpoint("last"))}],
            },
        }
        (predictions / "dataset.json").write_text(json.dumps(record))
    evaluate(predictions, data, folder / "scores", workers=1)
    return folder / "scores"


def make_training(folder: Path, steps: int = 100) -> Run:
    """A run with a checkpoint and the logs of a training that went well."""
    run = make_run(folder, labels={"left": LEFT, "right": RIGHT})
    save_networks(run, network_of(run))
    took = {"parameters": 1234, "hardware": "1 x NVIDIA H200", "seconds": 7200.0, "devices": 1, "step": steps}
    run = replace(run, facts=replace(run.facts, **took))
    run.write()
    rows = [
        {
            "step": step,
            "train/loss": 3 / step,
            "train/whole": 1 / step,
            "train/masked": 1 / step,
            "train/consistency": 2 / step,
            "teacher/momentum": 0.996,
            "val/dice_student": step / (10 * steps) if step % 50 == 0 else "",
        }
        for step in range(1, steps + 1)
    ]
    write_log(folder, 0, rows)
    return run


def write_log(run: Path, version: int, rows: list[dict]) -> None:
    table = run / "csv" / f"version_{version}" / "metrics.csv"
    table.parent.mkdir(parents=True)
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
