"""Files of weights from anywhere, read without running anything that is in them."""

import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medcontext.errors import InputError, first_line, lacks_memory

DEEPEST = 5  # dicts within dicts that are looked into


def read_weight_file(path: Path) -> dict[Any, Any]:
    """The content of a file that `torch.save` wrote; nothing but tensors, arrays and plain values is unpickled.

    Raises:
        InputError: if it is missing, damaged, no such file, or holds anything else.
    """
    if not path.is_file():
        raise InputError(f"Weights not found: {path}. Give a run, a checkpoint of it, or another file of weights.")
    if path.suffix == ".safetensors":
        raise InputError(
            f"{path}: safetensors are not read here. Turn them into another file where they are installed: python -c "
            f"\"import torch, safetensors.torch as s; torch.save(s.load_file('{path.name}'), '{path.stem}.pt')\""
        )
    try:
        content = unpickled(path)
    except AlteredError as error:
        raise InputError(f"{path} is not a whole file of weights: {error} in it was altered. Copy it again.") from None
    except Exception as error:  # a damaged pickle may raise anything
        if lacks_memory(error):
            raise
        raise InputError(_refusal(path, error)) from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, where named tensors are needed: a state_dict.")
    return content


class AlteredError(Exception):
    """A part of a file has another checksum than was written with it."""


def unpickled(path: Path) -> Any:
    """What `torch.save` wrote, if it is nothing but tensors, arrays and plain values.

    Raises:
        AlteredError: naming the part.
        Exception: whatever a damaged pickle, or one that holds more, makes of it.
    """
    if zipfile.is_zipfile(path):  # as all that torch has written since 1.6
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch does not look at the checksums that it writes
        if damaged:
            raise AlteredError(damaged)
    with _plain_values(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of another pickle protocol, before it is refused
        return torch.load(path, map_location="cpu", weights_only=True)


def containers(content: Mapping[Any, Any], path: str = "") -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every dict of named tensors in a file, whatever it is called there.

    >>> list(containers({"epoch": 3, "model": {"a": {"bias": torch.zeros(1)}}}))
    [('model.a', {'bias': tensor([0.])})]
    """
    named = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    tensors = {key: value for key, value in named.items() if value.layout == torch.strided and not value.is_meta}
    if tensors:
        yield path, tensors
    for key, value in content.items():
        if isinstance(value, Mapping) and path.count(".") < DEEPEST:
            yield from containers(value, f"{path}.{key}".removeprefix("."))


def _plain_values() -> AbstractContextManager[Any]:
    """Numbers and arrays of numpy, which the checkpoints of nnU-Net and nnssl note their losses in."""
    if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):  # torch before 2.6 takes no names
        return nullcontext()
    scalar, array = np.float64(0).__reduce__()[0], np.zeros(1).__reduce__()[0]
    kinds = [kind for kind in vars(np.dtypes).values() if isinstance(kind, type) and issubclass(kind, np.dtype)]
    renamed: list[Any] = [
        (function, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")  # as numpy 1 and 2 call them
        for function, name in ((scalar, "scalar"), (array, "_reconstruct"))
    ]
    return torch.serialization.safe_globals([np.dtype, np.ndarray, *kinds, *renamed])


def _refusal(path: Path, error: Exception) -> str:
    if found := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return (
            f"{path} holds a {found[1]}, and is not read: what is neither a tensor nor a plain value can run code on "
            "this machine. If you trust whoever made it, keep its weights alone, in the place of 'state_dict' whatever "
            "it calls them: python -c \"import torch; torch.save(torch.load('"
            f"{path.name}', map_location='cpu', weights_only=False)['state_dict'], 'weights.pt')\""
        )
    why = f": {first_line(error)}" if isinstance(error, RuntimeError) else ""
    return f"{path} is not a file of weights that torch wrote, or not a whole one{why.rstrip('.')}. Copy it again."
