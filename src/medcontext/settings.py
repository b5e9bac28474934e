"""Every setting of a training run: typed, checked when it is made, saved beside the weights.

Each field's text is its `--help`. YAML files and the command line set the same names.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from medcontext.configuration import options_of, parse, read_yaml, write_yaml
from medcontext.data.augment_settings import AugmentSettings
from medcontext.data.plan import PrepareSettings
from medcontext.errors import InputError, unknown_name
from medcontext.method_settings import MethodSettings

if TYPE_CHECKING:
    from typing_extensions import Self  # Python's own from 3.11 on

STRONG = AugmentSettings(
    affine_probability=0,
    noise_probability=0.3,
    smooth_probability=0.3,
    brightness_probability=0.8,
    brightness=(0.6, 1.4),
    contrast_probability=0.8,
    contrast=(0.6, 1.4),
    gamma_probability=0.8,
    gamma=(0.6, 1.7),
)
LOGGERS = ("csv", "tensorboard", "wandb", "mlflow")


@dataclass(frozen=True)
class OptimizerSettings:
    """The optimizer and its learning rate.

    Args:
        name: `adamw`, or `sgd`, with Nesterov momentum 0.99 as in nnU-Net where nothing else is said.
        lr: the highest learning rate.
        weight_decay: of the network's weights.
        schedule: `cosine` or `poly` (power 0.9) down to `lr_end`, or `constant`, after the warm-up.
        lr_end: the learning rate at the end.
        warmup: fraction of the steps over which the learning rate rises linearly.
        clip: largest gradient norm; 0 for no clipping.
        momentum: of `sgd`.
        nesterov: whether that is Nesterov's.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-5
    schedule: Literal["cosine", "poly", "constant"] = "cosine"
    lr_end: float = 0.0
    warmup: float = 0.05
    clip: float = 12.0
    momentum: float = 0.99
    nesterov: bool = True

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise InputError(f"optimizer.lr must be above 0, got {self.lr}.")
        if not 0 <= self.lr_end <= self.lr:
            raise InputError(
                f"optimizer.lr_end, the rate at the end, must lie between 0 and optimizer.lr ({self.lr:g}), got "
                f"{self.lr_end:g}. Give both, such as --optimizer.lr {self.lr:g} --optimizer.lr_end 0."
            )
        if not 0 <= self.momentum < 1:
            raise InputError(f"optimizer.momentum must be at least 0 and below 1, got {self.momentum}.")
        if self.nesterov and self.name == "sgd" and self.momentum == 0:
            raise InputError("optimizer.nesterov needs a momentum above 0; set it to false, or give a momentum.")
        if not 0 <= self.warmup < 1:
            raise InputError(f"optimizer.warmup is a fraction of the steps, 0 to below 1; got {self.warmup}.")


@dataclass(frozen=True)
class WindowSettings:
    """Sliding-window prediction.

    Args:
        overlap: of neighbouring windows, 0 to below 1.
        mirror: also predict the mirrored volume along every axis and average; eight times the time.
        batch_size: windows predicted at once.
    """

    overlap: float = 0.5
    mirror: bool = False
    batch_size: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise InputError(f"window.overlap must be at least 0 and below 1, got {self.overlap}.")


@dataclass(frozen=True)
class TrainingSettings:
    """What every training needs, with labels or without.

    Args:
        network: a name that `medcontext networks` lists, a MONAI class such as SegResNet, or an import path.
        network_args: further arguments of the network's constructor, such as --network_args.feature_size 24.
        steps: optimizer steps.
        batch_size: crops per step and device.
        accumulate: batches whose gradients are added up before each step.
        crop_size: training crop H, W, D in voxels of the prepared grid; `auto` covers the median volume,
            rounded up to multiples of 16 and at most 96.
        split: a JSON file naming train, validation and test cases, nnU-Net's splits_final.json, or one of the
            splits that come with MedContext: `acdc`, `brats17`, `brats21`, `btcv`, and `btcv_24_6` of Table 5.
        fold: which fold of a file with several.
        seed: of the split, the crops, the augmentation, the masks and the network's start.
        validate_every: steps between two validations and checkpoints; 0 for ten in all.
        loggers: where curves and pictures go: `tensorboard`, `wandb`, `mlflow`, and `csv`, which has the curves alone
            and is written whether named or not, because reports read it. --loggers+=wandb adds one.
        workers: processes that load crops; `auto` is up to 8 beside a GPU, none on a CPU.
        precision: `auto` is bf16 where a GPU has it, else 32-bit. bf16 is also faster on CPUs that compute in it.
        accelerator: `auto`, `cpu` or `gpu`.
        devices: GPUs (or CPU processes) per node; `auto` for all GPUs.
        nodes: machines; under SLURM start one task per device.
        prepare: spacing and intensities.
        optimizer: the optimizer and its learning rate.
    """

    command: ClassVar[str] = "train"
    presets: ClassVar[str] = "run"

    network: str = "unet"
    network_args: dict[str, Any] = field(default_factory=dict)
    steps: int = 10_000
    batch_size: int = 2
    accumulate: int = 1
    crop_size: tuple[int, int, int] | Literal["auto"] = "auto"
    split: str | None = None
    fold: int = 0
    seed: int = 0
    validate_every: int = 0
    loggers: list[str] = field(default_factory=lambda: ["csv", "tensorboard"])
    workers: int | Literal["auto"] = "auto"
    precision: Literal["auto", "32", "bf16"] = "auto"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int | Literal["auto"] = "auto"
    nodes: int = 1
    prepare: PrepareSettings = field(default_factory=PrepareSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "nodes"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("validate_every", "seed"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must be at least 0, got {getattr(self, name)}.")
        if self.crop_size != "auto" and min(self.crop_size) < 1:
            raise InputError(f"crop_size must be three positive numbers, got {self.crop_size}.")
        for name in self.loggers:
            if name not in LOGGERS:
                raise unknown_name("logger", name, LOGGERS)

    @classmethod
    def preset(cls, name: str | None = None, **values: Any) -> "Self":
        """Settings by name, as `--preset` takes them, with some changed.

        Args:
            name: a preset that `medcontext networks` lists, or a YAML file; None for the defaults.
            values: further settings; a method (or a pretraining's objective) by its name, those within others as
                dictionaries or, as `**{"method.share": 0.5}`, by their whole names.

        Raises:
            InputError: for a name or a value that is not allowed.

        Example:
            >>> settings = Settings.preset("unetr", method="paper", steps=2000, prepare={"spacing": (2, 2, 2)})
            >>> settings.network, settings.method.name, settings.prepare.spacing
            ('unetr', 'paper', (2.0, 2.0, 2.0))
        """
        named = {} if name is None else {"preset": name}
        return cls.parse(options_of({**named, **values}))

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> "Self":
        """Settings from options as on the command line.

        Raises:
            InputError: for an option or a value that is not allowed.

        Example:
            >>> Settings.parse(["--preset", "btcv_unetr", "--method", "none", "--steps", "600"]).crop_size
            (96, 96, 96)
        """
        return parse(arguments, cls)

    @classmethod
    def read(cls, path: Path) -> "Self":
        """Those that `write` saved.

        Raises:
            InputError: if the file is missing or a field is unknown.
        """
        return read_yaml(path, cls)

    @property
    def whole_batch(self) -> bool:
        """Whether the crops of a batch are looked at together, so that adding up smaller ones is something else."""
        return False

    def write(self, path: Path) -> None:
        """Save every field as YAML."""
        write_yaml(path, self)


@dataclass(frozen=True)
class Settings(TrainingSettings):
    """All settings of one training run.

    The fields of any training are `TrainingSettings`'; here are those of one with labels.

    Args:
        method: `medcontext` (scans without labels are filled into labelled ones; where there are none, labelled ones
            into one another), `mean_teacher`, `paper`, `reference` (the official code's behaviour), `none` (the
            baseline), or a YAML file.
        loss: `dice_ce`, which is equation 3, or the import path of one of your own, called with logits (B, K, H, W, D)
            and labels (B, 1, H, W, D) of labelled scans; views with unlabelled ones keep equation 3.
        loss_args: arguments of its constructor, such as --loss_args.gamma 2.
        foreground: fraction of crops centred on a structure.
        few_shot: train on so many cases of the training part.
        regions: overlapping regions to segment instead of the structures, larger ones first: name to label values,
            such as {"WT": [1, 2, 3], "TC": [2, 3], "ET": [3]}. Nothing: those that the data set declares.
        patience: stop after so many validations in a row without a higher Dice of the student; 0 for never.
        validation_cases: at most so many validation cases are used during training.
        watch_cases: so many of these (training cases where there are none), by name order, are shown at every
            validation: a picture in the loggers, the volumes in the run's folder. 0 for none.
        compile: compile the network with torch.compile.
        augment: random changes of the crops.
        vary: further changes of intensity, of unlabelled crops as the student sees them; the teacher does not.
        window: sliding windows in validation, and in predictions that do not ask for others.
    """

    method: MethodSettings = field(default_factory=MethodSettings)
    loss: str = "dice_ce"
    loss_args: dict[str, Any] = field(default_factory=dict)
    foreground: float = 0.5
    few_shot: int | None = None
    regions: dict[str, list[int]] = field(default_factory=dict)
    patience: int = 0
    validation_cases: int = 20
    watch_cases: int = 2
    compile: bool = False
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    vary: AugmentSettings = field(default_factory=lambda: STRONG)
    window: WindowSettings = field(default_factory=WindowSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("patience", "validation_cases", "watch_cases"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must be at least 0, got {getattr(self, name)}.")
        if self.few_shot is not None and self.few_shot < 1:
            raise InputError(f"few_shot must be at least 1, got {self.few_shot}.")
        if not 0 <= self.foreground <= 1:
            raise InputError(f"foreground must lie between 0 and 1, got {self.foreground}.")
        if self.vary.affine_probability or self.vary.flip_axes or self.vary.transform:
            raise InputError(
                "vary changes intensities alone, for teacher and student must see a voxel at the same place: leave "
                "vary.affine_probability at 0, vary.flip_axes and vary.transform empty."
            )
