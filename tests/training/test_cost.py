from types import SimpleNamespace

import pytest
import torch

from medcontext.training.cost import cost


def test_the_highest_peak_of_gpu_memory_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _device: 3 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "Fast GPU")
    trainer, device = SimpleNamespace(world_size=4), torch.device("cuda", 0)
    first = cost(trainer, device, {})  # type: ignore[arg-type]
    assert first == {"hardware": "4 x Fast GPU", "devices": 4, "peak_gpu_memory_gib": 3.0}
    assert cost(trainer, device, {"peak_gpu_memory_gib": 5.5})["peak_gpu_memory_gib"] == 5.5  # type: ignore[arg-type]
