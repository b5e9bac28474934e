"""An exported network as an ONNX file."""

from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from medcontext.errors import InputError
from medcontext.extras import need
from medcontext.inference.export import AXES, KEY, quiet

LARGEST = 2**31 - 2**24
"""Bytes of weights: a file holds 2 GiB, with the graph."""


class OnnxNetwork:
    """In ONNX; it answers by ONNX Runtime on the CPU.

    Raises:
        InputError: if a package is missing, or the weights are too large for one file.
    """

    def __init__(self, program: ExportedProgram) -> None:
        for package in ("onnx", "onnxscript", "onnxruntime"):
            need(package)
        size = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
        if size > LARGEST:
            raise InputError(f"The weights take {size / 2**30:.1f} GiB and an ONNX file holds 2; use --torch.")
        with quiet():
            made = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                input_names=["image"],
                output_names=["logits"],
                dynamic_shapes=(AXES,),  # their names
            )
        assert made is not None
        self.program = made
        runtime = need("onnxruntime")
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # errors
        content = made.model_proto.SerializeToString()
        self.session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def __call__(self, image: Tensor) -> Tensor:
        return torch.from_numpy(self.session.run(None, {"image": image.numpy()})[0])

    def save(self, path: Path, metadata: str) -> None:
        self.program.model.metadata_props[KEY] = metadata
        self.program.save(path, external_data=False)
