import hashlib
import json
from pathlib import Path

import pytest
import torch

import medcontext as mc
from medcontext.cli import main
from medcontext.networks import build_network
from medcontext.run import load_network, read_run
from medcontext.training import fit
from medcontext.training.task import Task
from tests.training.commands import arguments

STILL = ("--optimizer.lr=1e-12", "--optimizer.weight_decay=0")  # so that a step leaves the weights as they are


@pytest.fixture(scope="module")
def trained(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("trained") / "run"
    assert main(arguments(balls, run, "--steps=2", "--optimizer.lr=0.01", "--validation_cases=0")) == 0
    return run


def captured(patch: pytest.MonkeyPatch, *more: str) -> Task:
    """A training right before its first step."""
    found: list[Task] = []
    patch.setattr(fit, "fit", lambda run, store, scans, task, progress, place: found.append(task))
    assert main(arguments(*map(Path, more[:2]), *more[2:])) == 0
    return found[0]


def network(outputs: int = 3, inputs: int = 1, width: int = 8) -> torch.nn.Module:
    args = {"channels": [4, width], "strides": [2]}
    return build_network("unet", in_channels=inputs, out_channels=outputs, crop_size=(16, 16, 8), args=args)


@pytest.mark.parametrize("weights", ["student", "teacher"])
def test_a_like_network_gets_all_weights(trained: Path, weights: str) -> None:
    expected = load_network(read_run(trained), weights=weights).state_dict()
    for file in (trained, trained / "checkpoints" / "last.ckpt"):
        fresh = network()
        report = mc.load_weights(fresh, file, weights)
        assert report.taken == tuple(fresh.state_dict())
        assert (report.anew, report.step) == ((), 2)
        assert all(torch.equal(value, expected[name]) for name, value in fresh.state_dict().items())


def test_for_other_labels_the_last_layer_stays_as_it_was(trained: Path) -> None:
    expected, fresh = load_network(read_run(trained)).state_dict(), network(outputs=5)
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    report = mc.load_weights(fresh, trained)
    assert report.anew
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, (before if name in report.anew else expected)[name])
        assert (name in report.anew) == (5 in value.shape)


@pytest.mark.parametrize("other", [{"inputs": 2}, {"width": 16}, {"inputs": 2, "outputs": 5}])
def test_anything_else_that_does_not_fit_is_refused_and_nothing_is_loaded(trained: Path, other: dict) -> None:
    fresh = network(**other)
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    with pytest.raises(mc.InputError, match=r"do not fit: .* there, .* here.*--network unet .*Train that network"):
        mc.load_weights(fresh, trained)
    assert all(torch.equal(value, before[name]) for name, value in fresh.state_dict().items())


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pt")
    for file, words in (("other.pt", "is not a checkpoint that"), ("none.ckpt", "not found"), ("", "is not a folder")):
        with pytest.raises(mc.InputError, match=words):
            mc.load_weights(network(), tmp_path / file)


def test_a_training_starts_from_another_runs_weights(trained: Path, balls: Path, tmp_path: Path, capsys) -> None:
    def started(name: str, *more: str) -> dict[str, torch.Tensor]:
        run = tmp_path / name
        assert main(arguments(balls, run, "--steps=1", "--init", str(trained), *STILL, *more)) == 0
        assert json.loads((run / "inputs.json").read_text())["init"] == str(trained)
        return load_network(read_run(run)).state_dict()

    expected = load_network(read_run(trained)).state_dict()
    for name, value in started("same").items():
        torch.testing.assert_close(value, expected[name])
    assert f"Starts from the weights of {trained / 'checkpoints' / 'last.ckpt'}, step 2" in capsys.readouterr().out
    assert main(["train", "--output", str(tmp_path / "same"), "--resume", "--steps=2"]) == 0
    assert "Starts from" not in capsys.readouterr().out, "it has weights of its own by now"
    other = started("other", '--regions={"both": [200, 500], "right": [500]}')
    assert "The last layer is anew, for its labels are others" in capsys.readouterr().out
    anew = [name for name, value in other.items() if value.shape != expected[name].shape]
    assert anew
    for name in other.keys() - set(anew):
        torch.testing.assert_close(other[name], expected[name])


def test_before_the_first_step_student_and_teacher_are_the_file_and_all_else_the_random_start(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    torch.manual_seed(7)
    file = {f"module.{name}": torch.rand_like(each) for name, each in network().named_parameters()}
    gone = [name for name in file if name.startswith("module.model.2")]
    torch.save({"state_dict": {name: each for name, each in file.items() if name not in gone}}, tmp_path / "other.pt")
    random = captured(monkeypatch, str(balls), str(tmp_path / "random"))
    more = ("--init", str(tmp_path / "other.pt"), "--init_partial")
    task = captured(monkeypatch, str(balls), str(tmp_path / "run"), *more)
    taken = [name for name in file if name not in gone]
    assert taken
    assert gone
    own = dict(random.learner.network.named_parameters())
    for started in (task.learner.network, task.learner.teacher.network):
        for name, each in started.named_parameters():
            expected = file[f"module.{name}"] if f"module.{name}" in taken else own[name]
            assert torch.equal(each, expected), name
    said = capsys.readouterr().out
    assert f"Starts from the weights of {tmp_path / 'other.pt'}: {len(taken)} tensors" in said
    assert f"not in the file, and so random: {len(gone)} tensors" in said
    sha256 = hashlib.sha256((tmp_path / "other.pt").read_bytes()).hexdigest()
    assert read_run(tmp_path / "run").facts.init_sha256 == sha256
    lines = (tmp_path / "run" / "initial.txt").read_text()
    assert sha256 in lines
    assert all(name.removeprefix("module.") in lines for name in file)


def test_a_run_stopped_before_its_first_checkpoint_starts_from_the_same_file(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    torch.save(network().state_dict(), tmp_path / "other.pt")
    captured(monkeypatch, str(balls), str(tmp_path / "run"), "--init", str(tmp_path / "other.pt"))
    assert main(["train", "--output", str(tmp_path / "run"), "--resume"]) == 0
    torch.save({name: torch.zeros_like(each) for name, each in network().state_dict().items()}, tmp_path / "other.pt")
    capsys.readouterr()
    assert main(["train", "--output", str(tmp_path / "run"), "--resume"]) == 2
    assert "other content by now" in capsys.readouterr().err


def test_too_little_of_a_file_is_refused_before_anything_is_written(
    balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    torch.save({"model.0.conv.unit0.conv.weight": torch.rand(4, 1, 3, 3, 3)}, tmp_path / "other.pt")
    assert main(arguments(balls, tmp_path / "run", "--init", str(tmp_path / "other.pt"))) == 2
    assert "--init_partial" in capsys.readouterr().err
    assert not (tmp_path / "run" / "run.json").exists()
    assert main(arguments(balls, tmp_path / "run", "--init_partial")) == 2
    assert "--init FILE" in capsys.readouterr().err


def test_what_fits_of_a_runs_weights_is_taken_where_that_is_asked_for(trained: Path) -> None:
    fresh = network(inputs=2, outputs=5)
    report = mc.load_weights(fresh, trained, partial=True)
    assert report.of("converted")
    assert report.anew
    assert not report.whole


def test_a_runs_positions_are_interpolated_for_another_crop_also_with_as_many(tmp_path: Path) -> None:
    def unetr(crop: tuple[int, int, int]) -> torch.nn.Module:
        args = {"feature_size": 4, "hidden_size": 12, "mlp_dim": 12, "num_heads": 2}
        return build_network("unetr", in_channels=1, out_channels=2, crop_size=crop, args=args)

    before, after = unetr((32, 32, 16)), unetr((16, 32, 32))
    learner = {f"network.{name}": each for name, each in before.state_dict().items()}
    about = {"crop_size": [32, 32, 16], "out_channels": 2}
    torch.save({"learner": learner, "network": about}, tmp_path / "last.ckpt")
    report = mc.load_weights(after, tmp_path / "last.ckpt")
    assert report.whole
    assert report.of("converted") == ("vit.patch_embedding.position_embeddings",)
    there, here = (each.vit.patch_embedding.position_embeddings[0] for each in (before, after))
    # (2, 2, 1) to (1, 2, 2): the mean along the first axis, the same twice along the last
    expected = there.reshape(2, 2, 12).mean(0).repeat_interleave(2, 0)
    torch.testing.assert_close(here, expected)
