"""A few fixed cases, looked at in every validation: what the student and the teacher see and say.

Their files are those of `medcontext.run.watched`.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.nn import functional

from medcontext.data.nifti_write import write_image, write_label
from medcontext.data.regions import classes_of
from medcontext.data.store import Store, StoredCase
from medcontext.errors import enough_memory
from medcontext.files import writing
from medcontext.inference.window import predict_volume
from medcontext.method import MedContext, TokenAdapter
from medcontext.method.losses import heads
from medcontext.method.masking import CubeMask, expand, hide
from medcontext.pictures.mosaic import MosaicCase
from medcontext.pictures.overlay import draw_overlay, draw_unlabelled
from medcontext.pictures.slices import window_of
from medcontext.run import Run
from medcontext.run.watched import Watched, case_folder, scan_name, volume_path, write_watched
from medcontext.training.loggers import log_picture
from medcontext.training.task import Task
from medcontext.training.validation import Predictions, evaluating, predict_classes

HEADINGS = {"student": "Student", "teacher": "Teacher", "student_masked": "Student, masked"}

SMALLER = "Go on with --resume and fewer --watch_cases."

Volumes = dict[str, np.ndarray]


class Watch:
    """Writes the volumes and logs a picture of each watched case.

    Args:
        store: of prepared cases.
        names: the watched cases, see `watched`.
        run: whose folder gets the volumes.
        scan: one without a label that takes part in the training, or None.
    """

    def __init__(self, store: Store, names: Sequence[str], run: Run, scan: StoredCase | None = None) -> None:
        self.store = store
        self.names = names
        self.scan = scan
        self.of = run
        self.structures = {name: list(values) for name, values in run.structures.items()}

    def run(self, trainer: Trainer, task: Task, known: Mapping[str, Predictions]) -> None:
        """Look at every case; for the first device alone.

        Args:
            trainer: its loggers get the pictures.
            task: the training.
            known: predictions of student and teacher that the validation has just made.

        Raises:
            InputError: if a file cannot be written, as on a full disk.
        """
        step, total = task.learner.step, task.settings.steps
        panels: list[str] = []
        for name in self.names:
            case = self.store.case(name)
            with enough_memory(f"the picture of case '{name}'", SMALLER):
                with evaluating(trainer, task.learner):
                    volumes = self.look(case, task, known.get(name))
                self.write(case, volumes)
                picture = self.draw(case, volumes, f"{name},  step {step} of {total}")
            for logger in trainer.loggers:
                log_picture(logger, f"watch/{name}", picture, step)
            panels = list(volumes)
        if self.scan is not None:
            what = f"the picture of the unlabelled scan '{self.scan.name}'"
            with enough_memory(what, SMALLER), evaluating(trainer, task.learner):
                picture = self.show_scan(self.scan, task, f"{self.scan.name} (no label),  step {step} of {total}")
            for logger in trainer.loggers:
                log_picture(logger, f"watch/{scan_name(self.scan.name)}", picture, step)
        write_watched(self.of.folder, Watched(step, tuple(self.names), self.structures, tuple(panels)))

    def look(self, case: StoredCase, task: Task, known: Predictions | None) -> Volumes:
        """Everything to be shown of a case, by file name: (H, W, D), labels as class indices."""
        learner = task.learner
        image, label = case.read()
        image = image.to(task.device)
        if known is None:
            networks = {"student": learner.network, "teacher": learner.teacher.network}
            known = {key: self.predict(network, image, case.background) for key, network in networks.items()}
        volumes = {"image": image[0], "label": label[0], **known}
        if learner.mask is not None and self.by_token(learner):
            hidden = hidden_voxels(learner.mask, image, case.name)
            volumes["masked"] = masked_image(
                learner, image, hidden, window_of(image[0].cpu().numpy(), label[0].numpy())
            )
            both = torch.cat([image, hidden.to(image)])  # (C + 1, H, W, D)
            volumes["student_masked"] = self.predict(MaskedView(learner), both, (*case.background, 0.0))
        return {key: volume.detach().cpu().numpy() for key, volume in volumes.items()}

    def by_token(self, learner: MedContext) -> bool:
        """Whether a token hides the tubes: a student that sees them filled with other scans knows nothing of it."""
        return learner.fill == "token" if self.scan is None else learner.unlabelled.view == "masked"

    def show_scan(self, scan: StoredCase, task: Task, title: str) -> np.ndarray:
        """Write the volumes of a scan without a label, and draw it.

        Of regions, each with a target of its own, those voxels are sure that are so in all of them.
        """
        image = scan.read_image().to(task.device)
        learner, regions = task.learner, bool(self.of.regions)
        window = replace(self.of.settings.window, mirror=False)
        student = self.predict(learner.network, image, scan.background)
        scores = predict_volume(learner.teacher.network, image, self.of.crop_size, window, scan.background, regions)
        certain = torch.maximum(scores, 1 - scores).amin(0) if regions else scores.amax(0)
        teacher = classes_of(scores, self.of.regions, self.of.plan.values) if regions else scores.max(0).indices
        volumes = {"image": image[0], "student": student, "teacher": teacher}
        arrays = {key: volume.cpu().numpy() for key, volume in volumes.items()}
        rule = learner.unlabelled
        sure = (certain >= (0 if rule.target == "consistency" else rule.threshold)).cpu().numpy()
        self.write(scan, {**arrays, "sure": sure.astype(np.uint8)}, scan_name(scan.name))
        predictions = {HEADINGS["student"]: self.values(arrays["student"])}
        shown = MosaicCase(scan.name, arrays["image"], self.values(arrays["teacher"]), predictions, self.spacing(scan))
        return draw_unlabelled(shown, sure, self.structures, title)

    def predict(self, network: nn.Module, image: Tensor, background: tuple[float, ...]) -> Tensor:
        return predict_classes(self.of, network, image, background)

    def write(self, case: StoredCase, volumes: Volumes, name: str = "") -> None:
        """Write the volumes, each whole or not at all; image and truth only once. The folder has the case's name."""
        name, affine = name or case.name, np.diag([*self.spacing(case), 1.0])
        folder = case_folder(self.of.folder, name)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        for key, volume in volumes.items():
            path = volume_path(self.of.folder, name, key)
            if key in ("image", "label") and path.is_file():
                continue
            if key in ("image", "masked"):
                write_image(path, volume.astype(np.float32), affine)
            elif key == "sure":
                write_label(path, volume, affine)
            else:
                write_label(path, self.values(volume), affine)

    def draw(self, case: StoredCase, volumes: Volumes, title: str) -> np.ndarray:
        """The picture, (H, W, 3), uint8."""
        predictions = {text: self.values(volumes[key]) for key, text in HEADINGS.items() if key in volumes}
        shown = MosaicCase(case.name, volumes["image"], self.values(volumes["label"]), predictions, self.spacing(case))
        behind = {HEADINGS["student_masked"]: volumes["masked"]} if "masked" in volumes else {}
        return draw_overlay(shown, self.structures, title, behind)

    def values(self, classes: np.ndarray) -> np.ndarray:
        """Class indices as the data set's own label values."""
        return np.array(self.of.plan.values, np.int32)[classes]

    def spacing(self, case: StoredCase) -> tuple[float, float, float]:
        """Of the prepared grid, in millimetres."""
        return self.of.plan.spacing or case.geometry.spacing


class MaskedView(nn.Module):
    """The student on the masked view, as a network with one more channel: where the image is hidden.

    A token is hidden where at least half of its voxels are, for windows need not lie on the mask's grid.

    Args:
        learner: with a mask.
    """

    def __init__(self, learner: MedContext) -> None:
        super().__init__()
        self.learner = learner

    def forward(self, windows: Tensor) -> Tensor:
        """Logits (B, K, H, W, D) of windows (B, C + 1, H, W, D)."""
        adapter = self.learner.adapter
        assert adapter is not None
        image, hidden = windows[:, :-1], windows[:, -1:]
        if isinstance(adapter, TokenAdapter):
            hidden = functional.avg_pool3d(hidden, adapter.token_size)  # (B, 1, H, W, D) -> (B, 1, h, w, d)
        return heads(adapter.masked(self.learner.network, image, hidden >= 0.5))[0]


def watched(run: Run, validated: Sequence[str]) -> list[str]:
    """The cases to watch: the first of those that are validated, or of the training cases where none is."""
    return sorted(validated or run.split.train)[: run.settings.watch_cases]


def hidden_voxels(mask: CubeMask, image: Tensor, name: str) -> Tensor:
    """What is hidden of a whole image (C, H, W, D), (1, H, W, D) booleans; for a name always the same.

    Where the patches do not divide the image, the last ones reach beyond it.
    """
    h, w, d = image.shape[1:]
    patch = mask.patch((h, w, d))
    larger = [-(-extent // size) * size for extent, size in zip((h, w, d), patch, strict=True)]
    shape = (larger[0], larger[1], larger[2])
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    hidden = mask.sample(shape, 1, generator)
    return expand(hidden, shape)[0, :, :h, :w, :d].to(image.device)


def masked_image(learner: MedContext, image: Tensor, hidden: Tensor, window: tuple[float, float]) -> Tensor:
    """The first channel (H, W, D) with what is hidden filled in: the embedding, or grey where tokens are hidden."""
    adapter = learner.adapter
    assert adapter is not None
    grey = torch.full((len(image),), sum(window) / 2, device=image.device)
    embedding = grey if isinstance(adapter, TokenAdapter) else adapter.embedding
    return hide(image[None], hidden[None], embedding)[0, 0]
