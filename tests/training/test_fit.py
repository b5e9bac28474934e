import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from medcontext.cli import main
from medcontext.configuration import PRESETS
from medcontext.data.augment import Augment
from medcontext.data.crops import CropDataset
from medcontext.method import Losses, MedContext
from medcontext.run import load_network, make_network, read_run
from medcontext.settings import Settings
from medcontext.training import fit
from medcontext.training.task import Task
from tests.training.commands import arguments, logged, start


@pytest.mark.parametrize(
    ("given", "first"),
    [
        ((), [0, 1, 0, 1]),
        (("--method.share=0.25",), [0, 1, 2, 2]),
        (("--method.place=any",), None),
        (("--method.fill=token",), None),
        (("--few_shot=3", "--unlabelled", "rest"), None),
    ],
)
def test_labelled_crops_follow_those_that_they_are_filled_with(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], first: list[int] | None
) -> None:
    seen: list[Any] = []
    varied: list[list[int]] = []

    def noted(*args: Any, follows: Any, **options: Any) -> CropDataset:
        seen.append(follows)
        return CropDataset(*args, follows=follows, **options)

    def mirrored(self: Augment, image: Any, label: Any, seed: int, mirrors: Any = None) -> Any:
        varied.append([number for _, number in mirrors or []])
        return image, label

    monkeypatch.setattr(fit, "CropDataset", noted)
    monkeypatch.setattr(Augment, "__call__", mirrored)
    assert main(arguments(balls, tmp_path / "run", "--steps=1", "--batch_size=4", *given)) == 0
    (follows,) = seen
    assert (follows and list(map(follows, range(4)))) == first
    assert varied[0] == (first or [0, 1, 2, 3])


@pytest.mark.parametrize("method", sorted(path.stem for path in (PRESETS / "method").glob("*.yaml")))
def test_every_method_trains_through_the_same_command(balls: Path, tmp_path: Path, method: str) -> None:
    run = tmp_path / "run"
    options = {"reference": ["--method.mask.space=voxels"], "mean_teacher": ["--unlabelled", "rest"]}
    more = options.get(method, [])
    command = arguments(balls, run, "--steps=4", "--few_shot=3")
    command[5:5] = ["--method", method]
    assert main([*command, *more]) == 0
    settings = yaml.safe_load((run / "settings.yaml").read_text())
    assert settings["method"]["name"] == method
    assert Settings.read(run / "settings.yaml").steps == 4
    split = json.loads((run / "split.json").read_text())
    assert len(split["train"]) == 3
    losses = logged(run, "train/loss")
    assert sorted(losses) == [1, 2, 3, 4]
    consistency = set(logged(run, "train/consistency").values())
    assert (consistency == {0.0}) == (method in ("none", "mean_teacher", "medcontext"))
    assert logged(run, "val/dice_student").keys() == {1, 2, 3, 4}
    student, teacher = (load_network(read_run(run), "last", weights) for weights in ("student", "teacher"))
    assert student.state_dict().keys() == teacher.state_dict().keys()
    assert not list(Path(run).glob("*.tmp*"))


@pytest.mark.slow
def test_training_learns_the_two_sides(balls: Path, tmp_path: Path) -> None:
    """Two balls that look alike: the whole chain works only if the network learns where they are."""
    run = tmp_path / "run"
    more = ["--steps=150", "--optimizer.lr=0.01", "--crop_size=[24,24,16]", "--validate_every=150", "--seed=1"]
    assert main(arguments(balls, run, *more, "--network_args.channels=[8,16,32]", "--network_args.strides=[2,2]")) == 0
    assert logged(run, "val/dice_student")[150] > 0.8
    assert logged(run, "train/whole")[150] < 0.6 * logged(run, "train/whole")[1]


@pytest.mark.slow
def test_bfloat16_trains_validates_and_watches(balls: Path, tmp_path: Path) -> None:
    """What a GPU does by itself (`precision: auto`)."""
    more = ["--steps=4", "--augment.affine_probability=1", "--watch_cases=1"]
    single, half = tmp_path / "single", tmp_path / "half"
    assert main(arguments(balls, single, *more, "--precision=32")) == 0
    assert main(arguments(balls, half, *more, "--precision=bf16")) == 0
    for name in ("train/whole", "train/masked", "val/dice_student"):
        assert logged(half, name)[4] == pytest.approx(logged(single, name)[4], rel=0.02)
    assert logged(half, "train/loss") != logged(single, "train/loss")
    assert json.loads((half / "watch" / "watch.json").read_text())["step"] == 4
    student = load_network(read_run(half), "last", "student")
    assert {parameter.dtype for parameter in student.parameters()} == {torch.float32}


CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total of ...")
CPU = RuntimeError("[enforce fail] err == 0. DefaultCPUAllocator: can't allocate memory: you tried 8 bytes. Error 12")


@pytest.mark.parametrize(
    ("more", "refusal", "cure"),
    [
        (
            ["--batch_size=1"],
            CUDA,
            "1 crop of 16 x 16 x 8 at once: CUDA out of memory. Train in another --output with a smaller",
        ),
        (["--batch_size=1"], CPU, "at once: DefaultCPUAllocator: can't allocate memory: you tried 8 bytes. Train in"),
        (
            ["--batch_size=2", "--accumulate=3"],
            CPU,
            "smaller --batch_size with more --accumulate (1 and 6 make steps as",
        ),
    ],
)
def test_too_little_memory_says_what_to_do(
    balls: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch, more: list[str], refusal: Exception, cure: str
) -> None:
    def full(*_: object) -> None:
        raise refusal

    monkeypatch.setattr(Task, "training_step", full)
    assert main(arguments(balls, tmp_path / "run", "--steps=2", *more)) == 2
    assert cure in capsys.readouterr().err


def test_the_released_codes_teacher_moves_after_every_volume_was_seen_with_four_crops(
    balls: Path, tmp_path: Path
) -> None:
    """3 volumes x 4 crops / 2 crops a step: an epoch is 6 steps, as 18 x 4 / 4 are 18 for the released UNETR."""
    own = ["--method", "reference", "--method.mask.space=voxels", "--method.mask.patch_size=8", "--few_shot=3"]
    moved = {}
    for steps in (5, 6):
        run = tmp_path / str(steps)
        assert main(arguments(balls, run, *own, "--batch_size=2", f"--steps={steps}", "--validation_cases=0")) == 0
        learner = torch.load(run / "checkpoints" / "last.ckpt")["learner"]
        start = make_network_of(run).state_dict()
        moved[steps] = any((learner[f"teacher.network.{name}"] != value).any() for name, value in start.items())
    assert moved == {5: False, 6: True}


def make_network_of(folder: Path) -> torch.nn.Module:
    """A run's network as its training started."""
    run = read_run(folder)
    torch.manual_seed(run.settings.seed)
    return make_network(run)


def test_too_little_memory_for_a_validation_names_the_case(
    balls: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise CPU

    monkeypatch.setattr("medcontext.training.validation.predict_classes", full)
    assert main(arguments(balls, tmp_path / "run", "--steps=1")) == 2
    assert "Not enough memory for the validation of case 'ball_" in capsys.readouterr().err


def test_a_yaml_file_and_the_command_line_set_the_same_names(balls: Path, tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("steps: 7\nbatch_size: 1\nmethod:\n  beta: 0.25\noptimizer:\n  lr: 0.02\n")
    command = ["train", "--config", str(config), *arguments(balls, tmp_path / "run", "--steps=1")[1:]]
    assert main([*command, "--optimizer.name=sgd"]) == 0
    saved = Settings.read(tmp_path / "run" / "settings.yaml")
    assert (saved.steps, saved.batch_size, saved.method.beta) == (1, 1, 0.25)
    assert (saved.optimizer.lr, saved.optimizer.name, saved.method.mask.patch_size) == (0.02, "sgd", 8)


def test_accumulated_batches_make_one_step(balls: Path, tmp_path: Path) -> None:
    more = ["--steps=3", "--batch_size=1", "--accumulate=2", "--validation_cases=0"]
    assert main(arguments(balls, tmp_path / "run", *more)) == 0
    assert sorted(logged(tmp_path / "run", "train/loss")) == [1, 2, 3]
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt")["learner"]["_extra_state"]["step"] == 3


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one_with_twice_the_batch(balls: Path, tmp_path: Path) -> None:
    """Without augmentation and masks, whose draws depend on the rank, both see the same global batches."""
    same = [
        "--steps=3",
        "--augment.enabled=false",
        "--method.masking=false",
        "--validate_every=3",
        "--optimizer.name=sgd",
    ]
    assert main(arguments(balls, tmp_path / "one", *same, "--batch_size=2")) == 0
    process = start(balls, tmp_path / "two", *same, "--batch_size=1", "--devices=2")
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    one, two = (torch.load(tmp_path / name / "checkpoints" / "last.ckpt")["learner"] for name in ("one", "two"))
    assert one.keys() == two.keys()
    for key in one:
        if key != "_extra_state":
            torch.testing.assert_close(two[key], one[key], rtol=1e-4, atol=1e-5)
    first, second = (logged(tmp_path / name, "val/dice_student")[3] for name in ("one", "two"))
    assert first == pytest.approx(second, abs=1e-3)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("loss", "The loss of step 3 is not finite (nan)"),
        ("gradients", "The gradients of step 3 are not finite (their norm is nan)"),
        ("weights", "A weight is not finite after step 3"),
    ],
)
def test_a_training_that_diverges_stops_and_keeps_its_last_good_checkpoint(
    balls: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch, place: str, words: str
) -> None:
    """The third step goes wrong; the second one's checkpoint stays as it is."""
    run, step, backward = tmp_path / "run", Task._step, MedContext.backward

    def spoil(self: Task) -> None:
        parameter = next(iter(self.learner.trainable_parameters()))
        if self.learner.step == 2 and place == "gradients":
            parameter.grad[0] = float("nan")
        step(self)
        if self.learner.step == 3 and place == "weights":
            parameter.data[0] = float("inf")

    def spoil_loss(self: MedContext, *arguments: Any, **named: Any) -> Losses:
        losses = backward(self, *arguments, **named)
        return losses._replace(loss=losses.loss * float("nan")) if self.step == 2 and place == "loss" else losses

    monkeypatch.setattr(Task, "_step", spoil)
    monkeypatch.setattr(MedContext, "backward", spoil_loss)
    assert main(arguments(balls, run, "--steps=4", "--validate_every=1", "--optimizer.clip=0")) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert words in message
    assert f"The last good checkpoint is {run / 'checkpoints' / 'last.ckpt'}, of step 2." in message
    assert "a smaller --optimizer.lr" in message
    last = torch.load(run / "checkpoints" / "last.ckpt")
    assert last["learner"]["_extra_state"]["step"] == 2
    assert all(value.isfinite().all() for key, value in last["learner"].items() if key != "_extra_state")
