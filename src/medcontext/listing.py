"""What `medcontext networks` prints: every network, the presets that use it, and how large they make it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from medcontext.configuration import PRESETS
from medcontext.data.known import KNOWN, SPLITS
from medcontext.errors import InputError
from medcontext.networks import NETWORKS, build_network
from medcontext.pretrain_settings import PretrainSettings
from medcontext.settings import Settings, TrainingSettings

OTHERWISE = (1, 2)  # channels and classes, for presets that are for any data set
CROP = (96, 96, 96)  # where a preset leaves it to the data


@dataclass(frozen=True)
class Preset:
    """A preset.

    Args:
        name: as `--preset` takes it.
        settings: what it sets.
        parameters: of the network with the channels and classes of the preset's data set.
    """

    name: str
    settings: Settings
    parameters: int


def presets() -> Iterator[Preset]:
    """Every preset, by name."""
    for path in sorted((PRESETS / "run").glob("*.yaml")):
        settings = Settings.preset(path.stem)
        yield Preset(path.stem, settings, count_parameters(settings))


def count_parameters(settings: Settings) -> int:
    """The parameters of a preset's network, with the channels and classes of its data set."""
    return sum(parameter.numel() for parameter in sketch(settings, settings.split).parameters())


def sketch(settings: Settings, dataset: str | None) -> nn.Module:
    """The network of some settings: its modules and their sizes; in general without values.

    Args:
        settings: of a run.
        dataset: one of `KNOWN` or a split of it, for the channels and classes; None for any other.

    Raises:
        InputError: if it cannot be built.
    """
    known = KNOWN.get(SPLITS.get(dataset or "", ""))
    channels, classes = (len(known.channels), len(known.labels)) if known else OTHERWISE
    build = partial(
        build_network,
        settings.network,
        in_channels=channels,
        out_channels=len(settings.regions) or classes,
        crop_size=CROP if settings.crop_size == "auto" else settings.crop_size,
        args=settings.network_args,
    )
    try:
        with torch.device("meta"):  # without memory for the parameters, or time to draw them
            return build()
    except InputError:  # MONAI's Swin UNETR computes with values while it is built
        return build()


def network_lines() -> Iterator[str]:
    """One line for each network, and beneath it one for each of its presets; rich markup."""
    found = list(presets())
    names = sorted(path.stem for path in (PRESETS / PretrainSettings.presets).glob("*.yaml"))
    pretrainings = [(title, PretrainSettings.preset(title)) for title in names]
    width = max(len(preset.name) for preset in found)
    for name, build in NETWORKS.items():
        yield f"[bold]{name:10}[/]  {(build.__doc__ or '').splitlines()[0]}"
        for preset in found:
            if preset.settings.network == name:
                size = f"{preset.parameters / 1e6:5.1f} M parameters"
                yield f"  --preset {preset.name:{width}}  {size}, {_crop(preset.settings)}"
        for title, settings in pretrainings:
            if settings.network == name:
                yield f"  --preset {title:{width}}  of `medcontext pretrain`: {settings.objective}, {_crop(settings)}"
    yield "Also any class of monai.networks.nets (SegResNet, ...), and package.module.Class."


def _crop(settings: TrainingSettings) -> str:
    return "crop from the data" if settings.crop_size == "auto" else "crop " + " x ".join(map(str, settings.crop_size))
