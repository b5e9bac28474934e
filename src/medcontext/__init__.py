"""MedContext: better 3D medical image segmentation when labelled scans are few."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medcontext.method import CubeMask, MedContext, Momentum, TokenAdapter, TubeMask, Unlabelled, VoxelAdapter

__version__ = version("medcontext")
__all__ = [
    "CubeMask",
    "MedContext",
    "Momentum",
    "TokenAdapter",
    "TubeMask",
    "Unlabelled",
    "VoxelAdapter",
    "__version__",
]


def __getattr__(name: str) -> Any:
    # Importing torch and MONAI takes seconds; `medcontext --help` should not.
    if name in __all__:
        from medcontext import method

        return getattr(method, name)
    raise AttributeError(f"module 'medcontext' has no attribute '{name}'")
