from dataclasses import replace

import pytest
import torch

from medcontext.errors import InputError
from medcontext.method import TokenAdapter, VoxelAdapter
from medcontext.method_settings import MaskSettings, MethodSettings, TeacherSettings
from medcontext.networks import build_network
from medcontext.settings import OptimizerSettings, Settings
from medcontext.training.assemble import auto_crop, make_learner, make_optimizer


def learner(method: MethodSettings, crop: tuple[int, int, int] = (32, 32, 16), network: str = "unet"):
    args = {} if network == "unet" else {"hidden_size": 12, "num_heads": 2, "mlp_dim": 8, "feature_size": 4}
    built = build_network(network, in_channels=2, out_channels=3, crop_size=crop, args=args)
    return make_learner(method, built, network, in_channels=2, crop_size=crop, total_steps=100, steps_per_epoch=5)


def test_settings_reach_the_method() -> None:
    mask = MaskSettings(shape="tube", patch_size=8, ratio=0.3, axis=1, draw="bernoulli", per_sample=False)
    paper = Settings.preset(method="paper").method
    made = learner(replace(paper, beta=0.1, ramp_up=0.2, masked_loss=False, target="student", mask=mask))
    assert (made.beta, made.ramp_up, made.masked_loss, made.target) == (0.1, 0.2, False, "student")
    assert (made.mask.patch_size, made.mask.ratio, made.mask.axis, made.mask.draw) == (8, 0.3, 1, "bernoulli")
    assert not made.mask.per_sample
    assert isinstance(made.adapter, VoxelAdapter)
    assert made.adapter.embedding.shape == (2,)


def test_the_reference_masks_tokens_and_updates_once_an_epoch() -> None:
    teacher = TeacherSettings(momentum=0.996, schedule="reference", update="epoch", warmup=False)
    method = MethodSettings(mask=MaskSettings(space="tokens"), teacher=teacher, fill="token")
    made = learner(method, network="unetr")
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
    assert MaskSettings(shape="cube").made().grid((32, 32, 16)) == (2, 2, 1)


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
