import pytest
import torch

from medcontext.errors import InputError
from medcontext.method import TokenAdapter, VoxelAdapter
from medcontext.networks import build_network
from medcontext.settings import MaskSettings, MethodSettings, OptimizerSettings, TeacherSettings
from medcontext.training.assemble import auto_crop, make_learner, make_loss, make_mask, make_optimizer


def learner(method: MethodSettings, crop: tuple[int, int, int] = (32, 32, 16), network: str = "unet"):
    args = {} if network == "unet" else {"hidden_size": 12, "num_heads": 2, "mlp_dim": 8, "feature_size": 4}
    built = build_network(network, in_channels=2, out_channels=3, crop_size=crop, args=args)
    return make_learner(method, built, network, in_channels=2, crop_size=crop, total_steps=100, steps_per_epoch=5)


def test_settings_reach_the_method() -> None:
    mask = MaskSettings(shape="tube", patch_size=8, ratio=0.3, axis=1, draw="bernoulli", per_sample=False)
    made = learner(MethodSettings(beta=0.1, ramp_up=0.2, masked_loss=False, target="student", mask=mask))
    assert (made.beta, made.ramp_up, made.masked_loss, made.target) == (0.1, 0.2, False, "student")
    assert (made.mask.patch_size, made.mask.ratio, made.mask.axis, made.mask.draw) == (8, 0.3, 1, "bernoulli")
    assert not made.mask.per_sample
    assert isinstance(made.adapter, VoxelAdapter)
    assert made.adapter.embedding.shape == (2,)


def test_the_reference_masks_tokens_and_updates_once_an_epoch() -> None:
    teacher = TeacherSettings(momentum=0.996, schedule="reference", update="epoch", warmup=False)
    made = learner(MethodSettings(mask=MaskSettings(space="tokens"), teacher=teacher), network="unetr")
    assert isinstance(made.adapter, TokenAdapter)
    assert made.teacher_every == 5
    assert made.momentum.at(4, 100) == pytest.approx(0.996 * 4 / 249)


def test_no_masking_is_the_baseline() -> None:
    made = learner(MethodSettings(masking=False))
    assert made.mask is None
    assert made.adapter is None


def test_a_patch_that_does_not_divide_the_crop_is_refused_before_training() -> None:
    with pytest.raises(InputError, match="patch_size must divide the crop"):
        learner(MethodSettings(mask=MaskSettings(patch_size=12)))
    assert make_mask(MaskSettings(shape="cube")).grid((32, 32, 16)) == (2, 2, 1)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("cosine", {0: 1 / 11, 9: 10 / 11, 10: 1.0, 55: 0.5, 100: 0.0}),
        ("poly", {55: 0.5**0.9}),
        ("constant", {99: 1.0}),
    ],
)
def test_the_learning_rate_follows_its_schedule(schedule: str, expected: dict[int, float]) -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    settings = OptimizerSettings(lr=2.0, schedule=schedule, warmup=0.1)
    optimizer, scheduler = make_optimizer(settings, [parameter], total_steps=100)
    for step in range(101):
        if step in expected:
            assert optimizer.param_groups[0]["lr"] == pytest.approx(2 * expected[step])
        optimizer.step()
        scheduler.step()


def test_the_automatic_crop_covers_the_median_volume() -> None:
    assert auto_crop([(1, 512, 512, 10), (1, 400, 300, 9), (1, 90, 60, 17)]) == (96, 96, 16)


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
        ("nowhere", {}, "Loss 'nowhere' cannot be imported"),
        ("monai.losses.DiceLoss", {"gamma": 2}, "with --loss_args {'gamma': 2} cannot be used"),
        ("torch.nn.CrossEntropyLoss", {}, r"logits \(B, 3, H, W, D\) and labels \(B, 1, H, W, D\) of 0 to 2"),
        ("monai.losses.DiceLoss", {"to_onehot_y": True, "reduction": "none"}, "one number that has a gradient"),
    ],
)
def test_a_loss_that_cannot_train_is_refused(name: str, args: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make_loss(name, args, 3, 3)
