"""What holds of every objective around every network that it fits."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from medcontext.errors import InputError
from medcontext.networks import build_network
from medcontext.pretraining.build import OBJECTIVES, build_objective
from medcontext.pretraining.objective import Objective
from medcontext.pretraining.settings import MAESettings, PCRLv2Settings, SimCLRSettings
from tests.pretraining.conftest import NETWORKS, tiny_cnn, tiny_swin, tiny_unetr, toy, waves

CROP = (32, 32, 32)
TINY = {
    "mae": MAESettings(decoder_width=48, decoder_depth=1, decoder_heads=2, decoder_mlp=96),
    "pcrlv2": PCRLv2Settings(
        global_boxes=((24, 24, 16), (24, 24, 24)),
        global_size=(16, 16, 8),
        local_boxes=((8, 8, 4), (8, 8, 8)),
        local_size=(8, 8, 8),
        local_views=2,
        swaps=3,
    ),
    "simclr": SimCLRSettings(projection=16),
    "simmim": None,
}
PAIRS = [
    ("mae", "unetr"),
    ("simmim", "unetr"),
    ("simmim", "swin_unetr"),
    ("simclr", "unetr"),
    ("simclr", "swin_unetr"),
    ("simclr", "pcrlv2"),
    ("pcrlv2", "pcrlv2"),
]
each = pytest.mark.parametrize(("name", "network"), PAIRS)


def made(name: str, network: str) -> tuple[Objective, nn.Module]:
    torch.manual_seed(0)
    whole = tiny_unetr(CROP) if network == "unetr" else NETWORKS[network]()
    return build_objective(name, whole, TINY[name]), whole


def train(objective: Objective, steps: int, images: Callable[[int], torch.Tensor], lr: float = 2e-3) -> None:
    optimizer = torch.optim.AdamW(objective.trainable_parameters(), lr=lr)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        objective.loss(images(step), generator, step / steps).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def test_all_pairs_are_here() -> None:
    assert {name for name, _ in PAIRS} == set(OBJECTIVES) == set(TINY)


@each
def test_the_networks_own_weights_move_under_their_own_names(name: str, network: str) -> None:
    objective, whole = made(name, network)
    before = {key: value.clone() for key, value in whole.state_dict().items()}
    moved = objective.moved()
    assert set(moved) == {key for key in before if key.startswith(f"{objective.part.name}.")}
    assert all(value.data_ptr() == whole.state_dict()[key].data_ptr() for key, value in moved.items())
    train(objective, 1, lambda _step: toy(4, CROP))
    changed = {key for key, value in whole.state_dict().items() if not torch.equal(value, before[key])}
    names = {key for key, _ in whole.named_parameters()} & set(moved)
    unused = {key.replace("encoder.", f"{objective.part.name}.", 1) for key in objective.unused()}
    assert names - unused <= changed <= set(moved)


@each
def test_gradients_reach_what_is_trained_and_nothing_else(name: str, network: str) -> None:
    objective, whole = made(name, network)
    generator = torch.Generator().manual_seed(0)
    for step in range(6 if name == "pcrlv2" else 1):  # its scales are drawn anew each time
        objective.loss(toy(2, CROP, seed=step), generator).loss.backward()
    unused = objective.unused()
    for key, parameter in objective.named_parameters():
        assert (parameter.grad is None) == (key in unused), key
    assert sum(1 for _ in objective.trainable_parameters()) == sum(1 for _ in objective.parameters()) - len(unused)
    inside = set(map(id, objective.parameters()))
    assert all(parameter.grad is None for parameter in whole.parameters() if id(parameter) not in inside)


@each
def test_what_is_drawn_is_the_generators_alone_and_what_is_applied_is_pure(name: str, network: str) -> None:
    objective, _ = made(name, network)
    objective.eval() if name != "simclr" else None
    images = toy(2, CROP)
    torch.manual_seed(1)
    drawn = objective.draw(images, torch.Generator().manual_seed(3))
    first = objective(images, drawn).loss
    torch.manual_seed(2)
    assert torch.equal(objective(images, drawn).loss, first)
    assert torch.equal(objective.loss(images, torch.Generator().manual_seed(3)).loss, first)
    assert not torch.equal(objective.loss(images, torch.Generator().manual_seed(4)).loss, first)
    assert torch.equal(images, toy(2, CROP))


@pytest.mark.parametrize(
    ("name", "network", "images", "steps", "lr"),
    [
        ("mae", "unetr", toy, 16, 2e-3),
        ("simmim", "unetr", toy, 16, 2e-3),
        pytest.param("simmim", "swin_unetr", toy, 16, 2e-3, marks=pytest.mark.slow),
        ("simclr", "unetr", waves, 16, 5e-4),
        pytest.param("simclr", "swin_unetr", waves, 8, 1e-3, marks=pytest.mark.slow),
        pytest.param("simclr", "pcrlv2", waves, 16, 3e-3, marks=pytest.mark.slow),
        pytest.param("pcrlv2", "pcrlv2", toy, 24, 2e-2, marks=pytest.mark.slow),
    ],
)
def test_the_loss_goes_down(name: str, network: str, images: Callable, steps: int, lr: float) -> None:
    objective, _ = made(name, network)
    batch = images(6, CROP)

    def loss() -> float:
        with torch.no_grad():
            drawn = [objective.loss(batch, torch.Generator().manual_seed(seed), 1.0).loss for seed in range(3)]
        return float(torch.stack(drawn).mean())

    before = loss()
    train(objective, steps, lambda _step: batch, lr)
    assert loss() < before - 0.15 * abs(before)


@each
def test_a_checkpoint_of_an_objective_goes_on(name: str, network: str) -> None:
    objective, _ = made(name, network)
    train(objective, 2, lambda step: toy(2, CROP, step))
    again, _ = made(name, network)
    again.load_state_dict(objective.state_dict())
    first, second = (each.loss(toy(2, CROP), torch.Generator().manual_seed(9)).loss for each in (objective, again))
    assert torch.equal(first, second)


@pytest.mark.slow
def test_mae_beats_the_visible_mean_on_volumes_that_it_has_not_seen() -> None:
    objective, _ = made("mae", "unetr")
    train(objective, 120, lambda step: toy(4, CROP, seed=step + 1))
    with torch.no_grad():
        parts = objective.loss(toy(32, CROP), torch.Generator().manual_seed(0)).parts
    assert parts["hidden"] < 0.7 * parts["guess"]


@each
def test_a_picture_has_volumes_of_one_shape_and_leaves_the_mode(name: str, network: str) -> None:
    objective, _ = made(name, network)
    before = {key: value.clone() for key, value in objective.state_dict().items()}
    shown = objective.picture(toy(1, CROP)[0], torch.Generator().manual_seed(0))
    assert objective.training
    assert next(iter(shown)) == "original"
    assert len(shown) == 3
    assert len({tuple(volume.shape) for volume in shown.values()}) == 1
    assert all(torch.equal(value, before[key]) for key, value in objective.state_dict().items())


@pytest.mark.parametrize(
    ("name", "make", "fits"),
    [
        ("mae", tiny_swin, "unetr"),
        ("mae", tiny_cnn, "unetr"),
        ("simmim", tiny_cnn, "unetr, swin_unetr"),
        ("pcrlv2", tiny_unetr, "pcrlv2"),
        ("simclr", lambda: nn.Conv3d(1, 2, 3), "unetr, swin_unetr, pcrlv2"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_with_those_that_do(name: str, make: Callable, fits: str) -> None:
    with pytest.raises(InputError, match=rf"The objective {name} does not pretrain a \w+; it does: {fits}\."):
        build_objective(name, make())


def test_an_unknown_objective_or_anothers_settings_are_refused() -> None:
    with pytest.raises(InputError, match="Unknown objective 'simclir'; did you mean 'simclr'"):
        build_objective("simclir", tiny_unetr())
    with pytest.raises(InputError, match="Objective 'mae' takes MAESettings, got SimCLRSettings"):
        build_objective("mae", tiny_unetr(), SimCLRSettings())


def test_the_published_networks_tensors_move() -> None:
    with torch.device("meta"):
        network = build_network("unetr", in_channels=1, out_channels=14, crop_size=(96, 96, 96))
        objective = build_objective("mae", network)
    moved = objective.moved()
    assert len(moved) == 161
    assert sum(tensor.numel() for tensor in moved.values()) == 88_359_168  # 88.4 M
    assert sum("norm_cross_attn" in name for name in objective.unused() if name.startswith("encoder.")) == 24
    assert objective.positions.shape == (1, 216, 512)
    assert (objective.head.in_features, objective.head.out_features) == (512, 4096)
