"""Networks as files for other programs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medcontext import predict
from medcontext.cli import main
from medcontext.data.splits import Split
from medcontext.errors import InputError
from medcontext.inference import export as exports
from medcontext.inference.export import KEY, export_network
from medcontext.inference.export_facts import describe, sample
from medcontext.inference.export_onnx import OnnxNetwork
from medcontext.inference.export_torch import TorchNetwork
from medcontext.run import Run, load_network, make_network
from tests.inference.runs import LABELS, levels_image, make_run, random_run, read, save, save_networks
from tests.method.conftest import SUBJECTS

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return random_run(tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(scope="module")
def files(run: Run) -> dict[str, Path]:
    """Both forms of its teacher, where it differs from the student."""
    student, teacher = make_network(run), make_network(run)
    save_networks(run, student, teacher, name="best", step=30)
    paths = {"onnx": run.folder / "network.onnx", "torch": run.folder / "network.pt2"}
    options = [f"--{name}={path}" for name, path in paths.items()]
    assert main(["export", str(run.folder), *options, "--checkpoint=best", "--weights=teacher"]) == 0
    return paths


def opened(path: Path) -> tuple[Any, dict[str, Any]]:
    """An exported network as a function, and what its file says of it."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path)
        facts = session.get_modelmeta().custom_metadata_map[KEY]
        return lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0]), json.loads(facts)
    extra = {KEY: ""}
    program = torch.export.load(path, extra_files=extra)
    return program.module(), json.loads(extra[KEY])


@pytest.mark.parametrize("form", ["onnx", "torch"])
def test_the_file_answers_as_the_network_at_any_batch_and_size(form: str, run: Run, files: dict[str, Path]) -> None:
    network, facts = opened(files[form])
    expected = load_network(run, "best", "teacher")
    for shape in ((1, 1, 8, 8, 8), (3, 1, 8, 8, 8), (1, 1, 7, 12, 21)):
        image = torch.randn(shape)
        torch.testing.assert_close(network(image), expected(image), atol=1e-5, rtol=0)
    assert facts["size"] == "any"
    assert facts["checked"]["on"] == "noise"
    assert facts["checked"]["same"] == 1


@pytest.mark.parametrize("form", ["onnx", "torch"])
def test_the_file_says_what_goes_in_and_comes_out(form: str, run: Run, files: dict[str, Path]) -> None:
    _, facts = opened(files[form])
    assert facts["labels"] == {"background": 0, **LABELS}
    assert [each["value"] for each in facts["output"]["classes"]] == [0, 200, 500, 600]
    assert [each["name"] for each in facts["output"]["classes"]] == ["background", "liver", "kidney", "spleen"]
    assert facts["input"]["channels"] == ["MR"]
    assert facts["prepare"]["normalization"][0]["kind"] == "none"
    assert facts["prepare"]["orientation"] == "RAS"
    assert facts["window"] == {"size": [8, 8, 8], "overlap": 0.5, "blending": "gaussian", "mirror": False}
    assert facts["network"]["weights"] == "teacher"
    assert facts["training"]["steps"] == 30, "of the checkpoint, not of the run"


def test_no_folder_is_named(tmp_path: Path) -> None:
    run = random_run(tmp_path / "run")
    run.facts.init = f"mae on 20 scans, step 500 of {tmp_path}/last.ckpt, SHA-256 0123abcd"
    facts = describe(run, run.checkpoint("last"), "student")
    assert facts["training"]["init"] == "mae on 20 scans, step 500, SHA-256 0123abcd"
    assert str(tmp_path) not in json.dumps(facts)


def test_the_pages_way_without_medcontext_gives_predicts_segmentation(
    run: Run, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, _ = levels_image((13, 7, 20))
    scan = save(tmp_path / "scan.nii.gz", image, np.diag([-1.0, 1, 1, 1]))
    predicted = predict(run, scan, tmp_path / "out", checkpoint="best", weights="teacher")
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    code = page.partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(code.replace('"network.onnx"', repr(str(files["onnx"]))), {})
    expected = read(predicted[0])
    assert len(np.unique(expected)) == 4
    assert (read(tmp_path / "label.nii.gz") == expected).mean() > 0.999


def test_it_is_compared_on_a_validation_case_where_the_data_are_there(balls: Path, tmp_path: Path) -> None:
    labels = {"left": 200, "right": 500}
    run = make_run(tmp_path / "run", channels=("MRI",), labels=labels, split=Split(("ball_0",), ("ball_1",), ()))
    run.facts.data = str(balls)
    crop, what = sample(run)
    assert what == "a validation case"
    assert np.array_equal(crop[0, 0], read(balls / "imagesTr" / "ball_1.nii.gz")[6:14, 8:16, 2:10])
    run.facts.data = str(tmp_path / "gone")
    assert sample(run)[1] == "noise"


def test_regions_say_what_they_consist_of_and_what_is_written(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    run.facts.regions = {"organs": (200, 500, 600), "pair": (500, 600), "spleen": (600,)}
    output = describe(run, save_networks(run, make_network(run)), "student")["output"]
    assert output["activation"] == "sigmoid"
    assert output["regions"][1] == {"name": "pair", "values": [500, 600], "written": 500}


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["export", *arguments]) == 2
    return capsys.readouterr().err


def test_what_cannot_be_written_is_refused(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(run.folder)
    assert "give --onnx FILE" in refused(capsys, folder)
    assert "call it net.onnx" in refused(capsys, folder, "--onnx=net.pt2")
    there = tmp_path / "there.onnx"
    there.write_text("mine")
    assert "is there already" in refused(capsys, folder, f"--onnx={there}")
    assert there.read_text() == "mine"
    assert "Checkpoint not found" in refused(capsys, folder, f"--onnx={tmp_path / 'a.onnx'}", "--checkpoint=best.ckpt")
    assert list(tmp_path.iterdir()) == [there]


def test_where_nothing_can_be_written_nothing_is_exported(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    with monkeypatch.context() as patch:
        patch.setattr("medcontext.inference.export.export_network", None)
        assert "is a file; give a folder" in refused(capsys, str(run.folder), f"--torch={tmp_path / 'file/a.pt2'}")
        assert "Not a directory" in refused(capsys, str(run.folder), f"--onnx={tmp_path / 'file/b/a.onnx'}")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TorchNetwork, "save", full)
    assert "No space left on device" in refused(capsys, str(run.folder), f"--torch={tmp_path / 'a.pt2'}")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
def test_a_disk_that_fills_is_one_error(run: Run, tmp_path: Path) -> None:
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, -1))"  # to a writer as a full disk
    export = f"main(['export', {str(run.folder)!r}, '--torch=net.pt2'])"
    call = f"{limit}; from medcontext.cli import main; sys.exit({export})"
    done = subprocess.run([sys.executable, "-c", call], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "Cannot write net." in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == []


def test_a_cross_validation_is_refused_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for fold in range(2):
        made = make_run(tmp_path / f"fold{fold}" / "run")
        made.facts.step = made.settings.steps
        made.write_facts()
    (tmp_path / "splits_final.json").write_text('[{"train": [], "val": []}, {"train": [], "val": []}]')
    message = refused(capsys, str(tmp_path), f"--onnx={tmp_path / 'a.onnx'}")
    assert "2 networks" in message
    assert "fold0/run" in message


class Wrong(TorchNetwork):
    """Answers that are a little off."""

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return super().__call__(image) + 0.1


def test_other_answers_than_torchs_leave_no_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("medcontext.inference.export_torch.TorchNetwork", Wrong)
    assert "other answers than torch" in refused(capsys, str(run.folder), f"--torch={tmp_path / 'a.pt2'}")
    assert not list(tmp_path.iterdir())


class Sided(nn.Conv3d):
    """It answers otherwise at other sizes than 8, in a way that a graph cannot show."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image) * (1 if int(image.shape[2]) == 8 else 2)


class Branching(nn.Conv3d):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.mean() > 0:
            return super().forward(image)
        return -super().forward(image)


def test_a_size_that_cannot_be_left_open_is_fixed_and_that_is_said() -> None:
    crop = torch.randn(1, 1, 8, 8, 8)
    outcome = export_network(TorchNetwork, Sided(1, 3, 1).eval(), crop, regions=False)
    assert outcome.fixed
    assert not outcome.sizes
    torch.testing.assert_close(outcome.exported(crop.expand(3, 1, 8, 8, 8)).shape, torch.Size([3, 3, 8, 8, 8]))


def test_a_search_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "PATIENCE", 1e-4)
    outcome = export_network(TorchNetwork, nn.Conv3d(1, 3, 1).eval(), torch.randn(1, 1, 8, 8, 8), regions=False)
    assert "within 0.0001 s" in outcome.fixed


def test_a_network_whose_way_depends_on_values_is_one_error() -> None:
    with pytest.raises(InputError, match="This network cannot be exported: "):
        export_network(TorchNetwork, Branching(1, 3, 1).eval(), torch.randn(1, 1, 8, 8, 8), regions=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dynunet", "unetr", "pcrlv2"])  # those with windows take minutes
def test_networks_of_each_kind_are_exported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "PATIENCE", 120)
    crop = (16, 32, 16) if name == "pcrlv2" else SUBJECTS[name].crop  # at half of that a level has a single voxel
    outcome = export_network(OnnxNetwork, SUBJECTS[name].build(), torch.randn(1, 1, *crop), regions=False)
    assert outcome.agreement.good
    assert bool(outcome.sizes) == (name != "unetr"), outcome.fixed
