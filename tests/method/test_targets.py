import pytest
import torch
from monai.losses import DiceCELoss

from medcontext.method import DiceCE
from medcontext.method.batches import shares_of
from medcontext.method.losses import DeepSupervision, RegionDiceCE, TargetDiceCE
from medcontext.method.targets import Target, label_target, region_target, teacher_target

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(2, 3, 4, 4, 2, generator=GENERATOR, dtype=torch.float64)
LABEL = torch.randint(0, 3, (2, 1, 4, 4, 2), generator=GENERATOR)
MEMBERSHIP = torch.tensor([[False, True, True], [False, False, True]])  # two regions, one within the other


def test_labels_alone_give_equation_3() -> None:
    loss = TargetDiceCE()(LOGITS, label_target(LABEL, 3))
    torch.testing.assert_close(loss, DiceCE()(LOGITS, LABEL))
    reference = DiceCELoss(to_onehot_y=True, softmax=True, squared_pred=True, smooth_nr=0.0, smooth_dr=1e-6)
    torch.testing.assert_close(loss, reference(LOGITS, LABEL))


def test_labels_alone_give_equation_3_for_regions() -> None:
    loss = TargetDiceCE(regions=True)(LOGITS[:, :2], label_target(LABEL, 2, MEMBERSHIP))
    torch.testing.assert_close(loss, RegionDiceCE(MEMBERSHIP)(LOGITS[:, :2], LABEL))


def test_a_voxel_without_weight_has_no_gradient_and_changes_nothing() -> None:
    target = label_target(LABEL, 3)
    weight = torch.ones_like(target.weight)
    weight[:, :, 0] = 0
    logits = LOGITS.clone().requires_grad_()
    loss = TargetDiceCE()(logits, target._replace(weight=weight))
    loss.backward()
    assert (logits.grad[:, :, 0] == 0).all()
    assert (logits.grad[:, :, 1:] != 0).all()
    elsewhere = LOGITS.clone()
    elsewhere[:, :, 0] += 5
    torch.testing.assert_close(TargetDiceCE()(elsewhere, target._replace(weight=weight)), loss.detach())


def test_no_voxel_that_counts_gives_0_not_nan() -> None:
    target = label_target(LABEL, 3)
    for loss in (TargetDiceCE(), TargetDiceCE(regions=True)):
        assert loss(LOGITS, target._replace(weight=torch.zeros_like(target.weight))) == 0


@pytest.mark.parametrize("regions", [False, True])
def test_what_is_open_is_not_taught_away(regions: bool) -> None:
    """The teacher says class 0 everywhere, and does not know class 2: nothing may push class 2 down beside it."""
    teacher = torch.full((1, 3, 2, 2, 2), -9.0, dtype=torch.float64)
    teacher[:, 0] = 9
    options = {"threshold": 0.8, "regions": regions}
    known = torch.tensor([1.0, 1.0, 0.0])
    for values in ((0.0, 0.0, 0.0), (2.0, -3.0, 1.5), (3.0, -6.0, 3.0), (-1.0, 0.5, 2.0)):
        logits = torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1, 1).repeat(1, 1, 2, 2, 2).requires_grad_()
        target = teacher_target(teacher, **options)
        (pushed,) = torch.autograd.grad(TargetDiceCE(regions)(logits, target), logits)
        (spared,) = torch.autograd.grad(TargetDiceCE(regions)(logits, target.kept_open(known)), logits)
        assert (pushed[:, 2] > 0).all()  # down, by the descent
        assert (spared[:, 1] > 0).all()  # what is known is still taught away
        # Not down, in either term: the marginal loss, in which class 2 gains what class 0 does.
        assert (spared[:, 2] == 0).all() if regions else (spared[:, 2] <= 0).all()


def test_the_teachers_target_follows_its_threshold() -> None:
    probability = torch.tensor([[0.9, 0.7, 0.5], [0.05, 0.3, 0.5]]).view(1, 2, 3, 1, 1)
    target = teacher_target(probability.log(), threshold=0.7)
    assert target.weight.flatten().tolist() == [1, 1, 0]
    assert target.share[0, :, 0, 0, 0].tolist() == [1, 0]
    soft = teacher_target(probability.log(), threshold=0.7, soft=True)
    torch.testing.assert_close(soft.share[0, 0, 1, 0, 0], torch.tensor(0.7))


def test_a_regions_absence_counts_where_it_is_sure() -> None:
    logits = torch.tensor([3.0, -3.0, 0.1]).view(1, 1, 3, 1, 1)
    target = teacher_target(logits, threshold=0.9, regions=True).kept_open(torch.zeros(1))
    assert target.share.flatten().tolist() == [1, 0, 1]
    assert target.weight.flatten().tolist() == [1, 1, 0]
    assert target.open.flatten().tolist() == [0, 1, 0]  # not known: its absence is not taught


def test_filling_mixes_targets_by_the_mask() -> None:
    ours, theirs = label_target(torch.zeros(1, 1, 2, 2, 2).long(), 2), label_target(torch.ones(1, 1, 2, 2, 2).long(), 2)
    theirs = theirs._replace(weight=0.5 * theirs.weight)
    mask = torch.zeros(1, 1, 2, 2, 2, dtype=torch.bool)
    mask[..., 1] = True
    mixed = ours.filled(mask, theirs)
    assert mixed.share[0, 1, 0, 0].tolist() == [0, 1]
    assert mixed.weight[0, 0, 0, 0].tolist() == [1, 0.5]


def test_deep_supervision_takes_targets_at_each_resolution() -> None:
    target = label_target(torch.zeros(1, 1, 4, 4, 4).long(), 3)
    outputs = [torch.zeros(1, 3, 4, 4, 4), torch.zeros(1, 3, 2, 2, 2)]
    loss = DeepSupervision(TargetDiceCE())(outputs, target)
    assert loss.item() == pytest.approx(TargetDiceCE()(outputs[0], target).item(), rel=1e-5)
    assert isinstance(target.resized(torch.Size((2, 2, 2))), Target)


def test_ignored_voxels_of_a_label_have_no_weight() -> None:
    label = torch.tensor([0, 2, 3, 1]).view(1, 1, 2, 2)
    target = label_target(label, 3, ignore=3)
    assert target.weight.flatten().tolist() == [1, 1, 0, 1]
    assert target.share[0, :, 1, 1].tolist() == [0, 1, 0]
    torch.testing.assert_close(shares_of(target), torch.full((3,), 1 / 3))
    assert label.max() == 3, "the label itself is left alone"


@pytest.mark.parametrize("dtype", [torch.bool, torch.int16, torch.float32])
def test_maps_of_regions_and_of_what_is_unknown(dtype: torch.dtype) -> None:
    maps = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 1]]).view(1, 3, 3, 1).to(dtype)  # two regions, the unknown
    target = region_target(maps, 2)
    assert target.share[0, :, :, 0].tolist() == [[1, 1, 0], [1, 0, 0]]
    assert target.weight.flatten().tolist() == [1, 1, 0]
    torch.testing.assert_close(shares_of(target), torch.tensor([1.0, 0.5]))
    assert region_target(maps[:, :2], 2).weight.flatten().tolist() == [1, 1, 1]
