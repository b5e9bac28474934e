"""nnU-Net's own class is the judge, where it is installed; its names and sizes are pinned everywhere."""

import importlib
import re
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import medcontext as mc
from medcontext.networks import build_network
from medcontext.networks.initial import KeyReport
from medcontext.networks.resenc import BLOCKS, FEATURES
from tests.networks.test_initial import check, copied

NNUNET = Path(__file__).parents[2] / ".nnunet"
SIX = {"features_per_stage": [2, 3, 4, 5, 6, 6], "n_blocks_per_stage": [1, 1, 2, 1, 1, 2]}
State = dict[str, Tensor]


def resenc(seed: int = 0, inputs: int = 1, outputs: int = 3, edge: int = 128, **args: Any) -> nn.Module:
    torch.manual_seed(seed)
    return build_network("resenc", in_channels=inputs, out_channels=outputs, crop_size=(edge,) * 3, args=args)


def perturbed(network: nn.Module) -> nn.Module:
    """With blocks that do not begin with 0."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


def as_nnunet_has_it(state: State) -> State:
    """Under all of its names: layers of a convolution twice, and the encoder within the decoder, too."""
    names = {"0": "conv", "1": "norm"}
    twins = {re.sub(r"all_modules\.(\d)", lambda found: names[found[1]], name): each for name, each in state.items()}
    every = twins | state
    return every | {f"decoder.{name}": each for name, each in every.items() if name.startswith("encoder.")}


def as_nnssl_writes_it(state: State) -> dict:
    plan = {
        "architecture_plans": {"arch_class_name": "ResEncL", "arch_kwargs": None},
        "pretrain_plan": {"configurations": {"onemmiso": {"spacing": [1, 1, 1], "patch_size": (160, 160, 160)}}},
        "pretrain_num_input_channels": 1,
        "key_to_encoder": "encoder.stages",
        "key_to_stem": "encoder.stem",
        "keys_to_in_proj": ("encoder.stem.convs.0.conv", "encoder.stem.convs.0.all_modules.0"),
    }
    momentum = {"state": {0: {"momentum_buffer": torch.rand(3)}}, "param_groups": [{"lr": 0.01}]}
    log = {"train_losses": [torch.rand(()).item()]}
    return {
        "network_weights": state,
        "optimizer_state": momentum,
        "grad_scaler_state": None,
        "logging": log,
        "current_epoch": 1000,
        "trainer_name": "BaseMAETrainer_BS8",
        "nnssl_adaptation_plan": plan,
    }


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., KeyReport]:
    """Save a state as nnssl does, load it, and check everything that the report says."""

    def save_and_load(network: nn.Module, state: State) -> KeyReport:
        torch.save(as_nnssl_writes_it(state), tmp_path / "checkpoint_final.pth")
        before = copied(network)
        report = mc.load_weights(network, tmp_path / "checkpoint_final.pth")
        check(report, network, before, {each.source: state[each.source] for each in report.tensors if each.source})
        assert report.container == "network_weights"
        return report

    return save_and_load


@pytest.fixture(scope="module")
def real() -> Callable[..., nn.Module]:
    """nnU-Net's own class, as its plans and nnssl build it."""
    if not NNUNET.is_dir():
        pytest.skip(f"no nnU-Net at {NNUNET}; make nnunet installs it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(NNUNET)])  # last: what it shares with us is ours
        unet = importlib.import_module("dynamic_network_architectures.architectures.unet").ResidualEncoderUNet

    def build(outputs: int = 3, deep_supervision: bool = True, **plan: Any) -> nn.Module:
        stages = len(plan["features_per_stage"])
        usual = {
            "strides": [[1, 1, 1], *[[2, 2, 2]] * (stages - 1)],
            "kernel_sizes": [[3, 3, 3]] * stages,
            "n_conv_per_stage_decoder": [1] * (stages - 1),
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin_kwargs": {"inplace": True},
        }
        classes = {"conv_op": nn.Conv3d, "norm_op": nn.InstanceNorm3d, "nonlin": nn.LeakyReLU}
        return unet(
            input_channels=1,
            n_stages=stages,
            num_classes=outputs,
            conv_bias=True,
            deep_supervision=deep_supervision,
            **classes,
            **(usual | plan),
        )

    return build


@pytest.fixture(scope="module")
def resenc_l() -> nn.Module:
    """ResEnc-L, without memory for its values."""
    with torch.device("meta"):
        return resenc(edge=160)


def test_resenc_l_has_nnunets_names_and_size(resenc_l: nn.Module) -> None:
    state = resenc_l.state_dict()
    assert len(state) == 264
    assert len(as_nnunet_has_it(state)) == 956
    shapes = {
        "encoder.stem.convs.0.all_modules.0.weight": (32, 1, 3, 3, 3),
        "encoder.stages.0.blocks.0.conv1.all_modules.1.bias": (32,),
        "encoder.stages.1.blocks.0.skip.1.all_modules.0.weight": (64, 32, 1, 1, 1),
        "encoder.stages.5.blocks.5.conv2.all_modules.0.weight": (320, 320, 3, 3, 3),
        "decoder.transpconvs.1.weight": (320, 256, 2, 2, 2),
        "decoder.stages.4.convs.0.all_modules.0.weight": (32, 64, 3, 3, 3),
        "decoder.seg_layers.0.bias": (3,),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    assert not any("skip" in name for name in state if re.match(r"encoder\.stages\.(0|5)\.", name)), "no projection"

    def convolution(before: int, after: int) -> int:
        return 27 * before * after + after + 2 * after  # with the norm

    parameters = convolution(1, 32)
    for before, after, blocks in zip([32, *FEATURES], FEATURES, BLOCKS, strict=False):
        parameters += convolution(before, after) + (2 * blocks - 1) * convolution(after, after)
        parameters += before * after + 2 * after if before != after else 0
    for after, below in pairwise(FEATURES):
        parameters += 8 * below * after + after + convolution(2 * after, after) + 3 * after + 3
    assert sum(each.numel() for each in resenc_l.parameters()) == parameters == 102_350_575  # nnU-Net's own


@pytest.mark.parametrize("crop", [{"edge": 128}, {"edge": 96, "strides": [[1, 1, 1], *[[2, 2, 2]] * 5]}])
def test_another_crop_has_its_six_stages_too(resenc_l: nn.Module, crop: dict) -> None:
    """From 128 voxels on, and for less where they are asked for."""
    with torch.device("meta"):
        found = resenc(**crop).state_dict()
    assert {name: each.shape for name, each in found.items()} == {
        name: each.shape for name, each in resenc_l.state_dict().items()
    }


def test_names_and_shapes_are_nnunets_own(real: Callable, resenc_l: nn.Module) -> None:
    with torch.device("meta"):
        expected = real(features_per_stage=list(FEATURES), n_blocks_per_stage=list(BLOCKS)).state_dict()
    ours = resenc_l.state_dict()
    shapes = {name: each.shape for name, each in as_nnunet_has_it(ours).items()}
    assert shapes == {name: each.shape for name, each in expected.items()}
    assert [name for name in expected if name in ours] == list(ours), "in the same order"


@pytest.mark.parametrize(
    "plan",
    [
        {"features_per_stage": [4, 8, 12, 12], "n_blocks_per_stage": [1, 2, 2, 1]},
        {
            "features_per_stage": [4, 6, 6],
            "n_blocks_per_stage": [2, 1, 1],
            "strides": [[1, 1, 1], [2, 2, 1], [2, 2, 2]],
            "kernel_sizes": [[3, 3, 1], [3, 3, 3], [3, 3, 3]],
            "n_conv_per_stage_decoder": [2, 1],
        },
    ],
)
def test_outputs_and_gradients_are_nnunets_own(real: Callable, plan: dict) -> None:
    theirs, ours = perturbed(real(**plan)), resenc(edge=32, **plan)
    assert ours.load_state_dict(theirs.state_dict(), strict=False).missing_keys == []
    image = torch.randn(2, 1, 32, 32, 32)
    outputs = [network.train()(image) for network in (ours, theirs)]
    for each, expected in zip(*outputs, strict=True):
        assert torch.equal(each, expected)
    for heads in outputs:
        torch.stack([each.square().mean() for each in heads]).sum().backward()
    expected = dict(theirs.named_parameters(remove_duplicate=False))
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, msg=name)
    assert torch.equal(ours.eval()(image), outputs[1][0])


def test_a_file_of_nnssl_is_taken_whole(real: Callable, load: Callable) -> None:
    """All but the last layers, of which nnssl's restore an image, and without a tensor left over."""
    theirs, ours = perturbed(real(outputs=1, **SIX)), resenc(seed=1, **SIX)
    report = load(ours, theirs.state_dict())
    assert (report.share, report.encoder) == (1, "encoder")
    assert report.of("loaded") == tuple(name for name in ours.state_dict() if "seg_layers" not in name)
    assert report.anew == tuple(name for name in ours.state_dict() if "seg_layers" in name)
    assert len(report.tensors) == len(ours.state_dict())
    assert "encoder.stem.convs.0.all_modules.0.weight" in report.text()
    image = torch.randn(1, 1, 64, 32, 32)
    for each, expected in zip(ours.encoder(image), theirs.encoder(image), strict=True):
        assert torch.equal(each, expected)


def test_such_a_file_for_several_channels(load: Callable) -> None:
    ours = resenc(seed=1, inputs=4, **SIX)
    report = load(ours, as_nnunet_has_it(perturbed(resenc(outputs=1, **SIX)).state_dict()))
    assert report.of("converted") == ("encoder.stem.convs.0.all_modules.0.weight",)
    assert (report.share, report.of("missing"), report.of("unused")) == (1, (), ())


def test_an_encoder_alone_with_a_projector_of_voco_or_simclr(load: Callable) -> None:
    state = as_nnunet_has_it(perturbed(resenc(**SIX)).state_dict())
    state = {name: each for name, each in state.items() if name.startswith("encoder.")}
    report = load(resenc(seed=1, **SIX), state | {"projector.layer1.0.weight": torch.rand(8, 26)})
    assert report.share == 1
    assert report.of("unused") == ("projector.layer1.0.weight",)
    assert all(name.startswith("decoder.") for name in report.of("missing"))


def test_of_sparks_two_tensors_the_one_that_learned_is_taken(load: Callable) -> None:
    """It makes sparse convolutions of both names apart, and computes with `all_modules` alone."""
    trained = perturbed(resenc(outputs=1, **SIX)).state_dict()
    state = {
        name: torch.rand_like(each) if re.search(r"encoder\..*\.(conv|norm)\.", name) else each
        for name, each in as_nnunet_has_it(trained).items()
    }
    ours = resenc(seed=2, **SIX)
    report = load(ours, state)
    assert report.share == 1
    assert all(torch.equal(ours.state_dict()[name], trained[name]) for name in report.taken)
    assert report.of("unused")
    assert all(re.search(r"\.(conv|norm)\.", name) for name in report.of("unused"))


def test_another_width_is_refused(load: Callable) -> None:
    wide = SIX | {"features_per_stage": [4, 6, 8, 10, 12, 12]}
    with pytest.raises(mc.InputError, match=r"of the encoder \(encoder\), less than 90%"):
        load(resenc(**SIX), as_nnunet_has_it(resenc(**wide).state_dict()))


def test_deep_supervision_is_there_in_training_alone() -> None:
    image = torch.randn(1, 1, 32, 32, 32)
    args = {"features_per_stage": [2, 4, 4, 4], "n_blocks_per_stage": [1, 1, 1, 1]}
    network, without = resenc(edge=32, **args), resenc(edge=32, deep_supervision=False, **args)
    outputs = {network: network.train()(image), without: [without.train()(image)]}
    assert [each.shape[2] for each in outputs[network]] == [32, 16, 8]
    assert torch.equal(outputs[network][0], network.eval()(image))
    assert without.state_dict().keys() == network.state_dict().keys()
    for each, found in outputs.items():
        torch.stack([logits.sum() for logits in found]).sum().backward()
        learning = [parameter for parameter in each.parameters() if parameter.requires_grad]
        assert all(parameter.grad is not None for parameter in learning), "else several processes wait for each other"
