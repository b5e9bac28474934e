import pytest
import torch
import torch.nn.functional as F

from medcontext.errors import InputError
from medcontext.method import DeepSupervision, DiceCE, consistency
from medcontext.method.losses import RegionDiceCE, heads, resize_label


def closed_form(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Equation 3, written out."""
    probability = logits.softmax(1)
    truth = F.one_hot(label[:, 0], logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    space = (2, 3, 4)
    overlap = 2 * (probability * truth).sum(space)
    size = probability.square().sum(space) + truth.square().sum(space)
    cross_entropy = -(truth * logits.log_softmax(1)).sum(1).mean()
    return (1 - overlap / (size + 1e-6)).mean() + cross_entropy


def test_dice_ce_is_equation_3() -> None:
    logits = torch.randn(2, 4, 6, 5, 4, dtype=torch.float64)
    label = torch.randint(0, 4, (2, 1, 6, 5, 4))
    torch.testing.assert_close(DiceCE()(logits, label), closed_form(logits, label))


def test_a_label_that_is_no_class_is_named_before_torch_fails_on_it() -> None:
    logits, loss = torch.randn(1, 3, 2, 2, 2), DiceCE()
    label = torch.zeros(1, 1, 2, 2, 2)
    loss(logits, label)
    for value, found in ((3, "0 to 3"), (-1, "-1 to 0")):
        label[0, 0, 0, 0, 0] = value
        with pytest.raises(InputError, match=f"values {found}, and there are 3 classes, 0 to 2"):
            loss(logits, label)


def test_a_value_that_is_no_class_belongs_to_no_region_either() -> None:
    loss, label = RegionDiceCE(torch.tensor([[False, True, True], [False, False, True]])), torch.zeros(1, 1, 2, 2, 2)
    assert loss(torch.randn(1, 2, 2, 2, 2), label) > 0
    for value in (3, -1):  # -1 would be the last class as an index
        label[0, 0, 0, 0, 0] = value
        with pytest.raises(InputError, match="there are 3 classes, 0 to 2"):
            loss(torch.randn(1, 2, 2, 2, 2), label)


def test_dice_ce_does_not_overflow_in_half_precision() -> None:
    logits = torch.zeros(1, 2, 64, 64, 64, dtype=torch.float16)
    logits[:, 0] = 20
    label = torch.zeros(1, 1, 64, 64, 64, dtype=torch.long)
    exact = closed_form(logits.double(), label)
    assert DiceCE()(logits, label).item() == pytest.approx(exact.item(), abs=1e-5)


def test_consistency_is_equation_2_sample_by_sample() -> None:
    student, teacher = torch.randn(2, 3, 2, 4, 4, 4, dtype=torch.float64).unbind(1)[:2]
    teacher[0] *= 100  # a sample with large logits must not outweigh the other
    expected = sum(((s - t) ** 2).sum() / (t**2).sum() for s, t in zip(student, teacher, strict=True)) / 2
    torch.testing.assert_close(consistency(student, teacher), expected)


def test_the_reference_consistency_is_that_of_the_official_code() -> None:
    student, teacher = torch.randn(2, 2, 3, 4, 4, 4, dtype=torch.float64)
    expected = ((student - teacher) ** 2).mean() / (teacher**2).sum().sqrt()
    torch.testing.assert_close(consistency(student, teacher, "reference"), expected)
    assert consistency(student, teacher, "reference") < 0.1 * consistency(student, teacher)


def test_no_gradient_reaches_the_teachers_logits() -> None:
    student, teacher = torch.randn(2, 1, 2, 3, 3, 3).requires_grad_().unbind(0)
    consistency(student, teacher).backward()
    teacher_logits = torch.randn(1, 2, 3, 3, 3, requires_grad=True)
    assert not consistency(student.detach(), teacher_logits).requires_grad


def test_a_silent_teacher_gives_a_finite_loss() -> None:
    assert torch.isfinite(consistency(torch.zeros(1, 2, 2, 2, 2), torch.zeros(1, 2, 2, 2, 2)))


def test_deep_supervision_weighs_each_output_half_as_much_as_the_one_before() -> None:
    label = torch.randint(0, 3, (1, 1, 8, 8, 8))
    outputs = [torch.randn(1, 3, size, size, size) for size in (8, 4, 2)]
    loss = DiceCE()
    terms = [loss(logits, resize_label(label, logits.shape[2:])) for logits in outputs]
    expected = (terms[0] + terms[1] / 2 + terms[2] / 4) / 1.75
    torch.testing.assert_close(DeepSupervision(loss)(outputs, label), expected)
    torch.testing.assert_close(DeepSupervision(loss)(outputs[0], label), terms[0])


def test_labels_are_never_interpolated_into_new_values() -> None:
    label = torch.tensor([0, 7], dtype=torch.uint8)[torch.randint(0, 2, (1, 1, 9, 9, 9))]
    smaller = resize_label(label, (4, 5, 3))
    assert smaller.dtype == torch.uint8
    assert set(smaller.unique().tolist()) <= {0, 7}


def test_outputs_are_found_in_every_form() -> None:
    stacked = torch.randn(2, 3, 4, 8, 8, 8)  # DynUNet's
    assert [head.shape for head in heads(stacked)] == [(2, 4, 8, 8, 8)] * 3
    assert heads(stacked[:, 0])[0].shape == (2, 4, 8, 8, 8)
    assert len(heads((stacked[:, 0], stacked[:, 1]))) == 2


def test_region_loss_is_dice_and_cross_entropy_of_each_region() -> None:
    logits = torch.randn(2, 2, 4, 5, 3, dtype=torch.float64, requires_grad=True)
    label = torch.randint(0, 3, (2, 1, 4, 5, 3))
    loss = RegionDiceCE(torch.tensor([[False, True, True], [False, False, True]]))(logits, label)
    inside = torch.cat([label > 0, label == 2], 1).double()
    p = logits.sigmoid()
    axes = (2, 3, 4)
    overlap = 1 - 2 * (p * inside).sum(axes) / (p.square().sum(axes) + inside.sum(axes))
    entropy = -(inside * p.log() + (1 - inside) * (1 - p).log())
    torch.testing.assert_close(loss, overlap.mean() + entropy.mean(), rtol=1e-5, atol=1e-6)
    loss.backward()
    assert logits.grad.abs().min() > 0


def test_region_loss_of_perfect_logits_is_near_zero_at_every_resolution() -> None:
    label = torch.randint(0, 3, (1, 1, 8, 8, 4))
    table = torch.tensor([[False, True, True], [False, False, True]])
    logits = 40.0 * (table[:, label[:, 0]].movedim(0, 1).float() - 0.5)
    coarse = logits[..., ::2, ::2, ::2]
    loss = DeepSupervision(RegionDiceCE(table))([logits, coarse.new_zeros(coarse.shape)], label)
    alone = DeepSupervision(RegionDiceCE(table))([logits], label)
    assert alone < 1e-4 < loss
