"""Every table in minutes on two cores: tiny networks, a few steps, generated scans. The scores mean nothing."""

import os
import shutil
from pathlib import Path
from typing import Any

from medcontext.console import console
from medcontext.data.known import KNOWN, SPLITS
from medcontext.files import temporary_name
from medcontext.phantom import write_phantom

STEPS = 2

SMOKE: dict[str, Any] = {
    "steps": STEPS,
    "batch_size": 1,
    "crop_size": (32, 32, 16),
    "validation_cases": 0,
    "watch_cases": 0,
    "window.mirror": False,
    "window.overlap": 0,
    "workers": 1,
    "accelerator": "cpu",
    "prepare.spacing": "original",
}
"""Settings of every training."""

SMALL: dict[str, dict[str, Any]] = {
    "unetr": {
        "network_args.feature_size": 4,
        "network_args.hidden_size": 24,
        "network_args.num_heads": 2,
        "network_args.mlp_dim": 16,
    },
    "swin_unetr": {
        "network_args.feature_size": 12,
        "network_args.depths": (1, 1, 1, 1),
        "network_args.num_heads": (1, 1, 1, 1),
        "network_args.window_size": 2,
        "crop_size": (64, 32, 32),
    },
    "nnformer": {
        "network_args.embed_dim": 12,
        "network_args.depths": (1, 1, 1),
        "network_args.decoder_heads": (1, 1),
        "network_args.num_heads": (1, 1, 1),
        "method.mask.patch_size": 16,
    },
    "pcrlv2": {"network_args.width": 4},
}
"""Settings that make each network tiny."""

SMALL_PRETRAINING: dict[str, dict[str, Any]] = {
    "mae": {"mae.decoder_width": 16, "mae.decoder_depth": 1, "mae.decoder_heads": 2, "mae.decoder_mlp": 16},
    "simmim": {},
    "simclr": {"simclr.projection": 8},
    "pcrlv2": {
        "crop_size": (32, 32, 16),
        "pcrlv2.global_boxes": ((32, 32, 16), (24, 24, 16)),
        "pcrlv2.global_size": (16, 16, 8),
        "pcrlv2.local_boxes": ((8, 8, 8),),
        "pcrlv2.local_size": (8, 8, 8),
        "pcrlv2.swap_patch": (4, 4, 4),
    },
}
"""Settings that make each pretraining tiny, but for its network."""

for tiny in SMALL_PRETRAINING.values():
    tiny |= {"steps": STEPS, "batch_size": 2, "held_out_crops": 1}

CASES, TEST_CASES = 6, 2  # enough for five training scans
SIZE, SPACING = (32, 32, 16), (11.0, 11.0, 15.0)


def write_data(split: str, folder: Path) -> None:
    """Generate a data set that is laid out as the real one, unless it is there already.

    Args:
        split: one of `SPLITS`; if it is not its data set's own, all cases of that are generated, and it holds.
        folder: of the data set.
    """
    if not folder.is_dir():
        dataset = SPLITS[split]
        known = KNOWN[dataset]
        cases, test_cases = (CASES, TEST_CASES) if split == dataset else (known.training, known.test)
        console.print(f"Generating scans laid out as {dataset}: {folder}", soft_wrap=True)
        unfinished = temporary_name(folder)
        try:
            write_phantom(unfinished, cases=cases, test_cases=test_cases, size=SIZE, spacing=SPACING, layout=dataset)
            os.replace(unfinished, folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster, with the very same scans
                raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def split_file(folder: Path) -> Path:
    """Which of the generated cases are for what; a data set's own split names cases that are not there."""
    return folder / "split.json"
