"""Real nnU-Net's trainers with the method, beside the same trainers without it."""

import copy
import itertools
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medcontext.errors import InputError
from medcontext.method import Unlabelled
from medcontext.method_settings import MethodSettings
from tests.integrations.nnunet.conftest import World

pytestmark = pytest.mark.slow
NUMBERS = itertools.count()
STATE = "medcontext"
WHOLE_AND_MASKED = MethodSettings(
    consistency="paper", fill="token", share=1.0, clean="all", unlabelled=Unlabelled(view="none")
)


@pytest.fixture(scope="module")
def stock(world: World) -> type:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    return nnUNetTrainer


def ours(base: type, **attributes: Any) -> type:
    """A trainer with the method, equation 4 on labels alone where nothing else is said."""
    from medcontext.integrations.nnunet import MedContextMixin

    given = {"method": WHOLE_AND_MASKED, **attributes}
    return type(f"nnUNetTrainerTried{next(NUMBERS)}", (MedContextMixin, base), given)  # a folder of results each


def started(world: World, kind: type, configuration: str = "3d_fullres", **options: Any) -> Any:
    """A trainer at the beginning of its training."""
    trainer = world.trainer(kind, configuration, **options)
    trainer.on_train_start()
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    return trainer


def batches(trainer: Any, number: int) -> list[dict[str, Any]]:
    return [copy.deepcopy(next(trainer.dataloader_train)) for _ in range(number)]


def same(one: torch.nn.Module, two: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.equal(first, second) for first, second in pairs)


def first_step_like_stocks(world: World, base: type, configuration: str = "3d_fullres", **options: Any) -> Any:
    """The terms of a first step on labels alone, whose whole view's loss is that of the trainer without the method."""
    plain = started(world, base, configuration, **options)
    with_method = started(world, ours(base), configuration, **options)
    with_method.network.load_state_dict(plain.network.state_dict())
    with_method.learner.restart_teacher()
    (batch,) = batches(plain, 1)
    step = with_method.train_step(copy.deepcopy(batch))
    assert float(step["loss"]) == float(plain.train_step(batch)["loss"])
    return step


def variant(name: str) -> type:
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    return recursive_find_trainer_class_by_name(name)


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
@pytest.mark.parametrize("base", ["nnUNetTrainer", "nnUNetTrainerNoDeepSupervision", "nnUNetTrainerBN"])
def test_the_whole_views_first_loss_is_stocks_to_the_digit(world: World, configuration: str, base: str) -> None:
    step = first_step_like_stocks(world, variant(base), configuration)
    assert float(step["masked"]) > 0
    assert float(step["consistency"]) > 0


def test_without_weights_the_trajectory_is_stocks(world: World, stock: type) -> None:
    nothing = replace(WHOLE_AND_MASKED, beta=0, masked_loss=False)
    plain, with_method = started(world, stock), started(world, ours(stock, method=nothing))
    with_method.network.load_state_dict(plain.network.state_dict())
    for batch in batches(plain, 3):
        assert float(with_method.train_step(copy.deepcopy(batch))["loss"]) == float(plain.train_step(batch)["loss"])
    assert same(plain.network, with_method.network)
    assert not same(plain.network, with_method.learner.teacher.network), "the teacher must lag behind"


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_labelled_crops_are_filled_into_one_another(world: World, stock: type, configuration: str) -> None:
    """The default on labels alone, whose labels are of as many sizes as nnU-Net's network has outputs."""
    trainer = started(world, ours(stock, method=MethodSettings(unlabelled=Unlabelled(view="none"))), configuration)
    for batch in batches(trainer, 2):
        assert len(batch["target"]) > 1
        step = trainer.train_step(batch)
        assert min(float(step["loss"]), float(step["masked"])) > 0
        assert float(step["consistency"]) == 0


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_labelled_crops_that_are_filled_into_one_another_lie_at_one_place(
    world: World, stock: type, configuration: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader

    kind = ours(stock, method=MethodSettings(unlabelled=Unlabelled(view="none")))
    loader = started(world, kind, configuration).dataloader_train.data_loader
    assert type(pickle.loads(pickle.dumps(loader))) is type(loader), "worker processes get it"
    anywhere = ours(stock, method=MethodSettings(place="any", unlabelled=Unlabelled(view="none")))
    assert type(started(world, anywhere, configuration).dataloader_train.data_loader) is nnUNetDataLoader
    flips: list[list[int]] = []
    boxes: list[tuple[Any, bool, np.ndarray]] = []  # shape, whether on a class, centre
    flip, box = MirrorTransform._apply_to_image, nnUNetDataLoader.get_bbox

    def noted(self: Any, image: Tensor, **drawn: Any) -> Tensor:
        flips.append(drawn["axes"])
        return flip(self, image, **drawn)

    def noted_box(self: Any, shape: Any, force_fg: bool, *rest: Any) -> Any:
        low, high = box(self, shape, force_fg, *rest)
        boxes.append((np.array(shape), force_fg, (np.array(low) + np.array(high)) / 2))
        return low, high

    monkeypatch.setattr(MirrorTransform, "_apply_to_image", noted)
    monkeypatch.setattr(nnUNetDataLoader, "get_bbox", noted_box)
    on_a_class = []
    for _ in range(24):
        flips.clear()
        boxes.clear()
        next(loader)
        for number in range(loader.batch_size):
            first = loader.follows(number)
            assert flips[number] == flips[first]
            shape, _, centre = boxes[number]
            other, forced, leader = boxes[first]
            if number == first:
                on_a_class.append(forced)
            elif not forced:
                wanted = np.minimum(np.clip(leader / other, 0, 1) * shape, shape - 1).astype(int)
                assert (abs(centre - wanted) <= 1).all()
    assert 4 < sum(on_a_class) < len(on_a_class) - 4, "as often as stock's, but not always the crops that are filled"


def test_a_crop_that_follows_is_near_the_class_of_the_first(world: World, stock: type) -> None:
    from medcontext.data.crops import nearest
    from medcontext.integrations.nnunet.crops import voxels_of

    shape, place = np.array([10, 10, 10]), np.array([0.45, 0.45, 0.45])
    locations = {1: np.array([[0, 9, 9, 9], [0, 1, 1, 1]]), 2: np.array([[0, 6, 6, 6]]), (1, 2): np.empty((0, 4))}
    assert nearest(place, shape, voxels_of(1, locations)).tolist() == [1, 1, 1]
    assert nearest(place, shape, voxels_of((1, 2), locations)).tolist() == [6, 6, 6], "of any class, for want of that"
    assert nearest(place, shape, voxels_of(None, locations)).tolist() == [4, 4, 4]
    assert nearest(place, shape, voxels_of(1, {})).tolist() == [4, 4, 4]


def test_what_hides_and_what_is_hidden(world: World, stock: type) -> None:
    trainer = started(world, ours(stock))
    learner = trainer.learner
    hidden = learner.draw(torch.zeros(2, 1, 16, 24, 20))
    assert hidden.shape == (2, 1, 1, 2, 1), "tubes through the coarse first axis; 12 and 20 divide 24 and 20"
    groups = trainer.optimizer.param_groups
    assert groups[-1]["params"] == [trainer.adapter.embedding]
    assert groups[-1]["lr"] == groups[0]["lr"] == trainer.initial_lr
    before = trainer.adapter.embedding.detach().clone()
    for batch in batches(trainer, 2):
        trainer.train_step(batch)
    assert not torch.equal(before, trainer.adapter.embedding), "the embedding is trained"
    trainer.current_epoch = 1
    trainer.lr_scheduler.step(1)
    assert groups[-1]["lr"] == groups[0]["lr"] < trainer.initial_lr
    outputs = learner.teacher(torch.zeros(1, 1, 16, 24, 20))
    assert isinstance(outputs, Tensor), "the teacher answers at full resolution alone"


@pytest.mark.parametrize("name", ["nnUNetTrainerCosAnneal", "nnUNetTrainerAdam", "nnUNetTrainer_warmup"])
def test_optimizers_of_other_trainers_take_the_embedding(world: World, name: str) -> None:
    trainer = started(world, ours(variant(name)))
    trainer.lr_scheduler.step(1)
    rates = {group["lr"] for group in trainer.optimizer.param_groups}
    assert len(rates) == 1
    (batch,) = batches(trainer, 1)
    assert np.isfinite(trainer.train_step(batch)["loss"])
    assert any(trainer.adapter.embedding is group["params"][0] for group in trainer.optimizer.param_groups)


def test_killed_and_continued(world: World, stock: type) -> None:
    kind = ours(stock)
    first = world.trainer(kind)
    first.save_every = 1

    def killed() -> None:
        raise KeyboardInterrupt

    first.on_epoch_start, original = lambda: killed() if first.current_epoch else original(), first.on_epoch_start
    with pytest.raises(KeyboardInterrupt):
        first.run_training()
    folder = Path(first.output_folder)
    second = world.trainer(kind)
    second.load_checkpoint(str(folder / "checkpoint_latest.pth"))
    teacher = copy.deepcopy(second.learner.teacher.network)
    second.on_train_start()
    assert second.current_epoch == 1
    assert second.learner.step == first.learner.step == 2
    assert same(first.learner.teacher.network, second.learner.teacher.network)
    assert same(teacher, second.learner.teacher.network), "starting does not copy the teacher anew"
    assert not same(second.network, second.learner.teacher.network)
    assert torch.equal(first.adapter.embedding, second.adapter.embedding)
    (batch,) = batches(second, 1)
    steps = []
    for trainer in (first, second):
        torch.manual_seed(1)
        trainer.network.train()
        steps.append(trainer.train_step(copy.deepcopy(batch)))
    assert {name: float(value) for name, value in steps[0].items()} == {
        name: float(value) for name, value in steps[1].items()
    }
    assert same(first.network, second.network)
    assert same(first.learner.teacher.network, second.learner.teacher.network)


def test_continued_from_a_stock_checkpoint(world: World, stock: type, tmp_path: Path) -> None:
    plain = started(world, stock)
    plain.train_step(batches(plain, 1)[0])
    plain.on_train_epoch_end([{"loss": np.array(1.0)}])
    plain.logger.log("mean_fg_dice", 0.5, 0)
    plain.save_checkpoint(str(tmp_path / "stock.pth"))
    trainer = world.trainer(ours(stock))
    trainer.load_checkpoint(str(tmp_path / "stock.pth"))
    trainer.on_train_start()
    assert same(plain.network, trainer.network)
    assert same(trainer.network, trainer.learner.teacher.network)
    assert trainer.learner.step == 2
    momentum = trainer.optimizer.state[next(trainer.network.parameters())]["momentum_buffer"]
    assert torch.equal(momentum, plain.optimizer.state[next(plain.network.parameters())]["momentum_buffer"])
    assert trainer.optimizer.param_groups[-1]["params"] == [trainer.adapter.embedding]
    assert np.isfinite(trainer.train_step(batches(trainer, 1)[0])["loss"])


def test_a_checkpoint_of_another_method_is_refused(world: World, stock: type, tmp_path: Path) -> None:
    baseline = started(world, ours(stock, method="none"))
    baseline.save_checkpoint(str(tmp_path / "none.pth"))
    with pytest.raises(InputError, match="a training with another method"):
        world.trainer(ours(stock)).load_checkpoint(str(tmp_path / "none.pth"))


def test_pretrained_weights_reach_the_teacher_before_the_first_step(world: World, stock: type, tmp_path: Path) -> None:
    from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

    donor = started(world, stock)
    with torch.no_grad():
        for parameter in donor.network.parameters():
            parameter.add_(1)
    donor.save_checkpoint(str(tmp_path / "donor.pth"))
    trainer = world.trainer(ours(stock))
    trainer.initialize()
    load_pretrained_weights(trainer.network, str(tmp_path / "donor.pth"))
    assert not same(trainer.network, trainer.learner.teacher.network)
    trainer.on_train_start()
    assert same(trainer.network, trainer.learner.teacher.network)


def test_checkpoints_are_stocks_for_whoever_reads_them(world: World, stock: type) -> None:
    trainer = world.trainer(ours(stock))
    trainer.run_training()
    folder = Path(trainer.output_folder)
    final = torch.load(folder / "checkpoint_final.pth", weights_only=False)
    teacher = torch.load(folder / "checkpoint_final_teacher.pth", weights_only=False)
    assert final["trainer_name"] == teacher["trainer_name"] == "nnUNetTrainer"
    assert STATE not in teacher
    assert set(final["network_weights"]) == set(teacher["network_weights"])
    assert all(torch.equal(final[STATE]["teacher"][key], value) for key, value in teacher["network_weights"].items())
    assert {file.name for file in folder.glob("*.pth*")} == {
        "checkpoint_final.pth", "checkpoint_final_teacher.pth", "checkpoint_best.pth", "checkpoint_best_teacher.pth",
    }  # fmt: skip
    log = next(folder.glob("training_log_*.txt")).read_text()
    assert "MedContext: method medcontext, tubes, ratio 0.4, 4 steps" in log
    assert log.count("MedContext: whole") == 2
    plain = world.trainer(stock)
    plain.initialize()
    file = folder / "checkpoint_final.pth"
    with pytest.raises(ValueError, match="parameter group"):
        plain.load_checkpoint(str(file))  # its optimizer knows no embedding: stock can predict, not go on
    assert same(plain.network, trainer.network)


def test_a_changed_architecture_keeps_its_own_name(world: World, stock: type) -> None:
    from medcontext.integrations.nnunet.checkpoints import known_trainer

    class Wider(ours(stock)):  # type: ignore[misc]
        @staticmethod
        def build_network_architecture(*args: Any, **kwargs: Any) -> Any:
            return stock.build_network_architecture(*args, **kwargs)

    assert known_trainer(ours(variant("nnUNetTrainerBN"))) == "nnUNetTrainerBN"
    assert known_trainer(ours(variant("nnUNetTrainerDA5"))) == "nnUNetTrainerDA5"
    assert known_trainer(Wider) == "Wider"


def test_another_train_step_is_not_replaced_in_silence(world: World) -> None:
    class OwnStep(variant("nnUNetTrainer")):  # type: ignore[misc]
        def train_step(self, batch: Any) -> Any:
            return super().train_step(batch)

    with pytest.raises(InputError, match=r"OwnStep has a train_step of its own.*clip = 12"):
        world.trainer(ours(OwnStep)).initialize()
    assert np.isfinite((trainer := started(world, ours(OwnStep, clip=1.0))).train_step(batches(trainer, 1)[0])["loss"])


def test_da5_and_residual_encoders(world: World, stock: type) -> None:
    trainer = started(world, ours(variant("nnUNetTrainerDA5")))
    assert np.isfinite(trainer.train_step(batches(trainer, 1)[0])["loss"])
    file = world.prepared / "Dataset001_Balls" / "nnUNetPlans.json"
    plans = json.loads(file.read_text()) | {"continue_training": False, "plans_name": "nnUNetResEncPlans"}
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    architecture["network_class_name"] = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    architecture["arch_kwargs"]["n_blocks_per_stage"] = architecture["arch_kwargs"].pop("n_conv_per_stage")
    dataset = json.loads((file.parent / "dataset.json").read_text())
    trainer = ours(stock)(plans, "3d_fullres", 0, dataset, torch.device("cpu"))
    trainer.on_train_start()
    step = trainer.train_step(batches(trainer, 1)[0])
    assert type(trainer.network).__name__ == type(trainer.learner.teacher.network).__name__ == "ResidualEncoderUNet"
    assert float(step["masked"]) > 0


def test_a_scaler_changes_nothing_but_the_scale(world: World, stock: type) -> None:
    plain, scaled = started(world, ours(stock)), started(world, ours(stock))
    scaled.network.load_state_dict(plain.network.state_dict())
    scaled.learner.restart_teacher()
    scaled.grad_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for number, batch in enumerate(batches(plain, 2)):
        for trainer in (plain, scaled):
            torch.manual_seed(number)
            trainer.train_step(copy.deepcopy(batch))
    for one, other in zip(plain.network.parameters(), scaled.network.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["lambda", "sequence"])
def test_schedules_of_torch_take_the_embedding(world: World, stock: type, kind: str) -> None:
    from torch.optim.lr_scheduler import LambdaLR, LinearLR, SequentialLR

    class Scheduled(stock):  # type: ignore[misc]
        def configure_optimizers(self) -> Any:
            optimizer, _ = super().configure_optimizers()
            if kind == "lambda":
                return optimizer, LambdaLR(optimizer, lambda step: 0.5**step)
            parts = [LinearLR(optimizer, 0.5, total_iters=1), LinearLR(optimizer, 1.0, 0.5, total_iters=2)]
            return optimizer, SequentialLR(optimizer, parts, [1])

    trainer = world.trainer(ours(Scheduled))
    trainer.initialize()
    for _ in range(3):
        trainer.lr_scheduler.step()
    first, last = trainer.optimizer.param_groups
    assert last["params"] == [trainer.adapter.embedding]
    assert last["lr"] == first["lr"] != trainer.initial_lr


def test_only_the_first_process_writes(world: World, stock: type, tmp_path: Path) -> None:
    trainer = world.trainer(ours(stock))
    trainer.initialize()
    written = tmp_path / "checkpoint_latest.pth.part"
    written.write_bytes(b"of the first process, unfinished")
    trainer.local_rank = 1
    trainer.save_checkpoint(str(tmp_path / "checkpoint_latest.pth"))
    assert list(tmp_path.iterdir()) == [written]
    assert written.read_bytes() == b"of the first process, unfinished"


def test_wrong_classes_are_refused(world: World, stock: type) -> None:
    from medcontext.integrations.nnunet import MedContextMixin

    with pytest.raises(InputError, match="name MedContextMixin first among its bases"):
        type("Wrong", (stock, MedContextMixin), {})
    with pytest.raises(InputError, match="epochs must be at least 1, got 0"):
        world.trainer(ours(stock, epochs=0)).initialize()
    every = MethodSettings(unlabelled=Unlabelled(share=1))
    with pytest.raises(InputError, match="with share 1 take clean 'all'"):
        world.trainer(ours(stock, method=every)).initialize()
