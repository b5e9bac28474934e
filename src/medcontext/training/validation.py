"""Validation during training: the Dice of student and teacher on whole volumes of the prepared grid."""

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from medcontext.data.store import Store
from medcontext.inference.window import predict_volume
from medcontext.settings import WindowSettings
from medcontext.training.task import Task

Shape3 = tuple[int, int, int]


class Validation:
    """Sliding-window Dice of the validation cases, shared among the devices.

    The Dice is that of the prepared grid, to follow the training and to choose the best checkpoint. For
    results, use `medcontext evaluate`, which measures in the original geometry.

    Args:
        store: of prepared cases.
        names: the validation cases.
        structures: names in the order of the classes 1 to K-1.
        crop_size: the window.
        window: overlap and so on; mirroring is not used here.
    """

    def __init__(
        self,
        store: Store,
        names: tuple[str, ...],
        structures: tuple[str, ...],
        crop_size: Shape3,
        window: WindowSettings,
    ) -> None:
        self.store = store
        self.names = names
        self.structures = structures
        self.crop_size = crop_size
        self.window = WindowSettings(window.overlap, mirror=False, batch_size=window.batch_size)

    def run(self, trainer: Trainer, task: Task) -> dict[str, float]:
        """Metrics by name: the mean over structures for student and teacher, and the student's per structure.

        A structure that neither label nor prediction has counts in no mean.
        """
        mine = self.names[trainer.global_rank :: trainer.world_size]
        learner = task.learner
        networks = {"student": learner.network, "teacher": learner.teacher.network}
        totals = torch.zeros(len(networks), 2, len(self.structures), device=task.device)
        training = learner.training
        learner.eval()
        with trainer.precision_plugin.forward_context():
            for name in mine:
                case = self.store.case(name)
                image, label = case.read()
                image = image.to(task.device)
                for row, network in enumerate(networks.values()):
                    scores = predict_volume(network, image, self.crop_size, self.window, case.background)
                    totals[row] += dice(scores.argmax(0), label[0], len(self.structures)).to(task.device)
        learner.train(training)
        totals = trainer.strategy.reduce(totals, reduce_op="sum")
        means = totals[:, 0] / totals[:, 1]  # NaN where a structure was never there
        metrics = {f"val/dice_{name}": means[row].nanmean().item() for row, name in enumerate(networks)}
        return metrics | {f"val/dice/{name}": means[0, i].item() for i, name in enumerate(self.structures)}


def dice(predicted: Tensor, label: Tensor, structures: int) -> Tensor:
    """Dice sums and counts, (2, structures), of class maps (H, W, D); a structure absent in both counts 0.

    >>> dice(torch.tensor([[[1, 1, 2]]]), torch.tensor([[[1, 0, 0]]]), 3).tolist()
    [[0.66..., 0.0, 0.0], [1.0, 1.0, 0.0]]
    """
    result = torch.zeros(2, structures)
    for index in range(structures):
        ours, theirs = predicted == index + 1, label == index + 1
        size = ours.sum() + theirs.sum()
        if size > 0:
            result[0, index] = 2 * (ours & theirs).sum() / size
            result[1, index] = 1
    return result
