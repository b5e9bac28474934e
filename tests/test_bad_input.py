"""Whatever a user may give by mistake: one clear error, exit code 2, no traceback, nothing half written."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medcontext.cli import main
from tests.conftest import write_blobs
from tests.training.commands import arguments, start

Damage = Callable[[Path], None]


def image(data: Path, index: int = 1) -> Path:
    return data / "imagesTr" / f"ball_{index}.nii.gz"


def label(data: Path, index: int = 1) -> Path:
    return data / "labelsTr" / f"ball_{index}.nii.gz"


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray | None = None) -> None:
    volume = nib.load(path)
    array = change(np.asanyarray(volume.dataobj).copy())
    nib.save(nib.Nifti1Image(array, volume.affine if affine is None else affine), path)


def put(value: float, dtype: type = np.float32) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array = array.astype(dtype)
        array[3, 4, 5] = value
        return array

    return change


def edit_manifest(data: Path, change: Callable[[dict], None]) -> None:
    manifest = json.loads((data / "dataset.json").read_text())
    change(manifest)
    (data / "dataset.json").write_text(json.dumps(manifest))


def every_label(data: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for path in sorted((data / "labelsTr").iterdir()):
        rewrite(path, change)


def without_cases(data: Path) -> None:
    edit_manifest(data, lambda manifest: manifest.update(training=[]))


DAMAGES: dict[str, tuple[Damage, list[str]]] = {
    "label of another shape": (lambda d: rewrite(label(d), lambda a: a[:-1]), ["ball_1", "shape", "(19, 24, 12)"]),
    "label with another affine": (
        lambda d: rewrite(label(d), lambda a: a, np.diag([1.0, 1.0, 3.0, 1.0])),
        ["ball_1", "affine"],
    ),
    "missing label": (lambda d: label(d).unlink(), ["labelsTr/ball_1.nii.gz"]),
    "missing image": (lambda d: image(d).unlink(), ["imagesTr/ball_1.nii.gz"]),
    "truncated image": (lambda d: image(d).write_bytes(image(d).read_bytes()[:-500]), ["ball_1.nii.gz", "damaged"]),
    "NaN voxel": (lambda d: rewrite(image(d), put(np.nan)), ["ball_1.nii.gz", "NaN", "(3, 4, 5)"]),
    "infinite voxel": (lambda d: rewrite(image(d), put(np.inf)), ["ball_1.nii.gz", "infinite", "(3, 4, 5)"]),
    "negative label": (lambda d: rewrite(label(d), put(-1, np.int16)), ["ball_1.nii.gz", "-1"]),
    "fractional label": (lambda d: rewrite(label(d), put(0.5)), ["ball_1.nii.gz", "0.5"]),
    "undeclared label": (lambda d: rewrite(label(d), put(7, np.int16)), ["ball_1", "7", "200", "500"]),
    "2D image": (
        lambda d: [rewrite(path, lambda a: a[:, :, 0]) for path in (image(d), label(d))],
        ["ball_1.nii.gz", "2D"],
    ),
    "too many channels": (lambda d: rewrite(image(d), lambda a: np.stack([a, a], -1)), ["ball_1", "2", "MRI"]),
    "a case twice": (
        lambda d: edit_manifest(d, lambda m: m["training"].append(m["training"][1])),
        ["ball_1", "twice"],
    ),
    "no cases": (without_cases, ["No labelled cases"]),
    "no foreground anywhere": (lambda d: every_label(d, np.zeros_like), ["label"]),
    "not JSON": (lambda d: (d / "dataset.json").write_text("{"), ["dataset.json", "not valid JSON"]),
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_blobs(tmp_path / "data", cases=4)


def refused(capsys: pytest.CaptureFixture, command: list[str]) -> str:
    """Run a command that must fail; its message on one line."""
    capsys.readouterr()
    assert main(command) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert shown.count(" Error:") + shown.startswith("Error:") == 1
    assert "Traceback" not in shown
    return shown[shown.index("Error:") :]


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", DAMAGES)
def test_training_on_damaged_data_is_refused(name: str, data: Path, tmp_path: Path, capsys) -> None:
    damage, expected = DAMAGES[name]
    damage(data)
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["ball_0", "ball_1"], "test": ["ball_2"]}))
    message = refused(capsys, arguments(data, tmp_path / "run", "--steps=1", f"--split={split}"))
    for words in expected:
        assert words in message
    assert files_in(tmp_path / "run") == []


@pytest.mark.parametrize("name", DAMAGES)
def test_check_finds_the_damage_too(name: str, data: Path, capsys) -> None:
    damage, expected = DAMAGES[name]
    damage(data)
    capsys.readouterr()
    assert main(["check", str(data)]) == 2
    shown = capsys.readouterr()
    text = " ".join((shown.out + shown.err).split())
    assert "Traceback" not in text
    assert expected[0].split("/")[-1].removesuffix(".nii.gz") in text


def test_where_a_checks_table_goes_is_looked_at_before_the_scans(data: Path, tmp_path: Path, capsys) -> None:
    image(data).write_bytes(b"")  # a check that reads would find it
    message = refused(capsys, ["check", str(data), "--output", str(tmp_path)])
    assert f"--output {tmp_path} is a folder; give a CSV file, such as {tmp_path / 'check.csv'}" in message
    message = refused(capsys, ["check", str(data), "--output", str(data / "dataset.json/check.csv")])
    assert "dataset.json is a file; give a folder" in message
    assert main(["check", str(data), "--output", str(tmp_path / "new/check.csv")]) == 2
    assert "ball_1" in (tmp_path / "new/check.csv").read_text(), "a folder that is not there is made"


def test_an_empty_label_is_legal_and_a_warning(data: Path, tmp_path: Path, capsys) -> None:
    rewrite(label(data), np.zeros_like)
    assert main(["check", str(data)]) == 0
    assert "warning" in capsys.readouterr().out.lower()
    assert main(arguments(data, tmp_path / "run", "--steps=1", "--validation_cases=0")) == 0


def test_training_tells_what_is_in_doubt_and_what_cannot_be_learnt(data: Path, tmp_path: Path, capsys) -> None:
    edit_manifest(data, lambda manifest: manifest.update(numTraining=9))
    edit_manifest(data, lambda manifest: manifest["labels"].update({"600": "rare"}))
    rewrite(label(data, 3), put(600, np.int16))
    bare = nib.Nifti1Image(np.asanyarray(nib.load(label(data, 0)).dataobj), None)
    bare.header["pixdim"][1:4] = 1, 1, 2
    nib.save(bare, label(data, 0))
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["ball_0", "ball_1"], "test": ["ball_2", "ball_3"]}))
    assert main(arguments(data, tmp_path / "run", "--steps=1", f"--split={split}")) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Warning: ")]
    assert len(told) == 3
    assert '"numTraining": 9, but 4' in told[0]
    assert "no orientation in the header, sform_code and qform_code are 0" in told[1]
    assert str(label(data, 0)) in told[1]
    assert "'rare' (600) is in none of the 2 training cases" in told[2]


def test_a_declared_label_map_is_the_only_way_to_change_values(data: Path, tmp_path: Path, capsys) -> None:
    rewrite(label(data), put(7, np.int16))
    command = arguments(data, tmp_path / "run", "--steps=1", "--prepare.label_map={7: 0}")
    assert main(command) == 0


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ({"train": ["ball_0", "ball_1"], "test": ["ball_1"]}, ["ball_1", "train", "test"]),
        ({"train": ["ball_0", "ball_0"], "test": []}, ["ball_0", "twice"]),
        ({"train": ["bal_0"]}, ["bal_0", "did you mean", "ball_0"]),
        ({"train": []}, ["train"]),
    ],
)
def test_a_wrong_split_is_refused(split: dict, words: list[str], data: Path, tmp_path: Path, capsys) -> None:
    file = tmp_path / "split.json"
    file.write_text(json.dumps(split))
    message = refused(capsys, arguments(data, tmp_path / "run", "--steps=1", f"--split={file}"))
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--stps=1"], ["Unknown option 'stps'; did you mean 'steps'"]),
        (["--optimizer.lrr=1"], ["did you mean 'optimizer.lr'"]),
        (["--network=unter"], ["Unknown network 'unter'; did you mean 'unetr'"]),
        (["--preset=unettr"], ["Unknown preset 'unettr'; did you mean 'unetr'"]),
        (["--method=papr"], ["Unknown method 'papr'; did you mean 'paper'"]),
        (["--config=nowhere.yaml"], ["nowhere.yaml"]),
        (["--steps=none"], ["--steps"]),
        (["--steps=0"], ["steps must be at least 1, got 0"]),
        (["--few_shot=99"], ["99"]),
        (
            ["--crop_size=[15,16,8]", "--method=none"],
            ["cannot take crop_size (15, 16, 8)", "use a crop_size of (16, 16, 8)"],
        ),
        (["--crop_size=[20,20,8]"], ["patch_size must divide the crop"]),
        (["--method.mask.ratio=2"], ["ratio", "between 0 and 1, got 2"]),
        (["--method=reference", "--method.mask.patch_size=8"], ["unetr", "voxels"]),
        (["--prepare.spacing=[1,1,-1]"], ["spacing"]),
        (["--window.overlap=1"], ["overlap", "below 1"]),
        (["--watch_cases=-1"], ["watch_cases must be at least 0, got -1"]),
        (["--loggers=[csv,tensorbord]"], ["Unknown logger 'tensorbord'; did you mean 'tensorboard'"]),
    ],
)
def test_a_wrong_option_is_refused(options: list[str], words: list[str], data: Path, tmp_path: Path, capsys) -> None:
    message = refused(capsys, arguments(data, tmp_path / "run", "--steps=1", *options))
    for word in words:
        assert word in message
    assert files_in(tmp_path / "run") == []


def test_a_wrong_name_in_a_settings_file_is_refused(data: Path, tmp_path: Path, capsys) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("optimizer:\n  learning_rate: 0.1\n")
    message = refused(capsys, ["train", f"--config={config}", *arguments(data, tmp_path / "run")[1:]])
    assert "learning_rate" in message


def test_an_unknown_command_gets_a_suggestion(capsys) -> None:
    assert "did you mean 'train'" in refused(capsys, ["trian"])
    assert "output" in refused(capsys, ["train", "--data", "x"])


def test_no_data_is_refused(tmp_path: Path, capsys) -> None:
    assert "not found" in refused(capsys, arguments(tmp_path / "nowhere", tmp_path / "run"))
    (tmp_path / "empty").mkdir()
    assert "dataset.json" in refused(capsys, arguments(tmp_path / "empty", tmp_path / "run"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad_input")
    assert main(arguments(write_blobs(folder / "data", 4), folder / "run", "--steps=1", "--validation_cases=0")) == 0
    return folder / "run"


def test_predicting_what_cannot_be_predicted_is_refused(run: Path, data: Path, tmp_path: Path, capsys) -> None:
    def predict(source: Path, *more: str) -> str:
        output = tmp_path / "predictions"
        message = refused(
            capsys,
            ["predict", "--run", str(run), "--input", str(source), "--output", str(output), "--device=cpu", *more],
        )
        assert not list(output.glob("*.nii.gz"))
        return message

    assert "not found" in predict(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "empty" in predict(tmp_path / "empty")
    assert "Checkpoint not found" in predict(image(data), "--checkpoint=best.ckpt")
    image(data).write_bytes(image(data).read_bytes()[:-500])
    assert "ball_1.nii.gz" in predict(image(data))
    rewrite(image(data, 2), lambda a: np.stack([a, a], -1))
    assert "MRI" in predict(image(data, 2))
    rewrite(image(data, 3), lambda a: a[:, :, 0])
    assert "2D" in predict(image(data, 3))


def test_a_checkpoint_of_another_network_is_refused(run: Path, data: Path, tmp_path: Path, capsys) -> None:
    other = tmp_path / "other"
    assert main(arguments(data, other, "--steps=1", "--validation_cases=0", "--network_args.channels=[4,12]")) == 0
    checkpoint = other / "checkpoints" / "last.ckpt"
    command = ["predict", "--run", str(run), "--input", str(image(data)), "--output", str(tmp_path / "p")]
    message = refused(capsys, [*command, "--checkpoint", str(checkpoint)])
    assert "another network" in message
    assert "[4, 12]" in message
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert "not a whole MedContext checkpoint" in refused(capsys, [*command, "--checkpoint", str(checkpoint)])
    assert "is not a folder that `medcontext train` wrote" in refused(
        capsys, ["predict", "--run", str(tmp_path), "--input", str(image(data)), "--output", str(tmp_path / "p")]
    )


def test_an_output_that_exists_or_cannot_be_written_is_refused(data: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    assert "exists and is not empty" in refused(capsys, arguments(data, tmp_path / "full", "--steps=1"))
    assert files_in(tmp_path / "full") == [tmp_path / "full" / "notes.txt"]
    (tmp_path / "file").write_text("mine")
    assert "is a file" in refused(capsys, arguments(data, tmp_path / "file", "--steps=1"))
    assert "Cannot write" in refused(capsys, arguments(data, tmp_path / "file" / "run", "--steps=1"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.slow
def test_a_disk_that_fills_up_leaves_the_last_checkpoint_whole(data: Path, small_disk: Path, tmp_path: Path) -> None:
    import torch

    process = start(data, small_disk / "run", "--steps=4000", "--validate_every=2", "--watch_cases=1")
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 2, output
    assert "Traceback" not in output
    assert "Error: Cannot write" in " ".join(output.split())
    for checkpoint in (small_disk / "run").rglob("*.ckpt"):
        torch.load(checkpoint, weights_only=True)
    assert not list(small_disk.rglob(".tmp*"))


def test_evaluating_what_does_not_fit_is_refused(data: Path, tmp_path: Path, capsys) -> None:
    predictions = tmp_path / "predictions"
    predictions.mkdir()

    def evaluate() -> str:
        output = tmp_path / "scores"
        message = refused(
            capsys, ["evaluate", "--predictions", str(predictions), "--labels", str(data), "--output", str(output)]
        )
        assert files_in(output) == []
        return message

    assert "predictions" in evaluate()
    (predictions / "ball_9.nii.gz").write_bytes(label(data).read_bytes())
    assert "ball_9" in evaluate()
    (predictions / "ball_9.nii.gz").unlink()
    (predictions / "ball_1.nii.gz").write_bytes(label(data).read_bytes())
    rewrite(predictions / "ball_1.nii.gz", lambda a: a[:-1])
    assert "shape" in evaluate()
    rewrite(predictions / "ball_1.nii.gz", lambda a: np.full((20, 24, 12), 7, np.int16))
    assert "7" in evaluate()
