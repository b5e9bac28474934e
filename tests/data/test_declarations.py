"""Channels and labels as data sets declare them."""

from pathlib import Path
from typing import Any

import pytest

from medcontext.data.declarations import read_channels, read_declared_regions, read_ignored, read_labels
from medcontext.errors import InputError

FILE = Path("dataset.json")


def refused(labels: Any) -> str:
    with pytest.raises(InputError) as error:
        read_labels({"labels": labels}, FILE)
    assert "dataset.json" in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "manifest",
    [
        {"channels": ["FLAIR", "T1"]},
        {"modality": {"0": "FLAIR", "1": "T1"}},
        {"channel_names": {"1": "T1", "0": "FLAIR"}},
    ],
)
def test_channels_are_in_order_whatever_the_form(manifest: dict[str, Any]) -> None:
    assert read_channels(manifest, FILE) == ("FLAIR", "T1")


def test_more_than_ten_channels_keep_their_order() -> None:
    names = [f"b{index}" for index in range(12)]
    assert read_channels({"modality": {str(i): name for i, name in enumerate(names)}}, FILE) == tuple(names)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({}, 'add "channels", for example ["CT"]'),
        ({"channels": []}, "give the name of each channel"),
        ({"channels": 1}, "give the name of each channel"),
        ({"modality": {"0": "CT", "2": "MR"}}, "the channel indices are 0, 2; they must be 0, 1"),
    ],
)
def test_channels_that_cannot_be_used(manifest: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        read_channels(manifest, FILE)
    assert message in str(error.value)


def test_an_ignored_value_is_no_structure_and_no_region() -> None:
    plain: dict[str, Any] = {"labels": {"background": 0, "liver": 1, "ignore": 2}}
    assert read_ignored(plain, FILE) == 2
    assert read_labels(plain, FILE, may_ignore=True) == {"background": 0, "liver": 1}
    regions: dict[str, Any] = {"labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}}
    labels = read_labels(regions, FILE, may_ignore=True)
    assert labels == {"background": 0, "label 1": 1, "label 2": 2}
    assert read_declared_regions(regions, FILE, labels) == {"whole": (1, 2), "core": (2,)}
    assert read_ignored({"labels": {"background": 0, "liver": 1}}, FILE) is None
    with pytest.raises(InputError, match="'ignore' and 'liver' have one value, 1"):
        read_labels({"labels": {"liver": 1, "ignore": 1}}, FILE, may_ignore=True)


@pytest.mark.parametrize(
    "labels",
    [
        {"0": "background", "600": "spleen", "200": "liver"},
        {"background": 0, "spleen": 600, "liver": 200},
        {"spleen": "600", "liver": "200"},
    ],
)
def test_labels_in_either_direction_are_sorted_by_value(labels: dict[str, Any]) -> None:
    found = read_labels({"labels": labels}, FILE)
    assert list(found.items()) == [("background", 0), ("liver", 200), ("spleen", 600)]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "declares no labels"),
        ({}, "declares no labels"),
        ({"background": 0}, "only the background"),
        ({"liver": 1, "spleen": 1}, "declared twice: 'liver' = 1, 'spleen' = 1"),
        ({"1": "liver", "2": "liver"}, "declared twice: 'liver' = 1, 'liver' = 2"),
        ({"liver": 0, "spleen": 1}, "'liver' has the value 0. The value 0 is the background"),
        ({"background": 1, "liver": 2}, "'background' has the value 1. The value 0 is the background"),
        ({"background": 0, "whole": [1, 2.5], "core": 2}, "a region has the value 2.5"),
        ({"background": 0, "whole": [1, [2]], "core": 2}, "a region has the value [2]; give whole numbers from 1"),
        ({"background": 0, "whole": [1, {"a": 1}]}, "a region has the value {'a': 1}"),
        ({"background": 0, "liver": 1, "ignore": 2}, "the label 'ignore' (2) is not supported"),
        ({"0": "background", "1": "liver", "2": "Ignore"}, "the label 'ignore' (2) is not supported"),
        ({"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}, "the label 'ignore' (3) is not supported"),
        ({"background": 0, "liver": 1, "ignore": 0}, "'ignore' is 0; give a whole number from 1"),
        ({"background": 0, "liver": 1, "ignore": [2, 3]}, "'ignore' is [2, 3]; give a whole number from 1"),
        ({"liver": 1, "mean": 2}, "a structure is called 'mean'"),
        ({"liver": -1}, "give a name and a whole number from 0"),
        ({"liver": 1.5}, "give a name and a whole number from 0"),
        ({"liver": True}, "give a name and a whole number from 0"),
        ({"1": "2"}, "give a name and a whole number from 0"),
    ],
)
def test_labels_that_cannot_be_used(labels: Any, message: str) -> None:
    assert message in refused(labels)


def test_nnunets_regions_and_ours_are_the_same() -> None:
    """KiTS as nnU-Net declares it: the order of the values is not that of the regions."""
    theirs = {"labels": {"background": 0, "kidney": [1, 2, 3], "masses": [2, 3], "tumour": 2}}
    theirs["regions_class_order"] = [1, 3, 2]
    labels = read_labels(theirs, FILE)
    assert labels == {"background": 0, "label 1": 1, "label 2": 2, "label 3": 3}
    ours = {"labels": {"a": 1, "b": 2, "c": 3}, "regions": {"kidney": [1, 2, 3], "masses": [2, 3], "tumour": [2]}}
    expected = {"kidney": (1, 2, 3), "masses": (2, 3), "tumour": (2,)}
    assert read_declared_regions(theirs, FILE, labels) == expected
    assert read_declared_regions(ours, FILE, read_labels(ours, FILE)) == expected


@pytest.mark.parametrize("order", [[2, 1], 5, "12", {"1": 2}])
def test_another_order_of_the_regions_values_is_refused(order: Any) -> None:
    manifest = {"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": order}
    with pytest.raises(InputError, match=r"writes each region as the value that no later region has, \[1, 2\]"):
        read_declared_regions(manifest, FILE, read_labels(manifest, FILE))
