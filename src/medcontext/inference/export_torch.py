"""An exported network as a file of torch.export."""

from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from medcontext.files import write_from_memory
from medcontext.inference.export import KEY


class TorchNetwork:
    """In torch's own graph, which needs torch alone, and not the network's code."""

    def __init__(self, program: ExportedProgram) -> None:
        self.program = program
        self.module = program.module()

    def __call__(self, image: Tensor) -> Tensor:
        return self.module(image)

    def save(self, path: Path, metadata: str) -> None:
        write_from_memory(path, lambda file: torch.export.save(self.program, file, extra_files={KEY: metadata}))
