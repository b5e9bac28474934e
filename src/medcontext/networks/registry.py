"""Networks by name: ours with good settings, any of MONAI's by class name, any module by import path."""

import copy
import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import monai.networks.nets
import torch
from torch import nn

from medcontext.data.geometry import Shape3
from medcontext.errors import InputError, unknown_name
from medcontext.method.adapters import TokenAdapter
from medcontext.method.losses import heads
from medcontext.networks.nnformer import NNFormer
from medcontext.networks.pcrlv2 import PCRLv2
from medcontext.networks.resenc import BLOCKS, FEATURES, ResEnc

# The names that constructors use for the same four facts.
IN_CHANNELS = ("in_channels", "in_chans", "input_channels", "n_channels", "in_channel")
OUT_CHANNELS = ("out_channels", "num_classes", "n_classes", "out_chans", "output_channels", "out_channel")
CROP_SIZE = ("img_size", "crop_size", "input_image_size", "image_size", "input_size")
DIMENSIONS = ("spatial_dims", "dimensions", "ndim")


class MonaiNetwork(NamedTuple):
    """A class of `monai.networks.nets` by its name, and what it is constructed with."""

    name: str
    arguments: dict[str, Any]

    def build(self) -> nn.Module:
        return getattr(monai.networks.nets, self.name)(**self.arguments)


def unet(in_channels: int, out_channels: int, crop_size: Shape3, **args: Any) -> MonaiNetwork:
    """MONAI's residual U-Net, small enough for a CPU: four levels of 16 to 128 channels."""
    defaults: dict[str, Any] = {"channels": (16, 32, 64, 128), "strides": (2, 2, 2), "num_res_units": 1}
    sizes = {"spatial_dims": 3, "in_channels": in_channels, "out_channels": out_channels}
    return MonaiNetwork("UNet", sizes | defaults | args)


def unetr(in_channels: int, out_channels: int, crop_size: Shape3, **args: Any) -> MonaiNetwork:
    """UNETR (Hatamizadeh et al., WACV 2022), ViT-B/16."""
    sizes = {"in_channels": in_channels, "out_channels": out_channels, "img_size": crop_size}
    return MonaiNetwork("UNETR", sizes | args)


def swin_unetr(in_channels: int, out_channels: int, crop_size: Shape3, **args: Any) -> MonaiNetwork:
    """Swin UNETR (Hatamizadeh et al., BrainLes 2021), with its published feature size of 48."""
    sizes = {"in_channels": in_channels, "out_channels": out_channels, "feature_size": 48}
    return MonaiNetwork("SwinUNETR", sizes | args)


def dynunet(in_channels: int, out_channels: int, crop_size: Shape3, **args: Any) -> MonaiNetwork:
    """A U-Net with nnU-Net's topology, planned from the crop, with deep supervision (Isensee et al., 2021).

    Channels double from 32 up to 320.
    """
    strides = plan_strides(crop_size)
    defaults: dict[str, Any] = {
        "kernel_size": [[3, 3, 3]] * len(strides),
        "strides": strides,
        "upsample_kernel_size": strides[1:],
        "filters": [min(320, 32 * 2**level) for level in range(len(strides))],
        "deep_supervision": len(strides) > 3,
        "deep_supr_num": max(1, len(strides) - 3),
    }
    sizes = {"spatial_dims": 3, "in_channels": in_channels, "out_channels": out_channels}
    return MonaiNetwork("DynUNet", sizes | defaults | args)


def resenc(in_channels: int, out_channels: int, crop_size: Shape3, **args: Any) -> nn.Module:
    """nnU-Net's U-Net with a residual encoder, ResEnc-L at crops from 128 on (Isensee et al., MICCAI 2024).

    It has as many stages as the first of the lists that are given, else as the crop is halved; arguments are called as
    in nnU-Net's plans.
    """
    strides = plan_strides(crop_size)
    given = [args[name] for name in ("strides", "features_per_stage", "n_blocks_per_stage") if name in args]
    stages = len(given[0]) if given else len(strides)
    defaults: dict[str, Any] = {
        "strides": strides[:stages],
        "features_per_stage": FEATURES[:stages],
        "n_blocks_per_stage": BLOCKS[:stages],
    }
    return ResEnc(in_channels, out_channels, **(defaults | args))


def plan_strides(crop_size: Shape3) -> list[list[int]]:
    """nnU-Net's strides, at most six: an axis is halved as long as it keeps at least 4 voxels.

    >>> plan_strides((64, 16, 8))
    [[1, 1, 1], [2, 2, 2], [2, 2, 1], [2, 1, 1], [2, 1, 1]]
    """
    strides, extent = [[1, 1, 1]], list(crop_size)
    while len(strides) < 6 and any(size >= 8 and size % 2 == 0 for size in extent):
        stride = [2 if size >= 8 and size % 2 == 0 else 1 for size in extent]
        extent = [size // step for size, step in zip(extent, stride, strict=True)]
        strides.append(stride)
    return strides


def pcrlv2(in_channels: int, out_channels: int, crop_size: Shape3, **args: Any) -> nn.Module:
    """PCRLv2's 3D CNN (Zhou et al., 2023), with skip connections."""
    return PCRLv2(in_channels, out_channels, **args)


NETWORKS: dict[str, Callable[..., nn.Module | MonaiNetwork]] = {
    "dynunet": dynunet,
    "nnformer": NNFormer,
    "pcrlv2": pcrlv2,
    "resenc": resenc,
    "swin_unetr": swin_unetr,
    "unet": unet,
    "unetr": unetr,
}

# The submodule whose output are the tokens, before position embeddings, and the convolution that makes them.
PATCH_EMBEDDINGS = {
    "nnformer": ("patch_embed", "patch_embed.plain2"),
    "swin_unetr": ("swinViT.patch_embed", "swinViT.patch_embed.proj"),
    "unetr": ("vit.patch_embedding.patch_embeddings", "vit.patch_embedding.patch_embeddings"),
}


def build_network(
    name: str, *, in_channels: int, out_channels: int, crop_size: Shape3, args: dict[str, Any] | None = None
) -> nn.Module:
    """A network that maps (B, in_channels, *crop_size) to logits (B, out_channels, *crop_size).

    Args:
        name: one of `NETWORKS`, a class of `monai.networks.nets` such as `SegResNet`, or the import path of a
            module class or function, such as `mypackage.models.MyNet`.
        in_channels: image channels.
        out_channels: classes, the background among them.
        crop_size: the training crop (H, W, D) in voxels.
        args: further arguments of the constructor.

    Raises:
        InputError: for an unknown name (with a suggestion), arguments that the constructor refuses, a crop that
            the network cannot take (with one that it can), or outputs of another shape.

    Example:
        >>> network = build_network("SegResNet", in_channels=1, out_channels=3, crop_size=(32, 32, 32))
        >>> network(torch.zeros(1, 1, 32, 32, 32)).shape
        torch.Size([1, 3, 32, 32, 32])
    """
    network = _build(name, in_channels, out_channels, crop_size, args or {})
    problem = size_problem(network, in_channels, out_channels, crop_size)
    if problem is None:
        return network
    advice = "check crop_size and network_args"
    for multiple in (8, 16, 32, 64):
        h, w, d = (max(1, -(-extent // multiple)) * multiple for extent in crop_size)
        larger = _build(name, in_channels, out_channels, (h, w, d), args or {})
        if size_problem(larger, in_channels, out_channels, (h, w, d)) is None:
            advice = f"use a crop_size of {(h, w, d)}"
            break
    raise InputError(f"Network '{name}' cannot take crop_size {crop_size}: {problem}; {advice}.")


def monai_network(
    name: str, *, in_channels: int, out_channels: int, crop_size: Shape3, args: dict[str, Any] | None = None
) -> MonaiNetwork | None:
    """What `build_network` constructs of the same arguments, where that is a class of MONAI's; else None."""
    made = _make(name, in_channels, out_channels, crop_size, args or {}) if "." not in name else None
    return made if isinstance(made, MonaiNetwork) else None


def _build(name: str, in_channels: int, out_channels: int, crop_size: Shape3, args: dict[str, Any]) -> nn.Module:
    try:
        network = _make(name, in_channels, out_channels, crop_size, args)
        network = network.build() if isinstance(network, MonaiNetwork) else network
    except InputError:
        raise
    except Exception as error:  # a user's network may raise anything
        raise InputError(
            f"Network '{name}' cannot be built for crop_size {crop_size} and network_args {args}: {error}"
        ) from error
    if not isinstance(network, nn.Module):
        raise InputError(f"Network '{name}' gives a {type(network).__name__}; it must give a torch.nn.Module.")
    return network


def _make(
    name: str, in_channels: int, out_channels: int, crop_size: Shape3, args: dict[str, Any]
) -> nn.Module | MonaiNetwork:
    factory = find_network(name)
    if name in NETWORKS:
        return factory(in_channels, out_channels, crop_size, **args)
    facts = {IN_CHANNELS: in_channels, OUT_CHANNELS: out_channels, CROP_SIZE: crop_size, DIMENSIONS: 3}
    arguments = _match(factory, facts, args) | args
    return factory(**arguments) if "." in name else MonaiNetwork(factory.__name__, arguments)


def token_adapter(name: str, network: nn.Module, initial: str = "zeros") -> TokenAdapter:
    """The token adapter of a network whose patch embedding we know.

    Raises:
        InputError: for a network without one; the voxel adapter works with any.
    """
    if name not in PATCH_EMBEDDINGS:
        raise InputError(
            f"mask.space 'tokens' is there for {', '.join(PATCH_EMBEDDINGS)}, not for '{name}'; use mask.space "
            "'voxels', or build a medcontext.TokenAdapter around your network yourself."
        )
    module, projection_name = PATCH_EMBEDDINGS[name]
    projection = network.get_submodule(projection_name)
    if not isinstance(projection, nn.Conv3d):
        raise InputError(f"mask.space 'tokens' needs a convolutional patch embedding, got {type(projection).__name__}.")
    # A stem of overlapping convolutions says itself how far apart its tokens are.
    h, w, d = getattr(network.get_submodule(module), "patch_size", projection.kernel_size)
    return TokenAdapter(network, module, projection.out_channels, (h, w, d), initial)


def find_network(name: str) -> Callable[..., Any]:
    """The constructor that a name stands for, see `build_network`.

    Raises:
        InputError: for an unknown name, with a suggestion.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    if "." not in name:
        classes = {key: value for key, value in vars(monai.networks.nets).items() if inspect.isclass(value)}
        if name not in classes:
            known = {value.__name__ for key, value in classes.items() if "U" in key}  # MONAI has other names of some
            raise unknown_name("network", name, [*NETWORKS, *known])
        return classes[name]
    return find_own("Network", name)


def find_own(kind: str, name: str) -> Callable[..., Any]:
    """A class or function of the user's by its import path.

    Raises:
        InputError: if it cannot be imported.
    """
    module, _, attribute = name.rpartition(".")
    if not module:
        others = ", or dice_ce for the usual one" if kind == "Loss" else ""
        raise InputError(f"{kind} '{name}' is no import path. Give package.module.Class{others}.")
    if "" not in sys.path:
        sys.path.insert(0, "")  # a console script does not search the current folder, `python -m` does
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{kind} '{name}' cannot be imported: {error}. Give package.module.Class.") from error


def _match(factory: Callable[..., Any], facts: dict[tuple[str, ...], Any], args: dict[str, Any]) -> dict[str, Any]:
    """The facts under the names that the constructor uses for them; all positional ones must be covered."""
    parameters = inspect.signature(factory).parameters
    matched = {
        alias: value
        for aliases, value in facts.items()
        for alias in aliases
        if alias in parameters and alias not in args
    }
    missing = [
        key
        for key, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and key not in matched | args
    ]
    if missing:
        raise InputError(
            f"Network '{getattr(factory, '__name__', factory)}' needs {', '.join(missing)}: give each as "
            f"--network_args.{missing[0]} VALUE."
        )
    return matched


def size_problem(network: nn.Module, in_channels: int, out_channels: int, crop_size: Shape3) -> str | None:
    """What is wrong with this crop, found by propagating shapes alone (PyTorch's meta device)."""
    try:
        network = copy.deepcopy(network).to("meta").eval()
        with torch.no_grad():
            shape = tuple(heads(network(torch.zeros(1, in_channels, *crop_size, device="meta")))[0].shape)
    except Exception as error:  # a user's network may raise anything
        message = (str(error).strip() or type(error).__name__).splitlines()[0]
        return None if "meta" in message.lower() else message  # it needs values, not only shapes: it cannot be told
    expected = (1, out_channels, *crop_size)
    return None if shape == expected else f"its output is {shape}, expected {expected}"
