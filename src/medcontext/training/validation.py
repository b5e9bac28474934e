"""Validation during training: the Dice of student and teacher on whole volumes of the prepared grid, and the loss."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from medcontext.data.crops import CropDataset
from medcontext.data.geometry import index_dtype
from medcontext.data.regions import classes_of
from medcontext.data.store import Store
from medcontext.errors import enough_memory
from medcontext.inference.window import predict_volume
from medcontext.method import MedContext
from medcontext.method.losses import heads
from medcontext.run import Run
from medcontext.training.task import Task

CROPS = 2  # of each case, for the loss
SMALLER = "Validate without it, by a --split file that has it elsewhere, or take a machine with more memory."

Predictions = dict[str, Tensor]
"""Class indices (H, W, D) of the `student` and the `teacher`."""


class Validation:
    """Sliding-window Dice of the validation cases, shared among the devices, and the student's loss on some crops.

    The Dice is that of the prepared grid, to follow the training and to choose the best checkpoint. For
    results, use `medcontext evaluate`, which measures in the original geometry. The loss is the training's own, of
    unchanged whole views, so that both curves can be laid over one another; the crops are always the same ones.

    Args:
        store: of prepared cases.
        names: the validation cases.
        run: what its network segments, and in which windows.
        keep: cases whose predictions are to be kept, in `kept`, by the device that makes them.
    """

    def __init__(self, store: Store, names: tuple[str, ...], run: Run, keep: Collection[str] = ()) -> None:
        self.store = store
        self.names = names
        self.of = run
        self.keep = keep
        self.kept: dict[str, Predictions] = {}
        self.crops = CropDataset(
            store,
            names,
            run.crop_size,
            length=CROPS * len(names),
            seed=run.settings.seed,
            foreground_fraction=run.settings.foreground,
        )
        self.structures = {name: tuple(map(run.plan.values.index, values)) for name, values in run.structures.items()}

    def run(self, trainer: Trainer, task: Task) -> dict[str, float]:
        """Metrics by name: the mean over structures (or regions) for student and teacher, and the student's for each.

        A structure that neither label nor prediction has counts in no mean.
        """
        mine = self.names[trainer.global_rank :: trainer.world_size]
        learner = task.learner
        networks = {"student": learner.network, "teacher": learner.teacher.network}
        totals = torch.zeros(len(networks), 2, len(self.structures), device=task.device)
        with evaluating(trainer, learner):
            for name in mine:
                case = self.store.case(name)
                with enough_memory(f"the validation of case '{name}'", SMALLER):
                    image, label = case.read()
                    image = image.to(task.device)
                    predictions = {
                        key: predict_classes(self.of, network, image, case.background)
                        for key, network in networks.items()
                    }
                    for row, predicted in enumerate(predictions.values()):
                        totals[row] += dice(predicted, label[0], self.structures.values()).to(task.device)
                if name in self.keep:
                    self.kept[name] = predictions
            loss = self.loss(trainer, task)
        totals = trainer.strategy.reduce(totals, reduce_op="sum")
        means = totals[:, 0] / totals[:, 1]  # NaN where a structure was never there
        metrics = {f"val/dice_{name}": means[row].nanmean().item() for row, name in enumerate(networks)}
        metrics["val/loss"] = loss
        return metrics | {f"val/dice/{name}": means[0, i].item() for i, name in enumerate(self.structures)}

    @torch.no_grad()
    def loss(self, trainer: Trainer, task: Task) -> float:
        """The mean over the crops; of a network with deep supervision that of its full-resolution output."""
        total = torch.zeros((), device=task.device)
        for index in range(trainer.global_rank, len(self.crops), trainer.world_size):
            crop = self.crops[index]
            image, label = crop["image"][None].to(task.device), crop["label"][None].to(task.device)
            total += task.learner.supervised(heads(task.learner.network(image))[:1], label)
        return (trainer.strategy.reduce(total, reduce_op="sum") / len(self.crops)).item()


@contextmanager
def evaluating(trainer: Trainer, learner: MedContext) -> Iterator[None]:
    """Student and teacher in evaluation mode, in the training's precision."""
    training = learner.training
    learner.eval()
    with trainer.precision_plugin.forward_context():
        yield
    learner.train(training)


def predict_classes(run: Run, network: nn.Module, image: Tensor, background: tuple[float, ...]) -> Tensor:
    """Class indices (H, W, D) of a prepared image (C, H, W, D), in the run's windows but not mirrored."""
    window = replace(run.settings.window, mirror=False)
    scores = predict_volume(network, image, run.crop_size, window, background, bool(run.regions))
    if run.regions:
        return classes_of(scores, run.regions, run.plan.values)
    return scores.max(0).indices.to(index_dtype(len(scores)))  # an eighth of int64: those of watched cases are kept


def dice(predicted: Tensor, label: Tensor, structures: Iterable[Sequence[int]]) -> Tensor:
    """Dice sums and counts, (2, structures), of class maps (H, W, D); a structure absent in both counts 0.

    >>> dice(torch.tensor([[[1, 1, 2]]]), torch.tensor([[[1, 0, 0]]]), [(1,), (2,), (1, 2), (3,)]).tolist()
    [[0.66..., 0.0, 0.5, 0.0], [1.0, 1.0, 1.0, 0.0]]
    """
    structures = list(structures)
    result = torch.zeros(2, len(structures))
    for index, classes in enumerate(structures):
        ours, theirs = (torch.isin(each, torch.tensor(classes, device=each.device)) for each in (predicted, label))
        size = ours.sum() + theirs.sum()
        if size > 0:
            result[0, index] = 2 * (ours & theirs).sum() / size
            result[1, index] = 1
    return result
