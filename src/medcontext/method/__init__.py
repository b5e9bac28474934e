"""The method of the paper, usable alone in anybody's training loop."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medcontext.method.adapters import TokenAdapter, VoxelAdapter
    from medcontext.method.learner import MedContext
    from medcontext.method.losses import DeepSupervision, DiceCE, consistency
    from medcontext.method.masking import BoxMask, CubeMask, TubeMask
    from medcontext.method.momentum import Momentum, ReferenceMomentum
    from medcontext.method.teacher import EMATeacher
    from medcontext.method.terms import Losses
    from medcontext.method.unlabelled import Unlabelled

HOMES = {
    "adapters": ("TokenAdapter", "VoxelAdapter"),
    "learner": ("MedContext",),
    "losses": ("DeepSupervision", "DiceCE", "consistency"),
    "masking": ("BoxMask", "CubeMask", "TubeMask"),
    "momentum": ("Momentum", "ReferenceMomentum"),
    "teacher": ("EMATeacher",),
    "terms": ("Losses",),
    "unlabelled": ("Unlabelled",),
}
__all__ = [
    "BoxMask",
    "CubeMask",
    "DeepSupervision",
    "DiceCE",
    "EMATeacher",
    "Losses",
    "MedContext",
    "Momentum",
    "ReferenceMomentum",
    "TokenAdapter",
    "TubeMask",
    "Unlabelled",
    "VoxelAdapter",
    "consistency",
]


def __getattr__(name: str) -> Any:
    # The settings take a rule from here without waiting seconds for torch and MONAI.
    for home, names in HOMES.items():
        if name in names:
            return getattr(import_module(f"medcontext.method.{home}"), name)
    raise AttributeError(f"module 'medcontext.method' has no attribute '{name}'")
