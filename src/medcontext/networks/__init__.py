"""Networks by name."""

from medcontext.networks.registry import NETWORKS, build_network, find_network, find_own, token_adapter

__all__ = ["NETWORKS", "build_network", "find_network", "find_own", "token_adapter"]
