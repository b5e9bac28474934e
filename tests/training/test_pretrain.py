import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import medcontext as mc
from medcontext.cli import main
from medcontext.errors import InputError
from medcontext.networks import build_network
from medcontext.pretrain_settings import PretrainSettings
from medcontext.pretraining import simclr
from medcontext.run import Pretraining, read_pretraining
from medcontext.training.held_out import HeldOut
from medcontext.training.pretrain import find_like, make_objective
from tests.conftest import write_blobs
from tests.training.commands import interrupt, logged, start_command

UNETR = {"hidden_size": 24, "mlp_dim": 48, "num_heads": 2, "feature_size": 4}
CROP = (32, 32, 16)
NETWORK = ("--network=unetr", *(f"--network_args.{name}={value}" for name, value in UNETR.items()))
SMALL = (*NETWORK, "--crop_size=[32,32,16]", "--accelerator=cpu", "--batch_size=2")
DECODER = tuple(
    f"--mae.decoder_{name}={value}" for name, value in (("width", 24), ("depth", 1), ("heads", 2), ("mlp", 48))
)
CNN = ("--network=pcrlv2", "--network_args.width=4", "--crop_size=[32,32,16]", "--accelerator=cpu", "--batch_size=2")
VIEWS = (
    "--pcrlv2.global_boxes=[[24,24,16],[32,24,16]]",
    "--pcrlv2.global_size=[16,16,8]",
    "--pcrlv2.local_boxes=[[8,8,8]]",
    "--pcrlv2.local_size=[8,8,8]",
    "--pcrlv2.local_views=2",
    "--pcrlv2.swaps=3",
    "--pcrlv2.swap_patch=[4,4,4]",
)
OBJECTIVES = {"mae": (*SMALL, *DECODER), "simmim": SMALL, "simclr": SMALL, "pcrlv2": (*CNN, *VIEWS)}


def arguments(data: Path, output: Path, objective: str = "mae", *more: str) -> list[str]:
    return [
        "pretrain",
        "--data",
        str(data),
        "--output",
        str(output),
        f"--objective={objective}",
        *OBJECTIVES[objective],
        *more,
    ]


@pytest.fixture(scope="module")
def pretrained(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("pretrained") / "pre"
    assert main(arguments(balls, output, "mae", "--steps=4", "--validate_every=2")) == 0
    return output


def tensors(pretraining: Path, name: str = "last") -> dict[str, Any]:
    content: dict[str, Any] = torch.load(pretraining / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return content


def message(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_learns_from_scans_and_shows_what_it_makes_of_them(
    pretrained: Path, balls: Path, tmp_path: Path, objective: str
) -> None:
    output = pretrained if objective == "mae" else tmp_path / "pre"
    if objective != "mae":
        assert main(arguments(balls, output, objective, "--steps=4", "--validate_every=2")) == 0
    assert sorted(logged(output, "train/loss")) == [1, 2, 3, 4]
    assert sorted(logged(output, "val/loss")) == [2, 4]
    assert Image.open(output / "restored.png").size[0] > 300
    curves = EventAccumulator(str(output / "tensorboard" / "version_0"), size_guidance={"images": 0}).Reload()
    assert [picture.step for picture in curves.Images("restored")] == [2, 4]
    facts = json.loads((output / "pretraining.json").read_text())
    assert (facts["step"], facts["dataset"]) == (4, "Balls")
    pretraining = read_pretraining(output)
    torch.manual_seed(0)
    start = make_objective(pretraining.settings, 1, CROP).moved()
    after = tensors(output)["state_dict"]
    assert start.keys() == after.keys() == tensors(output, "best")["state_dict"].keys()
    assert sum(not torch.equal(value, after[name]) for name, value in start.items()) > len(start) / 2


@pytest.mark.parametrize(
    "objective", ["mae", *(pytest.param(name, marks=pytest.mark.slow) for name in ("simclr", "pcrlv2"))]
)
def test_a_pretraining_that_was_stopped_ends_as_if_it_had_not_been(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: str
) -> None:
    """Also one that was started by a relative path, and goes on by an absolute one."""
    common = ("--steps=4", "--validate_every=2", "--accumulate=2")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    monkeypatch.chdir(balls)
    assert main(arguments(Path("imagesTr"), whole, objective, *common)) == 0
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, "on_train_batch_end", step=3, of=HeldOut)
        assert main(arguments(Path("imagesTr"), broken, objective, *common)) == 130
    assert json.loads((broken / "pretraining.json").read_text())["step"] == 2
    assert "medcontext pretrain --output" in (broken / "log.txt").read_text()
    assert main(["pretrain", "--output", str(broken), "--resume"]) == 0
    one, other = tensors(whole), tensors(broken)
    assert one["objective"].keys() == other["objective"].keys()
    assert all(torch.equal(value, other["objective"][name]) for name, value in one["objective"].items())
    assert one["best"] == other["best"]
    assert read_pretraining(whole).split == read_pretraining(broken).split


def test_labels_are_never_read_and_test_cases_never_seen(balls: Path, tmp_path: Path) -> None:
    data = shutil.copytree(balls, tmp_path / "data")
    split = {"train": ["ball_0", "ball_1", "ball_2"], "validation": ["ball_3"], "test": ["ball_4", "ball_5"]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    for label in (data / "labelsTr").iterdir():
        label.write_bytes(b"nobody reads this")
    pre = pretrain(data, tmp_path / "pre", split=str(tmp_path / "split.json"))
    assert {name for _, name, _ in pre.facts.unlabelled.scans} == set(split["train"])
    assert len(pre.split.validation) == 1
    assert set(pre.split.train) | set(pre.split.validation) == set(split["train"])


def pretrain(data: Path, output: Path, like: Path | str | None = None, **values: Any) -> Pretraining:
    tiny = {"network": "unetr", "network_args": UNETR, "batch_size": 2, "accelerator": "cpu", "steps": 1}
    crop = {} if like else {"crop_size": CROP}
    settings = PretrainSettings.preset(objective="simmim", **{**tiny, **crop, **values})
    return mc.pretrain([data], output, settings, like=like)


def test_scans_are_prepared_like_those_of_a_run(balls: Path, tmp_path: Path) -> None:
    settings = mc.Settings.preset(
        method="none", network="unetr", network_args=UNETR, crop_size=CROP, steps=1, accelerator="cpu", watch_cases=0
    )
    run = mc.train(balls, tmp_path / "run", settings)
    pre = pretrain(balls, tmp_path / "pre", like=run.folder)
    assert pre.plan.image_hash == run.plan.image_hash
    assert pre.crop_size == CROP
    again = tmp_path / "again"
    other = pretrain(balls, again, like=pre.folder)
    assert other.plan.hash == pre.plan.hash
    assert set(pre.split.train + pre.split.validation) == set(run.split.train)
    given = find_like("btcv_unetr", PretrainSettings.preset(objective="mae", prepare={"spacing": (9, 9, 9)}))
    assert given.plan is None
    assert (given.settings.prepare.spacing, given.settings.crop_size) == ((1.5, 1.5, 2.0), (96, 96, 96))
    assert (given.split, given.settings.split) == ("btcv", None)
    assert "whatever the settings or their preset say of --prepare" in given.remarks[0]
    with pytest.raises(InputError, match="has the channels MRI, and --channels says CT"):
        find_like(str(run.folder), PretrainSettings.preset(objective="mae"), ["CT"])


def test_the_best_has_the_lowest_loss_on_scans_held_out_and_the_last_is_the_end(balls: Path, tmp_path: Path) -> None:
    """With so high a rate it gets worse, so that the two are not one."""
    more = ("--steps=6", "--validate_every=1", "--optimizer.lr=0.5", "--optimizer.warmup=0.5", "--optimizer.lr_end=0")
    assert main(arguments(balls, tmp_path / "pre", "simmim", *more)) == 0
    losses = logged(tmp_path / "pre", "val/loss")
    best, last = tensors(tmp_path / "pre", "best"), tensors(tmp_path / "pre")
    assert best["step"] == min(losses, key=losses.__getitem__) != 6
    assert last["step"] == 6
    assert -best["best"] == pytest.approx(min(losses.values()))


def test_a_part_of_the_loss_that_is_0_is_told_too(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as SimCLR's share of crops whose other view is the nearest."""
    monkeypatch.setattr(simclr, "partners", lambda similarity: torch.full((len(similarity),), -1))
    monkeypatch.setattr(simclr, "contrastive", lambda similarity: similarity.logsumexp(1).mean())
    assert main(arguments(balls, tmp_path / "pre", "simclr", "--steps=1", "--held_out=0")) == 0
    assert "(found 0.000)" in capsys.readouterr().out


@pytest.mark.slow
def test_hidden_voxels_of_scans_held_out_are_restored_better_than_by_their_mean(tmp_path: Path) -> None:
    data = write_blobs(tmp_path / "data", cases=12)
    output = tmp_path / "pre"
    more = ("--steps=120", "--validate_every=60", "--optimizer.lr=0.003", "--mae.cube=16", "--held_out=0.2")
    assert main(arguments(data, output, "mae", *more)) == 0
    hidden, guess = logged(output, "val/hidden"), logged(output, "val/guess")
    assert hidden[120] < 0.9 * guess[120]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--objective=pcrlv2"], "The objective pcrlv2 does not pretrain a UNETR; it does: pcrlv2"),
        (["--crop_size=[32,32,24]"], "crop_size"),
        (["--batch_size=1", "--objective=simclr"], "simclr needs a batch_size of at least 2"),
        (["--held_out=1"], "held_out is a fraction of the patients"),
        (["--objective=bert"], "Unknown objective 'bert'"),
        (["--like=nothing"], "Unknown preset 'nothing'"),
        (["--simclr.temperature=0.2"], "--simclr.* is for --objective simclr, and here that is mae"),
        (["--optimizer.lr=0.00001"], "Give both, such as --optimizer.lr 1e-05 --optimizer.lr_end 0"),
        (["--prepare.normalization=ct"], "takes the intensities of labelled voxels"),
        (["--channels", "T1", "T2"], "has the channels MRI, where T1, T2 are expected"),
        (["--mae.ratio=0.1"], "hides all or none"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: Sequence[str], words: str
) -> None:
    base = "simmim" if any("--objective" in option for option in more) else "mae"  # MAE's options are for it alone
    assert main(arguments(balls, tmp_path / "pre", base, *more)) == 2
    said = message(capsys)
    assert words in said
    assert "reading the scans" not in said or "--prepare" in more[0]
    assert not (tmp_path / "pre").exists() or not list((tmp_path / "pre").iterdir())


@pytest.mark.slow
def test_a_damaged_scan_is_named_and_left_out_if_asked(
    balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = shutil.copytree(balls / "imagesTr", tmp_path / "scans")
    (scans / "ball_3.nii.gz").write_bytes(b"no scan")
    assert main(arguments(scans, tmp_path / "pre", "mae", "--steps=1")) == 2
    assert "1 of 8 unlabelled scans cannot be used" in message(capsys)
    assert main(arguments(scans, tmp_path / "pre", "mae", "--steps=1", "--skip_damaged")) == 0
    assert "Left out, because they cannot be used" in (tmp_path / "pre" / "log.txt").read_text()


def test_other_scans_are_refused_on_resume(balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scans = shutil.copytree(balls / "imagesTr", tmp_path / "scans")
    assert main(arguments(scans, tmp_path / "pre", "mae", "--steps=1")) == 0
    (scans / "ball_3.nii.gz").unlink()
    assert main(["pretrain", "--output", str(tmp_path / "pre"), "--resume", "--steps=2"]) == 2
    assert "was trained with 8 unlabelled scans" in message(capsys)


def test_a_pretraining_segments_nothing(
    pretrained: Path, balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict = ["predict", "--run", str(pretrained), "--input", str(balls), "--output", str(tmp_path / "out")]
    assert main(predict) == 2
    assert "it is a pretraining, which segments nothing" in message(capsys)


def test_another_crop_gets_the_positions_interpolated(pretrained: Path) -> None:
    network = build_network("unetr", in_channels=1, out_channels=3, crop_size=(32, 48, 32), args=UNETR)
    report = mc.load_weights(network, pretrained)
    assert report.of("converted") == ("vit.patch_embedding.position_embeddings",)
    assert report.share == 1


def test_a_trainings_folder_is_not_a_pretrainings_and_the_reverse(
    pretrained: Path, balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, resume = tmp_path / "run", ["--resume", "--steps=9"]
    assert main(["train", "--data", str(balls), "--output", str(run), *SMALL, "--steps=1", "--method=none"]) == 0
    assert main([*arguments(balls, run, "simmim"), *resume]) == 2
    assert "is a training's folder, not a pretraining's" in message(capsys)
    assert main(["train", "--output", str(pretrained), *resume]) == 2
    assert "is a pretraining's folder, not a training's" in message(capsys)
    assert main(["pretrain", "--output", str(tmp_path / "none"), "--resume"]) == 2
    assert "Give what is to be learnt" in message(capsys)
    young = tmp_path / "young"  # stopped before its first checkpoint
    young.mkdir()
    shutil.copy(pretrained / "pretraining.json", young)
    assert main(["train", "--data", str(balls), "--output", str(young), "--resume", "--method=none"]) == 2
    assert "is a pretraining's folder, not a training's" in message(capsys)
    lost = shutil.copytree(pretrained, tmp_path / "lost")
    (lost / "pretraining.json").unlink()
    assert main(["pretrain", "--output", str(lost), "--resume"]) == 2
    assert "there is no pretraining.json" in message(capsys)
    assert main(["pretrain", "--output", str(pretrained), "--resume", "--like=btcv_unetr"]) == 2
    assert "leave --like and --channels out" in message(capsys)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["mae", "pcrlv2"])  # the others go through the same loop
def test_it_runs_on_two_processes(balls: Path, tmp_path: Path, objective: str) -> None:
    command = arguments(balls, tmp_path / "pre", objective, "--steps=3", "--devices=2")
    process = start_command(command)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert len(logged(tmp_path / "pre", "train/loss")) == 3
