import copy
import itertools

import pytest
import torch
from torch import nn

from medcontext.errors import InputError
from medcontext.networks import build_network, token_adapter
from medcontext.networks.nnformer import Block, DownSample, NNFormer, UpSample

CROP = (16, 16, 8)
# Three stages on grids of 4, 2 and 1 tokens: shifted windows, down- and up-sampling, two supervised outputs.
TINY = {"embed_dim": 8, "depths": (2, 1, 1), "windows": (2, 2, 1), "drop_path": 0.0}

# The published settings, with depth last; and the number of parameters of the published code under them. ACDC's is
# given as 37.2 million, which it has with and without deep supervision; its trainer has none.
SYNAPSE = {
    "embed_dim": 192,
    "patch_size": (4, 4, 2),
    "num_heads": (6, 12, 24, 48),
    "windows": (4, 4, 8, 4),
    "strides": [(2, 2, 2)] * 3,
}
TUMOUR = {
    "embed_dim": 96,
    "patch_size": 4,
    "num_heads": (3, 6, 12, 24),
    "decoder_heads": (6, 12, 24),
    "windows": (4, 4, 8, 4),
    "strides": [(2, 2, 2)] * 3,
    "deep_supervision": False,
}
ACDC = {
    "embed_dim": 96,
    "patch_size": (4, 4, 1),
    "num_heads": (3, 6, 12, 24),
    "windows": ((5, 5, 3), (5, 5, 3), (10, 10, 7), (5, 5, 3)),
    "strides": [(2, 2, 1), (2, 2, 2), (2, 2, 2)],
    "deep_supervision": False,
}
PUBLISHED = {
    "synapse": (1, 14, (128, 128, 64), SYNAPSE, 150_054_210),
    "tumour": (4, 4, (128, 128, 128), TUMOUR, 37_606_726),
    "acdc": (1, 4, (160, 160, 14), ACDC, 37_160_200),
}


def tiny(**args: object) -> NNFormer:
    torch.manual_seed(0)
    return NNFormer(1, 3, CROP, **(TINY | args))


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_sizes_are_reached(name: str) -> None:
    in_channels, out_channels, crop, args, parameters = PUBLISHED[name]
    with torch.device("meta"):
        network = NNFormer(in_channels, out_channels, crop, **args)
        assert sum(parameter.numel() for parameter in network.parameters()) == parameters
        outputs = network(torch.zeros(2, in_channels, *crop))
    outputs = outputs if isinstance(outputs, list) else [outputs]
    expected = [(2, out_channels, *crop)]
    for stride in args["strides"][: len(outputs) - 1]:
        expected.append((2, out_channels, *(size // step for size, step in zip(expected[-1][2:], stride, strict=True))))
    assert [tuple(logits.shape) for logits in outputs] == expected


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_defaults_are_the_published_settings(name: str) -> None:
    in_channels, out_channels, crop, args, _ = PUBLISHED[name]
    told = {key: args[key] for key in ("embed_dim", "decoder_heads", "deep_supervision") if key in args}
    with torch.device("meta"):
        published, ours = (NNFormer(in_channels, out_channels, crop, **some) for some in (args, told))
    assert shapes(published) == shapes(ours)
    assert [down.reduce.stride for down in published.down] == [down.reduce.stride for down in ours.down]
    assert [down.reduce.stride for down in ours.down] == args["strides"]


def test_there_are_coarser_outputs_in_training_alone() -> None:
    network, image = tiny(), torch.randn(2, 1, *CROP)
    first, *coarser = network(image)
    assert first.shape == (2, 3, 16, 16, 8)
    assert [level.shape for level in coarser] == [(2, 3, 8, 8, 4)]
    torch.testing.assert_close(network.eval()(image), first)
    assert tiny(deep_supervision=False)(image).shape == (2, 3, 16, 16, 8)


@pytest.mark.parametrize("shape", [(33, 17, 10), (9, 21, 13), (1, 2, 3), (24, 16, 8)])
def test_volumes_of_any_size_are_taken(shape: tuple[int, int, int]) -> None:
    first, second = tiny()(torch.randn(1, 1, *shape))
    assert first.shape == (1, 3, *shape)
    for fine, coarse in zip(shape, second.shape[2:], strict=True):
        assert abs(coarse - fine / 2) <= 2


def test_a_volume_is_padded_with_zeros_at_its_far_end() -> None:
    network, image = tiny().eval(), torch.randn(1, 1, 15, 13, 7)
    padded = torch.zeros(1, 1, *CROP)
    padded[..., :15, :13, :7] = image
    torch.testing.assert_close(network(image), network(padded)[..., :15, :13, :7])


def test_odd_grids_are_halved_as_on_acdc_and_restored() -> None:
    tokens = torch.randn(1, 10, 7, 1, 4)
    down, up = DownSample(4, (2, 2, 2)), UpSample(4, (2, 2, 2))
    coarse = down(tokens)
    assert coarse.shape == (1, 5, 3, 1, 8)
    assert up(coarse, (10, 7, 1)).shape == tokens.shape
    for h, w in itertools.product(range(10), range(7)):  # the halving leaves no token out
        changed = tokens.clone()
        changed[0, h, w, 0] = torch.randn(4)
        assert not torch.equal(down(changed), coarse)


def test_skip_attention_adds_to_the_sum_of_both_inputs() -> None:
    block = Block(4, 1, (2, 2, 2), shifted=False, drop_path=0.0, cross=True)
    for layer in (block.attention.output, block.mlp[2]):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    tokens, skip = torch.randn(2, 1, 2, 2, 2, 4)
    torch.testing.assert_close(block(tokens, skip), tokens + skip)


def test_a_gradient_reaches_every_parameter() -> None:
    crop = (32, 32, 16)  # its last grid has several tokens: of one alone the attention learns nothing
    network = NNFormer(1, 3, crop, **(TINY | {"windows": (2, 2, 2)}))
    sum(level.square().mean() for level in network(torch.randn(1, 1, *crop))).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        if name.endswith("table"):
            assert (parameter.grad != 0).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_samples_of_a_batch_are_independent() -> None:
    network, image = tiny().eval(), torch.randn(2, 1, 14, 15, 8)
    torch.testing.assert_close(network(image), torch.cat([network(image[:1]), network(image[1:])]))


def test_stochastic_depth_acts_in_training_alone() -> None:
    network, image = tiny(drop_path=0.5), torch.randn(1, 1, *CROP)
    first, second = network(image)[0], network(image)[0]
    assert not torch.equal(first, second)
    network.eval()
    assert torch.equal(network(image), network(image))


@pytest.mark.slow
def test_compiled_without_a_break_it_gives_the_same() -> None:
    network, image = tiny(depths=(2, 1), windows=(2, 2)), torch.randn(1, 1, 15, 18, 7)
    expected = network(image)
    expected[0].square().mean().backward()
    gradient = network.patch_embed.strided1.weight.grad
    network.zero_grad()
    actual = torch.compile(network, fullgraph=True, dynamic=False, backend="aot_eager")(image)
    actual[0].square().mean().backward()
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(network.patch_embed.strided1.weight.grad, gradient, rtol=1e-4, atol=1e-6)


def test_precisions() -> None:
    network, image = tiny().eval(), torch.randn(2, 1, 14, 15, 8)
    exact = copy.deepcopy(network).double()(image.double())
    torch.testing.assert_close(network(image).double(), exact, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(image)
    assert (rough.double() - exact).norm() < 0.05 * exact.norm()


def test_a_token_is_a_patch() -> None:
    network = build_network("nnformer", in_channels=1, out_channels=3, crop_size=CROP, args=TINY)
    adapter = token_adapter("nnformer", network)
    assert adapter.token_size == (4, 4, 2)
    assert adapter.embedding.shape == (8,)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"depths": (2,)}, r"at least two stages.*got \(2,\)"),
        ({"windows": (2, 2)}, r"windows must have 3 entries.*got \(\(2, 2, 2\), \(2, 2, 2\)\)"),
        ({"windows": (2, 2, 0)}, "at least one token"),
        ({"strides": [(2, 2, 2)]}, "strides must have 2 entries"),
        ({"strides": [(2, 2, 2), (3, 2, 2)]}, "strides must be 1 or 2"),
        ({"patch_size": (4, 4, 3)}, r"patch_size must be 1, 2 or 4 along each axis, got \(4, 4, 3\)"),
        ({"num_heads": (1, 3, 1)}, r"num_heads must divide each stage's channels \(8, 16, 32\), got \(1, 3, 1\)"),
        ({"decoder_heads": (1, 3)}, "decoder_heads must divide"),
        ({"embed_dim": 7}, "embed_dim must be an even number of channels, got 7"),
    ],
)
def test_settings_that_do_not_fit_are_refused(args: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_network("nnformer", in_channels=1, out_channels=2, crop_size=CROP, args=TINY | args)
