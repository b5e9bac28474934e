import sys
from pathlib import Path

import pytest
import torch

from medcontext.errors import InputError
from medcontext.method.losses import heads
from medcontext.networks import build_network

CASES = {
    "unet": ((16, 24, 8), {}),
    "dynunet": ((32, 32, 8), {"filters": [4, 8, 8, 8, 8]}),
    "unetr": ((32, 16, 16), {"hidden_size": 12, "num_heads": 2, "mlp_dim": 8, "feature_size": 4}),
    "swin_unetr": ((64, 32, 32), {"feature_size": 12, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)}),
    "nnformer": ((32, 24, 9), {"embed_dim": 12, "depths": (1, 1, 1)}),
    "pcrlv2": ((16, 24, 8), {"width": 4}),
    "resenc": ((16, 32, 8), {"features_per_stage": [4, 8, 8]}),
    "SegResNet": ((16, 16, 16), {}),
    "BasicUNet": ((32, 32, 32), {"features": (4, 4, 4, 4, 4, 4)}),
    "AttentionUnet": ((16, 16, 16), {"channels": (4, 8), "strides": (2,)}),
    "SegResNetDS": ((16, 16, 16), {"init_filters": 8, "dsdepth": 2}),
    "MedNeXt": ((32, 32, 32), {"init_filters": 4}),
    "VNet": ((16, 16, 16), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_networks_by_name_map_images_to_logits(name: str) -> None:
    crop, args = CASES[name]
    network = build_network(name, in_channels=2, out_channels=5, crop_size=crop, args=args)
    assert heads(network(torch.randn(2, 2, *crop)))[0].shape == (2, 5, *crop)


def test_the_published_sizes_are_reached() -> None:
    def parameters(name: str, crop: tuple[int, int, int]) -> int:
        network = build_network(name, in_channels=1, out_channels=14, crop_size=crop)
        return sum(parameter.numel() for parameter in network.parameters())

    # UNETR on BTCV: 92.58 M with the perceptron embedding of its paper; Swin UNETR: 61.98 M (their papers' tables)
    assert parameters("unetr", (96, 96, 96)) == pytest.approx(92.8e6, rel=0.01)
    assert parameters("swin_unetr", (96, 96, 96)) == pytest.approx(61.98e6, rel=0.01)


def test_nnunets_topology_halves_anisotropic_crops_unevenly() -> None:
    network = build_network("dynunet", in_channels=1, out_channels=2, crop_size=(64, 64, 8))
    assert [list(stride) for stride in network.strides] == [[1, 1, 1], [2, 2, 2], [2, 2, 1], [2, 2, 1], [2, 2, 1]]
    assert network.filters == [32, 64, 128, 256, 320]


def test_any_module_by_import_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ours.py").write_text(
        "from torch import nn\n"
        "class Ours(nn.Module):\n"
        "    def __init__(self, in_chans, num_classes, width=4):\n"
        "        super().__init__()\n"
        "        self.layers = nn.Sequential(nn.Conv3d(in_chans, width, 1), nn.Conv3d(width, num_classes, 1))\n"
        "    def forward(self, x):\n"
        "        return self.layers(x)\n"
        "class NeedsValues(Ours):\n"
        "    def forward(self, x):\n"
        "        return self.layers(x) if x.sum().item() > -1e9 else x\n"
        "def shrinking(in_chans, num_classes):\n"
        "    return nn.Conv3d(in_chans, num_classes, 3)\n"
        "def nothing(in_chans, num_classes):\n"
        "    return None\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != ""])
    facts = {"in_channels": 1, "out_channels": 3, "crop_size": (8, 8, 8)}
    assert build_network("ours.Ours", **facts, args={"width": 6}).layers[0].out_channels == 6
    assert build_network("ours.NeedsValues", **facts)(torch.zeros(1, 1, 8, 8, 8)).shape == (1, 3, 8, 8, 8)
    with pytest.raises(InputError, match=r"its output is \(1, 3, 6, 6, 6\), expected \(1, 3, 8, 8, 8\)"):
        build_network("ours.shrinking", **facts)
    with pytest.raises(InputError, match="gives a NoneType"):
        build_network("ours.nothing", **facts)
    with pytest.raises(InputError, match="cannot be imported"):
        build_network("ours.Theirs", **facts)


@pytest.mark.parametrize(
    ("name", "crop", "args", "message"),
    [
        ("unter", (16, 16, 16), {}, "did you mean 'unetr'"),
        ("unet", (15, 16, 16), {}, r"cannot take crop_size \(15, 16, 16\).*use a crop_size of \(16, 16, 16\)"),
        ("unetr", (16, 17, 16), {"hidden_size": 12, "num_heads": 2}, r"use a crop_size of \(16, 32, 16\)"),
        ("swin_unetr", (48, 64, 64), {"feature_size": 12}, r"use a crop_size of \(64, 64, 64\)"),
        ("unet", (16, 16, 16), {"chanels": 3}, "chanels"),
        ("AttentionUnet", (16, 16, 16), {}, "needs channels, strides"),
        (
            "resenc",
            (16, 16, 16),
            {"features_per_stage": [4] * 6},
            "strides must have 6 entries.*got 3.*give strides",
        ),
        ("resenc", (16, 16, 16), {"n_blocks_per_stage": [1, 0]}, "n_blocks_per_stage must be at least 1.*got 0"),
        ("resenc", (16, 16, 16), {"n_conv_per_stage_decoder": [1]}, "n_conv_per_stage_decoder must have 2 entries"),
        ("resenc", (4, 4, 4), {}, "8 voxels or more"),
        (
            "resenc",
            (18, 18, 18),
            {"strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]], "features_per_stage": [4, 4, 4]},
            r"use a crop_size of \(24, 24, 24\)",
        ),
    ],
)
def test_what_cannot_be_built_is_refused_with_a_remedy(name: str, crop: tuple, args: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_network(name, in_channels=1, out_channels=2, crop_size=crop, args=args)
