"""What an exported network carries with it: enough to use it without medcontext. docs/export.md says how."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import medcontext
from medcontext.data.formats import read_dataset
from medcontext.data.nifti import read_image
from medcontext.data.normalize import background
from medcontext.data.prepare import prepare_image
from medcontext.data.regions import written_values
from medcontext.errors import InputError
from medcontext.files import file_hash
from medcontext.inference.window import pad
from medcontext.run import Run, Weights, steps_of
from medcontext.run.weights import without_place

FORMAT = 1
"""Raised when a key changes its meaning."""


def describe(run: Run, checkpoint: Path, weights: Weights) -> dict[str, Any]:
    """What goes in, what comes out, and where the network is from; no names of cases or folders."""
    plan, facts = run.plan, run.facts
    outputs: list[dict[str, Any]]
    if run.regions:
        written = zip(run.regions.items(), written_values(run.regions), strict=True)
        outputs = [{"name": name, "values": list(values), "written": value} for (name, values), value in written]
    else:
        names = ("background", *plan.structures)
        outputs = [{"name": name, "value": value} for name, value in zip(names, plan.values, strict=True)]
    return {
        "format": FORMAT,
        "medcontext": medcontext.__version__,
        "torch": torch.__version__,
        "labels": {"background": 0, **plan.labels},
        "input": {"name": "image", "axes": "BCHWD", "channels": list(plan.channels), "crop_size": list(run.crop_size)},
        "output": {
            "name": "logits",
            "axes": "BKHWD",
            "activation": "sigmoid" if run.regions else "softmax",
            "regions" if run.regions else "classes": outputs,
        },
        "prepare": {
            "orientation": "RAS",
            "crop_foreground": plan.crop_foreground,
            "normalization": [asdict(channel) for channel in plan.normalization],
            "spacing": plan.spacing,
        },
        "window": {
            "size": list(run.crop_size),
            "overlap": run.settings.window.overlap,
            "blending": "gaussian",
            "mirror": run.settings.window.mirror,
        },
        "network": {
            "name": run.settings.network,
            "args": run.settings.network_args,
            "weights": weights,
            "checkpoint_sha256": file_hash(checkpoint),
        },
        "training": {
            "dataset": facts.dataset,
            "steps": steps_of(checkpoint, run),
            "labelled": len(run.split.train),
            "unlabelled": len(facts.unlabelled.scans),
            "init": without_place(facts.init),
            "versions": facts.versions,
        },
    }


def sample(run: Run) -> tuple[Tensor, str]:
    """A crop (1, C, H, W, D) to compare on, and what it is: of a validation case, else a training one, else noise."""
    try:
        cases = {case.name: case for case in read_dataset(Path(run.facts.data)).cases} if run.facts.data else {}
        names = [name for name in (*run.split.validation, *run.split.train) if name in cases]
        if names:
            image, affine = read_image(cases[names[0]], run.plan.channels)
            part = "validation" if names[0] in run.split.validation else "training"
            return centre(prepare_image(image, affine, run.plan)[0], run)[None], f"a {part} case"
    except InputError:
        pass  # the data are gone, or have changed: a network can be exported without them
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, len(run.plan.channels), *run.crop_size, generator=generator), "noise"


def centre(image: Tensor, run: Run) -> Tensor:
    """The middle of a prepared image, padded where it is smaller than the crop: (C, H, W, D)."""
    image, _ = pad(image, run.crop_size, background(image, run.plan.normalization))
    starts = [(extent - size) // 2 for extent, size in zip(image.shape[1:], run.crop_size, strict=True)]
    h, w, d = (slice(start, start + size) for start, size in zip(starts, run.crop_size, strict=True))
    return image[:, h, w, d].contiguous()
