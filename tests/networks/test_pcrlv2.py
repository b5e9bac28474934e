import copy

import pytest
import torch

from medcontext.errors import InputError
from medcontext.networks import build_network
from medcontext.networks.pcrlv2 import Encoder, PCRLv2


def tiny() -> PCRLv2:
    torch.manual_seed(0)
    return PCRLv2(1, 3, width=4)


def double(before: int, between: int, after: int) -> int:
    """Parameters of two 3x3x3 convolutions with biases, each with the scale and shift of a batch norm."""
    return 27 * before * between + 27 * between * after + 3 * (between + after)


def test_the_published_channels() -> None:
    with torch.device("meta"):
        network = PCRLv2(1, 1)
        shapes = [tuple(level.shape) for level in network.encoder(torch.zeros(2, 1, 64, 64, 32))]
    assert shapes == [(2, 64, 64, 64, 32), (2, 128, 32, 32, 16), (2, 256, 16, 16, 8), (2, 512, 8, 8, 4)]
    encoder = double(1, 32, 64) + double(64, 64, 128) + double(128, 128, 256) + double(256, 256, 512)
    assert sum(parameter.numel() for parameter in network.encoder.parameters()) == encoder == 7_027_776
    decoder = sum(8 * e * e + e + double(e + e // 2, e // 2, e // 2) for e in (512, 256, 128))
    assert sum(parameter.numel() for parameter in network.parameters()) == encoder + decoder + 65 == 19_073_665


def test_a_pretrained_encoder_loads() -> None:
    pretrained = Encoder(1, width=4)
    image = torch.randn(2, 1, 16, 8, 8)
    pretrained(image)  # moves its batch norms' statistics
    network = tiny()
    network.encoder.load_state_dict(pretrained.state_dict())
    torch.testing.assert_close(network.eval().encoder(image), pretrained.eval()(image))


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_every_level_reaches_the_decoder(level: int) -> None:
    network, image = tiny(), torch.randn(2, 1, 16, 16, 8)
    expected = network(image)
    network.encoder.register_forward_hook(
        lambda _module, _inputs, features: [x * (index != level) for index, x in enumerate(features)]
    )
    assert not torch.allclose(network(image), expected, atol=1e-3)


def test_a_gradient_reaches_every_parameter() -> None:
    network = tiny()
    network(torch.randn(2, 1, 16, 16, 8)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.slow
def test_compiled_without_a_break_it_gives_the_same() -> None:
    network, image = tiny(), torch.randn(2, 1, 16, 8, 8)
    expected = copy.deepcopy(network)(image)
    torch.testing.assert_close(torch.compile(network, fullgraph=True, backend="aot_eager")(image), expected)


def test_bfloat16_gives_nearly_the_same() -> None:
    network, image = tiny().eval(), torch.randn(2, 1, 16, 8, 8)
    exact = network(image)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(image)
    assert (rough - exact).norm() < 0.05 * exact.norm()


def test_a_crop_that_is_no_multiple_of_8_is_refused_with_one_that_is() -> None:
    with pytest.raises(InputError, match=r"multiple of 8, got .*\(20, 16, 9\).*use a crop_size of \(24, 16, 16\)"):
        build_network("pcrlv2", in_channels=1, out_channels=2, crop_size=(20, 16, 9), args={"width": 4})
    with pytest.raises(InputError, match="width must be an even number of channels, got 5"):
        build_network("pcrlv2", in_channels=1, out_channels=2, crop_size=(16, 16, 16), args={"width": 5})
