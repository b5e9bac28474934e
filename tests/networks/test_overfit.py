"""A network that can segment at all learns one real scan by heart."""

from pathlib import Path

import nibabel as nib
import pytest
import torch
from torch import Tensor

from medcontext.method.losses import DeepSupervision, DiceCE
from medcontext.networks import build_network

CROP = (24, 40, 32)
NETWORKS = {
    "nnformer": (4e-3, {"embed_dim": 32, "depths": (2, 2, 1), "patch_size": 2, "windows": (4, 4, 4), "drop_path": 0.0}),
    "pcrlv2": (2e-2, {"width": 8}),
    "resenc": (1e-2, {"features_per_stage": [6, 12, 24], "n_blocks_per_stage": [1, 1, 1]}),
}


def hippocampus(root: Path) -> tuple[Tensor, Tensor]:
    """The first scan, normalised, and its labels 0 to 2, both (1, 1, *CROP) around the labelled structures."""
    path = min((root / "labelsTr").glob("hippocampus_*.nii.gz"))
    label = torch.from_numpy(nib.load(path).get_fdata()).long()
    image = torch.from_numpy(nib.load(root / "imagesTr" / path.name).get_fdata()).float()
    image = (image - image.mean()) / image.std()
    middle = label.nonzero().float().mean(0).round().int().tolist()
    corner = [
        max(0, min(place - size // 2, extent - size))
        for place, size, extent in zip(middle, CROP, label.shape, strict=True)
    ]
    inside = tuple(slice(start, start + size) for start, size in zip(corner, CROP, strict=True))
    return image[inside][None, None], label[inside][None, None]


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_overfits_one_real_scan(name: str, shared_data: Path) -> None:
    root = shared_data / "Task04_Hippocampus"
    if not root.is_dir():
        pytest.skip(f"no hippocampus scans at {root}")
    image, label = hippocampus(root)
    assert image.shape[2:] == CROP
    torch.manual_seed(0)
    rate, args = NETWORKS[name]
    network = build_network(name, in_channels=1, out_channels=3, crop_size=CROP, args=args)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=120)
    loss = DeepSupervision(DiceCE())
    for _ in range(120):
        loss(network(image), label).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    with torch.no_grad():
        predicted = network.eval()(image).argmax(1, keepdim=True)
    for structure in (1, 2):
        found, true = predicted == structure, label == structure
        assert true.sum() > 500
        assert 2 * (found & true).sum().item() / (found.sum() + true.sum()).item() > 0.95
