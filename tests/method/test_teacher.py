import math

import pytest
import torch
from torch import nn

from medcontext.errors import InputError
from medcontext.method import EMATeacher, Momentum
from tests.method.conftest import BatchNormNet


def test_the_cosine_goes_from_start_to_end() -> None:
    momentum = Momentum(0.9, 0.99, warmup=False)
    for step in (0, 25, 50, 100):
        expected = 0.99 - 0.09 * (1 + math.cos(math.pi * step / 100)) / 2
        assert momentum.at(step, 100) == pytest.approx(expected)
    assert momentum.at(500, 100) == 0.99


def test_the_warmup_follows_the_steps_done_and_then_ends() -> None:
    momentum = Momentum(warmup=True)
    assert [momentum.at(step, 10**6) for step in (0, 8, 90)] == [0.1, 0.5, 0.91]
    assert momentum.at(5000, 10**6) == pytest.approx(Momentum(warmup=False).at(5000, 10**6))


def test_the_reference_schedule_stays_near_zero() -> None:
    momentum = Momentum(steps_per_epoch=18, warmup_epochs=50)
    values = [momentum.at(step, 10**5) for step in range(180)]
    # numpy.linspace(0, 0.996, 50 * 18), of which each epoch reads only the first 18 entries
    assert values[17] == pytest.approx(0.996 * 17 / 899)
    assert values[:18] == values[18:36]
    assert max(values) < 0.02


@pytest.mark.parametrize("wrong", [{"start": 1.2}, {"end": -0.1}, {"steps_per_epoch": 0}])
def test_values_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError):
        Momentum(**wrong)


@pytest.mark.parametrize(("rule", "expected"), [("copy", 2.0), ("average", 1.25)])
def test_batch_norm_statistics_follow_by_the_chosen_rule(rule: str, expected: float) -> None:
    student = BatchNormNet()
    norm = student.layers[1]
    norm.running_mean.fill_(1.0)
    teacher = EMATeacher(student, rule)
    norm.running_mean.fill_(2.0)
    norm.num_batches_tracked.fill_(7)
    teacher.update(student, 0.75)
    assert teacher.network.layers[1].running_mean.tolist() == [expected] * 4
    assert teacher.network.layers[1].num_batches_tracked.item() == 7


def test_an_unknown_rule_for_buffers_is_refused() -> None:
    with pytest.raises(InputError, match="'copy' or 'average'"):
        EMATeacher(nn.Linear(1, 1), "skip")


def test_the_teacher_stays_in_evaluation_mode_and_gives_no_gradient() -> None:
    teacher = EMATeacher(BatchNormNet())
    teacher.train()
    assert not any(module.training for module in teacher.modules())
    assert not teacher(torch.randn(1, 1, 4, 4, 4, requires_grad=True)).requires_grad
