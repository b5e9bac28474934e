"""MedContext: better 3D medical image segmentation when labelled scans are few.

Each command of `medcontext` is a function here, and takes what the one before returned:

    import medcontext as mc

    run = mc.train("data", "run", mc.Settings(steps=2000, few_shot=5), unlabelled=["rest"])
    mc.predict(run, "data", "predictions")
    scores = mc.evaluate("predictions", "data", "scores")

`MedContext` and what it is made of are for loops of your own.
"""

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medcontext.commands.calibrate import calibrate
    from medcontext.commands.check import check
    from medcontext.commands.compare import compare
    from medcontext.commands.evaluate import evaluate
    from medcontext.commands.export import export
    from medcontext.commands.init import init
    from medcontext.commands.postprocess import postprocess
    from medcontext.commands.predict import predict
    from medcontext.commands.prepare import prepare
    from medcontext.commands.pretrain import pretrain
    from medcontext.commands.report import report
    from medcontext.commands.suggest import suggest
    from medcontext.commands.train import train
    from medcontext.errors import InputError
    from medcontext.evaluation.summary import Scores
    from medcontext.experiments.cross_validate import CrossValidation, cross_validate
    from medcontext.experiments.reproduce import reproduce
    from medcontext.method import (
        BoxMask,
        CubeMask,
        MedContext,
        Momentum,
        TokenAdapter,
        TubeMask,
        Unlabelled,
        VoxelAdapter,
    )
    from medcontext.pretrain_settings import PretrainSettings
    from medcontext.run import Run, load_weights
    from medcontext.settings import Settings

__version__ = version("medcontext")
__all__ = [
    "BoxMask",
    "CrossValidation",
    "CubeMask",
    "InputError",
    "MedContext",
    "Momentum",
    "PretrainSettings",
    "Run",
    "Scores",
    "Settings",
    "TokenAdapter",
    "TubeMask",
    "Unlabelled",
    "VoxelAdapter",
    "__version__",
    "calibrate",
    "check",
    "compare",
    "cross_validate",
    "evaluate",
    "export",
    "init",
    "load_weights",
    "postprocess",
    "predict",
    "prepare",
    "pretrain",
    "report",
    "reproduce",
    "suggest",
    "train",
]
ELSEWHERE = {
    "CrossValidation": "medcontext.experiments.cross_validate",
    "InputError": "medcontext.errors",
    "PretrainSettings": "medcontext.pretrain_settings",
    "Run": "medcontext.run",
    "Scores": "medcontext.evaluation.summary",
    "Settings": "medcontext.settings",
    "cross_validate": "medcontext.experiments.cross_validate",
    "load_weights": "medcontext.run",
    "reproduce": "medcontext.experiments.reproduce",
}
"""Where names come from; commands, in small letters, from `commands`, all others from `method`."""


def __getattr__(name: str) -> Any:
    # Importing torch and MONAI takes seconds; `medcontext --help` should not.
    if name in __all__:
        module = ELSEWHERE.get(name, f"medcontext.commands.{name}" if name.islower() else "medcontext.method")
        return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'medcontext' has no attribute '{name}'")
