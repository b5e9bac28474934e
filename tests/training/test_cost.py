from types import SimpleNamespace

import pytest
import torch

from medcontext.run import Facts
from medcontext.training.cost import note_cost


def test_the_highest_peak_of_gpu_memory_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _device: 3 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "Fast GPU")
    trainer, device = SimpleNamespace(world_size=4, precision="bf16-mixed"), torch.device("cuda", 0)
    facts = Facts("Fake", (8, 8, 8))
    note_cost(facts, trainer, device)  # type: ignore[arg-type]
    assert (facts.hardware, facts.devices, facts.peak_gpu_memory_gib) == ("4 x Fast GPU", 4, 3.0)
    assert facts.precision == "bf16-mixed"
    facts.peak_gpu_memory_gib = 5.5
    note_cost(facts, trainer, device)  # type: ignore[arg-type]
    assert facts.peak_gpu_memory_gib == 5.5
