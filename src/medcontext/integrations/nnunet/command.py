"""`medcontext nnunet`: the three things that nnU-Net's own commands need of us, with nnU-Net's own options."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from medcontext.errors import InputError
from medcontext.extras import need

TRAINER = "nnUNetTrainerMedContext"
VARIABLE = "nnUNet_extTrainer"
DESCRIPTION = """\
MedContext in nnU-Net v2.

  export nnUNet_extTrainer="$(medcontext nnunet path)"
  nnUNetv2_train 4 3d_fullres 0 -tr nnUNetTrainerMedContext

or in one line, without the variable: medcontext nnunet train 4 3d_fullres 0. Scans without labels, in imagesUn of the
raw data set, join once they are prepared: medcontext nnunet preprocess 4 -c 3d_fullres.
"""


def nnunet(arguments: Sequence[str]) -> None:
    """Train nnU-Net's own way with the method: path, preprocess, train."""
    options, others = make_parser().parse_known_args(arguments)
    if options.action == "path":
        sys.stdout.write(f"{trainer_folder()}\n")
        return
    need("nnunetv2")
    if options.action == "train":
        train(others)
    elif others:
        raise InputError(f"medcontext nnunet preprocess has no option {others[0]}; --help lists them.")
    else:
        for configuration in options.c:
            preprocess(options, configuration)


def make_parser() -> argparse.ArgumentParser:
    parser = Parser("medcontext nnunet", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True, metavar="path|preprocess|train")
    actions.add_parser("path", help=f"print the folder for {VARIABLE}")
    preparing = actions.add_parser("preprocess", help="prepare the scans of imagesUn by the plan of the labelled ones")
    preparing.add_argument("dataset", help="number or name, such as 4 or Dataset004_Hippocampus")
    preparing.add_argument("-c", nargs="+", default=["3d_fullres"], help="configurations; 3d_fullres if not said")
    preparing.add_argument("-p", default="nnUNetPlans", help="name of the plans; nnUNetPlans if not said")
    preparing.add_argument("-np", type=int, default=8, help="processes; 8 if not said")
    preparing.add_argument("--skip_damaged", action="store_true", help="leave out scans that cannot be used")
    actions.add_parser(
        "train", add_help=False, help=f"nnUNetv2_train with all its options, and {TRAINER} where no -tr is given"
    )
    return parser


class Parser(argparse.ArgumentParser):
    """Errors as everywhere here."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise InputError(f"{message[:1].upper()}{message[1:]}. {self.prog} --help lists what there is.")


def trainer_folder() -> Path:
    """The folder in which nnU-Net finds our trainers."""
    return Path(__file__).parent / "external"


def train(arguments: Sequence[str]) -> None:
    """Call nnU-Net's own entry in this process."""
    known = [path for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]
    if str(trainer_folder()) not in known:
        os.environ[VARIABLE] = os.pathsep.join([*known, str(trainer_folder())])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS"):
        os.environ.setdefault(name, "1")  # as nnUNetv2_train does
    from nnunetv2.run.run_training import run_training_entry

    chosen = [] if "-tr" in arguments or {"-h", "--help"} & set(arguments) else ["-tr", TRAINER]
    sys.argv = ["nnUNetv2_train", *arguments, *chosen]
    run_training_entry()


def preprocess(options: argparse.Namespace, configuration: str) -> None:
    from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

    from medcontext.integrations.nnunet.prepare import prepare
    from medcontext.integrations.nnunet.scans import Place

    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        if name not in os.environ:
            raise InputError(f"The variable {name} is not set: export {name}=FOLDER, as for nnU-Net's own commands.")
    try:
        dataset = maybe_convert_to_dataset_name(options.dataset)
    except (RuntimeError, ValueError) as error:
        raise InputError(" ".join(str(error).split())) from error
    prepare(Place.read(str(dataset), options.p, configuration), workers=options.np, skip_damaged=options.skip_damaged)
