"""The commands of README.md and docs/training.md do what is written there, on generated scans with a tiny network."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from monai.networks.nets import SwinUNETR

from medcontext.cli import main
from medcontext.networks import build_network
from medcontext.run import read_run
from tests.nnunet import write_raw, write_results
from tests.training.commands import TINY, logged
from tests.training.test_pretrain import OBJECTIVES

ROOT = Path(__file__).parents[1]
SMALL = (*TINY, "--steps=2", "--validation_cases=1", "--loggers=[csv]", "--workers=0")


def commands(page: str, start: str, end: str) -> list[list[str]]:
    """The words of every `medcontext` command between two texts of a page."""
    text = (ROOT / page).read_text(encoding="utf-8").partition(start)[2].partition(end)[0]
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("medcontext ")]


@pytest.fixture
def desk(balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the commands name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MEDCONTEXT_CACHE", str(tmp_path / "cache"))
    for name in ("DATASET", "OTHER_DATASET"):
        shutil.copytree(balls, tmp_path / name)
    other = tmp_path / "OTHER_DATASET" / "dataset.json"
    other.write_text(json.dumps({**json.loads(other.read_text()), "unlabelled": ["more.nii.gz"]}))
    (tmp_path / "SCANS").mkdir()
    for place in ("SCANS/new.nii.gz", "OTHER_DATASET/more.nii.gz"):
        shutil.copy(balls / "imagesTr" / "ball_0.nii.gz", tmp_path / place)
    return tmp_path


@pytest.mark.slow
def test_the_readmes_way_in_a_shell(desk: Path) -> None:
    found = commands("README.md", "The same in a shell", "Or in your own loop")
    assert [words[0] for words in found] == ["check", "train", "postprocess", "predict", "evaluate"]
    for words in found:
        small = [*SMALL, "--few_shot=2"] if words[0] == "train" else []
        assert main([*words, *small]) == 0, words
    assert (desk / "SCORES" / "metrics.csv").is_file()


@pytest.mark.slow
def test_scores_and_a_report_of_nnunets_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = "Dataset004_Hippocampus"
    write_raw(tmp_path).rename(tmp_path / "nnUNet_raw" / folder)
    write_results(tmp_path, {"0": [0, 1, 2], "1": [3, 4, 5]}).parent.rename(tmp_path / "nnUNet_results" / folder)
    evaluate, *others = commands("docs/nnunet.md", "## Scores, comparisons", "\n## ")
    assert main(evaluate) == 0
    shutil.copytree("EVAL", "SCORES")
    for words in others:
        assert main(words) == 0, words
    assert "PlainConvUNet" in Path("report.html").read_text()


@pytest.mark.slow
def test_pretraining_and_starting_from_it(desk: Path) -> None:
    pretrain, train = commands("docs/pretraining.md", "# Pretraining", "## Which scans")
    assert [pretrain[0], train[0]] == ["pretrain", "train"]
    shutil.copytree(desk / "DATASET" / "imagesTr", desk / "SCANS", dirs_exist_ok=True)
    assert main([*pretrain, *OBJECTIVES["mae"], "--steps=2", "--loggers=[csv]"]) == 0
    assert main([*train, *OBJECTIVES["simmim"], "--steps=1", "--validation_cases=1", "--init_seen_tests"]) == 0
    assert read_run(desk / "RUN").facts.init.startswith("mae on ")


@pytest.mark.slow
def test_starting_from_other_weights(desk: Path) -> None:
    ours, theirs, openmind = commands("docs/training.md", "## Starting from other weights", "## Cross-validation")
    assert main(["train", "--data", "DATASET", "--output", "OTHER_RUN", *SMALL]) == 0
    assert main([*ours, *SMALL]) == 0
    swin, res = {"feature_size": 12, "depths": [1, 1, 1, 1]}, {"features_per_stage": [4, 8, 8]}
    pretrained = build_network("resenc", in_channels=1, out_channels=1, crop_size=(16, 16, 16), args=res)
    torch.save({"network_weights": pretrained.state_dict()}, "checkpoint_final.pth")
    torch.save(SwinUNETR(1, 14, use_v2=True, **swin).state_dict(), "VoCo_B.pt")
    common = [each for each in SMALL if "network_args" not in each and "crop_size" not in each]
    for words, crop, args, encoder in (
        (theirs, "[32,32,64]", swin, "swinViT"),
        (openmind, "[16,16,16]", res, "encoder"),
    ):
        shutil.rmtree("RUN")
        shape = [f"--crop_size={crop}", *(f"--network_args.{name}={value}" for name, value in args.items())]
        assert main([*words, *common, *shape]) == 0
        assert f"100.0% of the encoder ({encoder})" in Path("RUN/initial.txt").read_text()


@pytest.mark.slow
def test_every_training_of_the_docs(desk: Path) -> None:
    python = next(
        block
        for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs/training.md").read_text(), re.DOTALL)
        if block.startswith("# mine.py")
    )
    (desk / "mine.py").write_text(python)
    first = commands("docs/training.md", "A run that was stopped", "## Starting from other weights")
    scans = commands("docs/training.md", "## Scans without labels", "In your own loop")
    resumed, *others = first
    assert main(["train", "--data", "DATASET", "--output", "RUN", *SMALL]) == 0
    assert main([*resumed, "--steps=3"]) == 0
    assert read_run(Path("RUN")).facts.step == 3
    assert len(others) == 2
    assert len(scans) == 2
    for words in others + scans:
        shutil.rmtree("RUN")
        few = ["--few_shot=2"] if "--unlabelled" in words else []
        assert main([*words, *SMALL, *few]) == 0, words
        assert logged(Path("RUN"), "train/loss")
