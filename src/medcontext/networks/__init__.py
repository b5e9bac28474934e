"""Networks by name."""

from medcontext.networks.registry import (
    NETWORKS,
    MonaiNetwork,
    build_network,
    find_network,
    find_own,
    monai_network,
    token_adapter,
)

__all__ = ["NETWORKS", "MonaiNetwork", "build_network", "find_network", "find_own", "monai_network", "token_adapter"]
