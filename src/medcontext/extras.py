"""Packages that only one thing needs, each in an extra of ours."""

import importlib
from types import ModuleType

from medcontext.errors import InputError

EXTRAS = {
    "wandb": ("Weights & Biases", "wandb"),
    "mlflow": ("MLflow", "mlflow"),
    "submitit": ("submitit", "slurm"),
    "nnunetv2": ("nnU-Net", "nnunet"),
    "ignite": ("PyTorch Ignite, which MONAI's engines need,", "monai"),
    "fire": ("Fire, which runs MONAI's bundles,", "monai"),
    "jsonschema": ("jsonschema, which checks a MONAI bundle's metadata,", "monai"),
    "pydicom": ("pydicom, which reads DICOM,", "dicom"),
    "highdicom": ("highdicom, which writes DICOM segmentations,", "dicom"),
    "onnx": ("ONNX", "onnx"),
    "onnxscript": ("ONNX Script", "onnx"),
    "onnxruntime": ("ONNX Runtime", "onnx"),
}
"""By the package's name: what people call it, and the extra that brings it."""


def need(package: str) -> ModuleType:
    """Import a package that is not always there.

    Raises:
        InputError: naming the extra that brings it.
    """
    title, extra = EXTRAS[package]
    try:
        return importlib.import_module(package)
    except ImportError as error:
        if error.name != package:  # it is there, and something that it needs is not
            raise InputError(f"{title} cannot be imported: {error}. pip install medcontext[{extra}]") from error
        raise InputError(f"{title} is not installed: pip install medcontext[{extra}]") from None
