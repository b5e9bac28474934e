"""A run as a MONAI bundle: a folder that MONAI's own tools run, without medcontext.

```
BUNDLE/configs/metadata.json    what it is: labels, channels, versions; valid by MONAI's schema
BUNDLE/configs/inference.json   what `predict` does, see `bundle_inference.py`
BUNDLE/models/model.pt          the weights
BUNDLE/models/model.ts          the same network as TorchScript, where torch can trace it
BUNDLE/docs/README.md           how to run it, and what it does not do
```
"""

import os
import shutil
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from monai.bundle import ConfigParser
from torch import Tensor, nn

import medcontext
from medcontext.errors import InputError, first_line
from medcontext.files import file_hash, output_folder, write_json, write_text
from medcontext.integrations.bundle_inference import inference_config
from medcontext.method.losses import heads
from medcontext.networks import monai_network
from medcontext.run import Run, Weights, load_network
from medcontext.run.postprocessing import FILE, read_postprocessing

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
SCRIPT = {"_target_": "torch.jit.load", "f": "$@bundle_root + '/models/model.ts'", "map_location": "@device"}
TOLERANCE = 1e-4
"""Of the largest logit: by how much another form of the network may differ from it."""


def write_bundle(run: Run, folder: Path, checkpoint: str = "last", weights: Weights = "student") -> list[str]:
    """Write a run as a MONAI bundle, whole or not at all.

    Args:
        run: to export.
        folder: of the bundle, new or empty; its name is the bundle's.
        checkpoint: `last`, `best` or a file.
        weights: the student's or the teacher's.

    Returns:
        What a person should know of it, a sentence each.

    Raises:
        InputError: if the folder holds files or cannot be written; if the checkpoint cannot be used; if the network is
            none of MONAI's and torch cannot trace it.
    """
    network = load_network(run, checkpoint, weights)
    existed = folder.exists()
    output_folder(folder, flag="another folder")
    temporary = folder.with_name(f".tmp-{os.getpid()}-{folder.name}")
    try:
        definition, script = forms(run, network)
        remarks = differences(run)
        if script is None:
            remarks.append("torch cannot trace this network, so there is no model.ts; model.pt is used.")
        for name in ("configs", "models", "docs"):
            (temporary / name).mkdir(parents=True)
        torch.save(network.state_dict(), temporary / "models" / "model.pt")
        if script is not None:
            torch.jit.save(script, temporary / "models" / "model.ts")
        config = inference_config(run, definition, scripted=definition is SCRIPT)
        write_json(temporary / "configs" / "inference.json", config)
        origin = f"step {run.facts.step}, the {weights}'s weights, SHA-256 {file_hash(run.checkpoint(checkpoint))}"
        write_json(temporary / "configs" / "metadata.json", metadata(run, folder.name, origin))
        write_text(temporary / "docs" / "README.md", readme(run, folder.name, origin, remarks))
        os.replace(temporary, folder)
    except OSError as error:
        raise InputError(
            f"Cannot write {folder}: {error.strerror or error}. Free some space, or choose another."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if not existed and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return remarks


def forms(run: Run, network: nn.Module) -> tuple[dict[str, Any], torch.jit.ScriptModule | None]:
    """How a bundle constructs a run's network, and the network as TorchScript where torch can trace it.

    Raises:
        InputError: if it is none of MONAI's and cannot be traced.
    """
    description = run.network_description()
    names = ("in_channels", "out_channels", "args")
    made = monai_network(description["name"], crop_size=run.crop_size, **{name: description[name] for name in names})
    sample = torch.randn(2, description["in_channels"], *run.crop_size, generator=torch.Generator().manual_seed(0))
    script, why = traced(network, sample)
    if made is not None:
        definition = {"_target_": made.name, **made.arguments}
        built = ConfigParser({"network": definition}).get_parsed_content("network").eval()
        built.load_state_dict(network.state_dict())
        with torch.no_grad():
            answer = built(sample[:1])
        if isinstance(answer, Tensor):  # not a list of outputs, as some of MONAI's networks give it
            return definition, script
    if script is None:
        raise InputError(
            f"Network '{description['name']}' is none that MONAI constructs, and torch cannot trace it: {why}. A "
            "bundle needs the one or the other: train a network of MONAI's, or let yours take its shapes from its "
            "input and no decision from its values."
        )
    return SCRIPT, script


class Finest(nn.Module):
    """A network's finest output alone, float32, as `predict` takes it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return heads(self.network(image))[0].float()


def traced(network: nn.Module, sample: Tensor) -> tuple[torch.jit.ScriptModule | None, str]:
    """A network as TorchScript that gives the same for another batch; or None, and why.

    Args:
        network: in evaluation mode.
        sample: (2, C, H, W, D).
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of every decision that is taken once; what matters is compared below
        expected = heads(network(sample))[0].float()
        try:
            whole = network if isinstance(network(sample[:1]), Tensor) else Finest(network)
            script = torch.jit.trace(whole, torch.zeros_like(sample[:1]), check_trace=False)
            found = [script(sample), torch.cat([script(each[None]) for each in sample])]
        except Exception as error:  # a user's network may raise anything
            return None, first_line(error)
    largest = expected.abs().max().item()
    if all(torch.allclose(each.float(), expected, rtol=0, atol=TOLERANCE * max(largest, 1)) for each in found):
        return script, ""
    return None, "what it gives as TorchScript differs"


def differences(run: Run) -> list[str]:
    """Where a bundle's segmentation is not that of `predict`, a sentence each."""
    remarks = []
    if run.settings.window.mirror:
        remarks.append(
            "The training's windows are mirrored (window.mirror), which MONAI's inferer does not do: the bundle "
            "predicts without, as `medcontext predict --mirror false`."
        )
    found = read_postprocessing(run.folder)
    if found is not None and found.steps:
        remarks.append(
            f"The run's {FILE} keeps certain components of {', '.join(found.steps)}; the bundle does not, as "
            "`medcontext predict --postprocess false`."
        )
    return remarks


def metadata(run: Run, name: str, origin: str) -> dict[str, Any]:
    """The content of `metadata.json`."""
    plan = run.plan
    outputs = list(run.regions) or ["background", *plan.structures]
    labels = ", ".join(f"{value} {structure}" for structure, value in plan.labels.items())
    shape, channels = list(run.crop_size), dict(enumerate(plan.channels))
    tensor = {"type": "image", "spatial_shape": shape, "dtype": "float32", "value_range": [], "is_patch_data": True}
    return {
        "schema": SCHEMA,
        "version": "0.1.0",
        "changelog": {"0.1.0": f"exported by medcontext {medcontext.__version__}"},
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {package: version(package) for package in ("nibabel", "pytorch-ignite", "einops")},
        "name": name,
        "task": f"Segmentation of {', '.join(run.structures)}",
        "description": f"{run.settings.network}, trained by MedContext (method {run.settings.method.name}) on "
        f"{run.facts.dataset}: {origin}.",
        "authors": "not stated",
        "copyright": "not stated",
        "data_source": run.facts.dataset,
        "data_type": "nibabel",
        "image_classes": ", ".join(plan.channels),
        "label_classes": labels,
        "pred_classes": ", ".join(f"{index} {each}" for index, each in enumerate(outputs)),
        "network_data_format": {
            "inputs": {
                "image": {
                    **tensor,
                    "format": "magnitude",
                    "num_channels": len(channels),
                    "channel_def": {str(index): channel for index, channel in channels.items()},
                }
            },
            "outputs": {
                "pred": {
                    **tensor,
                    "format": "segmentation",
                    "num_channels": len(outputs),
                    "channel_def": {str(index): each for index, each in enumerate(outputs)},
                }
            },
        },
    }


def readme(run: Run, name: str, origin: str, remarks: list[str]) -> str:
    """The content of `docs/README.md`."""
    several = len(run.plan.channels) > 1
    files = "`<case>_0000.nii.gz`, `<case>_0001.nii.gz`, ... or a 4D `<case>.nii.gz`" if several else "`<case>.nii.gz`"
    order = f", in the order {', '.join(run.plan.channels)}" if several else ""
    labels = "\n".join(f"| {value} | {structure} |" for structure, value in run.plan.labels.items())
    lines = "".join(f"- {remark}\n" for remark in remarks)
    return f"""# {name}

Segments {", ".join(run.structures)} in {", ".join(run.plan.channels)}.

A {run.settings.network} trained by MedContext on {run.facts.dataset}: {origin}.

| value | structure |
|---|---|
{labels}

```sh
python -m monai.bundle run --bundle_root BUNDLE --config_file BUNDLE/configs/inference.json \\
    --meta_file BUNDLE/configs/metadata.json --dataset_dir SCANS --output_dir SEGMENTATIONS
```

SCANS has {files}, in mm{order}. Each segmentation lies on its
scan's grid, in the values above. It needs MONAI with nibabel, pytorch-ignite, einops and fire, not medcontext.

Unlike `medcontext predict` it does not refuse a scan that cannot be trusted: one with values that are not finite or are
fill values, a header that contradicts itself or is in another unit than mm, channels on different grids.
{lines}
No licence is known for these weights; whoever passes them on adds `LICENSE`, authors and copyright.
"""
