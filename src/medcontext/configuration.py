"""Dataclasses of settings from the command line and from YAML, and back to YAML.

Below `medcontext.settings`, which says what the settings are.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import yaml
from jsonargparse import Namespace

from medcontext.errors import InputError, unknown_name
from medcontext.files import write_text
from medcontext.options import Parser

PRESETS = Path(__file__).parent / "presets"


class Named(Protocol):
    """A kind of settings.

    Args:
        command: that takes them.
        presets: folder of those that have a name.
    """

    command: ClassVar[str]
    presets: ClassVar[str]


T = TypeVar("T")
S = TypeVar("S", bound=Named)


def preset_path(kind: str, name: str) -> Path:
    """The YAML file of a preset, or of the user's own when `name` is a file.

    Args:
        kind: `method` or `objective`, or `run` or `pretraining` for presets of whole ones.
        name: as `--method` or `--preset` names it.

    Raises:
        InputError: for a name that is neither, with a suggestion.
    """
    known = {path.stem: path for path in (PRESETS / kind).glob("*.yaml")}
    if name in known:
        return known[name]
    if Path(name).suffix in (".yaml", ".yml"):
        if not Path(name).is_file():
            raise InputError(f"Settings file not found: {name}")
        return Path(name)
    raise unknown_name(kind if kind in ("method", "objective") else "preset", name, known)


def named_options(arguments: Sequence[str], kind: type[Named]) -> list[str]:
    """Replace the names given to --preset, --method and --objective by what sets them: YAML files.

    A preset comes before all other options, then what an objective brings with it; those that a --config file names,
    before that file's. What a preset sets of the method, such as a mask that divides its crop, comes again after a
    --method, which replaces all settings of its kind: before its file, which says only what differs, come the defaults
    of `kind`.

    >>> from medcontext.settings import Settings
    >>> named_options(["--preset=acdc_nnformer", "--method", "none", "--steps", "5"], Settings)
    ['--config', '...acdc_nnformer.yaml', '--method', '{"name": "medcontext", ...}', '--method', '...none.yaml',
    '--method.mask.patch_size', '[16, 16, 14]', ...]
    """
    pieces = [piece for argument in arguments for piece in _split(argument)]
    pairs = list(pairwise([*pieces, ""]))
    presets = [preset_path(kind.presets, name) for option, name in pairs if option == "--preset"]
    fitted: list[str] = []
    objectives = [name for option, name in pairs if option == "--objective"]
    named = partial(_config_options, kind=kind, fitted=fitted, brings=not objectives)
    options = [option for preset in presets for option in _preset_options(preset, named, fitted)]
    options += [option for name in objectives for option in _objective_options(name)]
    remaining = iter(pieces)
    for piece in remaining:
        if piece == "--preset":
            next(remaining)
        elif piece == "--method":
            options += [piece, str(preset_path("method", next(remaining, ""))), *fitted]
        elif piece == "--config" and Path(name := next(remaining, "")).is_file():
            options += named(Path(name))
        elif piece == "--config":
            options += [piece, name]  # the parser will say that it is not there
        else:
            options.append(piece)
    return [option for piece in pairwise([*options, ""]) for option in _on_defaults(*piece, kind)]


def _on_defaults(option: str, value: str, kind: type) -> list[str]:
    """An option, behind the defaults of all that it sets where it is a method that comes with the package."""
    if option == "--method" and Path(value).parent == PRESETS / "method":
        return [option, json.dumps(plain(asdict(kind().method))), option]
    return [option]


def _split(argument: str) -> list[str]:
    option, equals, value = argument.partition("=")
    return [option, value] if equals and option in ("--preset", "--method", "--objective", "--config") else [argument]


def _read_config(file: Path) -> dict[str, Any]:
    """What a YAML file sets.

    Raises:
        InputError: if it is no YAML, or no settings.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not valid YAML: {' '.join(str(error).split())}. Correct the file.") from None
    except OSError as error:
        raise InputError(f"Cannot read {file}: {error.strerror}.") from None
    if not isinstance(content, dict):
        raise InputError(f"{file} holds no settings, but {content!r:.60}; give lines such as `steps: 1000`.")
    return content


def _objective_options(name: str) -> list[str]:
    """What an objective brings with it, such as its optimizer."""
    return ["--config", str(preset_path("objective", name))]


def _preset_options(preset: Path, named: Callable[[Path], list[str]], fitted: list[str]) -> list[str]:
    """A preset as options; what it sets of the method joins `fitted`, which comes again after a method by name."""
    options = named(preset)
    fitted += _method_options(preset)
    return options


def _config_options(file: Path, kind: type[Named], fitted: list[str], brings: bool) -> list[str]:
    """A YAML file as options, in which preset, method and objective may be given by name, as on the command line.

    Its objective `brings` what belongs to it, unless another is given beside the file.
    """
    content = _read_config(file)
    rest, options = dict(content), []
    if "preset" in rest:
        name = _name(rest.pop("preset"), file, "preset")
        named = partial(_config_options, kind=kind, fitted=fitted, brings=brings)
        options += _preset_options(preset_path(kind.presets, name), named, fitted)
    if "objective" in rest and brings:
        options += _objective_options(_name(rest["objective"], file, "objective"))
    method = rest.get("method", {})
    if not isinstance(method, dict):
        options += ["--method", str(preset_path("method", _name(rest.pop("method"), file, "method"))), *fitted]
    elif (PRESETS / "method" / f"{method.get('name')}.yaml").is_file():  # what the file does not say is as there
        options += ["--method", str(preset_path("method", method["name"])), *fitted]
    if isinstance(rest.get("unlabelled", ()), str | None):
        rest["unlabelled"] = [rest["unlabelled"]] if rest["unlabelled"] else []
    if rest == content:
        return [*options, "--config", str(file)]
    return [*options, "--config", json.dumps(rest, default=str)] if rest else options


def _name(value: Any, file: Path, key: str) -> str:
    if isinstance(value, str):
        return value
    baseline = " YAML reads null, ~, no and an empty value as other things: for the baseline write `method: none`."
    raise InputError(f"{file}: {key} is {value!r}; give a name.{baseline if key == 'method' else ''}")


def _method_options(preset: Path) -> list[str]:
    method = _read_config(preset).get("method")
    return _flat("--method", method) if isinstance(method, dict) else []


def _flat(name: str, value: Any) -> list[str]:
    if isinstance(value, Mapping) and value:
        return [option for key, item in value.items() for option in _flat(f"{name}.{key}", item)]
    value = plain(value)
    return [name, value if isinstance(value, str) else json.dumps(value)]


def options_of(values: Mapping[str, Any]) -> list[str]:
    """Options as on the command line, of values by name; of settings within settings, by their names.

    >>> options_of({"split": Path("a.json"), "method": {"mask": {"patch_size": (16, 16, 14)}}, "method.share": 0.5})
    ['--split', 'a.json', '--method.mask.patch_size', '[16, 16, 14]', '--method.share', '0.5']
    """
    return [option for name, value in values.items() for option in _flat(f"--{name}", value)]


def add_settings(parser: Parser, kind: type) -> None:
    """Give a parser one option for each field of a dataclass of settings."""
    parser.add_class_arguments(kind, nested_key=None, help="settings of the training")


def settings_from(parser: Parser, values: Namespace, kind: type[T]) -> T:
    """The settings among parsed values."""
    objects = parser.made(values)
    return kind(**{field.name: objects[field.name] for field in fields(kind)})  # type: ignore[arg-type]


def parse(arguments: Sequence[str], kind: type[S]) -> S:
    """Settings from options as on the command line.

    Raises:
        InputError: for an option or a value that is not allowed.
    """
    parser = Parser(prog=f"medcontext {kind.command}")
    parser.add_argument("--config", action="config")
    add_settings(parser, kind)
    return settings_from(parser, parser.parse_args(named_options(arguments, kind)), kind)


def write_yaml(path: Path, settings: Any) -> None:
    """Save settings, every field."""
    write_text(path, yaml.safe_dump(plain(asdict(settings)), sort_keys=False))


def read_yaml(path: Path, kind: type[S]) -> S:
    """Settings that `write_yaml` saved.

    Raises:
        InputError: if the file is missing or a field is unknown.
    """
    if not path.is_file():
        raise InputError(f"{path} not found: {path.parent} is not a folder that `medcontext {kind.command}` wrote.")
    parser = Parser()
    add_settings(parser, kind)
    try:
        return settings_from(parser, parser.parse_object(yaml.safe_load(path.read_text())), kind)
    except Exception as error:
        raise InputError(f"{path} holds settings that this version does not know: {error}") from error


def plain(value: Any) -> Any:
    """A value that YAML and JSON can hold, with lists for tuples and text for paths."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
