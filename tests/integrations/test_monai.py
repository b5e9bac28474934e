"""MONAI's own engines, handlers and metrics around a MedContext learner."""

import copy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, MetaTensor
from monai.engines import GanTrainer, SupervisedEvaluator, SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.handlers import (
    CheckpointLoader,
    CheckpointSaver,
    LrScheduleHandler,
    MeanDice,
    StatsHandler,
    ValidationHandler,
    from_engine,
)
from monai.inferers import SlidingWindowInferer
from monai.losses import DiceCELoss
from monai.networks.nets import DynUNet
from monai.transforms import AsDiscreted, Compose
from torch import Tensor, nn

from medcontext.errors import InputError
from medcontext.integrations.monai import MedContextUpdate
from medcontext.method import MedContext, TubeMask, Unlabelled

SCANS = Unlabelled(start=0)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.InstanceNorm3d(4), nn.ReLU(), nn.Conv3d(4, 2, 1))


def cases(count: int, labels: bool = True) -> list[dict[str, Tensor]]:
    """Cubes that are brighter than what is around them."""
    generator = torch.Generator().manual_seed(count)
    found = []
    for index in range(count):
        label = torch.zeros(1, 8, 8, 8)
        label[:, 2 : 4 + index % 3, 2:6, 2:6] = 1
        image = MetaTensor(label + 0.3 * torch.randn(label.shape, generator=generator), meta={"case": index})
        found.append({"image": image, "label": label} if labels else {"image": image})
    return found


def loader(count: int = 4, batch: int = 2, labels: bool = True) -> DataLoader:
    return DataLoader(cases(count, labels), batch_size=batch)


def make_learner(**options: Any) -> MedContext:
    options = {"mask": TubeMask(patch_size=4), "total_steps": 4, "supervised": DiceCELoss(to_onehot_y=True)} | options
    return MedContext(network(), **options)


def make_trainer(
    learner: MedContext, unlabelled: Iterable[Any] | None = None, stock: bool = False, **options: Any
) -> SupervisedTrainer:
    stock = stock or "iteration_update" in options
    update = {} if stock else {"iteration_update": MedContextUpdate(learner, unlabelled)}
    torch.manual_seed(1)
    defaults: dict[str, Any] = {
        "device": torch.device("cpu"),
        "max_epochs": 2,
        "train_data_loader": loader(),
        "network": learner.network,
        "optimizer": torch.optim.SGD(learner.trainable_parameters(), lr=0.1),
        "loss_function": learner.supervised,
    }
    return SupervisedTrainer(**(defaults | update | options))


def record(trainer: SupervisedTrainer, key: str = "loss") -> list[float]:
    """What the output says in every iteration."""
    found: list[float] = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: found.append(float(engine.state.output[0][key]))
    )
    return found


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_without_a_mask_it_is_monais_own_training(accumulate: int) -> None:
    states, losses = [], []
    for stock in (True, False):
        learner = make_learner(mask=None)
        data = loader(10)  # five batches: the last group of an epoch is incomplete
        trainer = make_trainer(learner, stock=stock, accumulation_steps=accumulate, train_data_loader=data)
        losses.append(record(trainer))
        trainer.run()
        states.append(learner.network.state_dict())
    assert losses[0] == losses[1]
    assert len(losses[0]) == 10
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=0, atol=0)
    assert learner.step == 2 * -(-5 // accumulate)


def test_it_is_the_plain_loop() -> None:
    learner, other = make_learner(), make_learner()
    trainer = make_trainer(learner)
    trainer.add_event_handler(Events.ITERATION_STARTED, lambda engine: torch.manual_seed(engine.state.iteration))
    totals = record(trainer, "total")
    trainer.run()
    optimizer, expected = torch.optim.SGD(other.trainable_parameters(), lr=0.1), []
    for _ in range(2):
        for batch in loader():
            torch.manual_seed(len(expected) + 1)
            losses = other.backward(batch["image"], batch["label"])
            expected.append(float(losses.loss))
            optimizer.step()
            optimizer.zero_grad()
            other.update_teacher()
    assert totals == expected
    assert len(totals) == 4
    for name, tensor in other.state_dict().items():
        if isinstance(tensor, Tensor):
            torch.testing.assert_close(learner.state_dict()[name], tensor, rtol=0, atol=0)
    assert learner.step == 4
    assert learner.adapter is not None
    assert learner.adapter.embedding.abs().sum() > 0


def test_the_events_are_monais() -> None:
    seen: list[list[str]] = []
    for stock in (True, False):
        trainer = make_trainer(make_learner(), stock=stock, max_epochs=1)
        seen.append([])
        for event in IterationEvents:
            if event in trainer._allowed_events:
                trainer.add_event_handler(event, lambda engine, name: seen[-1].append(name), event.name)
        trainer.run()
    assert seen[0] == seen[1]
    assert len(seen[0]) == 8


def test_the_loss_is_what_stock_reports_and_predictions_are_the_networks() -> None:
    learner = make_learner()
    before = copy.deepcopy(learner.network)
    trainer = make_trainer(learner, max_epochs=1, epoch_length=1, decollate=False)
    trainer.run()
    output, (batch, *_) = trainer.state.output, loader()
    logits = before(batch["image"])
    torch.testing.assert_close(output["pred"].as_tensor(), logits.as_tensor())
    assert isinstance(output["pred"], MetaTensor)
    torch.testing.assert_close(output["loss"], DiceCELoss(to_onehot_y=True)(logits, batch["label"]).as_tensor())
    weighted = output["loss"] + output["masked"] + learner.beta * output["consistency"]
    torch.testing.assert_close(output["total"], weighted)


def with_scaler(trainer: SupervisedTrainer, scale: float) -> None:
    """An enabled scaler on a CPU, where MONAI makes one that does nothing."""

    @trainer.on(Events.STARTED)
    def _(engine: SupervisedTrainer) -> None:
        engine.scaler = torch.amp.GradScaler("cpu", init_scale=scale)


def test_mixed_precision_and_a_scaler() -> None:
    learner = make_learner()
    trainer = make_trainer(learner, amp=True, amp_kwargs={"dtype": torch.bfloat16}, decollate=False)
    with_scaler(trainer, 1024.0)
    types = []
    learner.network[3].register_forward_hook(lambda module, given, answer: types.append(answer.dtype))
    trainer.run()
    assert set(types) == {torch.bfloat16}
    assert trainer.scaler.get_scale() == 1024
    start, full = make_learner(), make_learner()
    make_trainer(full).run()
    learners = start, learner, full
    for before, mixed, parameter in zip(*(each.trainable_parameters() for each in learners), strict=True):
        moved = (parameter - before).norm()  # that of the bias before the norm layer is rounding alone
        assert (mixed - parameter).norm() <= 0.05 * moved + 2e-4


def test_a_step_that_the_scaler_skips_does_not_move_the_teacher() -> None:
    learner = make_learner()
    before = copy.deepcopy(learner.state_dict())
    trainer = make_trainer(learner, amp=True, amp_kwargs={"dtype": torch.bfloat16}, max_epochs=1, epoch_length=2)
    with_scaler(trainer, 1024.0)

    @trainer.on(IterationEvents.BACKWARD_COMPLETED)
    def _(engine: SupervisedTrainer) -> None:
        if engine.state.iteration == 2:
            next(learner.network.parameters()).grad[:] = torch.inf

    @trainer.on(Events.ITERATION_COMPLETED(once=1))
    def _(engine: SupervisedTrainer) -> None:
        before.update(copy.deepcopy(learner.state_dict()))

    trainer.run()
    assert trainer.scaler.get_scale() == 512
    assert learner.step == 1
    for name, parameter in learner.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name], rtol=0, atol=0)


def test_handlers_and_metrics(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    learner = make_learner()
    discrete = Compose(
        [AsDiscreted("pred", argmax=True, to_onehot=2), AsDiscreted("label", to_onehot=2)],
    )
    dice = {"dice": MeanDice(include_background=False, output_transform=from_engine(["pred", "label"]))}
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=loader(),
        network=learner.teacher.network,
        postprocessing=discrete,
        key_val_metric=copy.deepcopy(dice),
    )
    optimizer = torch.optim.SGD(learner.trainable_parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    trainer = make_trainer(
        learner,
        optimizer=optimizer,
        postprocessing=discrete,
        key_train_metric=dice,
        train_handlers=[
            LrScheduleHandler(schedule, print_lr=False),
            ValidationHandler(1, evaluator),
            StatsHandler(output_transform=from_engine("loss", first=True)),
            CheckpointSaver(str(tmp_path), {"learner": learner}, save_final=True),
        ],
    )
    trainer.run()
    assert optimizer.param_groups[0]["lr"] == 0.025
    assert 0 < trainer.state.metrics["dice"] <= 1
    assert 0 < evaluator.state.metrics["dice"] <= 1
    assert "-- Loss: " in "".join(capfd.readouterr())
    saved = torch.load(next(tmp_path.glob("*final*")), weights_only=True)
    assert any(name.startswith("teacher.network.") for name in saved)


@pytest.mark.parametrize("scans", [False, True])
def test_a_training_goes_on_from_monais_checkpoint(scans: bool, tmp_path: Path) -> None:
    """The teacher, its momentum's step and what it has found come back, and the rest is the same to the bit."""

    def train(epochs: int, *handlers: Callable) -> tuple[MedContext, list[float]]:
        options = {"unlabelled": SCANS} if scans else {}
        learner = make_learner(**options, **({"expected": torch.tensor([0.9, 0.1])} if scans else {}))
        optimizer = torch.optim.SGD(learner.trainable_parameters(), lr=0.1)
        more = loader(2, 1, labels=False) if scans else None
        trainer = make_trainer(learner, more, optimizer=optimizer, max_epochs=epochs)
        things = {"learner": learner, "optimizer": optimizer, "trainer": trainer}
        for handler in handlers:
            handler(things).attach(trainer)
        trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: torch.manual_seed(engine.state.epoch))
        losses = record(trainer, "total")
        trainer.run()
        return learner, losses

    whole, expected = train(2)
    train(1, lambda things: CheckpointSaver(str(tmp_path), things, save_final=True))
    resumed, losses = train(
        2, lambda things: CheckpointLoader(str(tmp_path / "checkpoint_final_iteration=2.pt"), things)
    )
    assert losses == expected[2:]
    assert resumed.step == whole.step == 4
    assert resumed.found.updates == whole.found.updates == 4 * scans
    for name, parameter in whole.named_parameters():
        torch.testing.assert_close(resumed.get_parameter(name), parameter, rtol=0, atol=0)


def test_unlabelled_scans_start_anew_and_metrics_see_the_crops_that_were_whole() -> None:
    learner = make_learner(unlabelled=SCANS, expected=torch.tensor([0.9, 0.1]))
    given: list[Tensor] = []
    backward = learner.backward
    learner.backward = lambda *args, **options: (given.append(options["unlabelled"]), backward(*args, **options))[1]
    trainer = make_trainer(learner, loader(3, 1, labels=False), max_epochs=1, train_data_loader=loader(8))
    trainer.run()
    fourth, first = given[3], given[0]
    torch.testing.assert_close(plain(fourth), plain(first), rtol=0, atol=0)
    assert not torch.equal(plain(given[1]), plain(first))
    assert len(trainer.state.output) == 1  # of two crops one is filled
    assert trainer.state.output[0]["pred"].shape == (2, 8, 8, 8)
    assert float(trainer.state.output[0]["unlabelled"]) > 0


def test_where_no_crop_is_seen_whole_loss_and_predictions_are_there() -> None:
    learner = make_learner(unlabelled=Unlabelled(start=0, share=1.0))
    trainer = make_trainer(learner, loader(2, 2, labels=False), max_epochs=1, epoch_length=1, decollate=False)
    before = copy.deepcopy(learner.network).eval()
    trainer.run()
    batch = next(iter(loader()))
    assert learner.outputs is None
    assert learner.network.training
    assert trainer.state.output["pred"].shape == (2, 2, 8, 8, 8)
    assert float(trainer.state.output["loss"]) > 0
    assert before(batch["image"]).shape == trainer.state.output["pred"].shape


def test_what_the_student_sees_of_unlabelled_scans_may_vary() -> None:
    learner = make_learner(unlabelled=Unlabelled(start=0, view="whole"), mask=None)
    seen: list[Tensor] = []

    def vary(scans: Tensor) -> Tensor:
        seen.append(scans)
        return 0 * scans

    inputs: list[Tensor] = []
    learner.network.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    make_trainer(learner, iteration_update=MedContextUpdate(learner, loader(2, 1, False), vary=vary)).run()
    assert len(seen) == 4
    assert sum(not each.any() for each in inputs) == 4


def test_deep_supervision() -> None:
    shape = {"kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [4, 4, 4]}
    net = DynUNet(3, 1, 2, **shape, deep_supervision=True, deep_supr_num=1)
    learner = MedContext(net, mask=TubeMask(patch_size=4), total_steps=4, supervised=DiceCELoss(to_onehot_y=True))
    trainer = make_trainer(learner, max_epochs=1)
    trainer.run()
    assert trainer.state.output[0]["pred"].shape == (2, 8, 8, 8)


def plain(tensor: Tensor) -> Tensor:
    return tensor.as_subclass(Tensor)


def own_batch(batch: Any, *args: Any, **kwargs: Any) -> Any:
    return batch["image"], batch["label"], (1,), {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": network()}, "network is not the learner's"),
        ({"loss_function": nn.CrossEntropyLoss()}, "CrossEntropyLoss that the learner, with its DiceCELoss"),
        ({"inferer": SlidingWindowInferer(8)}, "SlidingWindowInferer"),
        ({"optimizer": "network"}, "leaves out parameters of the learner"),
        ({"optimizer": "adapter"}, "leaves out parameters of the learner"),
        ({"prepare_batch": own_batch}, "further arguments"),
        ({"train_data_loader": loader(labels=False)}, "has no label"),
    ],
)
def test_what_would_not_be_used_is_refused(options: dict[str, Any], message: str) -> None:
    learner = make_learner()
    if "optimizer" in options:
        part = getattr(learner, options["optimizer"])
        options = {"optimizer": torch.optim.SGD(part.parameters(), lr=0.1)}
    before = copy.deepcopy(learner.state_dict())
    with pytest.raises(InputError, match=message):
        make_trainer(learner, **options).run()
    for name, parameter in learner.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name], rtol=0, atol=0)


def test_a_trainer_that_compiles_is_told_what_to_do() -> None:
    trainer = make_trainer(make_learner(), network=network())
    trainer.compile = True
    with pytest.raises(InputError, match=r"MedContext\(torch.compile\(network\)\)"):
        trainer.run()


def test_scans_that_only_one_side_knows_of_are_refused() -> None:
    with pytest.raises(InputError, match="learner has unlabelled scans, the update has none"):
        MedContextUpdate(make_learner(unlabelled=SCANS))
    with pytest.raises(InputError, match="update has unlabelled scans, the learner has none"):
        MedContextUpdate(make_learner(), loader(2, labels=False))
    with pytest.raises(InputError, match="vary"):
        MedContextUpdate(make_learner(), vary=lambda scans: scans)
    with pytest.raises(InputError, match="gave no batch"):
        make_trainer(make_learner(unlabelled=SCANS), []).run()
    with pytest.raises(InputError, match="GanTrainer"):
        MedContextUpdate(make_learner())(GanTrainer.__new__(GanTrainer), {})
