"""What processes that train side by side tell one another; nothing where there is but one."""

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


def average(value: Tensor, network: nn.Module) -> Tensor:
    """The mean of a tensor over the processes that train a network, so that all of them know the same."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return value
    group = network.process_group if isinstance(network, DistributedDataParallel) else None
    torch.distributed.all_reduce(value, group=group)
    return value / torch.distributed.get_world_size(group)


def average_gradient(parameter: nn.Parameter, network: nn.Module) -> None:
    """The same of the gradient of a parameter outside a network whose wrapper averages its own."""
    if isinstance(network, DistributedDataParallel) and parameter.grad is not None:
        parameter.grad.copy_(average(parameter.grad, network))
