"""Options of a command: how the help shows them, and what is said of one that does not exist."""

import difflib
import re
from argparse import SUPPRESS, Action
from collections.abc import Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from medcontext.errors import InputError

STEPS = "--steps, the optimizer steps in all: there are no epochs"
WEIGHTS = "--init RUN, which starts from the weights of another run"
DEVICE = "--accelerator gpu or cpu, and --devices for how many"
OTHERS = {  # what other programs call it, and what it is here
    "amp": "--precision bf16",
    "checkpoint": WEIGHTS,
    "device": DEVICE,
    "epochs": STEPS,
    "gpus": "--devices",
    "learning_rate": "--optimizer.lr",
    "max_epochs": STEPS,
    "model": "--network",
    "num_epochs": STEPS,
    "num_workers": "--workers",
    "patch_size": "--crop_size; the edge of a hidden patch is --method.mask.patch_size",
    "pretrained": WEIGHTS,
    "roi_size": "--crop_size",
    "weights": WEIGHTS,
}


class Help(DefaultHelpFormatter):
    """Says what a value is by its name, N for a number, and never by a type of Python's."""

    def _get_help_string(self, action: Action) -> str:
        text, default = action.help or "", action.default
        number = isinstance(default, int | float) and default is not False
        told = action.nargs == 0 or "default" in text or default == SUPPRESS
        return f"{text} (default: {written(default)})" if (number or default) and not told else text

    def _format_action_invocation(self, action: Action) -> str:
        return super()._format_action_invocation(action).rstrip()


class Parser(ArgumentParser):
    """Reports a wrong option as one clear message, with the nearest option that exists."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, formatter_class=Help, allow_abbrev=False, **options)

    def made(self, values: Namespace) -> Namespace:
        """The objects that values describe; jsonargparse calls it otherwise from 4.49 on, and no more so from 5 on."""
        make = getattr(self, "instantiate", None) or self.instantiate_classes
        objects: Namespace = make(values)
        return objects

    def error(self, message: str, ex: Exception | None = None) -> Any:
        cause: BaseException | None = ex
        while cause is not None:
            if isinstance(cause, InputError):
                raise cause
            cause = cause.__cause__ or cause.__context__
        message = " ".join(message.split()).rstrip(".")
        unknown = re.search(r"--[\w.-]+", message) if message.lower().startswith("unrecognized") else None
        if unknown or (unknown := re.search(r"Key '([\w.]+)' is not expected", message)):
            name = unknown[unknown.re.groups].removeprefix("--").replace("-", "_")
            known = [option.removeprefix("--") for action in self._actions for option in action.option_strings]
            raise InputError(f"Unknown option '{name}'{suggestion(name, known)} See {self.prog} --help.")
        wrong = re.match(r'Parser key "([\w.]+)": (.*)', message)
        if wrong:
            kinds = {action.dest: getattr(action, "_typehint", None) for action in self._actions}
            got = re.match(r"Expected .*\. Got value: (.*)|.*Union subtypes.* Given value: (.*)", wrong[2])
            said = f": {wrong[2]}."
            if got and (kind := kinds.get(wrong[1])):
                value = got[1] or got[2]
                said = f" takes {value_name(kind)}, not {value}{instead(wrong[1], kind, value)}."
            raise InputError(f"Option --{wrong[1]}{said} See {self.prog} --help.")
        raise InputError(f"{message[:1].upper()}{message[1:]}. See {self.prog} --help.")


def suggestion(name: str, known: Sequence[str]) -> str:
    """What to write instead of an option that does not exist; goes behind its name.

    >>> suggestion("lr", ["optimizer.lr", "fill"]), suggestion("stpes", ["steps"]), suggestion("zzz", ["steps"])
    ("; did you mean 'optimizer.lr'?", "; did you mean 'steps'?", '.')
    >>> suggestion("epochs", ["steps"])
    '; here it is --steps, the optimizer steps in all: there are no epochs.'
    """
    other = OTHERS.get(name, "")
    if other and re.split(r"[ ,;]", other)[0].removeprefix("--") in known:
        return f"; here it is {other}."
    within = [option for option in known if option.rpartition(".")[2] == name]
    near = within[:1] or difflib.get_close_matches(name, known, n=1)
    return f"; did you mean '{near[0]}'?" if near else "."


def instead(option: str, kind: Any, value: str) -> str:
    """What to write instead of a value that is not taken; goes behind it.

    >>> instead("device", Literal["cpu", "gpu"], "cuda"), instead("loggers", list[str], "wandb")
    ('; here it is gpu', '; --loggers+=wandb adds it')
    """
    if "gpu" in get_args(kind) and value.startswith("cuda"):
        return "; here it is gpu"
    if get_origin(kind) is list and re.fullmatch(r"\w+", value):
        return f"; --{option}+={value} adds it"
    return ""


def value_name(kind: Any) -> str:
    """What the help calls a value of a type.

    >>> value_name(int | None), value_name(tuple[int, int, int] | Literal["auto"]), value_name(dict[str, float])
    ('N', '[N,N,N]|auto', 'NAME:N,...')
    """
    of, parts = get_origin(kind), get_args(kind)
    if of in (Union, UnionType):
        return "|".join(dict.fromkeys(value_name(part) for part in parts if part is not NoneType))
    if of is Literal:
        return "|".join(map(str, parts))
    if of is tuple:
        return f"[{','.join(value_name(part) for part in parts if part is not Ellipsis)}]"
    if of is list:
        return f"{value_name(parts[0])},..."
    if of is dict or kind is dict:
        return f"NAME:{value_name(parts[1]) if parts else 'VALUE'},..."
    if kind is bool:
        return "true|false"
    return {int: "N", float: "N", str: "NAME", Path: "PATH"}.get(kind, "VALUE")


def name_values(parser: ArgumentParser) -> None:
    """Let every option that has no name for its value say what that is; a switch that is off needs none."""
    for action in parser._actions:
        kind, made = getattr(action, "_typehint", None), str(action.metavar or "{")[0] in "{["
        if (action.help or "").startswith("Path to a configuration file"):  # jsonargparse's
            action.metavar, action.help = "FILE", "YAML file that sets all of these"
        elif kind is not None and made and action.option_strings:
            action.metavar = "" if kind is bool and action.default is False else value_name(kind)


def written(value: Any) -> str:
    """A default as one writes it on the command line.

    >>> written(True), written(["csv", "tensorboard"]), written((0.8, 1.25))
    ('true', 'csv, tensorboard', '0.8, 1.25')
    """
    if isinstance(value, list | tuple):
        return ", ".join(map(written, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def put_first(parser: ArgumentParser, title: str, options: Sequence[str]) -> None:
    """Show some options before all others, under a title."""
    actions = {option: action for action in parser._actions for option in action.option_strings}
    chosen = [actions[f"--{option}"] for option in options]
    for group in parser._action_groups:
        group._group_actions = [action for action in group._group_actions if action not in chosen]
    own = parser.add_argument_group(title)
    own._group_actions = chosen
    groups = parser._action_groups
    groups[:] = [own, *(group for group in groups if group is not own)]  # type: ignore[index]
