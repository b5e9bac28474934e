"""Trainings that start from a pretraining, or from another training."""

import json
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from medcontext.cli import main
from medcontext.training import fit
from medcontext.training.task import Task
from tests.training.test_pretrain import NETWORK, arguments, message, pretrain, tensors


@pytest.fixture(scope="module")
def pretrained(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("pretrained") / "pre"
    assert main(arguments(balls, output, "mae", "--steps=4", "--loggers=[csv]")) == 0
    return output


def test_the_encoder_starts_as_it_was_pretrained_and_the_rest_as_it_would_have(
    pretrained: Path, balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Task] = []
    monkeypatch.setattr(fit, "fit", lambda run, store, scans, task, progress, place: found.append(task))
    train = ["train", "--data", str(balls), *NETWORK, "--crop_size=[32,32,16]", "--accelerator=cpu", "--steps=1"]
    for name, more in (("with", ["--init", str(pretrained)]), ("without", [])):
        assert main([*train, "--output", str(tmp_path / name), *more]) == 0
    (ours, plain), expected = found, tensors(pretrained)["state_dict"]
    assert expected
    for learner in (ours.learner.network, ours.learner.teacher.network):
        for name, value in learner.state_dict().items():
            known = expected.get(name, plain.learner.network.state_dict()[name])
            assert torch.equal(value, known), name
    report = (tmp_path / "with" / "initial.txt").read_text()
    assert "100.0% of the encoder (vit) is the file's" in report
    facts = json.loads((tmp_path / "with" / "run.json").read_text())
    assert facts["init"].startswith("mae on 5 scans, step 4 of ")


@pytest.mark.slow
def test_a_pretraining_on_test_images_is_refused_whatever_they_are_called(
    balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    for index in range(8):
        shutil.copy(balls / "imagesTr" / f"ball_{index}.nii.gz", scans / f"scan{index}.nii.gz")
    pre = pretrain(scans, tmp_path / "pre")
    train = ["train", "--data", str(balls), *NETWORK, "--crop_size=[32,32,16]", "--accelerator=cpu", "--steps=1"]
    train += ["--validation_cases=0", "--watch_cases=0", "--init", str(pre.folder), "--output", str(tmp_path / "run")]
    assert main(train) == 2
    said = message(capsys)
    assert "was pretrained on the images of 2 test cases: ball_" in said
    assert "--init_seen_tests" in said
    assert not (tmp_path / "run" / "run.json").exists()
    assert main([*train, "--init_seen_tests"]) == 0
    assert len(json.loads((tmp_path / "run" / "run.json").read_text())["init_tested"]) == 2
    assert "Scores on them are those of scans that the network has seen" in (tmp_path / "run" / "log.txt").read_text()


def test_a_run_has_seen_its_own_scans_and_those_of_its_pretraining(
    balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also after a resume, which does not read its pretraining again."""

    def train(output: str, init: Path, tests: Sequence[int], *more: str) -> int:
        split = {"train": ["ball_0"], "validation": [], "test": [f"ball_{index}" for index in tests]}
        (tmp_path / "split.json").write_text(json.dumps(split))
        command = ["train", "--data", str(balls), "--output", str(tmp_path / output), "--init", str(init), *NETWORK]
        command += ["--crop_size=[32,32,16]", "--accelerator=cpu", "--steps=1", "--watch_cases=0", "--method=none"]
        return main([*command, f"--split={tmp_path / 'split.json'}", *more])

    (tmp_path / "scans").mkdir()
    for index in (1, 2):
        shutil.copy(balls / "imagesTr" / f"ball_{index}.nii.gz", tmp_path / "scans" / f"scan{index}.nii.gz")
    pre = pretrain(tmp_path / "scans", tmp_path / "pre", held_out=0.0)
    assert train("first", pre.folder, [3]) == 0
    assert main(["train", "--output", str(tmp_path / "first"), "--resume", "--steps=2"]) == 0
    capsys.readouterr()
    assert train("second", tmp_path / "first", [2, 3]) == 2
    assert "trained, or what it started from was, on the images of 1 test case: ball_2." in message(capsys)
    assert train("second", tmp_path / "first", [2, 3], "--init_seen_tests") == 0
    facts = json.loads((tmp_path / "second" / "run.json").read_text())
    assert facts["init_tested"] == ["ball_2"]
    assert train("third", tmp_path / "second", [3, 4]) == 0
    split = {"train": ["ball_4"], "validation": [], "test": ["ball_0"]}
    (tmp_path / "other.json").write_text(json.dumps(split))
    assert train("fourth", tmp_path / "third", [], f"--split={tmp_path / 'other.json'}") == 2
    assert "on the images of 1 test case: ball_0." in message(capsys)


def test_a_training_of_another_network_is_told_the_options_that_fit(
    pretrained: Path, balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", "--data", str(balls), "--output", str(tmp_path / "run"), "--init", str(pretrained)]
    train += ["--accelerator=cpu", "--crop_size=[32,32,16]", "--steps=1", "--method=none", "--watch_cases=0"]
    for network in ([], ["--network=unetr", "--network_args.hidden_size=48", *NETWORK[2:]]):
        assert main([*train, *network]) == 2
        said = message(capsys)
        options = shlex.split(said[said.index("--network unetr") :].split(", and no more")[0])
        assert "Train that network" in said
    assert main([*train, *options]) == 0
