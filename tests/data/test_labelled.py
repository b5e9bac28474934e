"""Reading a labelled case with its checks."""

from pathlib import Path

import numpy as np
import pytest

from medcontext.data.cases import Case, Dataset
from medcontext.data.labelled import class_indices, mapped_labels, read_labelled
from medcontext.errors import InputError
from tests.data.scans import affine_of, random_cases, save, write_dataset

GAPS = Dataset("d", Path("d"), ("CT",), {"c": 600, "a": 200, "b": 500}, ())


@pytest.mark.parametrize("largest", [600, 100_000])
def test_indices_are_ranks_of_the_values(largest: int) -> None:
    values = np.array([[0, 200], [largest, 500]], dtype=np.int32)
    labels = {"c": largest, "a": 200, "b": 500}
    found = class_indices(values, labels, {}, Path("x"))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, [[0, 1], [3, 2]])


@pytest.mark.parametrize("unknown", [7, 70_000])
def test_undeclared_values_are_named_with_their_size(unknown: int) -> None:
    values = np.array([0, 200, unknown, unknown], dtype=np.int32)
    with pytest.raises(InputError, match=rf"label\.nii.*{unknown} \(2 voxels\).*\[0, 200, 500, 600\].*label_map"):
        class_indices(values, GAPS.labels, {}, Path("label.nii"))


def test_label_map_is_the_only_way() -> None:
    values = np.array([0, 200, 500, 255, 600])
    label_map = {255: 0, 600: 200}
    labels = mapped_labels(GAPS, label_map)
    assert labels == {"a": 200, "b": 500}
    np.testing.assert_array_equal(class_indices(values, labels, label_map, Path("x")), [0, 1, 2, 0, 1])


def test_label_map_may_swap() -> None:
    labels = mapped_labels(GAPS, {200: 500, 500: 200})
    assert set(labels.values()) == {200, 500, 600}
    np.testing.assert_array_equal(class_indices(np.array([200, 500]), labels, {200: 500, 500: 200}, Path("x")), [2, 1])


def test_label_map_must_lead_somewhere() -> None:
    with pytest.raises(InputError, match="sends 200 to 7, which is not declared"):
        mapped_labels(GAPS, {200: 7})
    with pytest.raises(InputError, match="leaves no structure"):
        mapped_labels(GAPS, {200: 0, 500: 0, 600: 0})


def test_more_than_256_classes() -> None:
    labels = {f"s{value}": value for value in range(1, 301)}
    found = class_indices(np.array([300, 0, 257]), labels, {}, Path("x"))
    np.testing.assert_array_equal(found, [300, 0, 257])


def test_image_and_label_on_different_grids(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d", random_cases(1, (6, 6, 6)))
    case = dataset.cases[0]
    moved = save(tmp_path / "moved.nii.gz", np.zeros((6, 6, 6), np.uint8), affine_of("LAS", (1, 1, 1)))
    with pytest.raises(InputError, match="Different affines"):
        read_labelled(Case("a", case.images, moved), dataset, {})
    small = save(tmp_path / "small.nii.gz", np.zeros((6, 6, 5), np.uint8))
    with pytest.raises(InputError, match="Different shapes"):
        read_labelled(Case("a", case.images, small), dataset, {})
    with pytest.raises(InputError, match="no label"):
        read_labelled(Case("a", case.images), dataset, {})
