"""MedContext inside nnU-Net v2: `-tr nnUNetTrainerMedContext`, and `MedContextMixin` for trainers of one's own."""

from typing import TYPE_CHECKING, Any

from medcontext.extras import need

if TYPE_CHECKING:
    from medcontext.integrations.nnunet.trainer import MedContextMixin

__all__ = ["MedContextMixin"]


def __getattr__(name: str) -> Any:
    # `medcontext nnunet path` stands in people's shell profiles, and must not import nnU-Net.
    if name not in __all__:
        raise AttributeError(f"module 'medcontext.integrations.nnunet' has no attribute '{name}'")
    need("nnunetv2")
    from medcontext.integrations.nnunet.trainer import MedContextMixin

    return MedContextMixin
