"""MedContext inside nnU-Net v2: `-tr nnUNetTrainerMedContext`, and `MedContextMixin` for trainers of one's own."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from medcontext.errors import InputError
from medcontext.extras import need

if TYPE_CHECKING:
    from medcontext.integrations.nnunet.trainer import MedContextMixin

__all__ = ["MedContextMixin"]
SERIES = "2.8."  # what is overridden was read there; later ones may have other checkpoints


def require() -> None:
    """Refuse to go on without nnU-Net, or with one that this was not written for.

    Raises:
        InputError: saying what to install.
    """
    need("nnunetv2")
    if not version("nnunetv2").startswith(SERIES):
        raise InputError(
            f"nnU-Net {version('nnunetv2')} is installed; MedContext's trainers are for {SERIES}x: "
            "pip install medcontext[nnunet]"
        )


def __getattr__(name: str) -> Any:
    # `medcontext nnunet path` stands in people's shell profiles, and must not import nnU-Net.
    if name not in __all__:
        raise AttributeError(f"module 'medcontext.integrations.nnunet' has no attribute '{name}'")
    require()
    from medcontext.integrations.nnunet.trainer import MedContextMixin

    return MedContextMixin
