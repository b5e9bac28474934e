"""The watched cases: their volumes, their pictures, and that looking changes nothing."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import medcontext.training.validation
import medcontext.training.watch
from medcontext.cli import main
from medcontext.inference.window import predict_volume
from medcontext.method import MedContext, TokenAdapter, TubeMask
from medcontext.networks import build_network, token_adapter
from medcontext.run import load_network, read_run
from medcontext.training.callbacks import Progress
from medcontext.training.watch import MaskedView, hidden_voxels
from tests.training.commands import arguments, interrupt, logged, start

PANELS = ["image", "label", "student", "teacher", "masked", "student_masked"]
LEARNING = ("--optimizer.lr=0.02", "--crop_size=[16,16,16]", "--network_args.channels=[8,16]")
BY_TOKEN = ("--method.fill=token", "--method.share=1", "--method.clean=all", "--method.consistency=paper")


def read(run: Path, name: str, panel: str) -> np.ndarray:
    return np.asanyarray(nib.load(run / "watch" / name / f"{panel}.nii.gz").dataobj)


def pictures(run: Path) -> dict[str, list[int]]:
    """The steps of every picture in TensorBoard's files."""
    found: dict[str, list[int]] = {}
    for folder in sorted((run / "tensorboard").iterdir()):
        events = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
        for tag in events.Tags()["images"]:
            for image in events.Images(tag):
                assert image.width == 1460
                found.setdefault(tag, []).append(image.step)
    return found


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three validation cases, not in order."""
    path = tmp_path_factory.mktemp("split") / "split.json"
    parts = {"train": ["ball_0", "ball_2", "ball_4"], "validation": ["ball_5", "ball_3", "ball_1"], "test": ["ball_6"]}
    path.write_text(json.dumps(parts))
    return path


@pytest.fixture(scope="module")
def run(balls: Path, split: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("watch") / "run"
    more = ["--steps=40", "--validate_every=20", "--watch_cases=2", f"--split={split}", *LEARNING, *BY_TOKEN]
    assert main(arguments(balls, folder, *more)) == 0
    return folder


def test_the_record_names_the_first_cases_and_everything_there_is(run: Path) -> None:
    assert json.loads((run / "watch" / "watch.json").read_text()) == {
        "step": 40,
        "cases": ["ball_1", "ball_3"],
        "structures": {"left": [200], "right": [500]},
        "panels": PANELS,
    }
    files = {path.relative_to(run / "watch").as_posix() for path in (run / "watch").rglob("*") if path.is_file()}
    assert files == {"watch.json", *(f"{case}/{panel}.nii.gz" for case in ("ball_1", "ball_3") for panel in PANELS)}


def test_volumes_lie_on_the_prepared_grid_and_hold_the_data_sets_own_values(balls: Path, run: Path) -> None:
    for name in ("ball_1", "ball_3"):
        for panel in PANELS:
            volume = nib.load(run / "watch" / name / f"{panel}.nii.gz")
            assert np.array_equal(volume.affine, np.diag([1.0, 1.0, 2.0, 1.0]))
            assert volume.shape == (20, 24, 12)
            assert volume.get_data_dtype() == (np.float32 if panel in ("image", "masked") else np.int16)
        truth = np.asanyarray(nib.load(balls / "labelsTr" / f"{name}.nii.gz").dataobj)
        assert np.array_equal(read(run, name, "label"), truth)
        scan = np.asanyarray(nib.load(balls / "imagesTr" / f"{name}.nii.gz").dataobj)
        assert read(run, name, "image") == pytest.approx((scan - scan.mean()) / scan.std(), abs=1e-4)


def test_what_is_watched_is_what_predict_writes(balls: Path, run: Path, tmp_path: Path) -> None:
    for weights in ("student", "teacher"):
        output = tmp_path / weights
        command = ["predict", "--run", str(run), "--input", str(balls), "--part=validation", "--output", str(output)]
        assert main([*command, f"--weights={weights}", "--device=cpu"]) == 0
        for name in ("ball_1", "ball_3"):
            written = np.asanyarray(nib.load(output / f"{name}.nii.gz").dataobj)
            assert np.array_equal(read(run, name, weights), written)
            assert set(np.unique(written)) > {0}


def test_the_masked_view_is_the_image_with_tubes_of_the_embedding(run: Path) -> None:
    read_back = read_run(run)
    embedding = torch.load(run / "checkpoints" / "last.ckpt")["learner"]["adapter.embedding"].item()
    image, masked = read(run, "ball_1", "image"), read(run, "ball_1", "masked")
    hidden = hidden_voxels(TubeMask(8, 0.4), torch.from_numpy(image)[None], "ball_1")[0].numpy()
    assert np.array_equal(masked, np.where(hidden, np.float32(embedding), image))
    assert embedding != 0
    assert (hidden == hidden[..., :1]).all()
    # 20 x 24 voxels: 3 x 3 patches of 8, the last row of them cut; 0.4 of 9 is 4
    assert len(np.unique(np.argwhere(hidden)[:, :2] // 8, axis=0)) == round(0.4 * 9)
    scores = predict_volume(
        load_network(read_back), torch.from_numpy(masked)[None], (16, 16, 16), read_back.settings.window, (0.0,)
    )
    expected = np.array(read_back.plan.values)[scores.argmax(0).numpy()]
    # Alike but for the padding of the scan, 12 slices in windows of 16, whose value is the background's
    assert (read(run, "ball_1", "student_masked") == expected).mean() > 0.99
    assert not np.array_equal(read(run, "ball_1", "student_masked"), read(run, "ball_1", "student"))


def test_the_same_tubes_are_hidden_every_time_and_others_of_another_case() -> None:
    image = torch.zeros(1, 50, 60, 7)
    first, again, other = (hidden_voxels(TubeMask(8, 0.4), image, name) for name in ("a", "a", "b"))
    assert first.shape == (1, 50, 60, 7)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_every_validation_leaves_a_picture_of_each_case_in_tensorboard(run: Path) -> None:
    assert pictures(run) == {"watch/ball_1": [20, 40], "watch/ball_3": [20, 40]}


@pytest.mark.slow
def test_looking_does_not_change_the_training(balls: Path, split: Path, tmp_path: Path) -> None:
    """With dropout and augmentation, which any random number drawn for a picture would change."""
    same = ["--steps=6", "--validate_every=2", f"--split={split}", "--network_args.dropout=0.3", "--accumulate=2"]
    for watched in (0, 2):
        assert main(arguments(balls, tmp_path / str(watched), *same, f"--watch_cases={watched}")) == 0
    blind, seen = tmp_path / "0", tmp_path / "2"
    assert not (blind / "watch").exists()
    for name in ("train/loss", "train/consistency", "val/dice_student", "val/dice_teacher"):
        assert logged(blind, name) == logged(seen, name)
        assert logged(blind, name)
    ours, theirs = (torch.load(folder / "checkpoints" / "last.ckpt")["learner"] for folder in (blind, seen))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours if key != "_extra_state")


def test_no_case_is_predicted_twice(balls: Path, split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predict, networks = medcontext.training.validation.predict_classes, []

    def count(run, network, image, background):
        networks.append(type(network).__name__)
        return predict(run, network, image, background)

    for module in (medcontext.training.validation, medcontext.training.watch):
        monkeypatch.setattr(module, "predict_classes", count)
    assert main(arguments(balls, tmp_path / "run", "--steps=1", f"--split={split}", "--watch_cases=2", *BY_TOKEN)) == 0
    assert sorted(networks) == ["MaskedView"] * 2 + ["UNet"] * 6  # student and teacher of three validation cases


def test_without_validation_cases_training_cases_are_watched_and_without_masks_no_masked_view(
    balls: Path, split: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    more = ["--steps=1", f"--split={split}", "--watch_cases=1", "--validation_cases=0", "--method.masking=false"]
    assert main(arguments(balls, run, *more)) == 0
    record = json.loads((run / "watch" / "watch.json").read_text())
    assert (record["cases"], record["panels"]) == (["ball_0"], PANELS[:4])
    assert pictures(run) == {"watch/ball_0": [1]}


def test_regions_are_written_in_label_values(balls: Path, split: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    regions = '--regions={"both": [200, 500], "right": [500]}'
    more = ["--steps=30", "--validate_every=30", f"--split={split}", "--watch_cases=1", regions, *LEARNING]
    assert main(arguments(balls, run, *more)) == 0
    record = json.loads((run / "watch" / "watch.json").read_text())
    assert record["structures"] == {"both": [200, 500], "right": [500]}
    assert set(np.unique(read(run, "ball_1", "label"))) == {0, 200, 500}
    assert set(np.unique(read(run, "ball_1", "student"))) <= {0, 200, 500}
    assert read(run, "ball_1", "student").any()


def test_hidden_tokens_are_shown_grey(balls: Path, split: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    network = ["feature_size=4", "hidden_size=24", "num_heads=2", "mlp_dim=16"]
    command = ["train", "--data", str(balls), "--output", str(run), "--network=unetr", "--method=paper"]
    command += ["--method.mask.space=tokens"]
    command += [f"--network_args.{option}" for option in network] + ["--crop_size=[32,32,16]", "--accelerator=cpu"]
    assert main([*command, "--steps=1", f"--split={split}", "--watch_cases=1", "--method.mask.patch_size=16"]) == 0
    image, masked = read(run, "ball_1", "image"), read(run, "ball_1", "masked")
    changed = masked != image
    assert len(np.unique(masked[changed])) == 1
    assert image.min() < masked[changed][0] < image.max()
    assert (run / "watch" / "ball_1" / "student_masked.nii.gz").is_file()


def test_a_window_on_the_masks_grid_hides_exactly_the_tokens_of_the_training() -> None:
    size = (32, 32, 16)
    args = {"feature_size": 4, "hidden_size": 24, "num_heads": 2, "mlp_dim": 16}
    network = build_network("unetr", in_channels=1, out_channels=2, crop_size=size, args=args).eval()
    adapter = token_adapter("unetr", network, "normal")
    assert isinstance(adapter, TokenAdapter)
    learner = MedContext(network, mask=TubeMask(16, 0.5), adapter=adapter, total_steps=1)
    image = torch.randn(1, 1, *size)
    hidden = hidden_voxels(TubeMask(16, 0.5), image[0], "a")
    grid = hidden[None, :, ::16, ::16, :1]  # (1, 1, 2, 2, 1)
    assert 0 < grid.float().mean() < 1
    with torch.no_grad():
        seen = MaskedView(learner)(torch.cat([image, hidden[None].float()], 1))
        torch.testing.assert_close(seen, adapter.masked(network, image, grid))


def test_a_resumed_run_may_watch_and_log_otherwise(
    balls: Path, split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, same = tmp_path / "run", ["--steps=4", "--validate_every=2", f"--split={split}", *BY_TOKEN]
    with monkeypatch.context() as patch:
        interrupt(patch, "save", step=4)
        assert main(arguments(balls, run, *same, "--watch_cases=1")) == 130
    assert json.loads((run / "watch" / "watch.json").read_text())["step"] == 2
    times = {panel: (run / "watch" / "ball_1" / f"{panel}.nii.gz").stat().st_mtime_ns for panel in PANELS}
    assert main(arguments(balls, run, *same, "--watch_cases=2", "--loggers=[csv]", "--resume")) == 0
    assert json.loads((run / "watch" / "watch.json").read_text())["cases"] == ["ball_1", "ball_3"]
    assert len(list((run / "tensorboard").iterdir())) == 1
    now = {panel: (run / "watch" / "ball_1" / f"{panel}.nii.gz").stat().st_mtime_ns for panel in PANELS}
    assert {panel for panel in PANELS if now[panel] == times[panel]} == {"image", "label"}


def test_a_full_disk_is_one_clear_error_and_costs_no_checkpoint(
    balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(image, path):
        Path(path).write_bytes(b"half")
        raise OSError(28, os.strerror(28), str(path))

    monkeypatch.setattr("medcontext.data.nifti.nib.save", full)
    assert main(arguments(balls, tmp_path / "run", "--steps=1", "--watch_cases=1")) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "Error: Cannot write" in message
    assert "image.nii.gz: No space left on device" in message
    torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert not [path for path in (tmp_path / "run" / "watch").rglob("*") if path.is_file()]


def test_only_the_first_device_looks(tmp_path: Path) -> None:
    """What `validate` does on the second of two devices, without the two."""
    barriers: list[int] = []
    trainer = SimpleNamespace(
        is_global_zero=False, loggers=[], strategy=SimpleNamespace(barrier=lambda: barriers.append(1))
    )
    task = SimpleNamespace(step=1, parameters=list)
    run = SimpleNamespace(settings=SimpleNamespace(patience=0))
    progress = Progress(run=run, validation=None, watch=None, every=1)  # type: ignore[arg-type]
    progress.watch = SimpleNamespace(run=lambda *_: pytest.fail("it looked"))  # type: ignore[assignment]
    progress.validate(trainer, task)  # type: ignore[arg-type]
    assert len(barriers) == 2


@pytest.mark.parametrize("given", [(), ("--method.fill=token", "--unlabelled", "rest")])
def test_a_student_that_sees_tubes_filled_with_scans_is_not_shown_hidden_ones(
    balls: Path, tmp_path: Path, given: tuple[str, ...]
) -> None:
    run = tmp_path / "run"
    assert main(arguments(balls, run, "--steps=1", "--few_shot=3", *given, "--watch_cases=1")) == 0
    assert json.loads((run / "watch" / "watch.json").read_text())["panels"] == PANELS[:4]


@pytest.mark.slow
def test_two_processes_train_and_watch_once(balls: Path, split: Path, tmp_path: Path) -> None:
    same = [f"--split={split}", "--steps=2", "--validate_every=1", "--batch_size=1", *BY_TOKEN]
    run = tmp_path / "run"
    process = start(balls, run, *same, "--devices=2", "--watch_cases=2")
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    assert pictures(run) == {"watch/ball_1": [1, 2], "watch/ball_3": [1, 2]}
    assert json.loads((run / "watch" / "watch.json").read_text())["step"] == 2
    facts = json.loads((run / "run.json").read_text())
    assert (facts["devices"], facts["step"]) == (2, 2)
    assert logged(run, "train/consistency")[2] > 0
    assert not list(run.rglob(".tmp*"))
