"""The command line: each command is a public function; its parameters and their texts are the options."""

import ast
import errno
import importlib
import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

from rich.text import Text

from medcontext.console import errors, tolerate_any_text
from medcontext.errors import InputError, lacks_memory, memory_words, unknown_name
from medcontext.files import check_utf8

if TYPE_CHECKING:
    from medcontext.options import Parser
    from medcontext.settings import TrainingSettings

SOURCE = Path(__file__).parent
MORE_MEMORY = "Use fewer --workers, smaller scans or crops, or a machine with more memory."
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)


@dataclass(frozen=True)
class Command:
    """A public function that is a command.

    Args:
        module: where the function is, which has the command's name.
        positional: the parameter that needs no option.
        values: what the help calls an option's value, where its type does not say it.
        usage: ways to call it, where they are not what its parameters say.
        first: the options that the help shows before all others.
        foreign: whether its options are another tool's, and it reads them itself.
    """

    module: str
    positional: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    usage: Sequence[str] = ()
    first: Sequence[str] = ()
    foreign: bool = False


EVALUATIONS = "[NAME=]EVAL[,EVAL...]"
TRAINING = ("unlabelled", "few_shot", "network", "method", "preset", "steps", "batch_size")
"""What matters first of a training."""

COMMANDS = {
    "init": Command(
        "medcontext.commands.init",
        "folder",
        {"image": "PATTERN", "label": "PATTERN", "channels": "NAME", "labels": "NAME[=VALUE]"},
    ),
    "train": Command(
        "medcontext.commands.train",
        values={
            "data": "DATASET",
            "output": "RUN",
            "unlabelled": "rest|DIR|DATASET",
            "init": "PRE|RUN|FILE",
            "cache": "DIR",
        },
        usage=("--data DATASET --output RUN [options]", "--output RUN --resume [options]"),
        first=("data", "output", "resume", *TRAINING),
    ),
    "pretrain": Command(
        "medcontext.commands.pretrain",
        values={"data": "DIR|DATASET", "output": "PRE", "like": "RUN|PRESET", "channels": "NAME", "cache": "DIR"},
        usage=("--data DIR --objective NAME --output PRE [options]", "--output PRE --resume [options]"),
        first=("data", "objective", "output", "resume", "network", "like", "steps", "batch_size"),
    ),
    "cross_validate": Command(
        "medcontext.experiments.cross_validate",
        values={
            "data": "DATASET",
            "output": "DIR",
            "unlabelled": "rest|DIR|DATASET",
            "cache": "DIR",
            "slurm": "NAME=VALUE",
        },
        first=("data", "output", "folds", *TRAINING),
    ),
    "predict": Command("medcontext.commands.predict", values={"input": "FILE|DIR|DATASET", "image": "PATTERN"}),
    "postprocess": Command("medcontext.commands.postprocess"),
    "calibrate": Command("medcontext.commands.calibrate", values={"on": "DATASET"}),
    "suggest": Command("medcontext.commands.suggest", values={"input": "FILE|DIR|DATASET", "image": "PATTERN"}),
    "evaluate": Command("medcontext.commands.evaluate"),
    "compare": Command("medcontext.commands.compare", "models", {"models": EVALUATIONS}),
    "report": Command("medcontext.commands.report", "models", {"models": EVALUATIONS, "cases": "N", "live": "RUN"}),
    "export": Command("medcontext.commands.export", "run", {"onnx": "FILE", "torch": "FILE", "bundle": "DIR"}),
    "check": Command("medcontext.commands.check", "data"),
    "prepare": Command("medcontext.commands.prepare"),
    "networks": Command("medcontext.commands.networks"),
    "nnunet": Command("medcontext.integrations.nnunet.command", foreign=True),
    "demo": Command("medcontext.demo"),
    "reproduce": Command(
        "medcontext.experiments.reproduce",
        "tables",
        {
            "tables": "TABLE",
            "data": "NAME=DIR",
            "only": "KEY=VALUE",
            "set": "[DATASET:]SETTING=VALUE",
            "slurm": "NAME=VALUE",
        },
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 on success, 2 for an input that cannot be used, 130 when interrupted."""
    tolerate_any_text()
    heed_termination()
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
    except KeyboardInterrupt as end:
        errors.print(str(end) or interrupted(sys.argv[1:] if arguments is None else arguments), soft_wrap=True)
        return 143 if isinstance(end, Terminated) else 130
    return 0


def interrupted(arguments: Sequence[str]) -> str:
    """What to say of a command that was stopped; a training says it itself."""
    name = next(iter(arguments), "").replace("-", "_")
    if name in ("calibrate", "cross_validate", "postprocess", "prepare", "reproduce", "suggest"):
        return "Interrupted. The same command goes on."
    return "Interrupted. Go on with --resume." if name == "predict" else "Interrupted."


class Terminated(KeyboardInterrupt):
    """SIGTERM, with which systems and schedulers end a process: an end like that by Ctrl-C."""


def heed_termination() -> None:
    """Let SIGTERM raise `Terminated` in this process; those that it starts end at once, as always."""
    own = os.getpid()

    def stop(*_: Any) -> None:
        if os.getpid() != own:
            os._exit(128 + signal.SIGTERM)
        raise Terminated

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)


def print_error(message: str) -> None:
    """The one line that a person sees of an error."""
    errors.print(Text.assemble(("Error:", "bold red"), f" {message}"), soft_wrap=True)


def command(arguments: list[str]) -> None:
    """Parse the arguments of one command and run it."""
    if arguments in (["--version"], ["-V"]):
        import medcontext

        sys.stdout.write(f"medcontext {medcontext.__version__}\n")
        return
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        sys.stdout.write(overview())
        return
    for argument in arguments:
        check_utf8(argument)
    name, *rest = arguments
    name = name.replace("-", "_")
    if name not in COMMANDS:
        raise unknown_name("command", name, COMMANDS)
    from medcontext.configuration import named_options, settings_from

    function = getattr(importlib.import_module(COMMANDS[name].module), name)
    if COMMANDS[name].foreign:
        function(rest)
        return
    parser = make_parser(name, function)
    parameters = inspect.signature(function).parameters
    settings = {name: kind for name, parameter in parameters.items() if (kind := settings_kind(parameter))}
    options = flags(parser, rest)
    for kind in settings.values():
        options = flags(parser, named_options(rest, kind))
    values = parser.parse_args(options)
    if settings:
        if saved := saved_settings(values, name):  # they stand for what is not said anew
            values = parser.parse_args(["--config", str(saved), *options])
        for parameter, kind in settings.items():
            values[parameter] = settings_from(parser, values, kind)
    else:
        values = parser.made(values)
    function(**{parameter: values[parameter] for parameter in parameters})


def settings_kind(parameter: inspect.Parameter) -> "type[TrainingSettings] | None":
    """Of a parameter that stands for all of a training's settings, each an option of its own, their kind."""
    from medcontext.settings import TrainingSettings

    kinds = get_args(parameter.annotation) or (parameter.annotation,)
    return next((kind for kind in kinds if inspect.isclass(kind) and issubclass(kind, TrainingSettings)), None)


def saved_settings(values: Any, name: str) -> Path | None:
    """The settings of the run that is to go on by a command; None where there is none, or it is another's."""
    output = Path(values.get("output") or "")
    other = output / ("run.json" if name == "pretrain" else "pretraining.json")
    saved = output / "settings.yaml"
    return saved if values.get("resume") and saved.is_file() and not other.is_file() else None


def make_parser(name: str, function: Callable[..., Any]) -> "Parser":
    """The options of a command: its function's parameters, with their texts."""
    import docstring_parser

    from medcontext.configuration import add_settings
    from medcontext.data.plan import PrepareSettings
    from medcontext.options import Parser, name_values, put_first

    described = docstring_parser.parse(function.__doc__ or "")
    texts = {parameter.arg_name: " ".join((parameter.description or "").split()) for parameter in described.params}
    parser = Parser(prog=f"medcontext {name}", description=described.short_description)
    settings = None
    for parameter in inspect.signature(function).parameters.values():
        if kind := settings_kind(parameter):
            settings = kind
        elif parameter.annotation is PrepareSettings:
            parser.add_class_arguments(PrepareSettings, parameter.name, help=texts[parameter.name])
        else:
            add_option(parser, COMMANDS[name], parameter, texts[parameter.name])
    if settings:  # after what a person gives in any case
        parser.add_argument("--config", action="config", help="YAML file of settings; later options override it")
        parser.add_argument("--preset", metavar="NAME", help="settings by name, as `medcontext networks` lists them")
        add_settings(parser, settings)
        name_method(parser)
    name_values(parser)
    if COMMANDS[name].first:
        parser._optionals.title = "further"
        put_first(parser, "what matters most", COMMANDS[name].first)
    parser.usage = usage(parser, COMMANDS[name])
    return parser


def name_method(parser: "Parser") -> None:
    """Let --method say itself what it takes; it sets by name what the options below it set one by one."""
    method = next((action for action in parser._actions if action.dest == "method"), None)
    if method is None:
        return
    group = next(group for group in parser._action_groups if method in group._group_actions)
    method.help, method.metavar, group.title = group.title, "NAME", "the method in detail"


def add_option(parser: "Parser", command: Command, parameter: inspect.Parameter, text: str) -> None:
    """The option of one parameter; of a sequence it takes several values."""
    kind, several = read_as(parameter.annotation)
    needed = parameter.default is parameter.empty
    options: dict[str, Any] = {"type": kind, "help": text}
    if parameter.name in command.values:
        options["metavar"] = command.values[parameter.name]
    positional = parameter.name == command.positional
    if several:
        options["nargs"] = "+" if needed or not positional else "*"
    if not needed:
        default = parameter.default
        options["default"] = list(default) if isinstance(default, tuple) else default
    if positional:
        parser.add_argument(parameter.name, **options)
    else:
        parser.add_argument(f"--{parameter.name}", required=needed, **options)


def read_as(annotation: Any) -> tuple[Any, bool]:
    """What the command line reads for a parameter, and whether several: a path for anything that has one.

    >>> from medcontext.files import AnyPath
    >>> read_as(AnyPath | None), read_as(str | Sequence[str]), read_as(int | None)
    ((pathlib.Path | None, False), (<class 'str'>, True), (int | None, False))
    """
    members = get_args(annotation) if get_origin(annotation) in (Union, type(int | str)) else (annotation,)
    for member in members:
        if get_origin(member) is Sequence:
            return read_as(get_args(member)[0])[0], True
    if any(get_origin(member) is os.PathLike for member in members):
        return (Path | None if type(None) in members else Path), False
    return annotation, False


def overview() -> str:
    """The text of `medcontext --help`."""
    lines = ["usage: medcontext COMMAND [options]", "", "3D medical image segmentation from few labelled scans.", ""]
    width = max(map(len, COMMANDS))
    lines += [f"  {name:{width}} {purpose(name, command)}" for name, command in COMMANDS.items()]
    return "\n".join([*lines, "", "medcontext COMMAND --help lists a command's options.", ""])


def purpose(name: str, command: Command) -> str:
    """The first line of a command's text, read from the source: to import torch and MONAI takes seconds."""
    source = SOURCE.joinpath(*command.module.split(".")[1:]).with_suffix(".py").read_text(encoding="utf-8")
    functions = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == name)
    return (ast.get_docstring(next(functions)) or "").partition("\n")[0]


def usage(parser: "Parser", command: Command) -> str:
    """One line: what must be given; a training has too many options to list them all twice."""
    if command.usage:
        return "\n       ".join(f"{parser.prog} {way}" for way in command.usage)
    pieces = [parser.prog]
    for action in parser._actions:
        value = action.metavar or action.dest.upper()
        if not action.option_strings:
            pieces.append(str(value))
        elif action.required:
            pieces.append(f"{action.option_strings[0]} {value}")
    return " ".join([*pieces, "[options]"])


def flags(parser: "Parser", arguments: list[str]) -> list[str]:
    """Let a yes-or-no option stand alone, `--resume` for `--resume true`, and `--dry-run` mean `--dry_run`."""
    known = {option: action for action in parser._actions for option in action.option_strings}
    result = []
    for position, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        underscored = f"--{option[2:].replace('-', '_')}"
        names = {underscored, underscored.partition(".")[0]}  # --network-args.feature-size sets a key of --network_args
        if option.startswith("--") and option not in known and not names.isdisjoint(known):
            option = underscored
        result.append(option + equals + value)
        following = arguments[position + 1 : position + 2]
        boolean = option in known and getattr(known[option], "_typehint", None) in (bool, bool | None)
        if boolean and not equals and (not following or following[0].startswith("--")):
            result.append("true")
    return result


if __name__ == "__main__":
    sys.exit(main())
