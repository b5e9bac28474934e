"""The method of the paper, usable alone in anybody's training loop."""

from medcontext.method.adapters import TokenAdapter, VoxelAdapter
from medcontext.method.learner import Losses, MedContext
from medcontext.method.losses import DeepSupervision, DiceCE, consistency
from medcontext.method.masking import CubeMask, TubeMask
from medcontext.method.teacher import EMATeacher, Momentum

__all__ = [
    "CubeMask",
    "DeepSupervision",
    "DiceCE",
    "EMATeacher",
    "Losses",
    "MedContext",
    "Momentum",
    "TokenAdapter",
    "TubeMask",
    "VoxelAdapter",
    "consistency",
]
