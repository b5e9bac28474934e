"""Every setting of a pretraining; those that it shares with a training are `medcontext.settings`'."""

from dataclasses import MISSING, dataclass, field, fields
from typing import ClassVar, Literal

from medcontext.errors import InputError
from medcontext.pretraining.settings import MAESettings, PCRLv2Settings, SimCLRSettings, SimMIMSettings
from medcontext.settings import TrainingSettings

OBJECTIVES = ("mae", "simmim", "simclr", "pcrlv2")


@dataclass(frozen=True)
class PretrainSettings(TrainingSettings):
    """All settings of one pretraining.

    The fields of any training are `TrainingSettings`'; here are those of one that restores or tells apart scans.

    Args:
        network: whose encoder is pretrained: unetr by all but pcrlv2, swin_unetr by simmim and simclr, pcrlv2 by
            simclr and pcrlv2.
        objective: `mae` restores what is hidden from what is seen, `simmim` with tokens in its place, `simclr` tells
            crops apart, `pcrlv2` restores distorted views and agrees between them. By name, each brings the optimizer
            that was published with it.
        batch_size: crops per step and device.
        held_out: fraction of the patients whose scans are not learnt from, at least one: on them is measured how well
            it goes. 0 for none.
        held_out_crops: of each such scan, always the same.
        mae: with --objective mae; [M] is the public code ZEKAICHEN/MIM-Med3D.
        simmim: with --objective simmim.
        simclr: with --objective simclr.
        pcrlv2: with --objective pcrlv2.
    """

    command: ClassVar[str] = "pretrain"
    presets: ClassVar[str] = "pretraining"

    network: str = "unetr"
    batch_size: int = 4
    objective: Literal["mae", "simmim", "simclr", "pcrlv2"] | None = None
    held_out: float = 0.1
    held_out_crops: int = 4
    mae: MAESettings = field(default_factory=MAESettings)
    simmim: SimMIMSettings = field(default_factory=SimMIMSettings)
    simclr: SimCLRSettings = field(default_factory=SimCLRSettings)
    pcrlv2: PCRLv2Settings = field(default_factory=PCRLv2Settings)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective is None:
            raise InputError(
                "Give what is to be learnt: --objective mae, simmim, simclr or pcrlv2. (What has begun goes on by "
                "--output PRE --resume alone, and there is none.)"
            )
        for kind in fields(self):
            default, others = kind.default_factory, kind.name in OBJECTIVES and kind.name != self.objective
            if others and default is not MISSING and getattr(self, kind.name) != default():
                raise InputError(
                    f"--{kind.name}.* is for --objective {kind.name}, and here that is {self.objective}. Leave it out; "
                    f"--{self.objective}.* has what there is to set."
                )
        if not 0 <= self.held_out < 1:
            raise InputError(f"held_out is a fraction of the patients, 0 to below 1; got {self.held_out}.")
        if self.held_out_crops < 1:
            raise InputError(f"held_out_crops must be at least 1, got {self.held_out_crops}.")
        if self.whole_batch and self.batch_size < 2:
            raise InputError(f"The objective {self.objective} needs a batch_size of at least 2, got {self.batch_size}.")

    @property
    def whole_batch(self) -> bool:
        return self.objective in ("simclr", "pcrlv2")
