"""What a training takes: hardware, time, memory."""

import os
import platform
import sys

import torch
from lightning.pytorch import Trainer

from medcontext.errors import counted
from medcontext.run import Facts


def note_cost(facts: Facts, trainer: Trainer, device: torch.device) -> None:
    """Note the hardware; of a resumed run's processes, the highest peak of GPU memory counts.

    Args:
        facts: of the run so far.
        trainer: of the training.
        device: this process's.
    """
    facts.hardware, facts.devices = hardware(device, trainer.world_size), trainer.world_size
    facts.precision = trainer.precision
    if device.type == "cuda":
        peak = round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
        facts.peak_gpu_memory_gib = max(peak, facts.peak_gpu_memory_gib or 0)


def hardware(device: torch.device, devices: int) -> str:
    """The devices, for a person."""
    if device.type == "cuda":
        return f"{devices} x {torch.cuda.get_device_name(device)}"
    return f"{platform.machine()} CPU, {counted(torch.get_num_threads(), 'thread')}, {counted(devices, 'process')}"


def memory(device: torch.device) -> str:
    """The most that this process has had until now, of what there is."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return f"{torch.cuda.max_memory_reserved(device) / 2**30:.1f} of {total / 2**30:.1f} GiB of the GPU"
    if sys.platform == "win32":
        return "unknown"
    import resource  # which Windows lacks

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{peak / 2**30:.1f} of {total / 2**30:.1f} GiB"
