"""The folder of a training run, for the training, predictions, reports and experiments alike."""

from medcontext.run.checkpoint import Weights, load_network, make_network, read_checkpoint, write_checkpoint
from medcontext.run.facts import Facts, UnlabelledFacts
from medcontext.run.folder import FILES, Run, read_run

__all__ = [
    "FILES",
    "Facts",
    "Run",
    "UnlabelledFacts",
    "Weights",
    "load_network",
    "make_network",
    "read_checkpoint",
    "read_run",
    "write_checkpoint",
]
