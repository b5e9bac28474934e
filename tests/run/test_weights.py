import json
from pathlib import Path

import pytest
import torch

import medcontext as mc
from medcontext.cli import main
from medcontext.networks import build_network
from medcontext.run import load_network, read_run
from tests.training.commands import arguments

STILL = ("--optimizer.lr=1e-12", "--optimizer.weight_decay=0")  # so that a step leaves the weights as they are


@pytest.fixture(scope="module")
def trained(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("trained") / "run"
    assert main(arguments(balls, run, "--steps=2", "--optimizer.lr=0.01", "--validation_cases=0")) == 0
    return run


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
