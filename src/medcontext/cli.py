"""The command line: one function a command."""

import difflib
import errno
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser, Namespace
from rich.text import Text

from medcontext.console import console, errors, tolerate_any_text
from medcontext.errors import InputError, lacks_memory, memory_words, unknown_name
from medcontext.files import check_utf8

DATA = "data set: a Decathlon, nnU-Net, BTCV, ACDC or BraTS folder, or a JSON list"
MORE_MEMORY = "Use fewer --workers, smaller scans or crops, or a machine with more memory."
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)


class Parser(ArgumentParser):
    """Reports a wrong option as one clear message, with the nearest option that exists."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        cause: BaseException | None = ex
        while cause is not None:
            if isinstance(cause, InputError):
                raise cause
            cause = cause.__cause__ or cause.__context__
        message = " ".join(message.split()).rstrip(".")
        unknown = re.search(r"--[\w.]+", message) if message.startswith("unrecognized") else None
        if unknown or (unknown := re.search(r"Key '([\w.]+)' is not expected", message)):
            name = unknown[unknown.re.groups].removeprefix("--")
            known = [option.removeprefix("--") for action in self._actions for option in action.option_strings]
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else "."
            raise InputError(f"Unknown option '{name}'{hint} See {self.prog} --help.")
        wrong = re.match(r'Parser key "([\w.]+)": (.*)', message)
        if wrong:
            raise InputError(f"Option --{wrong[1]}: {wrong[2]}. See {self.prog} --help.")
        raise InputError(f"{message[:1].upper()}{message[1:]}. See {self.prog} --help.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 on success, 2 for an input that cannot be used, 130 when interrupted."""
    tolerate_any_text()
    try:
        command(list(sys.argv[1:] if arguments is None else arguments))
    except InputError as error:
        print_error(str(error))
        return 2
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        print_error(f"Not enough memory{memory_words(error)}. {MORE_MEMORY}")
        return 2
    except OSError as error:
        if lacks_memory(error):
            print_error(f"Not enough memory{memory_words(error)}. {MORE_MEMORY}")
            return 2
        if error.errno not in DISK_ERRORS:
            raise
        where = f" {error.filename}" if error.filename else ""
        verb = "use" if error.errno == errno.ENAMETOOLONG else "write"
        print_error(f"Cannot {verb}{where}: {error.strerror}.")
        return 2
    except KeyboardInterrupt:
        errors.print("Interrupted. Go on with --resume where the command has it.")
        return 130
    return 0


def print_error(message: str) -> None:
    """The one line that a person sees of an error."""
    errors.print(Text.assemble(("Error:", "bold red"), f" {message}"), soft_wrap=True)


def command(arguments: list[str]) -> None:
    """Parse the arguments of one command and run it."""
    import medcontext

    if arguments in (["--version"], ["-V"]):
        sys.stdout.write(f"medcontext {medcontext.__version__}\n")
        return
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        sys.stdout.write(overview())
        return
    for argument in arguments:
        check_utf8(argument)
    name, *rest = arguments
    if name not in COMMANDS:
        raise unknown_name("command", name, COMMANDS)
    function, configure = COMMANDS[name]
    parser = Parser(prog=f"medcontext {name}", description=function.__doc__)
    configure(parser)
    parser.usage = usage(parser)
    if name == "train":
        from medcontext.configuration import named_options

        rest = named_options(rest)
    function(parser, parser.parse_args(flags(parser, rest)))


def overview() -> str:
    """The text of `medcontext --help`."""
    lines = ["usage: medcontext COMMAND [options]", "", "3D medical image segmentation from few labelled scans.", ""]
    for name, (function, _) in COMMANDS.items():
        lines.append(f"  {name:10} {(function.__doc__ or '').splitlines()[0]}")
    return "\n".join([*lines, "", "medcontext COMMAND --help lists a command's options.", ""])


def usage(parser: ArgumentParser) -> str:
    """One line: what must be given; a training has too many options to list them all twice."""
    pieces = [parser.prog]
    for action in parser._actions:
        value = action.metavar or action.dest.upper()
        if not action.option_strings:
            pieces.append(str(value))
        elif action.required:
            pieces.append(f"{action.option_strings[0]} {value}")
    return " ".join([*pieces, "[options]"])


def flags(parser: ArgumentParser, arguments: list[str]) -> list[str]:
    """Let a yes-or-no option stand alone: `--resume` means `--resume true`."""
    booleans = {
        option
        for action in parser._actions
        if getattr(action, "_typehint", None) in (bool, bool | None)
        for option in action.option_strings
    }
    result = []
    for position, argument in enumerate(arguments):
        result.append(argument)
        following = arguments[position + 1 : position + 2]
        if argument in booleans and (not following or following[0].startswith("--")):
            result.append("true")
    return result


# Each command: what it runs, and the options it takes.


def configure_train(parser: ArgumentParser) -> None:
    from medcontext.configuration import add_settings

    parser.add_argument("--config", action="config", help="YAML file of settings; later options override it")
    parser.add_argument("--data", type=Path, required=True, help=DATA)
    parser.add_argument("--output", type=Path, required=True, help="folder of the run, new or empty")
    parser.add_argument(
        "--unlabelled",
        type=str,
        nargs="+",
        default=[],
        metavar="rest|DIR|DATASET",
        help="scans without labels that join the training: folders of NIfTI files, data sets (their imagesTs, imagesUn "
        'or "unlabelled"), or rest, the training cases that --few_shot leaves out, without their labels',
    )
    parser.add_argument(
        "--skip_damaged", type=bool, default=False, help="leave out unlabelled scans that cannot be used, and say so"
    )
    parser.add_argument(
        "--cache", type=Path | None, help="folder of prepared cases; default $MEDCONTEXT_CACHE or ~/.cache"
    )
    parser.add_argument("--resume", type=bool, default=False, help="go on from the output folder's last checkpoint")
    parser.add_argument("--preset", metavar="NAME", help="settings by name, as `medcontext networks` lists them")
    add_settings(parser)


def train(parser: ArgumentParser, values: Namespace) -> None:
    """Train a network with MedContext, or the plain baseline with --method none."""
    from medcontext.configuration import settings_from
    from medcontext.training.fit import train as run

    settings = settings_from(parser, values)
    run(
        values.data,
        values.output,
        settings,
        unlabelled=values.unlabelled,
        skip_damaged=values.skip_damaged,
        cache=values.cache,
        resume=values.resume,
    )


def configure_predict(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--run", type=Path, nargs="+", required=True, help="folder of a training run; several: ensemble"
    )
    parser.add_argument("--input", type=Path, required=True, help="a NIfTI file, a folder of them, or a data set")
    parser.add_argument("--output", type=Path, required=True, help="folder of the segmentations, new or empty")
    parser.add_argument(
        "--checkpoint", type=str, nargs="+", default=["last"], help="last, best or files; several: ensemble"
    )
    parser.add_argument("--weights", type=Literal["student", "teacher"], default="student", help="whose weights")
    parser.add_argument(
        "--part",
        type=Literal["auto", "train", "validation", "test", "all"],
        default="auto",
        help="of a data set that the run split; auto is its test cases where it has some, else all",
    )
    parser.add_argument("--overlap", type=float | None, help="of neighbouring windows; default as in the training")
    parser.add_argument(
        "--mirror", type=bool | None, help="average over the eight mirrored views; default as in the training"
    )
    parser.add_argument("--probabilities", type=bool, default=False, help="also write every class's probability")
    parser.add_argument("--device", type=Literal["auto", "cpu", "gpu"], default="auto", help="where to compute")
    parser.add_argument("--resume", type=bool, default=False, help="skip the cases that are in the output already")


def predict(parser: ArgumentParser, values: Namespace) -> None:
    """Segment scans with a trained run, in their own geometry."""
    from medcontext.inference.predict import predict as run

    run(
        values.run,
        values.input,
        values.output,
        checkpoints=values.checkpoint,
        weights=values.weights,
        part=values.part,
        overlap=values.overlap,
        mirror=values.mirror,
        probabilities=values.probabilities,
        device=values.device,
        resume=values.resume,
    )


def configure_evaluate(parser: ArgumentParser) -> None:
    from medcontext.evaluation.evaluate import evaluate_folder

    parser.add_function_arguments(evaluate_folder, as_group=False)


def evaluate(parser: ArgumentParser, values: Namespace) -> None:
    """Score segmentations: DSC and HD95 for every case and structure."""
    from medcontext.evaluation.evaluate import evaluate_folder

    evaluate_folder(**vars(parser.instantiate_classes(values)))


def configure_check(parser: ArgumentParser) -> None:
    parser.add_argument("data", type=Path, help=DATA)
    parser.add_argument("--all", type=bool, default=False, help="list every case, however many there are")
    parser.add_argument("--output", type=Path | None, help="also write the table of cases to this CSV file")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")


def check(parser: ArgumentParser, values: Namespace) -> None:
    """Look at every scan and label of a data set and list all problems, before anyone trains."""
    from medcontext.data.check import check_dataset
    from medcontext.data.check_table import print_report, write_csv

    report = check_dataset(values.data, workers=values.workers)
    print_report(report, all_rows=values.all)
    if values.output:
        write_csv(report, values.output)
    report.raise_errors()


def configure_prepare(parser: ArgumentParser) -> None:
    from medcontext.data.plan import PrepareSettings

    parser.add_argument("--data", type=Path, required=True, help=DATA)
    parser.add_argument(
        "--cache", type=Path | None, help="folder of prepared cases; default $MEDCONTEXT_CACHE or ~/.cache"
    )
    parser.add_argument("--split", type=Path | None, help="split file; statistics come from its training cases alone")
    parser.add_argument("--fold", type=int, default=0, help="which fold of a split file with several")
    parser.add_argument("--few_shot", type=int | None, help="prepare for a training on so many cases")
    parser.add_argument("--seed", type=int, default=0, help="of the split, where there is no split file")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_class_arguments(PrepareSettings, "prepare", help="spacing and intensities")


def prepare(parser: ArgumentParser, values: Namespace) -> None:
    """Resample and normalise a data set once, for all trainings with the same settings."""
    from medcontext.data.formats import read_dataset
    from medcontext.data.planning import make_plan
    from medcontext.data.prepare import prepare_dataset, print_plan
    from medcontext.data.splits import make_split

    dataset = read_dataset(values.data)
    split = make_split(dataset, file=values.split, seed=values.seed, few_shot=values.few_shot, fold=values.fold)
    settings = parser.instantiate_classes(values).prepare
    training = [case for case in dataset.cases if case.name in split.train]
    plan = make_plan(dataset, training, settings, values.workers)
    print_plan(plan)
    store = prepare_dataset(dataset, split.train + split.validation, plan, values.cache, values.workers)
    console.print(f"{len(store.names)} cases prepared: {store.root}", soft_wrap=True)


def configure_networks(parser: ArgumentParser) -> None:
    pass


def networks(parser: ArgumentParser, values: Namespace) -> None:
    """List the networks that --network knows by name, with their presets."""
    from medcontext.training.listing import network_lines

    for line in network_lines():
        console.print(line, markup=True, soft_wrap=True)


def configure_demo(parser: ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for everything, new or empty")
    parser.add_argument("--steps", type=int, default=800, help="optimizer steps of the baseline")
    parser.add_argument("--seed", type=int, default=0, help="of the scans and the trainings")


def demo(parser: ArgumentParser, values: Namespace) -> None:
    """Generate scans, train MedContext and the baseline, and show the difference; minutes on a CPU."""
    from medcontext.demo import demo as run

    run(values.output, values.steps, values.seed)


def configure_reproduce(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("tables", nargs="+", metavar="TABLE", help="table1, 2, 3, 4, 6, 7, 8, 9, or all")
    add("--output", type=Path, required=True, help="folder of everything; what is done there is not run again")
    add("--data", nargs="+", default=[], metavar="NAME=DIR", help="data sets: btcv=DIR acdc=DIR brats21=DIR ...")
    add("--seeds", type=int, nargs="+", default=[0], help="one run of every cell for each")
    add("--only", nargs="+", default=[], metavar="KEY=VALUE", help="a part: model=unetr,nnformer medcontext=yes ...")
    add("--method", default="paper", help="of the cells with MedContext: paper, medcontext, reference, or a YAML file")
    add("--scale", type=Literal["full", "smoke"], default="full", help="smoke: tiny networks on generated scans")
    add("--steps", type=int | None, help="of every training, instead of the presets'")
    add("--few_shot", type=int | None, help="training cases, where the table does not say")
    add(
        "--set",
        nargs="+",
        default=[],
        metavar="[DATASET:]SETTING=VALUE",
        help="of every training, or of one data set's: precision=32 acdc:split=FILE acdc:prepare.spacing=original ...",
    )
    add("--launcher", type=Literal["local", "slurm"], default="local", help="here, one after the other, or as jobs")
    add("--slurm", nargs="+", default=[], metavar="NAME=VALUE", help="of those jobs: partition=gpu timeout_min=600 ...")
    add("--dry_run", "--dry-run", type=bool, default=False, help="list the cells and their cost, and run nothing")


def reproduce(parser: ArgumentParser, values: Namespace) -> None:
    """Run the grid of one of the paper's tables, and print the paper's numbers, ours, and the difference."""
    from medcontext.experiments.reproduce import reproduce as run

    run(
        values.tables,
        values.output,
        data=values.data,
        seeds=values.seeds,
        only=values.only,
        method=values.method,
        scale=values.scale,
        steps=values.steps,
        few_shot=values.few_shot,
        settings=values.set,
        launcher=values.launcher,
        slurm=values.slurm,
        dry_run=values.dry_run,
    )


def configure_compare(parser: ArgumentParser) -> None:
    parser.add_argument(
        "models",
        nargs="+",
        metavar="[NAME=]EVAL[,EVAL...]",
        help="folders that `medcontext evaluate` wrote; of one model several seeds, joined by commas",
    )
    parser.add_argument("--output", type=Path | None, help="folder for comparison.csv, .json, .md and .tex")
    parser.add_argument("--overwrite", type=bool, default=False, help="replace what the output folder holds")


def compare(parser: ArgumentParser, values: Namespace) -> None:
    """Is one model better than another, for which structures, and is it more than chance?"""
    from medcontext.evaluation.compare_command import compare_folders

    compare_folders(values.models, values.output, values.overwrite)


def configure_report(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "models",
        nargs="*",
        metavar="[NAME=]EVAL[,EVAL...]",
        help="folders that `medcontext evaluate` wrote; of one model several seeds, joined by commas",
    )
    add("--output", type=Path | None, help="the HTML file, such as report.html")
    add("--cases", nargs="+", default=["12"], metavar="N", help="in the file's viewer: a number, all, or names")
    add("--figures", type=Path | None, help="folder for every figure as SVG and PNG, new or empty")
    add("--serve", type=bool, default=False, help="show all cases in a browser, read from disk, until Ctrl-C")
    add("--live", type=Path | None, metavar="RUN", help="instead of evaluations: a training that is still going on")
    add("--port", type=int, default=0, help="of --serve and --live, on this machine alone; 0 for any that is free")
    add("--overwrite", type=bool, default=False, help="replace the file, and what the figures' folder holds")


def report(parser: ArgumentParser, values: Namespace) -> None:
    """Show results in one HTML page: tables, curves, and every error in a case viewer."""
    from medcontext.report.command import report as run

    run(
        values.models,
        output=values.output,
        cases=values.cases,
        figures=values.figures,
        serve=values.serve,
        live=values.live,
        port=values.port,
        overwrite=values.overwrite,
    )


COMMANDS: dict[str, tuple[Callable[[Any, Any], None], Callable[[Any], None]]] = {
    "train": (train, configure_train),
    "predict": (predict, configure_predict),
    "evaluate": (evaluate, configure_evaluate),
    "compare": (compare, configure_compare),
    "report": (report, configure_report),
    "check": (check, configure_check),
    "prepare": (prepare, configure_prepare),
    "networks": (networks, configure_networks),
    "demo": (demo, configure_demo),
    "reproduce": (reproduce, configure_reproduce),
}


if __name__ == "__main__":
    sys.exit(main())
