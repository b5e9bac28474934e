"""MedContext in a LightningModule: what a plain loop does, whatever the trainer is asked for."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.tuner import Tuner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from medcontext.errors import InputError
from medcontext.integrations.lightning import MedContextMixin, seeded
from medcontext.method import MedContext, TubeMask, Unlabelled

MASK = TubeMask(patch_size=4, ratio=0.5)
STEPS = 3
QUIET: dict[str, Any] = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "accelerator": "cpu",
    "devices": 1,
}


def make_network() -> nn.Module:
    torch.manual_seed(1)
    layers = nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.Conv3d(4, 3, 3, padding=1)
    return nn.Sequential(*layers)


def make_batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(2)
    shape = (1, 8, 8, 8)
    return [
        (torch.randn(shape, generator=generator), torch.randint(0, 3, shape, generator=generator)) for _ in range(4)
    ]


class Mine(MedContextMixin, LightningModule):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.network = make_network()
        self.learner = self.medcontext(self.network, **{"mask": MASK, **options})
        self.losses: list[float] = []

    def training_step(self, batch: Any, _: int) -> Tensor:
        image, label = batch
        loss = self.medcontext_step(
            image, label, unlabelled=image[:1] if self.learner.unlabelled.view != "none" else None
        )
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.learner.trainable_parameters(), lr=0.5, momentum=0.9)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fit(module: LightningModule, ckpt_path: Path | None = None, batch_size: int = 2, **options: Any) -> Trainer:
    torch.manual_seed(0)
    saving = {"enable_checkpointing": "callbacks" in options}
    trainer = Trainer(**{"max_steps": STEPS, **QUIET, **saving, **options})
    trainer.fit(module, DataLoader(make_batches(), batch_size), ckpt_path=ckpt_path)
    return trainer


def plain_loop(
    accumulate: int = 1, clip: float = 0.0, dtype: torch.dtype | None = None, scale: float = 1.0
) -> MedContext:
    """The same training without Lightning; small gradients survive half precision in a scale."""
    learner = MedContext(make_network(), mask=MASK, total_steps=STEPS)
    optimizer = torch.optim.SGD(learner.trainable_parameters(), lr=0.5, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    batches = list(DataLoader(make_batches(), batch_size=2))
    for step in range(STEPS):
        for part in range(accumulate):
            number = step * accumulate + part
            torch.manual_seed(number * 4096)  # with the seed 0, on rank 0
            with torch.autocast("cpu", dtype, enabled=dtype is not None):
                losses = learner.forward(*batches[number % 2])
            (losses.loss * scale / accumulate).backward()
        for parameter in learner.trainable_parameters():
            if parameter.grad is not None:
                parameter.grad /= scale
        if clip:
            torch.nn.utils.clip_grad_norm_(learner.trainable_parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        learner.update_teacher()
    return learner


def assert_same(found: MedContext, expected: MedContext, tolerance: float) -> None:
    start, state = make_network().state_dict(), found.state_dict()
    for name, value in expected.state_dict().items():
        if isinstance(value, Tensor):
            torch.testing.assert_close(state[name], value, atol=tolerance, rtol=0, msg=lambda t, at=name: f"{at}: {t}")
    moved = max(float((state[f"network.{name}"] - start[name]).abs().max()) for name in ("0.weight", "3.bias"))
    assert moved > 10 * tolerance
    assert found.step == expected.step
    assert found.total_steps == expected.total_steps


@pytest.mark.parametrize(
    ("trainer", "loop"),
    [
        ({}, {}),
        ({"accumulate_grad_batches": 2, "gradient_clip_val": 0.1}, {"accumulate": 2, "clip": 0.1}),
        ({"precision": "bf16-mixed"}, {"dtype": torch.bfloat16}),
    ],
    ids=["plain", "accumulated-clipped", "bf16"],
)
def test_the_trainer_does_what_a_plain_loop_does(trainer: dict[str, Any], loop: dict[str, Any]) -> None:
    module = Mine()
    fit(module, **trainer)
    assert_same(module.learner, plain_loop(**loop), 8e-3 if "dtype" in loop else 1e-5)


def scaled(scale: float) -> MixedPrecision:
    """What `16-mixed` is on a GPU; the trainer itself turns it to bf16 on a CPU."""
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale))


def test_half_precision_is_scaled_and_unscaled() -> None:
    module = Mine()
    fit(module, plugins=scaled(2.0**10))
    assert_same(module.learner, plain_loop(dtype=torch.float16, scale=2.0**10), 1e-3)


def test_gradients_that_overflow_skip_the_step() -> None:
    module = Mine()
    fit(module, max_steps=1, plugins=scaled(2.0**120))
    assert torch.equal(module.network[0].weight, make_network()[0].weight)


def test_a_training_that_goes_on_from_a_checkpoint_ends_the_same(tmp_path: Path) -> None:
    saving = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=1)
    whole = Mine()
    fit(whole, callbacks=[saving], max_steps=4)
    resumed = Mine()
    fit(resumed, tmp_path / "step=2.ckpt", max_steps=4)
    assert resumed.losses == whole.losses[2:]
    assert resumed.learner.step == 4
    for name, value in whole.learner.teacher.state_dict().items():
        assert torch.equal(resumed.learner.teacher.state_dict()[name], value), name


def test_its_terms_are_logged_and_the_trainer_says_how_many_steps() -> None:
    module = Mine(unlabelled=Unlabelled(start=0))
    trainer = fit(module, max_epochs=2, max_steps=-1)
    assert {name for name in trainer.logged_metrics if name.startswith("medcontext/")} == {
        f"medcontext/{name}" for name in ("whole", "masked", "consistency", "unlabelled")
    }
    assert module.learner.total_steps == module.learner.step == 4


def test_weights_that_are_loaded_late_are_the_teachers_too() -> None:
    module = Mine()
    for parameter in module.network.parameters():
        parameter.data.zero_()
    seen: list[Tensor] = []
    update = module.learner.update_teacher

    def look() -> None:
        seen.append(copy.deepcopy(module.learner.teacher.network[0].weight))
        update()

    module.learner.update_teacher = look  # type: ignore[method-assign]
    fit(module, max_steps=1)
    assert not seen[0].any()


class Manual(Mine):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


class WithoutEmbedding(Mine):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.network.parameters(), lr=0.1)


class OwnStep(Mine):
    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        LightningModule.optimizer_step(self, *args, **kwargs)


class WithTeacher(Mine):
    """As people write it; the teacher has no gradients."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1, weight_decay=0.1)


def test_what_would_be_ignored_is_refused() -> None:
    with pytest.raises(InputError, match=r"backward=self\.manual_backward"):
        fit(Manual())
    with pytest.raises(InputError, match=r"self\.learner\.trainable_parameters\(\)"):
        fit(WithoutEmbedding())
    with pytest.raises(InputError, match=r"OwnStep\.optimizer_step does not come here"):
        fit(OwnStep())
    with pytest.raises(InputError, match="max_steps or max_epochs"):
        fit(Mine(), max_steps=-1, max_epochs=-1)


def test_a_module_that_was_trained_is_trained_on_by_another_trainer() -> None:
    module = Mine()
    for _ in range(2):
        fit(module)
    assert module.learner.step == module.learner.total_steps == 2 * STEPS
    copy.deepcopy(module)


def test_each_fit_of_a_trainer_has_its_own_schedule(tmp_path: Path) -> None:
    module, loader = Mine(), DataLoader(make_batches(), 2)
    trainer = fit(module, max_steps=2, default_root_dir=tmp_path)
    trainer.fit_loop.epoch_loop.max_steps = 5
    trainer.fit(module, loader)
    assert module.learner.step == module.learner.total_steps == 5


def test_looking_for_a_learning_rate_leaves_no_trace(tmp_path: Path) -> None:
    module, loader = Mine(), DataLoader(make_batches(), 2)
    trainer = Trainer(max_steps=STEPS, default_root_dir=tmp_path, **QUIET)
    torch.manual_seed(0)
    Tuner(trainer).lr_find(module, loader, num_training=7, update_attr=False)
    trainer.fit(module, loader)
    assert_same(module.learner, plain_loop(), 1e-5)


@pytest.mark.parametrize(
    "name", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
)
def test_dropout_in_a_step_depends_on_its_seed_alone(name: str) -> None:
    device = torch.device(name, *([0] if name == "cuda" else []))
    ones, found = torch.ones(1000, device=device), []
    for before in (5, 6):
        torch.manual_seed(before)
        outside = torch.rand(3, device=device)
        torch.manual_seed(before)
        with seeded(7, device):
            found.append(nn.functional.dropout(ones))
        assert torch.equal(torch.rand(3, device=device), outside)
    assert torch.equal(*found)


def test_an_optimizer_of_all_parameters_does_not_move_the_teacher() -> None:
    module = WithTeacher(teacher_every=100)
    fit(module)
    assert torch.equal(module.learner.teacher.network[0].weight, make_network()[0].weight)
    assert not torch.equal(module.network[0].weight, make_network()[0].weight)


@pytest.mark.slow
def test_two_processes_average_their_gradients(tmp_path: Path) -> None:
    script = Path(__file__).with_name("lightning_ddp.py")
    done = subprocess.run([sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    states = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    learner = MedContext(make_network(), mask=MASK, total_steps=1)
    learner.network[1] = nn.Identity()  # type: ignore[index]
    for rank, batch in enumerate(make_batches()[:2]):
        torch.manual_seed(rank)  # with the seed 0, at step 0
        (learner(*(each[None] for each in batch)).loss / 2).backward()
    torch.optim.SGD(learner.trainable_parameters(), lr=0.1).step()
    for name, value in learner.named_parameters():
        if not name.startswith("teacher"):
            torch.testing.assert_close(states[0][f"learner.{name}"], value.detach(), atol=1e-6, rtol=1e-5)
    assert states[0]["learner.adapter.embedding"].any()
