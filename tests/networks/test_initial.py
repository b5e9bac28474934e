"""Small files in the layouts that people have; where MONAI loads such a file, it is the judge."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from monai.networks.nets import UNETR, SwinUNETR, ViT
from monai.networks.nets.swin_unetr import filter_swinunetr
from monai.networks.utils import copy_model_state
from torch import Tensor, nn

import medcontext as mc
from medcontext.networks.initial import FATES, KeyReport, encoder_of, find_match
from medcontext.networks.pcrlv2 import PCRLv2

CROP = (32, 32, 32)
State = dict[str, Tensor]


def swin(seed: int, inputs: int = 1, outputs: int = 3, **more: object) -> SwinUNETR:
    torch.manual_seed(seed)
    return SwinUNETR(inputs, outputs, feature_size=12, depths=(1, 1, 1, 1), **more)


def unetr(seed: int, crop: tuple[int, int, int] = CROP, outputs: int = 3) -> UNETR:
    torch.manual_seed(seed)
    return UNETR(1, outputs, crop, feature_size=4, hidden_size=48, mlp_dim=96, num_heads=4)


def copied(network: nn.Module) -> State:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def renamed(state: State, *pairs: tuple[str, str]) -> State:
    for pattern, replacement in pairs:
        state = {re.sub(pattern, replacement, name): tensor for name, tensor in state.items()}
    return state


def check(report: KeyReport, network: nn.Module, before: State, file: State) -> None:
    """Every tensor once, what is taken is the file's to the bit, all else as it was."""
    own = [each for each in report.tensors if each.fate != "unused"]
    assert [each.name for each in own] == list(before)
    assert sorted(each.source for each in report.tensors if each.source) == sorted(file)
    assert sum(len(report.of(fate)) for fate in FATES) == len(report.tensors)
    floats = sum(tensor.numel() for tensor in before.values() if tensor.is_floating_point())
    assert sum(each.numbers for each in own) == floats
    after = network.state_dict()
    for each in own:
        if each.fate in ("loaded", "renamed"):
            assert torch.equal(after[each.name], file[each.source]), each
        elif each.fate != "converted":
            assert torch.equal(after[each.name], before[each.name]), each
    lines = report.text().splitlines()
    assert all(sum(line.split("  ")[0] == each.fate and each.name in line for line in lines) for each in report.tensors)


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., tuple[KeyReport, State]]:
    def save_and_load(network: nn.Module, content: dict, **options: object) -> tuple[KeyReport, State]:
        torch.save(content, tmp_path / "weights.pt")
        before = copied(network)
        report = mc.load_weights(network, tmp_path / "weights.pt", **options)
        return report, before

    return save_and_load


def test_monais_self_supervised_swin_unetr_as_monai_loads_it(load: Callable) -> None:
    encoder = swin(1).swinViT.state_dict()
    file = renamed(encoder, (r"mlp\.linear", "mlp.fc"), ("^", "module."))
    file |= {"module.rotation_head.weight": torch.rand(4, 8), "module.norm.bias": torch.rand(8)}
    content = {"epoch": 3, "state_dict": file, "optimizer": {"state": {0: {"exp_avg": torch.rand(4)}}}}
    network, expected = swin(2), swin(2)
    report, before = load(network, content)
    expected.load_from(content)
    assert all(torch.equal(tensor, expected.state_dict()[name]) for name, tensor in network.state_dict().items())
    check(report, network, before, file)
    assert (report.share, report.encoder, report.container) == (1, "swinViT", "state_dict.module")
    assert report.of("unused") == ("module.rotation_head.weight", "module.norm.bias")
    assert {name.split(".")[-2][:-1] for name in report.of("renamed")} == {"linear"}
    assert set(report.of("missing")) == {name for name in before if not name.startswith("swinViT.")}


def test_disruptive_autoencoders_as_monai_loads_them(load: Callable) -> None:
    file = renamed(swin(1).swinViT.state_dict(), (r"^(layers\d\.0\.)", r"\g<1>0."), ("^", "encoder."))
    file |= {"encoder.mask_token": torch.rand(1, 1, 12), "out.conv.conv.bias": torch.rand(3)}
    network = swin(2)
    report, before = load(network, {"model": file})
    expected, _, _ = copy_model_state(swin(2), file, filter_func=filter_swinunetr, inplace=False)
    encoder = {name: each for name, each in network.state_dict().items() if name.startswith("swinViT.")}
    assert all(torch.equal(each, expected[name]) for name, each in encoder.items())
    assert set(report.taken) == set(encoder), "MONAI takes the output's bias, too, though its filter means to drop it"
    check(report, network, before, file)
    assert report.share == 1


@pytest.mark.parametrize("weights", ["student", "teacher"])
def test_vocos_student_or_teacher_with_several_channels_and_other_labels(load: Callable, weights: str) -> None:
    files = {name: renamed(copied(swin(seed)), ("^", "module.")) for name, seed in (("student", 1), ("teacher", 5))}
    network = swin(2, inputs=4, outputs=7)
    report, before = load(network, files, weights=weights)
    check(report, network, before, files[weights])
    assert report.container == f"{weights}.module"
    assert report.anew == ("out.conv.conv.weight", "out.conv.conv.bias")
    assert report.of("missing") == ()
    assert "swinViT.patch_embed.proj.weight" in report.of("converted")
    image, patches = torch.rand(1, 1, 8, 8, 8), network.swinViT.patch_embed
    one = swin(1 if weights == "student" else 5).swinViT.patch_embed
    torch.testing.assert_close(patches(image.repeat(1, 4, 1, 1, 1)), one(image))


def test_student_and_teacher_in_one_dict(load: Callable) -> None:
    states = [renamed(copied(swin(seed)), ("^", f"{name}.")) for name, seed in (("teacher", 5), ("student", 1))]
    network = swin(2)
    load(network, states[0] | states[1])
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in swin(1).state_dict().items())


def test_version_2_of_swin_unetr_needs_its_own_network(load: Callable) -> None:
    state = copied(swin(1, use_v2=True))
    network = swin(2)
    report, before = load(network, state)
    check(report, network, before, state)
    assert {name.split(".")[1] for name in report.of("unused")} == {f"layers{level}c" for level in (1, 2, 3, 4)}
    with pytest.raises(mc.InputError, match=r"% of the encoder \(swinViT\), less .*layers1c.*--init_partial"):
        load(swin(2, use_v2=True), copied(swin(1)))


def test_mim_med3ds_vit_for_unetr_gives_the_same_tokens(load: Callable) -> None:
    torch.manual_seed(1)
    vit = ViT(1, CROP, 16, hidden_size=48, mlp_dim=96, num_heads=4, proj_type="perceptron")
    file = renamed(vit.state_dict(), ("^", "model.encoder."))
    file = {name: each for name, each in file.items() if "cross_attn" not in name}  # as its version of MONAI has it
    file |= {"model.decoder_blocks.0.norm1.weight": torch.rand(32), "model.decoder_pos_embed": torch.rand(1, 8, 32)}
    network = unetr(2)
    report, before = load(network, {"state_dict": file, "hyper_parameters": {"lr": 1e-4}})
    check(report, network, before, file)
    image = torch.rand(1, 1, *CROP)
    torch.testing.assert_close(network.vit(image)[0], vit(image)[0])
    assert (report.encoder, report.container) == ("vit", "state_dict.model.encoder")
    assert report.of("converted") == ("vit.patch_embedding.patch_embeddings.weight",)
    assert report.share > 0.9
    assert len(report.of("unused")) == 2


def test_positions_for_another_crop(load: Callable) -> None:
    network = unetr(2, crop=(48, 32, 16))
    report, before = load(network, copied(unetr(1)))
    check(report, network, before, copied(unetr(1)))
    assert [each.how for each in report.tensors if each.how] == ["positions interpolated from 2 x 2 x 2 to 3 x 2 x 1"]
    assert report.share == 1


def test_other_windows_of_swin_unetr(load: Callable) -> None:
    network = swin(2, window_size=5)
    report, before = load(network, copied(swin(1)))
    check(report, network, before, copied(swin(1)))
    assert report.share == 1
    assert "9 x 9 x 9" in report.text()
    assert "stays, for the windows are others" in report.text()
    assert network.eval()(torch.rand(1, 1, 64, 32, 32)).isfinite().all()


def test_pcrlv2s_encoder(load: Callable) -> None:
    source, network = PCRLv2(1, 1, width=4), PCRLv2(4, 3, width=4)
    nn.init.uniform_(source.encoder.levels[0][1].running_mean)
    file = {}
    for name, tensor in source.encoder.state_dict().items():
        level, layer, kind = re.fullmatch(r"levels\.(\d)\.(\d)\.(\w+)", name).groups()  # type: ignore[union-attr]
        part = "bn1" if int(layer) % 3 else "conv1"
        file[f"down_tr{64 * 2 ** int(level)}.ops.{int(layer) // 3}.{part}.{kind}"] = tensor
    file |= {"up_tr256.bn.weight": torch.rand(8), "out_tr.final_conv.bias": torch.rand(1)}
    report, before = load(network, {"state_dict": file, "epoch": 240})
    check(report, network, before, file)
    assert report.share == 1
    assert report.of("converted") == ("encoder.levels.0.0.weight",)
    image = torch.rand(1, 1, 8, 8, 8)
    levels = network.eval().encoder(image.repeat(1, 4, 1, 1, 1))
    for found, expected in zip(levels, source.eval().encoder(image), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_tensor_with_several_names_counts_once(load: Callable) -> None:
    """nnU-Net's decoder has the encoder as a part, and its blocks have each layer twice."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Conv3d(1, 2, 3)
            self.all_modules = nn.Sequential(self.encoder)
            self.head = nn.Conv3d(2, 2, 1)

    file, network = Twice(), Twice()
    report, _ = load(network, {"network_weights": file.state_dict()})
    assert report.taken == ("encoder.weight", "encoder.bias", "head.weight", "head.bias")
    assert len(report.tensors) == 4
    assert torch.equal(network.all_modules[0].weight, file.encoder.weight)
    encoder = {name: each for name, each in file.state_dict().items() if not name.startswith("all_modules")}
    report, _ = load(Twice(), {"network_weights": encoder})
    assert (report.share, report.of("missing")) == (1, ())


def test_nothing_that_fits_is_refused_and_nothing_is_loaded(load: Callable) -> None:
    network = unetr(1)
    before = copied(network)
    wrong: list[tuple[dict, str]] = [
        ({"model": {"stem.gamma": torch.rand(3)}}, "none of its 1 tensors fits.*its names are stem.gamma"),
        ({"norm": {"vit.norm.weight": torch.rand(7)}}, "vit.norm.weight is 7 there, 48 here.*--network_args"),
        ({"epoch": 3}, "no named tensors"),
        ({"vit.norm.weight": torch.full((48,), torch.nan)}, "not finite: vit.norm.weight"),
    ]
    for content, words in wrong:
        with pytest.raises(mc.InputError, match=words):
            load(network, content, partial=True)
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_less_than_most_of_the_encoder_needs_the_option(load: Callable) -> None:
    state = {name: each for name, each in copied(unetr(1)).items() if not re.match(r"vit\.blocks\.[0-3]\.", name)}
    network = unetr(2)
    with pytest.raises(mc.InputError, match=r"8\d\.\d% of the encoder \(vit\), less .* vit.blocks.3 \(13 missing\)"):
        load(network, state)
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in unetr(2).state_dict().items())
    report, before = load(network, state, partial=True)
    check(report, network, before, state)
    assert 0.8 < report.share < 0.9


def test_a_network_of_another_width_is_not_taken_for_the_same(load: Callable) -> None:
    torch.manual_seed(1)
    wide = SwinUNETR(1, 3, feature_size=24, depths=(1, 1, 1, 1))
    with pytest.raises(mc.InputError, match=r"swinViT.patch_embed.proj.weight \(24 x 1 .* there, 12 x 1 .* here\)"):
        load(swin(2), copied(wide))


def test_where_nothing_is_called_encoder_all_but_the_last_layer_is_one() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.Conv3d(2, 2, 1))
    assert encoder_of(network) == ("", ("0.weight", "0.bias"))


def test_names_as_they_are_go_before_translated_ones() -> None:
    network = nn.ModuleDict({"mlp": nn.ModuleDict({"fc1": nn.Linear(2, 2), "linear1": nn.Linear(2, 2)})})
    state = copied(nn.ModuleDict({"mlp": nn.ModuleDict({"fc1": nn.Linear(2, 2), "linear1": nn.Linear(2, 2)})}))
    assert find_match(network, [("", state)]).sources == {name: name for name in state}
