"""Convolutions whose gradients are tried before the first step in bf16 on a CPU."""

from pathlib import Path

import pytest
import torch
from torch import nn

from medcontext.cli import main
from medcontext.errors import InputError
from medcontext.training import bf16
from tests.training.commands import arguments


def right_here(size: tuple[int, int, int]) -> bool:
    """Whether this processor's bf16 gradient of a convolution over such a map is a finite difference's."""
    torch.manual_seed(0)
    convolution, image = nn.Conv3d(16, 16, 3, padding=1), torch.randn(2, 16, *size)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        convolution(image).float().sum().backward()
    # The weight between the mid voxels sees each voxel once: its gradient is the sum of its channel.
    middle = convolution.weight.grad[0, :, 1, 1, 1]
    expected = image.to(torch.bfloat16).float().sum((0, 2, 3, 4))
    return bool(((middle - expected).abs() < 0.1 * expected.abs().max()).all())


@pytest.mark.parametrize("size", [(2, 2, 2), (2, 4, 4), (4, 4, 4), (4, 2, 2), (1, 1, 1)])
def test_wrong_gradients_are_found_where_they_are(size: tuple[int, int, int]) -> None:
    assert bf16.wrong(nn.Conv3d(16, 16, 3, padding=1), size) != right_here(size)


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv3d(4, 8, 3, stride=2, padding=1),
        nn.Conv3d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.ConvTranspose3d(4, 8, 2, stride=2),
        nn.Conv3d(4, 8, 3, padding=1).requires_grad_(False),
    ],
)
def test_right_gradients_pass(convolution: nn.Module) -> None:
    assert not bf16.wrong(convolution, (4, 6, 5))


def test_a_wrong_gradient_ends_the_training_with_the_layer_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 1), nn.AvgPool3d(2), nn.Conv3d(2, 2, 3, padding=1))
    trial = bf16.Trial(network)
    network(torch.rand(2, 1, 6, 4, 4))
    monkeypatch.setattr(bf16, "wrong", lambda convolution, size: size == (3, 2, 2))
    with pytest.raises(InputError, match=r"in bf16: of 2, a convolution over maps of 3 x 2 x 2\. Use --precision 32"):
        trial.check()
    assert not any(each._forward_pre_hooks for each in network)


@pytest.mark.parametrize("edge", [16, 32])
def test_a_training_in_bf16_is_refused_where_its_gradients_would_be_wrong(
    balls: Path, tmp_path: Path, edge: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of three levels the deepest has maps of a quarter of the crop's edge; of a crop of 8 along H, of 2."""
    deep = ("--network_args.channels=[4,8,16]", "--network_args.strides=[2,2]", "--precision=bf16", "--steps=2")
    crop = f"--crop_size=[{edge // 2},16,16]"
    code = main(arguments(balls, tmp_path / "run", *deep, crop, "--method.mask.patch_size=8"))
    assert code == (0 if right_here((edge // 8, 4, 4)) else 2)
    if code:
        assert "a convolution over maps of 2 x 4 x 4. Use --precision 32" in " ".join(capsys.readouterr().err.split())
