import pytest
import torch
from torch import nn

from medcontext.errors import InputError
from medcontext.method import EMATeacher
from tests.method.conftest import BatchNormNet


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
