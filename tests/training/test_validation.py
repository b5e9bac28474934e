import torch
from monai.metrics import compute_dice
from torch.nn.functional import one_hot

from medcontext.training.validation import dice


def test_validation_dice_is_monais() -> None:
    predicted, label = torch.randint(0, 4, (2, 9, 8, 7))
    expected = compute_dice(
        *(one_hot(each, 4).movedim(-1, 0)[None] for each in (predicted, label)), include_background=False
    )
    sums, counts = dice(predicted, label, [(1,), (2,), (3,)])
    torch.testing.assert_close(sums, expected[0])
    assert counts.tolist() == [1, 1, 1]


def test_missed_and_spurious_count_zero_and_absent_does_not_count() -> None:
    label, predicted = torch.zeros(2, 4, 4, 4, dtype=torch.long)
    label[0], predicted[1] = 1, 2
    assert dice(predicted, label, [(1,), (2,), (3,)]).tolist() == [[0, 0, 0], [1, 1, 0]]
