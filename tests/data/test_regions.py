import pytest
import torch

from medcontext.data.regions import classes_of, membership, read_regions, written_values
from medcontext.errors import InputError

BRATS = {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}
VALUES = (0, 1, 2, 4)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ([1, 2], "give names and values"),
        ({"mean": [1, 2]}, "a structure is called 'mean'"),
        ({"whole": []}, "'whole' consists of []; give some of the label values [1, 2, 4]"),
        ({"whole": [1, 3]}, "'whole' consists of [1, 3]"),
        ({"whole": [0, 1]}, "'whole' consists of [0, 1]"),
        ({"whole": "1"}, "'whole' consists of '1'"),
        ({"core": [4], "whole": [2, 4]}, "of region 'core' [4], the values [] are in no later region"),
        ({"whole": [1, 2, 4], "core": [4]}, "the values [1, 2] are in no later region; exactly one must be"),
        ({"a": [1], "b": [1]}, "of region 'a' [1], the values [] are in no later region"),
    ],
)
def test_regions_that_cannot_be_used(declared: object, message: str) -> None:
    with pytest.raises(InputError) as error:
        read_regions(declared, VALUES, "dataset.json")
    assert message in str(error.value)


def test_a_label_comes_back_from_its_own_regions() -> None:
    """Encoding and decoding are inverse, values with gaps and order apart from the classes' included."""
    assert read_regions({name: list(own) for name, own in BRATS.items()}, VALUES, "") == BRATS
    assert written_values(BRATS) == (2, 1, 4)
    label = torch.randint(0, 4, (5, 6, 7))
    inside = membership(BRATS, VALUES)[:, label].float()  # (R, H, W, D)
    assert torch.equal(inside[2].bool(), label == 3)
    assert torch.equal(classes_of(inside, BRATS, VALUES).long(), label)


def test_no_regions_are_legal() -> None:
    assert read_regions({}, VALUES, "") == {}
