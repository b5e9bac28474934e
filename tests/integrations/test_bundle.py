"""A MONAI bundle of a run gives `predict`'s segmentation, by MONAI alone."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, verify_metadata
from monai.bundle import run as run_bundle
from torch import nn

from medcontext.cli import main
from medcontext.commands.predict import predict
from medcontext.data.plan import Normalization
from medcontext.errors import InputError
from medcontext.files import file_hash
from medcontext.integrations.bundle import write_bundle
from medcontext.method.losses import heads
from medcontext.run import Run, load_network, make_network
from medcontext.run.postprocessing import Choice, Postprocessing, write_postprocessing
from tests.data.scans import affine_of, rotation
from tests.inference.runs import LABELS, make_run, random_run, read, save, save_networks

NORMALIZATIONS = {
    "none": Normalization("none"),
    "ct": Normalization("ct", lower=-20, upper=250, mean=110, std=70),
    "range": Normalization("range", lower=-20, upper=250),
    "zscore": Normalization("zscore"),
    "inside": Normalization("zscore", inside=True),
    "nonzero": Normalization("zscore_nonzero", inside=True),
}
SHAPES = {"PIR": (17, 12, 9), "LSA": (20, 9, 14), "RAS": (5, 13, 21)}  # the last is smaller than the window


def scans(folder: Path, channels: int = 1, fourth: bool = False) -> Path:
    """Scans in several orientations, one oblique, of several sizes, with a border of zeros."""
    rng = np.random.default_rng(0)
    for codes, shape in SHAPES.items():
        affine = affine_of(codes, (1.0, 1.5, 3.0))
        affine = rotation(20, 1) @ affine if codes == "PIR" else affine
        image = rng.choice([0, 100, 200, 300], (channels, *shape)) + rng.uniform(-40, 40, (channels, *shape))
        image[rng.random(image.shape) < 0.1] = 0  # each channel's own
        image[:, :2] = 0
        image = image.astype(np.float32)
        if fourth or channels == 1:
            save(folder / f"{codes}.nii.gz", np.moveaxis(image, 0, -1) if fourth else image[0], affine)
            continue
        for number, channel in enumerate(image):
            save(folder / f"{codes}_{number:04d}.nii.gz", channel, affine)
    return folder


def monai_runs(bundle: Path, folder: Path, output: Path) -> list[str]:
    """Run a bundle over a folder of scans; the names of what it writes."""
    run_bundle(
        config_file=str(bundle / "configs" / "inference.json"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        bundle_root=str(bundle),
        dataset_dir=str(folder),
        output_dir=str(output),
    )
    return sorted(file.name for file in output.iterdir())


def both(run: Run, folder: Path, tmp_path: Path) -> dict[str, float]:
    """The share of voxels, by case, that a run's prediction and its bundle's have in common."""
    write_bundle(run, tmp_path / "bundle")
    monai_runs(tmp_path / "bundle", folder, tmp_path / "theirs")
    shares = {}
    for ours in predict(run.folder, folder, tmp_path / "ours"):
        case = ours.name.removesuffix(".nii.gz")
        suffix = "_seg" if (tmp_path / "theirs" / f"{case}_seg.nii.gz").exists() else "_0000_seg"
        theirs = nib.load(tmp_path / "theirs" / f"{case}{suffix}.nii.gz")
        np.testing.assert_allclose(theirs.affine, nib.load(ours).affine, atol=1e-5)
        assert theirs.get_data_dtype() == nib.load(ours).get_data_dtype()
        assert len(np.unique(read(ours))) > 2
        shares[case] = float((np.asanyarray(theirs.dataobj) == read(ours)).mean())
    assert set(shares) == set(SHAPES)
    return shares


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_without_resampling_every_voxel_is_predicts(name: str, tmp_path: Path) -> None:
    run = random_run(tmp_path / "run", normalization=NORMALIZATIONS[name], crop_foreground=name in ("zscore", "inside"))
    assert both(run, scans(tmp_path / "scans"), tmp_path) == dict.fromkeys(SHAPES, 1.0)


@pytest.mark.parametrize("spacing", [(1.2, 1.2, 2.0), (0.7, 2.3, 1.1)])
def test_with_resampling_too(spacing: tuple[float, float, float], tmp_path: Path) -> None:
    """Interpolation is rounded otherwise than ours, which may tip a voxel between two classes that are equal."""
    run = random_run(tmp_path / "run", normalization=Normalization("zscore"), spacing=spacing, crop_foreground=True)
    assert min(both(run, scans(tmp_path / "scans"), tmp_path).values()) > 0.999


@pytest.mark.parametrize("fourth", [True, False])
def test_several_channels_each_with_its_scale(fourth: bool, tmp_path: Path) -> None:
    run = random_run(tmp_path / "run", channels=("CT", "T1", "T2"), crop_foreground=True)
    each = tuple(NORMALIZATIONS[name] for name in ("ct", "inside", "nonzero"))
    run = replace(run, plan=replace(run.plan, normalization=each))
    rewrite(run, 5)
    assert both(run, scans(tmp_path / "scans", 3, fourth), tmp_path) == dict.fromkeys(SHAPES, 1.0)


def test_several_channels_of_one_scale(tmp_path: Path) -> None:
    run = random_run(tmp_path / "run", channels=("T1", "T2"), normalization=NORMALIZATIONS["inside"])
    assert both(run, scans(tmp_path / "scans", 2), tmp_path) == dict.fromkeys(SHAPES, 1.0)


def test_regions(tmp_path: Path) -> None:
    labels = {"edema": 2, "core": 1, "enhancing": 4}
    run = make_run(tmp_path / "run", labels=labels, network_args={"kernel_size": 3, "padding": 1})
    run.facts.regions = {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}
    rewrite(run, 1)
    assert both(run, scans(tmp_path / "scans"), tmp_path) == dict.fromkeys(SHAPES, 1.0)
    about = json.loads((tmp_path / "bundle/configs/metadata.json").read_text())
    assert about["network_data_format"]["outputs"]["pred"]["channel_def"] == {"0": "WT", "1": "TC", "2": "ET"}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """By the number of channels."""
    folder = tmp_path_factory.mktemp("bundles")
    for channels in (1, 2):
        run = random_run(folder / f"run{channels}", channels=("CT", "MR")[:channels], labels={"a": 1, "b": 2})
        write_bundle(run, folder / f"bundle{channels}")
    return {channels: folder / f"bundle{channels}" for channels in (1, 2)}


def noise(folder: Path, *names: str, channels: int = 0) -> Path:
    shape = (5, 6, 4, channels) if channels else (5, 6, 4)
    for name in names:
        save(folder / name, np.random.default_rng(0).normal(size=shape).astype(np.float32), np.eye(4))
    return folder


def first_cause(error: BaseException) -> str:
    """What MONAI's errors, that each name the step or item they come from, began with."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


def test_numbers_that_are_not_channels_are_cases(bundles: dict[int, Path], tmp_path: Path) -> None:
    flat = noise(tmp_path / "flat", "amos_0001.nii.gz", "amos_0002.nii.gz", "amos.nii")
    written = ["amos_0001_seg.nii.gz", "amos_0002_seg.nii.gz", "amos_seg.nii.gz"]
    assert monai_runs(bundles[1], flat, tmp_path / "out1") == written
    fourth = noise(tmp_path / "fourth", "amos_0001.nii.gz", "amos_0002.nii.gz", channels=2)
    assert monai_runs(bundles[2], fourth, tmp_path / "out2") == written[:2]


@pytest.mark.parametrize(
    ("channels", "names", "found"),
    [
        (2, ["a_0000.nii.gz", "a_0001.nii.gz", "a_0002.nii.gz"], "a_0000.nii.gz: the case has 1 channels"),
        (2, ["a_0000.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz"], "a_0000.nii.gz: the case has 1 channels"),
        (1, ["a.nii", "a.nii.gz"], "a.nii: the case has 2 channels"),
    ],
)
def test_another_number_of_channels_is_refused(
    channels: int, names: list[str], found: str, bundles: dict[int, Path], tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError) as error:
        monai_runs(bundles[channels], noise(tmp_path / "scans", *names), tmp_path / "out")
    assert f"{found}, but the network takes {channels}" in first_cause(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["gone", "empty"])
def test_a_folder_without_scans_is_refused(name: str, bundles: dict[int, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RuntimeError) as error:
        monai_runs(bundles[1], tmp_path / name, tmp_path / "out")
    assert f"There are no .nii.gz or .nii files in {tmp_path / name}" in first_cause(error.value)


def rewrite(run: Run, seed: int) -> None:
    """Write a run that was changed, with a random network."""
    run.write()
    torch.manual_seed(seed)
    save_networks(run, make_network(run))


SMALL: dict[str, dict[str, Any]] = {
    "unet": {"channels": [4, 8], "strides": [2]},
    "dynunet": {"filters": [4, 8, 8, 8]},
    "SegResNet": {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]},
    "BasicUNetPlusPlus": {"features": [4, 4, 4, 4, 4, 4]},
    "resenc": {"features_per_stage": [4, 8, 8]},
    "unetr": {"feature_size": 4, "hidden_size": 12, "mlp_dim": 12, "num_heads": 2},
    "swin_unetr": {"feature_size": 12, "depths": [1, 1, 1, 1]},
    "nnformer": {"embed_dim": 24, "num_heads": [2, 2, 2, 2]},
    "pcrlv2": {},
}
FAST = ("unet", "SegResNet")
OURS = ("resenc", "nnformer", "pcrlv2", "BasicUNetPlusPlus")  # MONAI's last one gives a list


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in SMALL]
)
def test_the_network_in_the_bundle_is_the_runs(name: str, tmp_path: Path) -> None:
    crop = {"swin_unetr": (64, 64, 32), "nnformer": (64, 64, 64)}.get(
        name, (16, 16, 16) if name in FAST else (32, 32, 32)
    )
    run = make_run(tmp_path / "run", network=name, network_args=SMALL[name], crop_size=crop)
    rewrite(run, 0)
    singly = ["models/model.ts takes one window at a time."] if name == "nnformer" else []
    assert write_bundle(run, tmp_path / "bundle") == singly
    parser = ConfigParser()
    parser.read_config(tmp_path / "bundle/configs/inference.json")
    parser["bundle_root"] = str(tmp_path / "bundle")
    network = parser.get_parsed_content("network").eval()
    assert isinstance(network, torch.jit.ScriptModule) == (name in OURS)
    if name not in OURS:
        network.load_state_dict(torch.load(tmp_path / "bundle/models/model.pt", weights_only=True))
    script = torch.jit.load(tmp_path / "bundle/models/model.ts")
    assert parser["inferer"]["sw_batch_size"] == (1 if singly else run.settings.window.batch_size)
    image = torch.randn(1, 1, *crop)
    with torch.no_grad():
        expected = heads(load_network(run)(image))[0]
        for form in (network, script):
            torch.testing.assert_close(form(image), expected, rtol=1e-4, atol=1e-4)


def test_the_metadata_has_what_monais_schema_requires(tmp_path: Path) -> None:
    """The schema itself is at the address that the file names; here stands what it requires, and of which types."""
    write_bundle(random_run(tmp_path / "run"), tmp_path / "bundle")
    about = json.loads((tmp_path / "bundle/configs/metadata.json").read_text())
    texts = ("schema", "version", "monai_version", "pytorch_version", "numpy_version", "task", "description")
    for key in (*texts, "authors", "copyright"):
        assert isinstance(about[key], str)
        assert about[key]
    assert set(about["required_packages_version"]) == {"nibabel", "pytorch-ignite", "einops"}
    kinds = {"type": str, "format": str, "num_channels": int, "spatial_shape": list, "dtype": str, "value_range": list}
    formats = about["network_data_format"]
    for tensor in (formats["inputs"]["image"], formats["outputs"]["pred"]):
        for key, kind in kinds.items():
            assert isinstance(tensor[key], kind)
        assert tensor["spatial_shape"] == [8, 8, 8]
    names = {"0": "background", "1": "liver", "2": "kidney", "3": "spleen"}
    assert formats["outputs"]["pred"]["channel_def"] == names
    for structure, value in LABELS.items():
        assert f"| {value} | {structure} |" in (tmp_path / "bundle/docs/README.md").read_text()
    assert not (tmp_path / "bundle/LICENSE").exists()


def test_monais_own_command_verifies_the_metadata(tmp_path: Path) -> None:
    """Against a schema of ours, at the place where MONAI keeps the one that it downloads."""

    def record(**fields: Any) -> dict[str, Any]:
        return {"type": "object", "required": list(fields), "properties": fields}

    text, texts = {"type": "string"}, {"type": "object", "additionalProperties": {"type": "string"}}
    tensor = record(type=text, format=text, num_channels={"type": "integer"}, channel_def=texts, dtype=text)
    formats = record(inputs=record(image=tensor), outputs=record(pred=tensor))
    versions = {f"{name}_version": text for name in ("monai", "pytorch", "numpy")}
    schema, meta = tmp_path / "schema.json", tmp_path / "bundle/configs/metadata.json"
    fields = {"version": text, **versions, "required_packages_version": texts, "network_data_format": formats}
    schema.write_text(json.dumps(record(**fields)))
    write_bundle(random_run(tmp_path / "run"), meta.parents[1])
    verify_metadata(meta_file=str(meta), filepath=str(schema))
    schema.write_text(json.dumps(record(**fields, missing=text)))
    with pytest.raises(ValueError, match="'missing' is a required property"):
        verify_metadata(meta_file=str(meta), filepath=str(schema))


def test_the_teacher_can_be_exported(tmp_path: Path) -> None:
    run = random_run(tmp_path / "run")
    write_bundle(run, tmp_path / "bundle", weights="teacher")
    saved = torch.load(tmp_path / "bundle/models/model.pt", weights_only=True)
    teacher, student = (load_network(run, weights=weights).state_dict() for weights in ("teacher", "student"))
    torch.testing.assert_close(saved, teacher)
    assert not torch.equal(saved["weight"], student["weight"])
    assert "the teacher's weights" in (tmp_path / "bundle/docs/README.md").read_text()


def test_what_the_bundle_does_not_do_is_said(tmp_path: Path) -> None:
    run = random_run(tmp_path / "run")
    run = replace(run, settings=replace(run.settings, window=replace(run.settings.window, mirror=True)))
    keep_the_largest(run)
    remarks = write_bundle(run, tmp_path / "bundle")
    assert [word in remark for word, remark in zip(("--mirror", "liver"), remarks, strict=True)] == [True] * 2
    for remark in remarks:
        assert remark in (tmp_path / "bundle/docs/README.md").read_text()
    assert len(write_bundle(run, tmp_path / "other", weights="teacher")) == 1  # it was found for the student


def keep_the_largest(run: Run) -> None:
    choice = {"liver": Choice("largest", 0.8, 0.9, {})}
    found = Postprocessing(("a",), "student", (file_hash(run.checkpoint("last")),), choice)
    write_postprocessing(run.folder, found)


class Moody(nn.Conv3d):
    """A network that decides by its values, which a trace cannot follow."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image) * (1 if image.mean() > 0 else -1)


def test_a_network_of_ones_own_that_cannot_be_traced_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", network="tests.integrations.test_bundle.Moody")
    rewrite(run, 0)
    with pytest.raises(InputError, match="none that MONAI constructs, and torch cannot trace it"):
        write_bundle(run, tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_folder_with_files_and_a_full_disk_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = random_run(tmp_path / "run")
    save(tmp_path / "full/scan.nii.gz", np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(InputError, match="is not empty"):
        write_bundle(run, tmp_path / "full")
    (tmp_path / "empty").mkdir()

    def fails(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fails)
    with pytest.raises(InputError, match="No space left"):
        write_bundle(run, tmp_path / "empty")
    assert sorted(path.name for path in tmp_path.rglob("*") if path.parent in (tmp_path, tmp_path / "empty")) == [
        "empty",
        "full",
        "run",
    ]


def test_a_checkpoint_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Checkpoint not found"):
        write_bundle(make_run(tmp_path / "run"), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_it_states_the_steps_of_its_checkpoint(tmp_path: Path) -> None:
    run = random_run(tmp_path / "run")
    save_networks(run, make_network(run), name="best", step=30)
    write_bundle(run, tmp_path / "bundle", "best")
    assert ": step 30, the" in json.loads((tmp_path / "bundle/configs/metadata.json").read_text())["description"]


def test_the_command_writes_it_and_says_what_it_leaves_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = random_run(tmp_path / "run")
    keep_the_largest(run)
    assert main(["export", str(run.folder), "--bundle", str(tmp_path / "bundle")]) == 0
    assert "Warning: The run's postprocessing.json keeps certain components of liver" in capsys.readouterr().out
    assert main(["export", str(run.folder), "--bundle", str(tmp_path / "bundle")]) == 2
    assert "is not empty" in capsys.readouterr().err
    shutil.copytree(run.folder, tmp_path / "folds/fold0/run")
    shutil.copytree(run.folder, tmp_path / "folds/fold1/run")
    for fold in (0, 1):
        facts = tmp_path / f"folds/fold{fold}/run/run.json"
        facts.write_text(json.dumps({**json.loads(facts.read_text()), "step": run.settings.steps}))
    (tmp_path / "folds/splits_final.json").write_text(json.dumps([{"train": ["a"], "val": ["b"]}] * 2))
    assert main(["export", str(tmp_path / "folds"), "--bundle", str(tmp_path / "other")]) == 2
    assert "cross-validation of 2 networks" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_monais_command_runs_it_without_medcontext(tmp_path: Path) -> None:
    run = random_run(tmp_path / "run", spacing=(1.2, 1.2, 2.0))
    write_bundle(run, tmp_path / "bundle")
    folder, configs = scans(tmp_path / "scans"), tmp_path / "bundle/configs"
    without = "import runpy, sys; sys.modules['medcontext'] = None; runpy.run_module('monai.bundle', None, '__main__')"
    options = {"config_file": configs / "inference.json", "meta_file": configs / "metadata.json"}
    options |= {"bundle_root": tmp_path / "bundle", "dataset_dir": folder, "output_dir": tmp_path / "out"}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    done = subprocess.run([sys.executable, "-c", without, "run", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").glob("*_seg.nii.gz"))) == 3
