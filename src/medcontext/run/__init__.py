"""The folder of a training run, for the training, predictions, reports and experiments alike."""

from medcontext.run.checkpoint import Weights, load_network, make_network, read_checkpoint, write_checkpoint
from medcontext.run.facts import Facts, UnlabelledFacts
from medcontext.run.folder import FILES, Run, read_run
from medcontext.run.folds import FOLDS, fold_folder, read_runs

__all__ = [
    "FILES",
    "FOLDS",
    "Facts",
    "Run",
    "UnlabelledFacts",
    "Weights",
    "fold_folder",
    "load_network",
    "make_network",
    "read_checkpoint",
    "read_run",
    "read_runs",
    "write_checkpoint",
]
