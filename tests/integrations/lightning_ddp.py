"""One step on two processes, each with a scan of its own; each writes what it has then. See `test_lightning.py`."""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.integrations.test_lightning import Mine, fit


class Two(Mine):
    def __init__(self) -> None:
        super().__init__()
        self.network[1] = nn.Identity()  # batch norm is each process's own
        self.learner.teacher.network[1] = nn.Identity()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


if __name__ == "__main__":
    module = Two()
    trainer = fit(module, max_steps=1, devices=2, strategy="ddp", batch_size=1)
    state = {name: value for name, value in module.state_dict().items() if isinstance(value, torch.Tensor)}
    torch.save(state, Path(sys.argv[1]) / f"{trainer.global_rank}.pt")
