import numpy as np
import pytest
import torch
from torch import nn

from medcontext.method import MedContext, TubeMask, Unlabelled
from medcontext.method.pieces import is_one, stray

LINE = torch.tensor([[1, 1, 0, 2, 2, 2, 0, 1], [2, 0, 1, 1, 0, 1, 0, 1]])  # (B, H)


def shares(label: torch.Tensor, classes: int = 3) -> torch.Tensor:
    return nn.functional.one_hot(label, classes).movedim(-1, 1).float()


@pytest.mark.parametrize("axes", [2, 3])
def test_all_but_the_largest_piece_of_each_crop_is_stray(axes: int) -> None:
    label = LINE.view(2, 8, *[1] * (axes - 1))
    found = stray(shares(label), torch.tensor([False, True, True]))
    assert found.shape == (2, 3, *label.shape[1:])
    assert not found[:, 0].any()
    assert found[0].nonzero()[:, :2].tolist() == [[1, 7]]  # the one voxel of class 1 apart from two
    assert found[1].nonzero()[:, :2].tolist() == [[1, 5], [1, 7]]


def test_pieces_touch_by_corners_and_other_classes_pieces_do_not_count() -> None:
    label = torch.zeros(1, 4, 4, 4, dtype=torch.long)
    label[0, 0, 0, 0] = label[0, 1, 1, 1] = 1
    label[0, 2, 2, 2] = 2
    label[0, 3, 3, 3] = 1  # touches the other class alone
    assert stray(shares(label), torch.tensor([False, True, True])).nonzero().tolist() == [[0, 1, 3, 3, 3]]
    assert not stray(shares(label), torch.tensor([False, False, True])).any()


def test_overlapping_regions_have_pieces_of_their_own() -> None:
    outer, inner = torch.tensor([1, 1, 1, 0, 1]), torch.tensor([1, 0, 1, 0, 0])
    share = torch.stack([outer, inner]).view(1, 2, 5, 1, 1).float()
    assert stray(share, torch.tensor([True, True])).nonzero()[:, 1:3].tolist() == [[0, 4], [1, 2]]


@pytest.mark.parametrize(("crumb", "one"), [(0, True), (1, True), (2, False)])
def test_a_crumb_makes_no_second_piece(crumb: int, one: bool) -> None:
    mask = np.zeros((40, 1, 1), bool)
    mask[:19] = True
    mask[30 : 30 + crumb] = True
    assert is_one(mask) == one
    assert is_one(np.zeros((4, 4, 4), bool))


class Says(nn.Module):
    """Says class 1 where the image is 1, and class 0 elsewhere, surely."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(20.0))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.weight * (0.5 - image), self.weight * (image - 0.5)], 1)


@pytest.mark.parametrize(
    ("pieces", "single", "believed"), [("all", True, 1.0), ("largest", False, 1.0), ("largest", True, 255 / 256)]
)
@pytest.mark.parametrize("target", ["hard", "soft"])
def test_what_the_teacher_says_outside_the_largest_piece_does_not_count(
    pieces: str, single: bool, believed: float, target: str
) -> None:
    rule = Unlabelled(start=0, view="whole", pieces=pieces, target=target)
    model = MedContext(Says(), mask=TubeMask(4), total_steps=8, unlabelled=rule, single=torch.tensor([False, single]))
    scan = torch.zeros(1, 1, 8, 8, 4)
    scan[..., :2, :2, :2] = 1
    scan[..., 6, 6, 3] = 1
    model.backward(torch.zeros_like(scan), torch.zeros_like(scan).long(), unlabelled=scan)
    assert model.trust.share == pytest.approx(believed)
