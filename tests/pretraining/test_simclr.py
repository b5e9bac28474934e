import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from medcontext.errors import InputError
from medcontext.pretraining.settings import SimCLRSettings
from medcontext.pretraining.simclr import SimCLR, contrastive, similarities
from tests.pretraining.conftest import tiny_cnn, tiny_unetr, toy


@pytest.mark.parametrize("pairs", [2, 5])
def test_all_equal_gives_the_logarithm_of_the_others(pairs: int) -> None:
    rows = torch.randn(1, 16, dtype=torch.float64).expand(pairs, -1)
    loss = contrastive(similarities(rows, 3 * rows, 0.1)).item()
    assert loss == pytest.approx(math.log(2 * pairs - 1), abs=1e-12)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_orthogonal_pairs_give_the_closed_form(temperature: float) -> None:
    rows = torch.eye(6, dtype=torch.float64)
    expected = -1 / temperature + math.log(math.exp(1 / temperature) + 2 * 6 - 2)
    loss = contrastive(similarities(rows, 2 * rows, temperature)).item()
    assert loss == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_it_is_the_sum_that_it_says() -> None:
    first, second = torch.randn(2, 4, 8, dtype=torch.float64)
    z = torch.nn.functional.normalize(torch.cat((first, second)), dim=1)
    total = 0.0
    for i in range(8):
        others = sum(math.exp(float(z[i] @ z[k]) / 0.2) for k in range(8) if k != i)
        total -= math.log(math.exp(float(z[i] @ z[(i + 4) % 8]) / 0.2) / others)
    assert contrastive(similarities(first, second, 0.2)).item() == pytest.approx(total / 8, rel=1e-12)


def test_it_is_finite_at_a_low_temperature() -> None:
    first = torch.randn(6, 32, requires_grad=True)
    loss = contrastive(similarities(first, torch.randn(6, 32), 0.005))
    loss.backward()
    assert loss.isfinite()
    assert first.grad is not None
    assert first.grad.isfinite().all()
    assert first.grad.abs().sum() > 0


def make_problem() -> tuple[SimCLR, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(0)
    objective = SimCLR(tiny_unetr(layers=1)).double()
    images = toy(4).double()
    return objective, images, objective.draw(images, torch.Generator().manual_seed(0))


def gradients(objective: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix("module."): parameter.grad
        for name, parameter in objective.named_parameters()
        if parameter.grad is not None
    }


def worker(rank: int, store: str, result: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    objective, images, drawn = make_problem()
    mine = slice(2 * rank, 2 * rank + 2)
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(objective, objective.unused())
    shared = DistributedDataParallel(objective)
    losses = shared(images[mine], (drawn[0][mine], drawn[1][mine]))
    losses.loss.backward()
    torch.save((losses.loss.detach(), gradients(shared)), f"{result}-{rank}")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path) -> None:
    mp.spawn(worker, (str(tmp_path / "store"), str(tmp_path / "result")), nprocs=2)
    objective, images, drawn = make_problem()
    alone = objective(images, drawn).loss
    alone.backward()
    expected = gradients(objective)
    for rank in range(2):
        loss, found = torch.load(tmp_path / f"result-{rank}")
        torch.testing.assert_close(loss, alone.detach())
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-6, atol=1e-9)


def test_the_features_are_the_mean_over_the_tokens_of_the_blocks() -> None:
    network, images = tiny_unetr().eval(), toy(2)
    tokens = network.vit(images)[1][-1]
    torch.testing.assert_close(SimCLR(network).pool(images), tokens.mean(1))
    cnn = tiny_cnn().eval()
    torch.testing.assert_close(SimCLR(cnn).pool(images), cnn.encoder(images)[-1].mean((2, 3, 4)))


def test_views_are_spoiled_within_the_crops_range_and_the_crop_is_not() -> None:
    objective, images = SimCLR(tiny_unetr()), toy(8)
    before = images.clone()
    drawn = objective.draw(images, torch.Generator().manual_seed(0))
    first, second = (objective.view(images, choice) for choice in drawn)
    assert torch.equal(images, before)
    assert not torch.equal(first, second)
    for view in (first, second):
        assert view.min() >= images.min()
        assert view.max() <= images.max()
        same = (view == images).flatten(1).float().mean(1)
        assert ((same > 0) & (same < 1)).all()
    assert len(drawn[0][:, 0].unique()) == 2  # some drop inside, some outside


def test_one_crop_has_no_other_to_be_told_from() -> None:
    objective = SimCLR(tiny_unetr())
    with pytest.raises(InputError, match="batch of at least 2, got 1"):
        objective.loss(toy(1), torch.Generator())


@pytest.mark.parametrize(
    "wrong", [{"temperature": 0}, {"holes": 0}, {"inside": (9, 5)}, {"outside": (0, 5)}, {"shuffle_probability": 2}]
)
def test_values_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        SimCLRSettings(**wrong)
