"""Objectives by name."""

from typing import Any

from torch import nn

from medcontext.errors import InputError, unknown_name
from medcontext.pretraining.mae import MAE
from medcontext.pretraining.objective import Objective
from medcontext.pretraining.restore import PCRLv2Objective
from medcontext.pretraining.settings import MAESettings, PCRLv2Settings, SimCLRSettings, SimMIMSettings
from medcontext.pretraining.simclr import SimCLR
from medcontext.pretraining.simmim import SimMIM

OBJECTIVES: dict[str, tuple[type[Objective], type]] = {
    "mae": (MAE, MAESettings),
    "pcrlv2": (PCRLv2Objective, PCRLv2Settings),
    "simclr": (SimCLR, SimCLRSettings),
    "simmim": (SimMIM, SimMIMSettings),
}


def build_objective(name: str, network: nn.Module, settings: Any = None) -> Objective:
    """The objective of a name around a network, whose encoder it trains in place.

    Args:
        name: one of `OBJECTIVES`.
        network: one that it fits.
        settings: the dataclass that belongs to it; the published values without.

    Raises:
        InputError: for an unknown name, another objective's settings, or a network that does not fit.

    Example:
        >>> from medcontext.networks.pcrlv2 import PCRLv2
        >>> sorted(build_objective("pcrlv2", PCRLv2(1, 2, width=4)).moved())[0]
        'encoder.levels.0.0.bias'
    """
    if name not in OBJECTIVES:
        raise unknown_name("objective", name, OBJECTIVES)
    objective, kind = OBJECTIVES[name]
    if settings is not None and not isinstance(settings, kind):
        raise InputError(f"Objective '{name}' takes {kind.__name__}, got {type(settings).__name__}.")
    return objective(network, settings)  # type: ignore[call-arg]
