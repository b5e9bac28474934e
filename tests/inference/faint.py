"""Scans with faint structures, and runs that see them the less surely the fainter they are."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from medcontext.data.cases import Case
from medcontext.data.nifti import image_digest, read_image
from medcontext.data.splits import Split
from medcontext.run import Run
from tests.inference.runs import LEVELS, level_run, nearest_level, save, save_networks

SHAPE = (12, 12, 12)
SCALE = 1e-4  # of the logits: soft probabilities
NAMES = "abcdefgh"


def scan(index: int) -> tuple[np.ndarray, np.ndarray]:
    """An image, its structures the fainter the later, and its label: a liver (200) and a spleen (600)."""
    rng = np.random.default_rng(index)
    label = np.zeros(SHAPE, np.int16)
    label[1:6, 2:9, 2:9], label[8:11, 3:8, 3:8] = 200, 600
    image = np.take(LEVELS, np.searchsorted([0, 200, 500, 600], label)) + rng.normal(0, 12, SHAPE)
    image[label > 0] -= 10 + 4 * index  # at 50 below, the next lower class is as near
    return image.astype(np.float32), label


def write_data(folder: Path, names: str = NAMES) -> Path:
    entries = []
    for name in names:
        image, label = scan(NAMES.index(name))
        save(folder / f"images/{name}.nii.gz", image)
        save(folder / f"labels/{name}.nii.gz", label)
        entries.append({key: f"{key}s/{name}.nii.gz" for key in ("image", "label")})
    labels = {"background": 0, "kidney": 500, "liver": 200, "spleen": 600}
    (folder / "dataset.json").write_text(
        json.dumps({"name": "Faint", "channels": ["MR"], "labels": labels, "cases": entries})
    )
    return folder


def faint_run(folder: Path, data: Path, split: Split) -> Run:
    run = level_run(folder, split=split)
    names = (*split.train, *split.validation)
    images = {name: Case(name, (data / f"images/{name}.nii.gz",)) for name in names}
    cases = {name: (image_digest(read_image(case, ["MR"])[0]), "") for name, case in images.items()}
    run = replace(run, facts=replace(run.facts, cases=cases, data=str(data)))
    run.facts.step = run.settings.steps
    run.write()
    save_networks(run, nearest_level(run, scale=SCALE))
    return run
