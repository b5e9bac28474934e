"""MONAI Label and MONAI Deploy take a bundle apart and give `predict`'s structures, numbered 1, 2, 3, ..."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor, load_net_with_metadata
from monai.transforms import LoadImaged

from medcontext.commands.predict import predict
from medcontext.data.plan import Normalization
from medcontext.integrations.bundle import write_bundle
from medcontext.run import Run
from tests.data.scans import affine_of
from tests.inference.runs import make_run, random_run, read, save
from tests.integrations.test_bundle import rewrite

VALUES = {"gaps": [0, 200, 500, 600], "regions": [0, 2, 1, 4]}  # of the data set, by the network's output


def example(name: str, folder: Path) -> Run:
    """A run that resamples and whose label values are above 255, or one of regions, which scales nothing."""
    if name == "gaps":
        scale = Normalization("ct", lower=-20.5, upper=250.5, mean=110, std=70)
        return random_run(folder, normalization=scale, spacing=(1.2, 1.2, 2.0), crop_foreground=True)
    labels = {"edema": 2, "core": 1, "enhancing": 4}
    run = make_run(folder, labels=labels, network_args={"kernel_size": 3, "padding": 1})
    run.facts.regions = {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}
    rewrite(run, 1)
    return run


class Made(SimpleNamespace):
    """A bundle, a scan, and what `predict` says of it."""

    bundle: Path
    scan: Path
    expected: np.ndarray

    def holds(self, found: np.ndarray) -> None:
        """That a segmentation, numbered, is the expected one."""
        assert set(np.unique(found)) == set(range(4))
        np.testing.assert_array_equal(np.take(VALUES[self.name], found.astype(int)), self.expected)


@pytest.fixture(scope="module", params=VALUES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp(request.param)
    rng = np.random.default_rng(0)
    voxels = (rng.choice([0, 100, 200, 300], (12, 20, 9)) + rng.uniform(-40, 40, (12, 20, 9))).astype(np.int16)
    scan = save(folder / "scans/a.nii.gz", voxels, affine_of("PIR", (1.0, 1.5, 3.0)))
    run = example(request.param, folder / "run")
    write_bundle(run, folder / "bundle")
    (expected,) = predict(run.folder, scan.parent, folder / "ours")
    return Made(name=request.param, bundle=folder / "bundle", scan=scan, expected=read(expected))


def in_memory(scan: Path) -> MetaTensor:
    """A scan as MONAI Deploy hands it over: of integers, without a channel, read by somebody else."""
    meta = {"original_channel_dim": "no_channel"}
    return MetaTensor(torch.from_numpy(read(scan)), affine=torch.tensor(nib.load(scan).affine), meta=meta)


def test_its_parts_can_be_used_without_its_evaluator(made: Made) -> None:
    """In the way of MONAI Deploy, which hands every tensor that preparing leaves to the network; of MONAI alone."""
    parser = ConfigParser()
    parser.read_config(made.bundle / "configs/inference.json")
    steps = parser.get_parsed_content("preprocessing").transforms
    data: Any = {"image": in_memory(made.scan)}
    for step in steps:
        data = data if isinstance(step, LoadImaged) else step(data)
    others = {key: value[None] for key, value in data.items() if isinstance(value, torch.Tensor) and key != "image"}
    script = torch.jit.load(made.bundle / "models/model.ts")
    with torch.no_grad():
        data["pred"] = parser.get_parsed_content("inferer")(data["image"][None], script, **others)[0]
    made.holds(parser.get_parsed_content("postprocessing")(data)["pred"][0].numpy())


def test_the_script_has_the_configs_inside(made: Made) -> None:
    inside = ("inference.json",)
    _, about, more = load_net_with_metadata(str(made.bundle / "models/model.ts"), more_extra_files=inside)
    assert about == json.loads((made.bundle / "configs/metadata.json").read_text())
    assert json.loads(more["inference.json"]) == json.loads((made.bundle / "configs/inference.json").read_text())


def test_its_page_says_how_structures_are_numbered(made: Made) -> None:
    order = {"gaps": "liver, kidney, spleen", "regions": "WT, TC, ET"}[made.name]
    assert f"are numbered 1, 2, 3, ... in this order: {order}." in (made.bundle / "docs/README.md").read_text()


def test_monai_label_infers(made: Made) -> None:
    """As its server does for 3D Slicer, which asks for 8 bits."""
    bundle = pytest.importorskip("monailabel.tasks.infer.bundle", exc_type=ImportError)
    task = bundle.BundleInferTask(str(made.bundle), {})
    assert task.is_valid()
    assert sorted(task.labels, key=task.labels.get) == [name.lower() for name in names(made) if name != "background"]
    request = {"image": str(made.scan), "device": "cpu", "result_dtype": "uint8", "result_extension": ".nii.gz"}
    label, _ = task(request)
    try:
        made.holds(read(label))
        np.testing.assert_allclose(nib.load(label).affine, nib.load(made.scan).affine, atol=1e-5)
    finally:
        Path(label).unlink()


def names(made: Made) -> list[str]:
    """Of the network's outputs, as the metadata has them."""
    about = json.loads((made.bundle / "configs/metadata.json").read_text())
    return list(about["network_data_format"]["outputs"]["pred"]["channel_def"].values())


@pytest.mark.parametrize("what", [".", "models/model.ts"])
def test_monai_deploys_operator_infers(what: str, made: Made) -> None:
    """On an image from memory, its axes the other way round, with what it reads of a DICOM series."""
    operators = pytest.importorskip("monai.deploy.operators", exc_type=ImportError)
    core = pytest.importorskip("monai.deploy.core", exc_type=ImportError)
    affine = nib.load(made.scan).affine
    about = {"row_pixel_spacing": 1.5, "col_pixel_spacing": 1.0, "depth_pixel_spacing": 3.0}
    about |= {"nifti_affine_transform": affine, "affine": affine, "space": "RAS"}
    image = core.Image(read(made.scan).transpose(2, 1, 0), about)
    ports = [[operators.IOMapping(name, core.Image, core.IOType.IN_MEMORY)] for name in ("image", "pred")]
    operator = operators.MonaiBundleInferenceOperator(
        core.Fragment(),
        app_context=core.AppContext({"model": str(made.bundle / what) if what.endswith(".ts") else "/nowhere"}),
        input_mapping=ports[0],
        output_mapping=ports[1],
        bundle_path=made.bundle / what,
    )
    sent = {}
    reads = SimpleNamespace(receive=lambda name: {"image": image}[name])
    writes = SimpleNamespace(get=lambda name: None, emit=lambda value, name: sent.update({name: value}))
    operator.compute(reads, writes, None)
    made.holds(sent["pred"].asnumpy().transpose(2, 1, 0))
