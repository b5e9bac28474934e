"""Weights to start from: which tensor of a file is which of a network, and what became of each.

A file's names may have a prefix that the network's have not, and the reverse. The two prefixes are those by which most
tensors fit, whatever they are called.
"""

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medcontext.data.geometry import Shape3
from medcontext.networks.conversions import converted, grids, names

Fate = Literal["loaded", "renamed", "converted", "shape differs", "missing", "unused"]
FATES: tuple[Fate, ...] = ("loaded", "renamed", "converted", "shape differs", "missing", "unused")
TAKEN = FATES[:3]
ENCODERS = ("vit", "swinViT", "encoder")  # modules that others pretrain; where there is none, all but the last layer
ENOUGH = 0.9  # of the encoder
TRIED = 20  # pairs of prefixes
ONLY = "relative_position_index"  # follows from the size of the windows, and from nothing else


@dataclass(frozen=True)
class TensorFate:
    """What became of a tensor.

    Args:
        name: the network's; of an unused one the file's.
        fate: what became of it.
        numbers: how many it has; 0 for whole numbers, such as counters.
        source: the file's name, as it is there; empty where it has none.
        how: it was converted, or its shapes differ.
    """

    name: str
    fate: Fate
    numbers: int
    source: str = ""
    how: str = ""


@dataclass(frozen=True)
class KeyReport:
    """What `load_weights` did with the network's parameters and buffers, each once; one with two names counts once.

    Args:
        file: of weights.
        sha256: of the file.
        tensors: the network's in its order, then those that the file's container has besides.
        encoder: the module that counts as the encoder; empty for all but the last layer.
        share: of the encoder's numbers that are now the file's, 0 to 1.
        container: the dict within the file, and the prefix of the names there.
        step: of the training that wrote it; None where the file is from elsewhere.
        network: what a file of ours says of its network, see `Run.network_description`, and the `scans` that it saw.
        whole: whether the file is ours and fits, but perhaps for the last layer.
    """

    file: Path
    sha256: str
    tensors: tuple[TensorFate, ...]
    encoder: str
    share: float
    container: str = ""
    step: int | None = None
    network: Mapping[str, Any] | None = None
    whole: bool = False

    @property
    def taken(self) -> tuple[str, ...]:
        """Names of those that are now the file's."""
        return tuple(each.name for each in self.tensors if each.fate in TAKEN)

    @property
    def seen(self) -> dict[str, tuple[int, ...]]:
        """The shape of each scan that a file of ours learned from, by its image's digest."""
        return {digest: tuple(shape) for digest, shape in ((self.network or {}).get("scans") or {}).items()}

    @property
    def anew(self) -> tuple[str, ...]:
        """Names of those that are as they were, because the file's have another shape."""
        return self.of("shape differs")

    def of(self, fate: Fate) -> tuple[str, ...]:
        """Names of those with one fate."""
        return tuple(each.name for each in self.tensors if each.fate == fate)

    def numbers(self, *fates: Fate) -> int:
        """How many numbers the tensors with these fates have."""
        return sum(each.numbers for each in self.tensors if each.fate in fates)

    def text(self) -> str:
        """All of it, a line for each tensor."""
        place = f" in it: {self.container}" if self.container else ""
        lines = [f"{self.file}{place}", f"SHA-256 {self.sha256}", "", f"{'':15}{'tensors':>9}{'numbers':>15}"]
        lines += [f"{fate:15}{len(self.of(fate)):9,}{self.numbers(fate):15,}" for fate in FATES]
        lines += ["", f"{self.share:.1%} of {self.encoder_words} is the file's", ""]
        for fate in FATES:
            for each in self.tensors:
                if each.fate == fate:
                    source = f"from {each.source}" if fate in ("renamed", "converted") else ""
                    lines.append("  ".join(filter(None, (f"{fate:15}{each.name}", source, each.how))))
        return "\n".join(lines) + "\n"

    @property
    def encoder_words(self) -> str:
        return f"the encoder ({self.encoder})" if self.encoder else "the network without its last layer"


@dataclass(frozen=True)
class Match:
    """The tensors of a file that have a network's names.

    Args:
        container: path of the dict within the file.
        state: that dict.
        strip: prefix of its names.
        add: prefix of the network's.
        sources: the file's name of each name of the network's that it has.
        ready: those of them that fit, in the network's shapes, and what was done to each.
    """

    container: str
    state: Mapping[str, Tensor]
    strip: str
    add: str
    sources: Mapping[str, str]
    ready: Mapping[str, tuple[Tensor, str]]

    def rank(self, prefer: str) -> tuple[int, int, bool, int]:
        fit = sum(tensor.is_floating_point() for tensor, _ in self.ready.values())
        path = f"{self.container}.{self.strip}"
        return fit, len(self.sources), prefer in path.split("."), -len(path) - len(self.add)


def find_match(
    network: nn.Module,
    found: Iterable[tuple[str, Mapping[str, Tensor]]],
    *,
    prefer: str = "student",
    repeat: bool = True,
    crop_size: Shape3 | None = None,
) -> Match:
    """The container and prefixes by which most tensors fit a network; its `ready` may be empty.

    Args:
        network: to be given weights.
        found: paths and tensors, see `containers`.
        prefer: of two that fit alike the one of this name.
        repeat: whether convolutions of one channel are repeated to as many as the network's images have.
        crop_size: that the file's network was for; None where that is not known.
    """
    own, tables = unique(network.state_dict()), grids(network)
    channels = next((each.shape[1] for each in own.values() if each.dim() == 5), None) if repeat else None

    def fitting(there: Tensor, name: str) -> tuple[Tensor, str] | None:
        grid = tables.get(name)
        before = _grid_before(own, name, crop_size) if grid and not grid.offsets else None
        if name.endswith(ONLY) and there.shape != own[name].shape:
            return own[name], "stays, for the windows are others"
        return converted(there, own[name], channels, grid, before)

    best = Match("", {}, "", "", {}, {})
    for container, state in found:
        for strip, add in _prefixes(own, state):
            sources = _sources(own, state, strip, add)
            tried = {name: fitting(state[key], name) for name, key in sources.items()}
            ready = {name: each for name, each in tried.items() if each is not None}
            best = max(best, Match(container, state, strip, add, sources, ready), key=lambda each: each.rank(prefer))
    return best


def _sources(own: Container[str], state: Iterable[str], strip: str, add: str) -> dict[str, str]:
    """Names of the network's, and of the file's tensors that have them behind other prefixes."""
    translated = {_swapped(names(key)[-1], strip, add): key for key in state}
    plain = {_swapped(key, strip, add): key for key in state}
    return {name: key for name, key in (translated | plain).items() if name in own}


def _prefixes(own: Iterable[str], state: Iterable[str]) -> list[tuple[str, str]]:
    """Those of the file and of the network that names with the same end vote for, the most votes first."""
    ends = defaultdict(list)
    for name in own:
        for end in _ends(name):
            ends[end].append(name)
    votes = Counter({("", ""): 1})
    for key in state:
        for alias in names(key):
            for end in [each for each in _ends(alias) if each in ends][:1]:  # the longest
                strip = alias.removesuffix(end).rstrip(".")
                votes.update((strip, name.removesuffix(end).rstrip(".")) for name in ends[end])
    return [pair for pair, _ in votes.most_common(TRIED)]


def _ends(name: str) -> Iterable[str]:
    """
    >>> list(_ends("vit.norm.bias"))
    ['vit.norm.bias', 'norm.bias', 'bias']
    """
    parts = name.split(".")
    return (".".join(parts[start:]) for start in range(len(parts)))


def _swapped(name: str, strip: str, add: str) -> str:
    """
    >>> _swapped("module.patch_embed.bias", "module", "swinViT"), _swapped("rotation.bias", "module", "swinViT")
    ('swinViT.patch_embed.bias', '')
    """
    if strip and not name.startswith(f"{strip}."):
        return ""
    rest = name.removeprefix(f"{strip}.") if strip else name
    return f"{add}.{rest}" if add else rest


def _grid_before(own: Mapping[str, Tensor], name: str, crop_size: Shape3 | None) -> Shape3 | None:
    """The grid of positions of a network like ours for another crop."""
    patches = own.get(name.replace("position_embeddings", "patch_embeddings.weight"))
    if crop_size is None or patches is None or patches.dim() != 5:
        return None
    h, w, d = (extent // size for extent, size in zip(crop_size, patches.shape[2:], strict=True))
    return h, w, d


def unique(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state without further names of the same memory: nnU-Net's networks have two to four for each tensor."""
    first = {_memory(tensor): name for name, tensor in reversed(list(state.items()))}
    return {name: tensor for name, tensor in state.items() if first[_memory(tensor)] == name}


def what_became(network: nn.Module, match: Match) -> tuple[TensorFate, ...]:
    """Of every tensor of a network, then of every further one of the file."""
    found = [_fate(name, tensor, match) for name, tensor in unique(network.state_dict()).items()]
    used = {_memory(match.state[key]) for key in match.sources.values()}
    rest = {key: tensor for key, tensor in unique(match.state).items() if _memory(tensor) not in used}
    return (*found, *(TensorFate(key, "unused", _numbers(tensor), key) for key, tensor in rest.items()))


def _fate(name: str, own: Tensor, match: Match) -> TensorFate:
    if name not in match.sources:
        return TensorFate(name, "missing", _numbers(own))
    source = match.sources[name]
    if name not in match.ready:
        how = f"{shape(match.state[source])} there, {shape(own)} here"
        return TensorFate(name, "shape differs", _numbers(own), source, how)
    how = match.ready[name][1]
    kept = _swapped(source, match.strip, match.add) == name
    return TensorFate(name, "converted" if how else "loaded" if kept else "renamed", _numbers(own), source, how)


def encoder_of(network: nn.Module) -> tuple[str, tuple[str, ...]]:
    """The module that others pretrain, and the names of its tensors; of all but the last layer where it has none."""
    state = unique(network.state_dict())
    for module in ENCODERS:
        if isinstance(getattr(network, module, None), nn.Module):
            return module, tuple(name for name in state if name.startswith(f"{module}."))
    last = ["", *(name for name, _ in network.named_parameters())][-1].rpartition(".")[0]
    return "", tuple(name for name in state if not name.startswith(f"{last}."))


def shape(tensor: Tensor) -> str:
    """
    >>> shape(torch.zeros(2, 3)), shape(torch.tensor(1))
    ('2 x 3', 'a number')
    """
    return " x ".join(map(str, tensor.shape)) or "a number"


def _numbers(tensor: Tensor) -> int:
    return tensor.numel() if tensor.is_floating_point() else 0


def _memory(tensor: Tensor) -> tuple[int, int, torch.Size]:
    return tensor.untyped_storage().data_ptr(), int(tensor.storage_offset()), tensor.shape
