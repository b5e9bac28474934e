"""Scans without labels in whole trainings, through the command line."""

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from medcontext.cli import main
from medcontext.configuration import PRESETS
from medcontext.data import unlabelled
from medcontext.method.found import Found
from medcontext.run import read_run
from medcontext.training.task import Task
from tests.conftest import write_blobs
from tests.training.commands import arguments, interrupt, logged, start

REST = ("--few_shot=3", "--unlabelled", "rest")
STEPS = ("--steps=8", "--validate_every=4", "--method.unlabelled.start=0.25")


def learner_state(output: Path) -> dict:
    return torch.load(output / "checkpoints" / "last.ckpt", weights_only=True)["learner"]


def test_the_rest_joins_and_its_labels_are_never_read(tmp_path: Path) -> None:
    data = write_blobs(tmp_path / "balls")
    assert main(arguments(data, tmp_path / "few", "--few_shot=3", "--steps=1")) == 0
    used = json.loads((tmp_path / "few" / "split.json").read_text())
    named = {name for part in used.values() for name in part}
    rest = [path for path in (data / "labelsTr").iterdir() if path.name.removesuffix(".nii.gz") not in named]
    for path in rest:
        path.write_bytes(b"this is no label")
    assert main(arguments(data, tmp_path / "run", *REST, *STEPS)) == 0
    losses = logged(tmp_path / "run", "train/unlabelled")
    assert [step for step, value in losses.items() if value > 0] == [3, 4, 5, 6, 7, 8]  # from a quarter of the steps on
    assert set(logged(tmp_path / "run", "unlabelled/trusted")) == {3, 4, 5, 6, 7, 8}
    assert set(logged(tmp_path / "run", "unlabelled/known/left")) == {3, 4, 5, 6, 7, 8}
    facts = read_run(tmp_path / "run").facts.unlabelled
    assert facts.sources == ("rest",)
    assert len(facts.scans) == len(rest) > 0


def test_a_method_for_scans_without_labels_needs_some(balls: Path, tmp_path: Path, capsys) -> None:
    assert main(["train", "--data", str(balls), "--output", str(tmp_path / "run"), "--method", "mean_teacher"]) == 2
    assert "learns from scans without labels, and --unlabelled names none" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("--method.mask.patch_size=12", "patch_size must divide the crop"),
        ("--method.mask.patch_size=16", "Nothing would be hidden"),
        ("--network_args.channels=[4]", "channels"),
    ],
)
def test_what_needs_no_scan_is_refused_before_a_thousand_are_prepared(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str, words: str, capsys
) -> None:
    monkeypatch.setattr(unlabelled, "prepare_unlabelled", lambda *_, **__: pytest.fail("the scans were prepared"))
    assert main(arguments(balls, tmp_path / "run", *REST, wrong)) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_patch_that_is_too_large_for_the_data_is_refused_before_that_too(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(unlabelled, "prepare_unlabelled", lambda *_, **__: pytest.fail("the scans were prepared"))
    automatic = [each for each in arguments(balls, tmp_path / "run", *REST) if "crop_size" not in each]
    assert main([*automatic, "--method.mask.patch_size=64"]) == 2
    assert "patch" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"), [((), True), (("--unlabelled", "rest"), False), (("--batch_size=2",), False)]
)
def test_a_batch_of_one_with_no_crop_to_be_filled_with_is_said(
    balls: Path, tmp_path: Path, given: tuple[str, ...], said: bool, capsys
) -> None:
    assert main(arguments(balls, tmp_path / "run", "--few_shot=3", "--steps=1", "--batch_size=1", *given)) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert ("A batch of one has no other labelled crop to be filled with: this is a plain training" in printed) == said


@pytest.mark.parametrize("given", [("--unlabelled", "rest"), ()])
def test_tokens_are_not_filled_with_crops(balls: Path, tmp_path: Path, given: tuple[str, ...], capsys) -> None:
    options = ["--data", str(balls), "--output", str(tmp_path / "run"), "--network=unetr", "--method.mask.space=tokens"]
    assert main(["train", *options, *given]) == 2
    assert "fills what it hides with voxels of another crop, and --method.mask.space is tokens" in " ".join(
        capsys.readouterr().err.split()
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", sorted(path.stem for path in (PRESETS / "method").glob("*.yaml")))
def test_every_method_takes_them_or_says_that_it_cannot(balls: Path, tmp_path: Path, method: str, capsys) -> None:
    mask = () if method in ("none", "mean_teacher") else ("--method.mask.patch_size=8", "--method.mask.space=voxels")
    options = [option for option in arguments(balls, tmp_path / "run", *REST) if "mask.patch_size" not in option]
    code = main([*options, "--method", method, *mask, "--steps=2", "--method.teacher.update=step"])
    if method in ("medcontext", "mean_teacher"):
        assert code == 0
        assert logged(tmp_path / "run", "train/unlabelled")[2] > 0
    else:
        assert code == 2
        assert f"--method {method} has no use for --unlabelled scans" in capsys.readouterr().err
        assert not (tmp_path / "run").exists()


def test_a_resumed_training_goes_on_with_the_same_losses_and_scans(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    options = (*REST, *STEPS, "--method.unlabelled.share=1", "--method.unlabelled.clean=all", "--accumulate=2")
    assert main(arguments(balls, tmp_path / "whole", *options)) == 0
    with monkeypatch.context() as patch:
        interrupt(patch, "on_train_batch_end", 6)
        assert main(arguments(balls, tmp_path / "run", *options)) == 130
    assert main(arguments(balls, tmp_path / "run", *options, "--resume")) == 0
    expected = logged(tmp_path / "whole", "train/unlabelled")
    resumed = logged(tmp_path / "run", "train/unlabelled")
    assert resumed == {step: expected[step] for step in resumed}
    ours, theirs = learner_state(tmp_path / "run"), learner_state(tmp_path / "whole")
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs if key != "_extra_state")
    assert torch.equal(ours["_extra_state"]["found"]["teacher"], theirs["_extra_state"]["found"]["teacher"])


def test_resuming_with_other_scans_is_refused(tmp_path: Path, capsys) -> None:
    data = write_blobs(tmp_path / "balls")
    more = tmp_path / "more"
    shutil.copytree(write_blobs(tmp_path / "others", cases=3, shape=(22, 24, 12)) / "imagesTr", more)
    options = ("--few_shot=3", "--steps=2", "--unlabelled", str(more))
    assert main(arguments(data, tmp_path / "run", *options)) == 0
    facts = json.loads((tmp_path / "run" / "run.json").read_text())["unlabelled"]
    image = nib.load(more / "ball_0.nii.gz")
    nib.save(nib.Nifti1Image(image.get_fdata() + 2, image.affine), more / "ball_00.nii.gz")  # an archive grows
    assert main(["train", "--output", str(tmp_path / "run"), "--resume", "--steps=3"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "The run began without 1 scan of" in said
    assert json.loads((tmp_path / "run" / "run.json").read_text())["unlabelled"] == facts
    options = ("--few_shot=3", "--steps=3", "--unlabelled", str(more))
    nib.save(nib.Nifti1Image(image.get_fdata() + 1, image.affine), more / "ball_0.nii.gz")
    assert main(arguments(data, tmp_path / "run", *options, "--resume")) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "was trained with 3 unlabelled scans" in message
    assert "Resume with the same scans, or choose another output" in message
    assert main(arguments(data, tmp_path / "run", *options[:2], "--resume")) == 2
    assert "was trained with 3 unlabelled scans" in " ".join(capsys.readouterr().err.split())
    assert main(arguments(data, tmp_path / "plain", *options[:2])) == 0
    assert main(arguments(data, tmp_path / "plain", *options, "--resume")) == 2
    assert "was trained with 0 unlabelled scans" in " ".join(capsys.readouterr().err.split())


def test_regions_deep_supervision_and_bf16(balls: Path, tmp_path: Path) -> None:
    regions = ("--regions", json.dumps({"both": [200, 500], "right": [500]}), "--precision=bf16")
    assert main(arguments(balls, tmp_path / "run", *REST, "--steps=4", *regions)) == 0
    assert logged(tmp_path / "run", "train/unlabelled")[4] > 0
    assert "unlabelled/known/both" in (tmp_path / "run" / "csv" / "version_0" / "metrics.csv").read_text()
    network = ("--network=dynunet", "--network_args.filters=[4,8,8,8]", "--crop_size=[16,16,16]")
    options = [option for option in arguments(balls, tmp_path / "deep", *REST) if "network_args" not in option]
    assert main([*options, "--steps=3", *network]) == 0
    assert logged(tmp_path / "deep", "train/unlabelled")[3] > 0


@pytest.mark.slow
def test_two_processes_know_what_one_does(balls: Path, tmp_path: Path) -> None:
    """Until the first joined step nothing is drawn but crops, which are the same; so the teacher's answers are."""
    alike = (*REST, "--steps=4", "--method.unlabelled.start=0.75", "--method.unlabelled.share=1")
    alike = (*alike, "--augment.enabled=false", "--vary.enabled=false")
    assert main(arguments(balls, tmp_path / "one", *alike, "--batch_size=2")) == 0
    process = start(balls, tmp_path / "two", *alike, "--devices=2", "--batch_size=1")
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    two, one = (learner_state(tmp_path / name)["_extra_state"]["found"] for name in ("two", "one"))
    assert two["updates"] == one["updates"] == 1
    torch.testing.assert_close(two["teacher"], one["teacher"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(two["labels"], one["labels"])
    assert logged(tmp_path / "two", "train/unlabelled")[4] > 0


def test_changes_of_unlabelled_crops_leave_voxels_in_place(balls: Path, tmp_path: Path, capsys) -> None:
    assert main(arguments(balls, tmp_path / "run", *REST, "--vary.flip_axes=[0]")) == 2
    assert "vary changes intensities alone" in " ".join(capsys.readouterr().err.split())


def test_without_a_mask_nothing_can_be_filled(balls: Path, tmp_path: Path, capsys) -> None:
    assert main(arguments(balls, tmp_path / "run", *REST, "--method.masking=false")) == 2
    assert "needs the mask that --method.masking false takes away" in " ".join(capsys.readouterr().err.split())


def test_before_their_start_unlabelled_crops_are_not_varied(balls: Path, tmp_path: Path, monkeypatch) -> None:
    seen = []
    scans = Task._scans

    def note(self: Task, *crops: Any) -> dict:
        given = scans(self, *crops)
        seen.append((self.learner.step, sorted(given)))
        return given

    monkeypatch.setattr(Task, "_scans", note)
    assert main(arguments(balls, tmp_path / "run", *REST, "--steps=4", "--method.unlabelled.start=0.5")) == 0
    assert seen == [(step, ["unlabelled"] + ["varied"] * (step >= 2)) for step in range(4)]


def test_the_watched_scan_shows_the_teachers_target(balls: Path, tmp_path: Path) -> None:
    options = ("--steps=4", "--validate_every=4", "--watch_cases=1", "--method.unlabelled.threshold=0.5")
    assert main(arguments(balls, tmp_path / "run", *REST, *options)) == 0
    (folder,) = (tmp_path / "run" / "watch").glob("unlabelled-*")
    (_, name, _), *_ = read_run(tmp_path / "run").facts.unlabelled.scans
    assert folder.name == f"unlabelled-{name}"
    volumes = {path.name.partition(".")[0]: nib.load(path) for path in folder.iterdir()}
    assert set(volumes) == {"image", "student", "teacher", "sure"}
    assert len({volume.shape for volume in volumes.values()}) == 1
    assert set(np.unique(volumes["sure"].dataobj)) <= {0, 1}
    assert set(np.unique(volumes["teacher"].dataobj)) <= {0, 200, 500}


@pytest.mark.parametrize(("found", "little"), [(0.59, True), (0.6, False)])
def test_a_training_says_how_much_the_teacher_found_at_last(
    balls: Path, tmp_path: Path, found: float, little: bool, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(Found, "mean", property(lambda _: found))
    assert main(arguments(balls, tmp_path / "run", *REST, *STEPS)) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"the teacher found {found:.0%} of the structures' usual share in the scans without labels" in printed
    assert ("needs more --steps, or labels" in printed) == little
