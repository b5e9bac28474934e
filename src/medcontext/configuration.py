"""Settings from the command line and from YAML, and back to YAML."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from medcontext.errors import InputError, unknown_name
from medcontext.files import write_text
from medcontext.settings import Settings

PRESETS = Path(__file__).parent / "training" / "presets"


def preset_path(kind: str, name: str) -> Path:
    """The YAML file of a preset, or of the user's own when `name` is a file.

    Args:
        kind: `method`, or `run` for presets of whole runs.
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
    raise unknown_name("method" if kind == "method" else "preset", name, known)


def add_settings(parser: ArgumentParser) -> None:
    """Give a parser one option for each setting."""
    parser.add_class_arguments(Settings, nested_key=None, help="settings of the training")


def settings_from(parser: ArgumentParser, values: Namespace) -> Settings:
    """The settings among parsed values."""
    objects = parser.instantiate_classes(values)
    return Settings(**{field.name: objects[field.name] for field in fields(Settings)})


def parse_settings(arguments: list[str]) -> Settings:
    """Settings from options as on the command line, with methods given as files (see `preset_path`).

    >>> parse_settings(["--steps", "600", "--method.beta", "0.1"]).method.beta
    0.1
    """
    parser = ArgumentParser(exit_on_error=False)
    add_settings(parser)
    return settings_from(parser, parser.parse_args(arguments))


def write_settings(path: Path, settings: Settings) -> None:
    """Save the resolved settings as YAML, every field."""
    write_text(path, yaml.safe_dump(_plain(asdict(settings)), sort_keys=False))


def read_settings(path: Path) -> Settings:
    """Settings that `write_settings` saved.

    Raises:
        InputError: if the file is missing or a field is unknown.
    """
    if not path.is_file():
        raise InputError(f"{path} not found: {path.parent} is not a folder that `medcontext train` wrote.")
    parser = ArgumentParser(exit_on_error=False)
    add_settings(parser)
    try:
        return settings_from(parser, parser.parse_object(yaml.safe_load(path.read_text())))
    except Exception as error:
        raise InputError(f"{path} holds settings that this version does not know: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
