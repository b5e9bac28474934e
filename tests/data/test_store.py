"""Prepared cases on disk."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from medcontext.data import store
from medcontext.data.geometry import Geometry
from medcontext.data.store import Store, describe_sources, sample_positions, write_case
from medcontext.errors import InputError


def write(folder: Path, shape: tuple[int, int, int] = (70, 33, 5), channels: int = 2, classes: int = 3) -> tuple:
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.normal(size=(channels, *shape)).astype(np.float32))
    label = torch.from_numpy(rng.integers(0, classes, shape).astype(np.uint8 if classes <= 256 else np.int16))
    write_case(folder, image, label, Geometry.create(shape, np.eye(4)), (-1.0,) * channels, [["a", 1, 2]])
    return image, label


def test_reads_back_exactly_and_by_crop(tmp_path: Path) -> None:
    image, label = write(tmp_path / "one")
    case = Store(tmp_path).case("one")
    assert case.shape == (2, 70, 33, 5)
    assert case.classes == (1, 2)
    assert case.background == (-1.0, -1.0)
    assert case.geometry == Geometry.create((70, 33, 5), np.eye(4))
    whole = case.read()
    assert torch.equal(whole[0], image)
    assert torch.equal(whole[1], label[None])
    crop = (slice(60, 70), slice(0, 33), slice(2, 3))
    part = case.read(crop)
    assert torch.equal(part[0], image[:, 60:70, :, 2:3])
    assert torch.equal(part[1], label[None, 60:70, :, 2:3])
    assert part[1].dtype == torch.uint8


def test_more_than_256_classes(tmp_path: Path) -> None:
    _, label = write(tmp_path / "one", classes=300)
    assert torch.equal(Store(tmp_path).case("one").read()[1][0], label)
    assert max(Store(tmp_path).case("one").classes) == 299


def test_positions_are_of_their_class(tmp_path: Path) -> None:
    _, label = write(tmp_path / "one")
    case = Store(tmp_path).case("one")
    for index in case.classes:
        voxels = case.positions(index)
        assert voxels.shape == (2000, 3)
        assert len(np.unique(voxels, axis=0)) == 2000
        assert (label.numpy()[tuple(voxels.T)] == index).all()


def test_few_voxels_are_all_kept() -> None:
    label = np.zeros((4, 4, 4), np.uint8)
    label[1, 2, 3] = label[0, 0, 0] = 5
    found = sample_positions(label, 0)
    assert list(found) == [5]
    np.testing.assert_array_equal(found[5], [[0, 0, 0], [1, 2, 3]])
    assert sample_positions(np.zeros((2, 2, 2), np.uint8), 0) == {}


def test_a_case_without_its_record_does_not_exist(tmp_path: Path) -> None:
    write(tmp_path / "one")
    write(tmp_path / "two")
    (tmp_path / "one" / "case.json").unlink()
    assert Store(tmp_path).names == ("two",)
    with pytest.raises(InputError, match="Unknown prepared case 'one'"):
        Store(tmp_path).case("one")


@pytest.mark.parametrize("broken", ["image.b2nd", "label.b2nd", "positions.npz"])
def test_a_failure_while_writing_leaves_no_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    write(tmp_path / "one")
    (tmp_path / "one" / "case.json").write_text('{"sources": "older"}')
    replace = os.replace

    def full(source: Path, target: Path) -> None:
        if target.name == broken:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match=r"one: No space left on device.*MEDCONTEXT_CACHE"):
        write(tmp_path / "one")
    assert Store(tmp_path).names == ()
    assert not list(tmp_path.glob("**/.tmp-*"))


def test_damaged_files_are_named(tmp_path: Path) -> None:
    write(tmp_path / "one")
    path = tmp_path / "one" / "image.b2nd"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"image\.b2nd"):
        Store(tmp_path).case("one").read()
    path.unlink()
    with pytest.raises(InputError, match=r"image\.b2nd"):
        Store(tmp_path).case("one").read()
    (tmp_path / "one" / "positions.npz").write_bytes(b"")
    with pytest.raises(InputError, match=r"positions\.npz"):
        Store(tmp_path).case("one").positions(1)


def test_remains_of_killed_processes_go(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    old, new = tmp_path / "one" / ".tmp-1-image.b2nd", tmp_path / "one" / ".tmp-2-image.b2nd"
    old.touch()
    new.touch()
    before = time.time() - store.STALE - 10
    os.utime(old, (before, before))
    write(tmp_path / "one")
    assert not old.exists()
    assert new.exists()  # its process may be alive


def test_a_file_that_another_run_renames_meanwhile_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / ".tmp-1-image.b2nd").symlink_to("gone")  # listed, and not there when it is looked at
    write(tmp_path / "one")
    assert Store(tmp_path).case("one").read()[0].shape


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="prepare the data set first"):
        Store(tmp_path / "none")


def test_a_change_of_any_file_of_a_dicom_series_is_seen(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    for name in "ab":
        (folder / name).write_bytes(bytes(128) + b"DICM" + name.encode())
    before = describe_sources([folder])
    assert describe_sources([folder]) == before
    (folder / "b").write_bytes(bytes(128) + b"DICM?")
    assert describe_sources([folder]) != before
    (folder / "b").unlink()
    assert describe_sources([folder]) != before
