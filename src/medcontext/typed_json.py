"""Values from JSON as what the fields of dataclasses are declared to be."""

from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from medcontext.errors import InputError


def taken(value: Any, kind: Any, name: str) -> Any:
    """A value from JSON as what a field is declared to be; a null is a fact that is not known.

    Raises:
        InputError: if it is something else.

    >>> taken({"a": [1, 2]}, dict[str, tuple[int, int]], "sizes")
    {'a': (1, 2)}
    """
    if isinstance(kind, UnionType):
        return None if value is None else taken(value, get_args(kind)[0], name)
    if isinstance(kind, type) and is_dataclass(kind) and isinstance(value, dict):
        declared = get_type_hints(kind)
        known = {key: each for key, each in value.items() if key in declared and each is not None}
        lacking = [
            each.name
            for each in fields(kind)
            if each.default is MISSING is each.default_factory and each.name not in known
        ]
        if lacking:
            raise InputError(f"it has no {', '.join(lacking)}.")
        return kind(**{key: taken(each, declared[key], key) for key, each in known.items()})
    of, parts = get_origin(kind), get_args(kind)
    if of is dict and isinstance(value, dict):
        return {key: taken(each, parts[1], name) for key, each in value.items()}
    if of is tuple and isinstance(value, list):
        parts = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
        if len(parts) == len(value):
            return tuple(taken(each, part, name) for each, part in zip(value, parts, strict=True))
    if of is None and isinstance(value, (int, float) if kind is float else kind):
        return value
    raise InputError(f"{name} is {value!r:.60}.")
