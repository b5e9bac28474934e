"""What happens between the steps of a pretraining: the error on scans held out, a picture, checkpoints."""

from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Generator

from medcontext.data.corpus import Corpus
from medcontext.data.crops import ScanCrops
from medcontext.files import writing
from medcontext.pictures.restored import DPI, draw_restored
from medcontext.pictures.save import pixels, save_figure
from medcontext.run import Pretraining, read_checkpoint
from medcontext.training.loggers import log_picture
from medcontext.training.pretrain_task import PretrainTask, numbers
from medcontext.training.saving import Saving

PICTURE = "restored.png"
ENDLESS = 2**31  # crops; as many are cut as are asked for
TRIED = 8  # crops for the picture


class HeldOut(Saving):
    """The objective on the scans held out, always on the same crops, hidden and distorted in the same way.

    The best checkpoint has the lowest loss there; without such scans there is none.

    Args:
        run: whose folder gets checkpoints and pictures.
        corpus: of which scans are held out; a picture is of one of these, or of any where there are none.
        every: steps.
    """

    run: Pretraining

    def __init__(self, run: Pretraining, corpus: Corpus, every: int) -> None:
        super().__init__(run, every)
        held = corpus.cases(held_out=True)
        self.count = len(held) * run.settings.held_out_crops
        self.scans = held or corpus.cases(held_out=False)
        self.crops = ScanCrops(self.scans, run.crop_size, length=ENDLESS, seed=run.settings.seed + 1)
        # Air looks alike before and after: of some crops, that with the most in it.
        self.shown = max((self.crops[index] for index in range(TRIED)), key=lambda crop: float(crop["image"].std()))

    def validate(self, trainer: Trainer, task: PretrainTask) -> None:
        task.objective.eval()
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            metrics = self.measure(trainer, task) if self.count else {}
            volumes = task.objective.picture(self.shown["image"].to(task.device), Generator().manual_seed(0))
        task.objective.train()
        for logger in trainer.loggers:
            logger.log_metrics(metrics, task.step)
        score = -metrics.get("val/loss", float("nan"))
        better = score > self.best
        self.best = score if better else self.best
        self.save(trainer, task, best=better)
        if trainer.is_global_zero:  # after the checkpoints: pictures must not cost them their disk
            title = f"{self.shown['name']}, step {task.step} of {task.settings.steps}"
            spacing = self.run.plan.spacing or self.scans[0].geometry.spacing
            arrays = {name: volume[0].float().cpu().numpy() for name, volume in volumes.items()}
            figure = draw_restored(arrays, spacing, title)
            with writing(self.run.folder / PICTURE):
                save_figure(figure, self.run.folder / PICTURE, DPI)
            for logger in trainer.loggers:
                log_picture(logger, "restored", pixels(figure), task.step)
        trainer.strategy.barrier()
        self.validated = task.step, metrics

    def measure(self, trainer: Trainer, task: PretrainTask) -> dict[str, float]:
        """The loss at the end of a pretraining and its parts, the mean over whole batches, of all devices."""
        size, ranks = task.settings.batch_size, trainer.world_size
        batches = -(-self.count // (size * ranks))  # of each device, so that none waits for another
        totals: dict[str, float] = {}
        for batch in range(batches):
            first = (batch * ranks + trainer.global_rank) * size
            images = torch.stack([self.crops[index]["image"] for index in range(first, first + size)]).to(task.device)
            losses = task.objective.loss(images, Generator().manual_seed(first), progress=1.0)
            for name, value in numbers(losses).items():
                totals[name] = totals.get(name, 0.0) + value / batches
        reduced = {name: torch.tensor(value, device=task.device) for name, value in totals.items()}
        return {f"val/{name}": float(trainer.strategy.reduce(each)) for name, each in reduced.items()}

    def content(self, task: PretrainTask) -> dict[str, Any]:
        return {"network": self.run.network_description(), **task.state()}

    def told(self, metrics: dict[str, float]) -> list[str]:
        shown = {name.removeprefix("val/"): value for name, value in metrics.items()}
        return [f"held out: {', '.join(f'{name} {value:.3f}' for name, value in shown.items())}"]

    def outcome(self) -> dict[str, float]:
        return {"hp/best_held_out_loss": -self.best}

    def restore(self, task: PretrainTask) -> None:
        """Take up the pretraining where `last.ckpt` left it."""
        values = read_checkpoint(self.run.checkpoint("last"), self.run)
        task.restore(values)
        self.take_up(task, values)
