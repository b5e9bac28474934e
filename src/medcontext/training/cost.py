"""What a training takes: hardware, time, memory."""

import platform

import torch
from lightning.pytorch import Trainer

from medcontext.run import Facts


def note_cost(facts: Facts, trainer: Trainer, device: torch.device) -> None:
    """Note the hardware; of a resumed run's processes, the highest peak of GPU memory counts.

    Args:
        facts: of the run so far.
        trainer: of the training.
        device: this process's.
    """
    facts.hardware, facts.devices = hardware(device, trainer.world_size), trainer.world_size
    if device.type == "cuda":
        peak = round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
        facts.peak_gpu_memory_gib = max(peak, facts.peak_gpu_memory_gib or 0)


def hardware(device: torch.device, devices: int) -> str:
    """The devices, for a person."""
    if device.type == "cuda":
        return f"{devices} x {torch.cuda.get_device_name(device)}"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads, {devices} process(es)"
