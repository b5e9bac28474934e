"""The folder of a training run, for the training, predictions, reports and experiments alike."""

from medcontext.networks.initial import KeyReport
from medcontext.run.checkpoint import Weights, load_network, make_network, read_checkpoint, steps_of, write_checkpoint
from medcontext.run.facts import Facts, UnlabelledFacts
from medcontext.run.folder import FILES, Run, Training, read_run
from medcontext.run.folds import FOLDS, PREDICTIONS, fold_folder, home, read_runs
from medcontext.run.inputs import INPUTS, Inputs, go_on_command
from medcontext.run.pretraining import RECORD, Pretraining, read_pretraining
from medcontext.run.weights import INITIAL, initial_remarks, load_weights, network_options

__all__ = [
    "FILES",
    "FOLDS",
    "INITIAL",
    "INPUTS",
    "PREDICTIONS",
    "RECORD",
    "Facts",
    "Inputs",
    "KeyReport",
    "Pretraining",
    "Run",
    "Training",
    "UnlabelledFacts",
    "Weights",
    "fold_folder",
    "go_on_command",
    "home",
    "initial_remarks",
    "load_network",
    "load_weights",
    "make_network",
    "network_options",
    "read_checkpoint",
    "read_pretraining",
    "read_run",
    "read_runs",
    "steps_of",
    "write_checkpoint",
]
