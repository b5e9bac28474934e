"""An exported network as a file of torch.export."""

import io
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from medcontext.inference.export import KEY


class TorchNetwork:
    """In torch's own graph, which needs torch alone, and not the network's code."""

    def __init__(self, program: ExportedProgram) -> None:
        self.program = program
        self.module = program.module()

    def __call__(self, image: Tensor) -> Tensor:
        return self.module(image)

    def save(self, path: Path, metadata: str) -> None:
        content = io.BytesIO()  # on a full disk torch's own writer ends the process
        torch.export.save(self.program, content, extra_files={KEY: metadata})
        path.write_bytes(content.getbuffer())
