"""`medcontext nnunet`: the three things that nnU-Net's own commands need of us, with nnU-Net's own options."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from medcontext.errors import InputError, unknown_name
from medcontext.integrations.nnunet import require

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
    require()
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
    preparing.add_argument("dataset", nargs="?", help="number or name, such as 4 or Dataset004_Hippocampus")
    preparing.add_argument("-d", dest="named", metavar="dataset", help="the same, as nnUNetv2_preprocess has it")
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


def check_variables(*names: str) -> None:
    for name in names:
        if f"nnUNet_{name}" not in os.environ:
            raise InputError(
                f"nnUNet_{name} is not set: export nnUNet_{name}=FOLDER, as nnU-Net's own commands need it."
            )


def dataset_name(given: str) -> str:
    """The whole name of a data set that was given by number or name.

    Raises:
        InputError: if there is none, or several.
    """
    from nnunetv2.paths import nnUNet_preprocessed
    from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

    try:
        name = str(maybe_convert_to_dataset_name(given))
    except (RuntimeError, ValueError) as error:
        raise InputError(" ".join(str(error).split())) from error
    known = [folder.name for folder in Path(str(nnUNet_preprocessed)).glob("Dataset*")]
    if name not in known:
        raise unknown_name("data set", name, known)
    return name


def train(arguments: Sequence[str]) -> None:
    """Call nnU-Net's own entry in this process."""
    if not {"-h", "--help"} & set(arguments):
        check_variables("preprocessed", "results")
    if arguments and not arguments[0].startswith("-"):
        dataset_name(arguments[0])
    known = [path for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]
    if str(trainer_folder()) not in known:
        os.environ[VARIABLE] = os.pathsep.join([*known, str(trainer_folder())])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS"):
        os.environ.setdefault(name, "1")  # as nnUNetv2_train does
    from nnunetv2.run.run_training import run_training_entry

    sys.argv = ["nnUNetv2_train", "-tr", TRAINER, *arguments]  # of two -tr, the last counts
    try:
        run_training_entry()
    except RuntimeError as error:
        if not str(error).startswith("Could not find requested nnunet trainer"):
            raise
        raise InputError(f"{str(error).partition(' in ')[0]}. Ours: {', '.join(own_trainers())}.") from error


def own_trainers() -> list[str]:
    from medcontext.integrations.nnunet import trainers

    return sorted(name for name in vars(trainers) if name.startswith(TRAINER))


def preprocess(options: argparse.Namespace, configuration: str) -> None:
    from medcontext.integrations.nnunet.prepare import prepare
    from medcontext.integrations.nnunet.scans import Place

    check_variables("raw", "preprocessed")
    given = options.dataset or options.named
    if given is None:
        raise InputError("Which data set? medcontext nnunet preprocess 4, or its whole name.")
    if options.np < 1:
        raise InputError(f"-np takes a number of processes, at least 1; got {options.np}.")
    prepare(
        Place.read(dataset_name(given), options.p, configuration), workers=options.np, skip_damaged=options.skip_damaged
    )
