"""What `predict` does with a scan, said in MONAI's transforms: a bundle's `configs/inference.json`.

The steps are those of `data/prepare.py`, `inference/window.py` and `data/geometry.py`, in their order. Where a step
depends on the scan in a way that no transform of MONAI's has an option for, the config has an expression of torch's.
None of it is medcontext's own code, so that a bundle runs without it.

MONAI Label and MONAI Deploy take `preprocessing`, `inferer` and `postprocessing` out of it, and load and write
themselves, with 8 bits in Deploy and for 3D Slicer: there, structures are numbered 1, 2, 3, ... as the network's
outputs are. The data set's label values come with `writing`, which only `monai.bundle run` does.
"""

from typing import Any

import numpy as np

from medcontext.data.plan import Normalization, Plan
from medcontext.data.regions import written_values
from medcontext.run import Run

ABOVE_HALF = float(np.nextafter(np.float32(0.5), np.float32(1)))  # AsDiscrete takes what is not below its threshold

Transform = dict[str, Any] | str

# Expressions of config items that others name by @. Where voxels lie: the prepared grid has the field of view of the
# scan's; a scan smaller than the window lies in its middle.
PREPARED_SHAPE = (
    "$lambda image: [max(1, round(n * float(mm) / target)) for n, mm, target in "
    "zip(image.shape[1:], numpy.linalg.norm(image.affine[:3, :3].numpy(), axis=0), @spacing)]"
)
RESIZE = (
    "$lambda image, shape: torch.nn.functional.interpolate("
    "image[None], size=tuple(shape), mode='trilinear', align_corners=False)[0]"
)
MARGINS = "$lambda shape: [(max(0, size - n) // 2, (max(0, size - n) + 1) // 2) for n, size in zip(shape, @window)]"
PAD = (
    "$lambda image: torch.cat([torch.nn.functional.pad(image[c : c + 1], sum(@margins(image.shape[1:])[::-1], ()), "
    "value=0.0 if inside else float(image[c].min())) for c, inside in enumerate(@only_inside)])"
)
# Shapes are arrays of numpy's, as MONAI Deploy hands every other tensor that preparing leaves to the network.
PREPARE = (
    "$lambda data: {**data, 'native': numpy.array(data['image'].shape[1:]), "
    "'image': @resize(data['image'], @prepared_shape(data['image']))}"
)
WINDOWED = "$lambda data: {**data, 'prepared': numpy.array(data['image'].shape[1:]), 'image': @pad(data['image'])}"
UNPADDED = (
    "$lambda data: {**data, 'pred': data['pred'][(slice(None), *(slice(low, low + n) for n, (low, _) in "
    "zip(data['prepared'].tolist(), @margins(data['prepared'].tolist()))))]}"
)
RESTORED = "$lambda data: {**data, 'pred': @resize(data['pred'], data['native'].tolist())}"
LAST_REGION = (
    "$lambda regions: (regions * torch.arange(1, len(regions) + 1)[:, None, None, None]).amax(0, keepdim=True)"
)
# MONAI 1.6 counts a channel in the label where its scan had some, and then takes its affine for that of a plane.
ONE_CHANNEL = "$lambda data: (data['pred'].meta.update(original_channel_dim=float('nan')), data)[1]"
REFUSE = "$lambda why: (_ for _ in ()).throw(ValueError(why))"  # an expression cannot raise
# Files are cases as in `data.folders.find_images`: channels of one where all names end in numbers of channels.
SCANS = (
    "$sorted(glob.glob(os.path.join(glob.escape(@dataset_dir), '*.nii')) + "
    "glob.glob(os.path.join(glob.escape(@dataset_dir), '*.nii.gz'))) "
    "or @refuse('There are no .nii.gz or .nii files in ' + @dataset_dir)"
)
ENDING = (
    "$next(end for end in (@channel + '[.]nii([.]gz)?$', '[.]nii([.]gz)?$') "
    "if all(re.search(end, path) for path in @scans))"
)
FILES = "$[list(files) for _, files in itertools.groupby(@scans, lambda path: re.sub(@ending, '', path))]"
ALL_CHANNELS = (
    "$lambda data: data if len(data['image']) == len(@only_inside) else @refuse("
    "f\"{data['image'].meta.get('filename_or_obj', 'image')}: the case has {len(data['image'])} channels, "
    'but the network takes {len(@only_inside)}")'
)


def inference_config(run: Run, network: dict[str, Any], scripted: bool, batch: int) -> dict[str, Any]:
    """The content of `inference.json`.

    Args:
        run: exported.
        network: what constructs its network.
        scripted: whether that comes with its weights.
        batch: windows at once.
    """
    plan, window = run.plan, run.settings.window
    resampling: dict[str, Any] = {}
    if plan.spacing is not None:
        resampling = {"spacing": list(plan.spacing), "prepared_shape": PREPARED_SHAPE, "resize": RESIZE}
    loading = {"_target_": "CheckpointLoader", "load_path": "@checkpoint", "load_dict": {"model": "@network"}}
    return {
        "imports": [f"$import {module}" for module in ("glob", "itertools", "monai", "numpy", "os", "re", "torch")],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/scans'",
        "output_dir": "$@bundle_root + '/segmentations'",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        **({} if scripted else {"checkpoint": "$@bundle_root + '/models/model.pt'"}),
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "refuse": REFUSE,
        "scans": SCANS,
        "channel": "_(" + "|".join(f"{number:04d}" for number in range(len(plan.channels))) + ")",
        "ending": ENDING,
        "datalist": FILES,
        **resampling,
        "window": list(run.crop_size),
        "only_inside": [channel.inside for channel in plan.normalization],
        "margins": MARGINS,
        "pad": PAD,
        "preprocessing": {"_target_": "Compose", "transforms": preprocessing(plan)},
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': files} for files in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": "@window",
            "sw_batch_size": batch,
            "overlap": window.overlap,
            "mode": "gaussian",
            "sw_device": "@device",
            "device": "cpu",
        },
        "postprocessing": {"_target_": "Compose", "transforms": postprocessing(run)},
        "writing": {"_target_": "Compose", "transforms": ["@postprocessing", *writing(run)]},
        "handlers": [] if scripted else [{**loading, "map_location": "@device"}],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@writing",
            "val_handlers": "@handlers",
        },
        "run": ["$@evaluator.run()"],
    }


def preprocessing(plan: Plan) -> list[Transform]:
    """From a file to what the network sees."""
    crop = {
        "_target_": "CropForegroundd",
        "keys": "image",
        "source_key": "image",
        "select_fn": "$lambda image: image != 0",
        "start_coord_key": None,
        "end_coord_key": None,
    }
    return [
        {"_target_": "LoadImaged", "keys": "image", "reader": "NibabelReader"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "EnsureTyped", "keys": "image", "dtype": "$torch.float32"},  # MONAI Deploy's are integers
        ALL_CHANNELS,
        {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
        *([crop] if plan.crop_foreground else []),
        *scaling(plan.normalization),
        *([] if plan.spacing is None else [PREPARE]),
        WINDOWED,
    ]


def scaling(channels: tuple[Normalization, ...]) -> list[Transform]:
    """The intensities of an image; one list for all channels where these are alike, else one for each."""
    if len(set(channels)) == 1 and not (len(channels) > 1 and joint(channels[0])):
        return scaled("image", channels[0])
    keys = [f"image_{index}" for index in range(len(channels))]
    inside: list[Transform] = []
    if any(joint(channel) for channel in channels):
        inside = ["$lambda data: {**data, 'inside': (data['image'].as_tensor() != 0).any(0, keepdim=True)}"]
    each = [step for key, channel in zip(keys, channels, strict=True) for step in scaled(key, channel, True)]
    split = {"_target_": "SplitDimd", "keys": "image", "output_postfixes": list(map(str, range(len(channels))))}
    return [
        *inside,
        {**split, "dim": 0},
        *each,
        {"_target_": "ConcatItemsd", "keys": keys, "name": "image"},
        {"_target_": "DeleteItemsd", "keys": [*keys, *(["inside"] if inside else [])]},
    ]


def joint(channel: Normalization) -> bool:
    """Whether a channel's scale depends on where the others are 0."""
    return channel.kind == "zscore" and channel.inside


def scaled(key: str, channel: Normalization, several: bool = False) -> list[Transform]:
    """One channel's intensities, as `data.normalize` scales them; `several`: it is one of several."""
    if channel.kind == "none":
        return []
    if channel.kind in ("ct", "range"):
        low, high = channel.lower, channel.upper
        centre, unit = (channel.mean, channel.std) if channel.kind == "ct" else (low, high - low)
        clip = {"_target_": "ThresholdIntensityd", "keys": key}
        return [
            {**clip, "threshold": low, "above": True, "cval": low},
            {**clip, "threshold": high, "above": False, "cval": high},
            {"_target_": "NormalizeIntensityd", "keys": key, "subtrahend": centre, "divisor": unit},
        ]
    if several and joint(channel):
        voxels = f"data['{key}'].as_tensor()[data['inside']]"
        return [
            f"$lambda data: {{**data, '{key}': monai.transforms.NormalizeIntensity(float({voxels}.mean()), "
            f"float({voxels}.std(unbiased=False)) or 1.0)(data['{key}']) * data['inside']}}"
        ]
    nonzero = channel.inside or channel.kind == "zscore_nonzero"
    return [{"_target_": "NormalizeIntensityd", "keys": key, "nonzero": nonzero, "channel_wise": True}]


def postprocessing(run: Run) -> list[Transform]:
    """From logits on the prepared grid to 0, 1, 2, ... on the file's, in the order of the network's outputs."""
    regions = run.regions
    back: list[Transform] = [UNPADDED, *([] if run.plan.spacing is None else [RESTORED])]
    classes: list[Transform] = [{"_target_": "AsDiscreted", "keys": "pred", "argmax": True}]
    if regions:
        classes = [
            {"_target_": "AsDiscreted", "keys": "pred", "threshold": ABOVE_HALF},
            {"_target_": "Lambdad", "keys": "pred", "func": LAST_REGION},
        ]
    return [
        {"_target_": "Activationsd", "keys": "pred", "sigmoid" if regions else "softmax": True},
        *back,
        {
            "_target_": "Invertd",
            "keys": "pred",
            "transform": "@preprocessing",
            "orig_keys": "image",
            "nearest_interp": False,
            "to_tensor": True,
        },
        *classes,
    ]


def writing(run: Run) -> list[Transform]:
    """From 0, 1, 2, ... to a file of label values."""
    written = output_values(run)
    values: list[Transform] = []
    if written != tuple(range(len(written))):
        pairs = {"orig_labels": list(range(len(written))), "target_labels": list(written)}
        values = [{"_target_": "MapLabelValued", "keys": "pred", **pairs, "dtype": "$numpy.int32"}]
    return [
        *values,
        ONE_CHANNEL,
        {
            "_target_": "SaveImaged",
            "keys": "pred",
            "output_dir": "@output_dir",
            "output_postfix": "seg",
            "output_dtype": f"$numpy.{label_type(run.plan.values)}",
            "resample": False,
            "separate_folder": False,
        },
    ]


def output_values(run: Run) -> tuple[int, ...]:
    """The label values that are written, the background's first, in the order of the network's outputs."""
    return (0, *written_values(run.regions)) if run.regions else run.plan.values


def label_type(values: tuple[int, ...]) -> str:
    """The smallest type that holds label values."""
    return next(name for name in ("uint8", "int16", "int32") if max(values) <= np.iinfo(name).max)
