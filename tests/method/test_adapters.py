import pytest
import torch
from torch import nn

from medcontext.errors import InputError
from medcontext.method import MedContext, TokenAdapter, TubeMask
from medcontext.method.adapters import unwrap
from medcontext.networks import build_network, token_adapter
from tests.method.conftest import SUBJECTS


def test_the_token_hook_is_gone_after_the_masked_pass() -> None:
    subject = SUBJECTS["unetr"]
    network = subject.build().eval()
    adapter = token_adapter("unetr", network)
    image, _ = subject.batch()
    before = network(image)
    adapter.masked(network, image, TubeMask(16, 0.5).sample(subject.crop, len(image)))
    assert torch.equal(network(image), before)


def test_hidden_tokens_keep_their_position_embedding() -> None:
    subject = SUBJECTS["unetr"]
    network = subject.build().eval()
    adapter = token_adapter("unetr", network)
    seen = []
    network.vit.patch_embedding.register_forward_hook(lambda _m, _i, output: seen.append(output))
    image, _ = subject.batch()
    adapter.masked(network, image, torch.ones(len(image), 1, 2, 2, 1, dtype=torch.bool))
    torch.testing.assert_close(seen[0], network.vit.patch_embedding.position_embeddings.expand_as(seen[0]))


def test_tokens_as_a_sequence_are_hidden_where_their_patches_are() -> None:
    embed = nn.Sequential(nn.Conv3d(1, 5, 4, 4), nn.Flatten(2))
    network = nn.Sequential(embed)
    adapter = TokenAdapter(network, "0.0", channels=5, token_size=(4, 4, 4))
    hidden = torch.zeros(1, 1, 2, 2, 1, dtype=torch.bool)
    hidden[0, 0, 1, 0, 0] = True
    tokens = torch.ones(1, 4, 5)  # (B, N, E)
    masked = adapter.hide_tokens(tokens, hidden, (2, 2, 1))
    assert masked[0, :, 0].tolist() == [1, 1, 0, 1]
    with pytest.raises(InputError, match="neither"):
        adapter.hide_tokens(torch.ones(1, 3, 5), hidden, (2, 2, 1))


def test_a_mask_finer_than_the_tokens_is_refused() -> None:
    subject = SUBJECTS["unetr"]
    network = subject.build()
    adapter = token_adapter("unetr", network)
    image, _ = subject.batch()
    with pytest.raises(InputError, match="multiple of the network's token size"):
        adapter.masked(network, image, TubeMask(8, 0.5).sample(subject.crop, len(image)))


def test_an_unknown_submodule_gets_a_suggestion() -> None:
    with pytest.raises(InputError, match=r"Unknown submodule '0.1'; did you mean"):
        TokenAdapter(nn.Sequential(nn.Sequential(nn.Identity())), "0.1", 4, (1, 1, 1))


def test_networks_without_known_tokens_say_so() -> None:
    network = build_network("unet", in_channels=1, out_channels=2, crop_size=(16, 16, 16))
    with pytest.raises(InputError, match=r"use mask\.space 'voxels'"):
        token_adapter("unet", network)


@pytest.mark.slow
def test_unwrap_finds_the_network_under_compilation() -> None:
    network = nn.Conv3d(1, 1, 1)
    assert unwrap(torch.compile(network)) is network
    assert unwrap(network) is network


def test_an_image_of_other_channels_than_the_embedding_is_refused() -> None:
    """It would broadcast, and one value hide all channels."""
    learner = MedContext(nn.Conv3d(4, 2, 1), mask=TubeMask(4), total_steps=1)
    with pytest.raises(InputError, match=r"has 4 channels, .* in_channels=4"):
        learner(torch.zeros(1, 4, 8, 8, 4), torch.zeros(1, 1, 8, 8, 4).long())
