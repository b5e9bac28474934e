import pytest
import torch
from monai.networks.blocks import PatchEmbeddingBlock
from torch import nn

from medcontext.errors import InputError
from medcontext.networks.conversions import perceptron_to_convolution
from medcontext.pretraining.patches import patchify, unpatchify


@pytest.mark.parametrize("patch", [(4, 4, 4), (4, 2, 8), (12, 8, 16), (1, 1, 1)])
def test_patchify_and_unpatchify_are_inverse_for_anisotropic_crops_of_two_channels(patch) -> None:
    volume = torch.randn(3, 2, 12, 8, 16)
    patches = patchify(volume, patch)
    assert torch.equal(unpatchify(patches, patch, (12, 8, 16)), volume)
    assert torch.equal(patchify(unpatchify(patches, patch, (12, 8, 16)), patch), patches)


def test_patches_are_in_row_major_order_and_channels_come_last() -> None:
    volume = torch.randn(1, 2, 8, 4, 6)
    patches = patchify(volume, (4, 2, 3))
    assert patches.shape == (1, 8, 48)
    last_but_one = volume[0, :, 4:, 2:, :3]  # of 2 x 2 x 2 patches, (1, 1, 0)
    assert torch.equal(patches[0, 6].view(4, 2, 3, 2), last_but_one.permute(1, 2, 3, 0))


def test_the_perceptron_turned_convolution_gives_equal_tokens() -> None:
    perceptron = PatchEmbeddingBlock(2, (8, 4, 12), (4, 2, 6), 12, 2, proj_type="perceptron").double()
    linear = perceptron.patch_embeddings[1]
    convolution = nn.Conv3d(2, 12, (4, 2, 6), (4, 2, 6)).double()
    convolution.weight.data = perceptron_to_convolution(linear.weight.data, (4, 2, 6))
    convolution.bias.data = linear.bias.data
    volume = torch.randn(2, 2, 8, 4, 12, dtype=torch.float64)
    tokens = perceptron.patch_embeddings(volume)
    torch.testing.assert_close(linear(patchify(volume, (4, 2, 6))), tokens)
    torch.testing.assert_close(convolution(volume).flatten(2).mT, tokens)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"Patches of \(4, 4, 4\) do not divide a volume of \(8, 8, 6\)"):
        patchify(torch.zeros(1, 1, 8, 8, 6), (4, 4, 4))
    with pytest.raises(InputError, match=r"8 patches of \(4, 4, 4\) with 64 values are no volume of \(8, 8, 4\)"):
        unpatchify(torch.zeros(1, 8, 64), (4, 4, 4), (8, 8, 4))
    with pytest.raises(InputError, match=r"weight of \(5, 9\) is not for patches of \(2, 2, 2\)"):
        perceptron_to_convolution(torch.zeros(5, 9), (2, 2, 2))
