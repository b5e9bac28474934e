"""A run as a MONAI bundle: a folder that MONAI's own tools run, without medcontext.

```
BUNDLE/configs/metadata.json    what it is: labels, channels, versions; valid by MONAI's schema
BUNDLE/configs/inference.json   what `predict` does, see `bundle_inference.py`
BUNDLE/models/model.pt          the weights
BUNDLE/models/model.ts          it as TorchScript, where torch can trace it, with the configs inside
BUNDLE/docs/README.md           how to run it, and what it does not do
```
"""

import json
import os
import shutil
import warnings
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import monai
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import save_net_with_metadata
from torch import Tensor, nn

import medcontext
from medcontext.errors import InputError, first_line
from medcontext.extras import need
from medcontext.files import (
    file_hash,
    output_folder,
    temporary_name,
    write_from_memory,
    write_json,
    write_text,
)
from medcontext.inference.export import TOLERANCE, Finest
from medcontext.integrations.bundle_inference import inference_config
from medcontext.method.losses import heads
from medcontext.networks import monai_network
from medcontext.run import Run, Weights, load_network, steps_of
from medcontext.run.postprocessing import FILE, read_postprocessing

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
SCRIPT = {"_target_": "torch.jit.load", "f": "$@bundle_root + '/models/model.ts'", "map_location": "@device"}


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
        InputError: if PyTorch Ignite is missing, whose version the bundle states; if the folder holds files or cannot
            be written; if the checkpoint cannot be used; if the network is none of MONAI's and torch cannot trace it.
    """
    need("ignite")
    network = load_network(run, checkpoint, weights)
    folder, existed = folder.resolve(), folder.exists()
    output_folder(folder, flag="another folder")
    temporary = temporary_name(folder)
    try:
        definition, script = forms(run, network)
        file = run.checkpoint(checkpoint)
        digest = file_hash(file)
        remarks = differences(run, digest, weights)
        if script is None:
            remarks.append("torch cannot trace this network, so there is no model.ts; model.pt is used.")
        elif not script.any_batch:
            remarks.append("models/model.ts takes one window at a time.")
        batch = 1 if script is not None and not script.any_batch else run.settings.window.batch_size
        config = inference_config(run, definition, definition is SCRIPT, batch)
        origin = f"step {steps_of(file, run)}, the {weights}'s weights, SHA-256 {digest}"
        about = metadata(run, folder.name, origin)
        for name in ("configs", "models", "docs"):
            (temporary / name).mkdir(parents=True)
        write_from_memory(temporary / "models" / "model.pt", lambda file: torch.save(network.state_dict(), file))
        if script is not None:
            inside = {"inference.json": json.dumps(config).encode()}
            write_from_memory(
                temporary / "models" / "model.ts",
                partial(
                    save_net_with_metadata,
                    script.module,
                    include_config_vals=False,
                    meta_values=about,
                    more_extra_files=inside,
                ),
            )
        write_json(temporary / "configs" / "inference.json", config)
        write_json(temporary / "configs" / "metadata.json", about)
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


class Script(NamedTuple):
    """A network as TorchScript, for any batch or for one crop at a time."""

    module: torch.jit.ScriptModule
    any_batch: bool


def forms(run: Run, network: nn.Module) -> tuple[dict[str, Any], Script | None]:
    """How a bundle constructs a run's network, and the network as TorchScript where torch can trace it.

    Raises:
        InputError: if it is none of MONAI's and cannot be traced.
    """
    description = run.network_description()
    names = ("in_channels", "out_channels", "args")
    made = monai_network(description["name"], crop_size=run.crop_size, **{name: description[name] for name in names})
    one = torch.randn(1, description["in_channels"], *run.crop_size, generator=torch.Generator().manual_seed(0))
    sample = torch.cat([one, -one])  # a network that decides by values hardly decides alike for these and for zeros
    script, why = traced(network, sample)
    if made is not None:
        definition = json.loads(json.dumps({"_target_": made.name, **made.arguments}))
        built = ConfigParser({"network": definition}).get_parsed_content("network").eval()
        built.load_state_dict(network.state_dict())
        with torch.no_grad():
            answer, expected = built(sample[:1]), network(sample[:1])
        if isinstance(answer, Tensor) and same(answer, expected):  # some of MONAI's networks give a list of outputs
            return definition, script
    if script is None:
        raise InputError(
            f"Network '{description['name']}' is none that MONAI constructs, and torch cannot trace it: {why}. A "
            "bundle needs the one or the other: train a network of MONAI's, or let yours take its shapes from its "
            "input and no decision from its values."
        )
    return SCRIPT, script


def traced(network: nn.Module, sample: Tensor) -> tuple[Script | None, str]:
    """A network as TorchScript that gives the same; or None, and why.

    What Python computes from shapes, a trace may not follow; torch.export does, for one shape.

    Args:
        network: in evaluation mode.
        sample: (2, C, H, W, D).
    """
    one, why = sample[:1], ""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of every decision that is taken once; what matters is compared below
        expected = torch.cat([heads(network(each[None]))[0].float() for each in sample])
        whole = network if isinstance(network(one), Tensor) else Finest(network)
        for any_batch in (True, False):
            try:
                followed = whole if any_batch else torch.export.export(whole, (one,)).module()
                script = Script(torch.jit.trace(followed, torch.zeros_like(one), check_trace=False), any_batch)
                found = [torch.cat([script.module(each[None]) for each in sample])]
                found += [script.module(sample)] if any_batch else []
            except Exception as error:  # a user's network may raise anything
                why = first_line(error)
                continue
            if all(same(each, expected) for each in found):
                return script, ""
            why = "what it gives as TorchScript differs"
    return None, why


def same(found: Tensor, expected: Tensor) -> bool:
    """Whether two answers differ by rounding alone."""
    return torch.allclose(found.float(), expected.float(), rtol=0, atol=TOLERANCE * max(expected.abs().max().item(), 1))


def differences(run: Run, digest: str, weights: Weights) -> list[str]:
    """Where a bundle's segmentation is not that of `predict`, a sentence each.

    Args:
        run: exported.
        digest: SHA-256 of the checkpoint.
        weights: the student's or the teacher's.
    """
    remarks = []
    if run.settings.window.mirror:
        remarks.append(
            "The training's windows are mirrored (window.mirror), which MONAI's inferer does not do: the bundle "
            "predicts without, as `medcontext predict --mirror false`."
        )
    found = read_postprocessing(run.folder)
    if found is not None and found.steps and found.holds_for([digest], weights):
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
    numbered = ", ".join(run.regions or run.plan.structures)
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

In MONAI Label and MONAI Deploy structures are numbered 1, 2, 3, ... in this order: {numbered}.

Unlike `medcontext predict` it does not refuse a scan that cannot be trusted: one with values that are not finite or are
fill values, a header that contradicts itself or is in another unit than mm, channels on different grids.
{lines}
No licence is known for these weights; whoever passes them on adds `LICENSE`, authors and copyright.
"""
