"""A training of nnU-Net's with the method: what comes before its trainer in a class's bases.

Written against nnU-Net 2.8; the comments say what of it makes a line necessary.
"""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor, nn

from medcontext.data.augment import Augment
from medcontext.errors import InputError
from medcontext.integrations.nnunet.checkpoints import add_teacher, known_trainer, read_teacher, restore, unfinished
from medcontext.integrations.nnunet.crops import FollowingDataLoader, OtherLoader, PairedDataLoader, scan_transforms
from medcontext.integrations.nnunet.scans import find_prepared
from medcontext.method import Losses, MedContext, VoxelAdapter
from medcontext.method.losses import DeepSupervision
from medcontext.method.targets import label_target, region_target
from medcontext.method_settings import MethodSettings
from medcontext.settings import STRONG, Settings
from medcontext.training.assemble import followers, make_learner

Base: Any = nnUNetTrainer if TYPE_CHECKING else object

CLIP = 12.0  # as nnU-Net's `train_step` has it
AXES = {0: 1, 1: 2, 2: 0}  # H, W and D, through the plane, among the axes of nnU-Net, which has the coarsest first


class MedContextMixin(Base):
    """`class Mine(MedContextMixin, nnUNetTrainerDA5)` trains as that trainer does, with the method.

    Its data, augmentation, loss, optimizer, schedule and checkpoints stay nnU-Net's; the whole view's loss is nnU-Net's
    own, to the digit. Of crops that are filled into one another, the second lies where the first one does. Settings are
    attributes of the class, because nnU-Net allows a trainer no arguments of its own.

    Args:
        method: a name, as `medcontext train --method` takes it, or settings. A mask's `axis` counts as everywhere here:
            2 is through the plane, whichever axis that is in nnU-Net; its `patch_size` becomes the nearest that divides
            nnU-Net's patch.
        vary: further changes of intensity of unlabelled crops as the student sees them.
        epochs: their number; nnU-Net's 1000 where nothing is said.
        clip: largest gradient norm, where the trainer has a `train_step` of its own, which this one replaces.
    """

    method: ClassVar[str | MethodSettings] = "medcontext"
    vary = STRONG
    epochs: ClassVar[int | None] = None
    clip: ClassVar[float | None] = None

    network: Any
    is_ddp: bool
    learner: MedContext
    adapter: VoxelAdapter | None = None
    restored = False  # whether the teacher's weights are a checkpoint's
    told = ""  # the method in words
    unlabelled_scans = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        order = cls.__mro__
        if nnUNetTrainer in order and order.index(nnUNetTrainer) < order.index(MedContextMixin):
            raise InputError(
                f"{cls.__name__} would train without MedContext: name MedContextMixin first among its bases, before "
                "nnU-Net's trainer."
            )

    def initialize(self) -> None:
        if self.epochs is not None and self.epochs < 1:
            raise InputError(f"{type(self).__name__}.epochs must be at least 1, got {self.epochs}.")
        if self.epochs is not None:
            self.num_epochs = self.epochs
        self.settings = _settings(self.method)
        self.told = described(self.settings)
        self._check_host()
        super().initialize()
        self.learner = self._make_learner()
        self.varied = Augment(self.vary)

    def _check_host(self) -> None:
        replaced = next(base for base in _hosts(type(self)) if "train_step" in vars(base))
        if replaced is not nnUNetTrainer and self.clip is None:
            raise InputError(
                f"{replaced.__name__} has a train_step of its own, which MedContext's replaces. If that is what you "
                f"want, say so by the gradient norm at which it is to clip: clip = {CLIP:g} in {type(self).__name__}."
            )

        rules = (self.settings, self.settings.unlabelled)
        if self.settings.masking and any(rule.share == 1 and rule.clean == "rest" for rule in rules):
            raise InputError(
                "nnU-Net's curves show the loss of crops that are seen as they are: with share 1 take clean 'all'."
            )

    def configure_optimizers(self, *args: Any, **kwargs: Any) -> Any:
        # Also called by `initialize` before a checkpoint is read, and by trainers in stages for each of these: the
        # embedding is in every optimizer from the start.
        optimizer, scheduler = super().configure_optimizers(*args, **kwargs)
        if self.settings.masking:
            self.adapter = self.adapter or VoxelAdapter(self.num_input_channels).to(self.device)
            _add_group(optimizer, scheduler, self.adapter)
        return optimizer, scheduler

    def _make_learner(self) -> MedContext:
        patch = tuple(self.configuration_manager.patch_size)
        settings = self.settings
        if settings.masking:
            mask = fitted_mask(settings.mask, patch)
            if mask.patch_size != settings.mask.patch_size:
                self.print_to_log_file(f"MedContext: hidden patches of {mask.patch_size}, which divide {patch}")
            settings = replace(settings, mask=mask)
        manager = self.label_manager
        learner = make_learner(
            settings,
            self.network,
            "nnU-Net's",
            in_channels=self.num_input_channels,  # of a cascade with the previous segmentation, hidden like the image
            crop_size=patch,
            total_steps=self.num_epochs * self.num_iterations_per_epoch,
            steps_per_epoch=self.num_iterations_per_epoch,
            supervised=self.loss,
            adapter=self.adapter,
            read_label=region_target if manager.has_regions else partial(label_target, ignore=manager.ignore_label),
            regions=manager.has_regions,
        )
        if weights := getattr(self.loss, "weight_factors", None):
            learner.targeted = DeepSupervision(learner.targeted.loss, weights)
        self._answer_once(learner.teacher.network)
        return learner

    def _answer_once(self, teacher: nn.Module) -> None:
        """Switch the teacher's deep supervision off, the way that a trainer has for its network."""
        student, several = self.network, self.is_ddp
        self.network, self.is_ddp = teacher, False
        try:
            self.set_deep_supervision_enabled(False)
        finally:
            self.network, self.is_ddp = student, several

    def get_tr_and_val_datasets(self) -> Any:
        training, validation = super().get_tr_and_val_datasets()
        self.training_cases = training
        return training, validation

    def get_dataloaders(self) -> Any:
        scans = find_prepared(self)
        kind: Callable[..., Any]
        if scans is not None:
            self.unlabelled_scans = len(scans.identifiers)
            self.told = f"{described(self.settings)}; {self.settings.told_with_scans(self.learner.mask)}"
            others = {"scans": scans, "partners": self.learner.partners, "scan_transforms": scan_transforms(self)}
            kind = partial(PairedDataLoader, **others)
        elif self.settings.same_place:
            kind = partial(FollowingDataLoader, follows=partial(followers, self.learner))
        else:
            return super().get_dataloaders()
        other = OtherLoader(self, kind)
        with other:
            loaders = super().get_dataloaders()
        if scans is None and not other.used:
            self.print_to_log_file(
                "MedContext: a loader of this trainer's own; crops are filled with those of any place"
            )
        elif not other.used:
            raise InputError(
                f"{type(self).__name__} makes loaders of its own kind, in which scans without labels cannot join. "
                "Train with unlabelled=Unlabelled(view='none') in its method's settings."
            )
        return loaders

    def on_train_start(self) -> None:
        super().on_train_start()  # which writes debug.json, with what follows of ours: the report shows it
        self.learner.total_steps = self.num_epochs * self.num_iterations_per_epoch
        if not self.restored:  # weights of a pretraining came after `initialize`
            self.learner.restart_teacher()
        self.print_to_log_file(f"MedContext: {self.told}, {self.learner.total_steps} steps")

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        image, label = self._moved(batch["data"]), self._moved(batch["target"])
        last = (self.learner.step + 1) % self.num_iterations_per_epoch == 0
        self.learner.observing = last
        scans: Any = self._scans(batch["unlabelled"]) if "unlabelled" in batch else {}
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            losses = self.learner.backward(image, label, backward=self._backward, **scans)
        self._step()
        self.learner.update_teacher()
        # nnU-Net's curves show `loss`: of the whole view, as in its validation.
        return {
            name: value.float().cpu().numpy() for name, value in losses._replace(loss=losses.whole)._asdict().items()
        }

    def _moved(self, value: Any) -> Any:
        if isinstance(value, Sequence):
            return [self._moved(each) for each in value]
        return value.to(self.device, non_blocking=True)

    def _scans(self, crops: Tensor) -> dict[str, Tensor]:
        """Unlabelled crops, as the teacher and as the student sees them."""
        crops = self._moved(crops)
        if not self.learner.joined():
            return {"unlabelled": crops}
        return {"unlabelled": crops, "varied": self.varied.images(crops, self.learner.step)}

    def _autocast(self) -> AbstractContextManager:
        return torch.autocast("cuda") if self.device.type == "cuda" else nullcontext()  # as nnU-Net does

    def _backward(self, loss: Tensor) -> None:
        with torch.autocast("cuda", enabled=False) if self.device.type == "cuda" else nullcontext():
            (loss if self.grad_scaler is None else self.grad_scaler.scale(loss)).backward()

    def _step(self) -> None:
        scaler, limit = self.grad_scaler, CLIP if self.clip is None else self.clip
        if scaler is not None:
            scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(list(self.learner.trainable_parameters()), limit)
        if scaler is None:
            self.optimizer.step()
        else:
            scaler.step(self.optimizer)
            scaler.update()

    def on_train_epoch_end(self, train_outputs: list[dict[str, Any]]) -> None:
        super().on_train_epoch_end([{"loss": step["loss"]} for step in train_outputs])
        # nnU-Net's logger takes none but its own curves.
        terms = {name: [float(step[name]) for step in train_outputs] for name in Losses._fields[1:]}
        text = ", ".join(f"{name} {sum(values) / len(values):.4f}" for name, values in terms.items() if any(values))
        trust = self.learner.trust
        trusted = f"; the teacher is sure on {float(trust.share):.0%} of the unlabelled voxels" if trust else ""
        self.print_to_log_file(f"MedContext: {text}{trusted}")

    def save_checkpoint(self, filename: str) -> None:
        """nnU-Net's, with the teacher, whole or not at all; beside the best and the final one the teacher's alone."""
        if self.local_rank != 0:
            super().save_checkpoint(filename)  # writes nothing
            return
        file = Path(filename)
        unfinished(file).unlink(missing_ok=True)
        super().save_checkpoint(str(unfinished(file)))
        if unfinished(file).is_file():  # else none is wanted
            add_teacher(file, self.learner, known_trainer(type(self)))

    def load_checkpoint(self, filename_or_checkpoint: Any) -> None:
        """Go on from our checkpoint, or from a stock trainer's: its teacher then is a copy of what it had learnt."""
        if not self.was_initialized:
            self.initialize()
        checkpoint, state = read_teacher(filename_or_checkpoint, self.learner)
        with tempfile.TemporaryDirectory() as folder:  # 2.8.1 takes a path alone
            file = Path(folder) / "checkpoint.pth"
            torch.save(checkpoint, file)
            super().load_checkpoint(str(file))
        if state is None:
            self.print_to_log_file("MedContext: a checkpoint without a teacher; it starts as a copy of the network")
            self.learner.restart_teacher()
            self.learner.step = self.current_epoch * self.num_iterations_per_epoch
        else:
            restore(self.learner, state)
        self.restored = True


def fitted_mask(mask: Any, patch: tuple[int, ...]) -> Any:
    """The mask on nnU-Net's axes, its patches the nearest that divide nnU-Net's patch.

    >>> from medcontext.method_settings import MaskSettings
    >>> fitted_mask(MaskSettings(), (40, 56, 40)).patch_size, fitted_mask(MaskSettings(), (40, 56, 40)).axis
    ((40, 14, 20), 0)
    >>> fitted_mask(MaskSettings(), (56, 40)).patch_size
    (14, 20)
    >>> fitted_mask(MaskSettings(shape="box"), (40, 56, 40)).patch_size
    (10, 14, 10)
    """
    if len(patch) == 3:
        size = mask.patch_size
        if not isinstance(size, int):
            size = tuple(size[axis] for axis in sorted(AXES, key=AXES.__getitem__))
        mask = replace(mask, axis=AXES[mask.axis], patch_size=size)
    return replace(mask, patch_size=mask.made().fitted(patch).patch_size)


def described(settings: MethodSettings) -> str:
    """The method in a few words, for nnU-Net's log."""
    mask = settings.mask.made()  # not yet fitted to nnU-Net's patch
    return f"method {settings.name}" + (f", {mask.kind}, ratio {mask.ratio:g}" if settings.masking else "")


def _settings(method: str | MethodSettings) -> MethodSettings:
    settings = Settings.preset(method=method).method if isinstance(method, str) else method
    if settings.masking and settings.mask.space == "tokens":
        raise InputError("nnU-Net's networks have no tokens to hide: set the mask's space to voxels.")
    return settings


def _hosts(trainer: type) -> list[type]:
    """The classes behind the mixin."""
    bases = trainer.__mro__
    return list(bases[bases.index(MedContextMixin) + 1 :])


def _add_group(optimizer: torch.optim.Optimizer, scheduler: Any, adapter: VoxelAdapter) -> None:
    """Let the embedding be optimised like the network, in a last group of its own."""
    known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if id(adapter.embedding) in known:
        return
    first = optimizer.param_groups[0]
    optimizer.add_param_group(
        {**{key: value for key, value in first.items() if key != "params"}, "params": [adapter.embedding]}
    )
    _follow(scheduler)


def _follow(scheduler: Any) -> None:
    """Let a schedule of torch's go on for one group more, as for the first."""
    for name in ("base_lrs", "lr_lambdas", "max_lrs", "min_lrs", "_last_lr"):
        if isinstance(values := getattr(scheduler, name, None), list) and values:
            values.append(values[0])
    for inner in getattr(scheduler, "_schedulers", ()):
        _follow(inner)
