"""What a training takes: hardware, time, memory."""

import platform
from typing import Any

import torch
from lightning.pytorch import Trainer


def cost(trainer: Trainer, device: torch.device, before: dict[str, Any]) -> dict[str, Any]:
    """Facts for `run.json`.

    Args:
        trainer: of the training.
        device: this process's.
        before: the facts so far; of a resumed run's processes, the highest peak of GPU memory counts.
    """
    facts: dict[str, Any] = {"hardware": hardware(device, trainer.world_size), "devices": trainer.world_size}
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) / 2**30
        facts["peak_gpu_memory_gib"] = round(max(peak, before.get("peak_gpu_memory_gib", 0)), 2)
    return facts


def hardware(device: torch.device, devices: int) -> str:
    """The devices, for a person."""
    if device.type == "cuda":
        return f"{devices} x {torch.cuda.get_device_name(device)}"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads, {devices} process(es)"
