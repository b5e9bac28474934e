"""A loss and a transform of the user's, by import path."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import Compose, RandAffined, RandGaussianNoised
from torch import Tensor

from medcontext.cli import main
from medcontext.data.augment import Augment
from medcontext.data.augment_settings import AugmentSettings
from medcontext.errors import InputError
from medcontext.method_settings import MethodSettings
from medcontext.networks import build_network
from medcontext.training.assemble import make_learner
from medcontext.training.own import make_loss, make_transform
from tests.training.commands import arguments, interrupt, logged

HERE = "tests.training.test_own"
CROP = (8, 8, 8)


def test_a_loss_by_its_import_path_is_the_one_that_trains() -> None:
    """MONAI's, with the arguments that make it equation 3."""
    args = {"to_onehot_y": True, "softmax": True, "squared_pred": True, "smooth_nr": 0.0, "smooth_dr": 1e-6}
    own = make_loss("monai.losses.DiceCELoss", args, 3, 3)
    assert own is not None
    network = build_network("unet", in_channels=2, out_channels=3, crop_size=(16, 16, 16))
    image, label = torch.randn(2, 2, 16, 16, 16), torch.randint(0, 3, (2, 1, 16, 16, 16)).to(torch.uint8)
    losses = []
    for loss in (own, None):
        same = make_learner(
            MethodSettings(masking=False),
            network,
            "unet",
            in_channels=2,
            crop_size=(16, 16, 16),
            total_steps=1,
            steps_per_epoch=1,
            supervised=loss,
        )
        losses.append(same(image, label).loss)
    torch.testing.assert_close(*losses)
    assert make_loss("dice_ce", {}, 3, 3) is None


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("monai.losses.Dices", {}, "Loss 'monai.losses.Dices' cannot be imported"),
        ("nowhere", {}, "Loss 'nowhere' is no import path. Give package.module.Class, or dice_ce"),
        ("monai.losses.DiceLoss", {"gamma": 2}, "with --loss_args {'gamma': 2} cannot be used"),
        ("torch.nn.CrossEntropyLoss", {}, r"logits \(B, 3, H, W, D\) and labels \(B, 1, H, W, D\) of 0 to 2"),
        ("monai.losses.DiceLoss", {"to_onehot_y": True, "reduction": "none"}, "one number that has a gradient"),
    ],
)
def test_a_loss_that_cannot_train_is_refused(name: str, args: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make_loss(name, args, 3, 3)


def monai_like() -> Compose:
    """As somebody's package would have it."""
    return Compose(
        [
            RandAffined(("image", "label"), prob=1.0, rotate_range=0.5, mode=("bilinear", "nearest")),
            RandGaussianNoised("image", prob=1.0, std=0.5),
        ]
    )


class Draws:
    """From every random state that there is, and the label the other way round along with the image."""

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength

    def __call__(self, crop: dict[str, Tensor]) -> dict[str, Tensor]:
        shift = self.strength * (random.random() + float(np.random.rand()) + float(torch.rand(())))  # noqa: NPY002
        return {"image": crop["image"].flip(1) + shift, "label": crop["label"].flip(1)}


class Wrong:
    def __init__(self, how: str) -> None:
        self.how = how

    def __call__(self, crop: dict[str, Tensor]) -> Any:
        image, label = crop["image"], crop["label"]
        ways = {
            "list": [image, label],
            "key": {"image": image},
            "shape": {"image": image[..., 1:], "label": label},
            "between": {"image": image, "label": label.float() * 0.7},
            "class": {"image": image, "label": label + 1},
        }
        return ways[self.how]


def crops() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 3, (2, 1, *CROP), generator=generator).to(torch.uint8)
    return torch.randn(2, 1, *CROP, generator=generator), label


@pytest.mark.parametrize("name", ["monai_like", "Draws"])
def test_a_transform_by_its_import_path_depends_on_the_seed_alone(name: str) -> None:
    augment = Augment(AugmentSettings(enabled=False), make_transform(f"{HERE}.{name}", {}, 1, CROP, 3))
    image, label = crops()
    before = image.clone(), label.clone()
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    once = augment(image, label, seed=5)
    assert random.getstate() == states[0]
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    torch.testing.assert_close(torch.get_rng_state(), states[2])
    torch.rand(3)
    again, other = augment(image, label, seed=5), augment(image, label, seed=6)
    for a, b, c in zip(once, again, (image, label), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
        assert a.dtype == c.dtype
        assert type(a) is Tensor, "no MONAI tensor, which would carry its history through the training"
    assert not torch.equal(once[0], other[0])
    torch.testing.assert_close((image, label), before, rtol=0, atol=0)
    assert not torch.equal(once[0][0] - image[0].flip(1), once[0][1] - image[1].flip(1)), "each crop draws its own"


def test_it_follows_the_settings_own_changes_and_sees_scans_without_labels() -> None:
    image, label = crops()
    settings = AugmentSettings(flip_axes=(0,), flip_probability=1.0)
    own = make_transform(f"{HERE}.Draws", {"strength": 0.0}, 1, CROP, 3)
    plain, both = Augment(settings)(image, label, 3), Augment(settings, own)(image, label, 3)
    torch.testing.assert_close(both[0], plain[0].flip(2))
    torch.testing.assert_close(both[1], plain[1].flip(2))
    torch.testing.assert_close(Augment(settings, own).images(image, 3), both[0])


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("nowhere.Thing", {}, "Transform 'nowhere.Thing' cannot be imported"),
        (f"{HERE}.Draws", {"power": 2}, "with --augment.transform_args {'power': 2} cannot be used"),
        ("torch.nn.ReLU", {}, r"image \(1, 8, 8, 8\) and label \(1, 8, 8, 8\) of classes 0 to 2"),
        (f"{HERE}.Wrong", {"how": "list"}, "gives list, not a dictionary with image and label"),
        (f"{HERE}.Wrong", {"how": "key"}, "not a dictionary with image and label"),
        (f"{HERE}.Wrong", {"how": "shape"}, r"changes the image's shape, \(1, 8, 8, 8\) to \(1, 8, 8, 7\)"),
        (f"{HERE}.Wrong", {"how": "between"}, "a label is interpolated by its nearest voxel"),
        (f"{HERE}.Wrong", {"how": "class"}, "gives labels from 1 to 3 that are not all classes"),
    ],
)
def test_a_transform_that_cannot_train_is_refused(name: str, args: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make_transform(name, args, 1, CROP, 3)


def test_no_name_is_no_transform() -> None:
    assert make_transform("", {}, 1, CROP, 3) is None


def test_a_resumed_training_goes_on_exactly(balls: Path, tmp_path: Path) -> None:
    own = (f"--augment.transform={HERE}.Draws", "--workers=0", "--loggers=[csv]", "--validation_cases=1")
    assert main(arguments(balls, tmp_path / "whole", "--steps=4", *own)) == 0
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, "save", 4)
        assert main(arguments(balls, tmp_path / "cut", "--steps=4", "--validate_every=2", *own)) == 130
    assert main(["train", "--output", str(tmp_path / "cut"), "--resume"]) == 0
    whole, cut = (logged(tmp_path / name, "train/loss") for name in ("whole", "cut"))
    assert [whole[step] for step in (3, 4)] == [cut[step] for step in (3, 4)]


def test_a_training_that_cannot_begin_leaves_no_folder(balls: Path, tmp_path: Path) -> None:
    assert main(arguments(balls, tmp_path / "run", f"--augment.transform={HERE}.Wrong")) == 2
    assert main(arguments(tmp_path / "nowhere", tmp_path / "run")) == 2
    assert not (tmp_path / "run").exists()
