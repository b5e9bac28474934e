"""Crops: where they lie, and that they depend on seed and index alone."""

import json
import pickle
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from medcontext.data.crops import CropBefore, CropDataset, PartnerPlace, ScanCrops, StepSampler, shares_in_crops
from medcontext.data.geometry import Geometry
from medcontext.data.store import Store, StoredCase, write_case
from medcontext.errors import InputError
from medcontext.method.batches import before, reach

SHAPE = (20, 24, 10)


def write(root: Path, name: str, label: torch.Tensor, channels: int = 1) -> None:
    """The image holds each voxel's own index, so that a crop tells where it comes from."""
    image = torch.arange(float(label.numel())).reshape(1, *label.shape).repeat(channels, 1, 1, 1)
    shape = (label.shape[0], label.shape[1], label.shape[2])
    background = tuple(-1.0 - channel for channel in range(channels))
    write_case(root / name, image, label, Geometry.create(shape, np.eye(4)), background, [])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    for name in "abc":
        label = torch.zeros(SHAPE, dtype=torch.uint8)
        label[10:13, 3:5, 4:6] = 1
        if name == "b":
            label[0, 23, 9] = 2  # one voxel in a corner
        if name == "c":
            label[:] = 0
        write(tmp_path, name, label)
    return Store(tmp_path)


def crops(store: Store, **settings: Any) -> CropDataset:
    return CropDataset(store, store.names, **{"crop_size": (8, 8, 6), "length": 60, **settings})


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return torch.equal(a["image"], b["image"]) and torch.equal(a["label"], b["label"]) and a["name"] == b["name"]


def test_shapes_and_types(store: Store) -> None:
    item = crops(store)[7]
    assert item["image"].shape == item["label"].shape == (1, 8, 8, 6)
    assert (item["image"].dtype, item["label"].dtype) == (torch.float32, torch.uint8)
    assert item["index"] == 7


def test_image_and_label_are_cut_at_the_same_place(store: Store) -> None:
    volumes = {name: store.case(name).read() for name in store.names}
    for item in crops(store):
        image, label = volumes[item["name"]]
        voxels = item["image"].long()
        assert torch.equal(image.flatten()[voxels], item["image"])
        assert torch.equal(label.flatten()[voxels], item["label"])


def test_every_pass_visits_each_case_once_in_a_new_order(store: Store) -> None:
    names = [item["name"] for item in crops(store)]
    passes = [tuple(names[start : start + 3]) for start in range(0, 60, 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in passes)
    assert len(set(passes)) > 3


def test_foreground_crops_hold_every_class_equally_often(store: Store) -> None:
    items = [item for item in crops(store, foreground_fraction=1.0, length=300) if item["name"] == "b"]
    found = Counter(value for item in items for value in item["label"].unique().tolist())
    assert all(item["label"].any() for item in items)
    assert 30 < found[2] < 70  # of 100: one voxel against a dozen
    assert found[1] + found[2] == len(items)  # too far apart to be in one crop


def test_background_crops_lie_everywhere(store: Store) -> None:
    items = list(crops(store, foreground_fraction=0.0, length=600))
    corners = {int(item["image"].min()) for item in items}
    assert len(corners) > 0.35 * (13 * 17 * 5)  # 0.42 expected of 600 draws
    starts = np.array(np.unravel_index(sorted(corners), SHAPE))
    np.testing.assert_array_equal(starts.min(1), [0, 0, 0])
    np.testing.assert_array_equal(starts.max(1), [12, 16, 4])


def test_foreground_is_not_always_in_the_middle(tmp_path: Path) -> None:
    label = torch.zeros(40, 40, 40, dtype=torch.uint8)
    label[20, 20, 20] = 1
    write(tmp_path, "a", label)
    items = CropDataset(Store(tmp_path), ["a"], (16, 16, 16), length=100, foreground_fraction=1.0)
    places = torch.stack([torch.nonzero(item["label"][0])[0] for item in items])
    assert places.min() == 4
    assert places.max() == 12


def test_an_empty_label_gives_crops_all_the_same(store: Store) -> None:
    items = CropDataset(store, ["c"], (8, 8, 6), length=20, foreground_fraction=1.0)
    assert not any(item["label"].any() for item in items)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_and_resuming_change_nothing(store: Store, workers: int) -> None:
    dataset = crops(store, seed=5, length=12)
    expected = [dataset[index] for index in range(12)]
    sampler = StepSampler(12, start=4)
    loader = DataLoader(dataset, batch_size=None, sampler=sampler, num_workers=workers)
    torch.manual_seed(1)
    found = list(loader)
    assert len(found) == 8
    assert all(same(a, b) for a, b in zip(found, expected[4:], strict=True))


def test_seeds_differ(store: Store) -> None:
    first, second = crops(store, seed=0), crops(store, seed=1)
    assert sum(same(first[index], second[index]) for index in range(60)) < 6


def test_ranks_share_the_crops_of_a_step() -> None:
    parts = [list(StepSampler(16, start=8, rank=rank, ranks=2)) for rank in range(2)]
    assert sorted(parts[0][:2] + parts[1][:2]) == [8, 9, 10, 11]
    assert sorted(parts[0] + parts[1]) == list(range(8, 16))


@pytest.mark.parametrize("crop", [(8, 30, 6), (25, 30, 13), (20, 24, 11), (8, 8, 1)])
def test_short_axes_are_padded_on_both_sides(store: Store, crop: tuple[int, int, int]) -> None:
    item = CropDataset(store, ["a"], crop, length=1, foreground_fraction=1.0)[0]
    assert item["image"].shape == item["label"].shape == (1, *crop)
    inside = torch.nonzero(item["image"][0] != -1)
    low, high = inside.min(0).values, inside.max(0).values + 1
    for axis in range(3):
        missing = max(crop[axis] - SHAPE[axis], 0)
        assert int(low[axis]) == missing // 2
        assert int(high[axis]) == crop[axis] - (missing - missing // 2)
    assert not item["label"][item["image"] == -1].any()
    label = store.case("a").read()[1]
    within = item["image"] >= 0
    assert torch.equal(label.flatten()[item["image"][within].long()], item["label"][within])
    assert item["label"].any() or crop[2] == 1


def test_one_slice_and_several_channels(tmp_path: Path) -> None:
    label = torch.zeros(12, 12, 1, dtype=torch.uint8)
    label[5] = 1
    write(tmp_path, "flat", label, channels=2)
    item = CropDataset(Store(tmp_path), ["flat"], (8, 8, 4), length=1)[0]
    assert item["image"].shape == (2, 8, 8, 4)
    assert item["image"][:, 0, 0, 0].tolist() == [-1, -2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop_size": (8, 8)}, "three sizes"),
        ({"crop_size": (8, 0, 8)}, "three sizes"),
        ({"foreground_fraction": 1.5}, "0 to 1"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_settings_are_checked(store: Store, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        crops(store, **settings)


def test_unknown_or_no_case(store: Store) -> None:
    with pytest.raises(InputError, match="Unknown prepared case 'd'"):
        CropDataset(store, ["d"], (8, 8, 8), length=1)
    with pytest.raises(InputError, match="No training case"):
        CropDataset(store, [], (8, 8, 8), length=1)
    with pytest.raises(IndexError):
        crops(store)[60]


@pytest.mark.slow
def test_memory_stays_bounded(tmp_path: Path) -> None:
    """500 crops of 60 cases (64 MB prepared) cost less than two volumes more than the first 20 crops."""
    shape = (64, 64, 64)
    rng = np.random.default_rng(0)
    label = torch.from_numpy(rng.integers(0, 3, shape, dtype=np.uint8))
    geometry = Geometry.create(shape, np.eye(4))
    for number in range(60):
        image = torch.from_numpy(rng.normal(size=(1, *shape)).astype(np.float32))
        write_case(tmp_path / f"case{number}", image, label, geometry, (0.0,), [])
    script = f"""
        import json, re
        from pathlib import Path
        from medcontext.data.crops import CropDataset
        from medcontext.data.store import Store

        def megabytes():
            return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

        store = Store(Path({str(tmp_path)!r}))
        crops = CropDataset(store, store.names, (32, 32, 32), length=500)
        for index in range(20):
            crops[index]
        before = megabytes()
        for index in range(20, 500):
            crops[index]
        print(json.dumps([before, megabytes()]))
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("reads the resident memory from /proc")
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    before, after = json.loads(ran.stdout)
    assert after - before < 2 * 64**3 * 5 / 2**20  # image and label


@pytest.mark.parametrize("crop", [(4, 3, 2), (9, 3, 8), (20, 20, 20)])
def test_shares_in_crops_are_the_mean_over_all_places(crop: tuple[int, int, int]) -> None:
    label = torch.randint(0, 3, (7, 5, 6), generator=torch.Generator().manual_seed(0))
    padding = sum(max(0, wanted - size) > 0 for wanted, size in zip(crop, label.shape, strict=True))
    starts = [range(max(1, size - wanted + 1)) for wanted, size in zip(crop, label.shape, strict=True)]
    found = []
    for a in starts[0]:
        for b in starts[1]:
            for c in starts[2]:
                part = label[a : a + crop[0], b : b + crop[1], c : c + crop[2]]
                counts = torch.bincount(part.flatten(), minlength=3).float()
                counts[0] += np.prod(crop) - part.numel()  # padding
                found.append(counts / np.prod(crop))
    expected = torch.stack(found).mean(0)
    torch.testing.assert_close(shares_in_crops(label, crop, 3), expected)
    assert padding or len(found) > 1


@pytest.mark.parametrize(
    ("batch", "filled", "devices", "first"),
    [
        (2, 1, 1, [0, 0]),
        (8, 4, 1, [0, 1, 2, 3, 0, 1, 2, 3]),  # pairs
        (8, 3, 1, [0, 1, 2, 3, 4, 2, 3, 4]),
        (4, 3, 1, [0, 0, 0, 0]),  # too few that are seen as they are
        (3, 3, 1, [0, 0, 0]),
        (2, 1, 3, [0, 1, 2, 0, 1, 2]),  # each device has its own pair
        (1, 1, 1, [0]),
    ],
)
def test_crops_follow_those_that_they_are_filled_with(batch: int, filled: int, devices: int, first: list[int]) -> None:
    follows = CropBefore(batch, filled, reach(batch, filled), devices)
    if 2 * filled <= batch and devices == 1:
        numbers = torch.arange(batch)
        assert before(numbers, torch.ones(filled, dtype=torch.bool)).tolist() == first[-filled:]
    step = len(first)
    assert [follows(index) for index in range(2 * step)] == [*first, *(index + step for index in first)]


def test_a_crop_that_follows_lies_near_the_same_class_or_at_the_same_place(tmp_path: Path) -> None:
    """The second case has class 1 elsewhere, in two pieces, and no class 2."""
    ramp = torch.arange(40.0).view(1, 40, 1, 1).expand(1, 40, 8, 8).contiguous()  # its value says where a voxel is
    for name, ones, twos in (("a", [5], 30), ("b", [12, 36], None)):
        label = torch.zeros(40, 8, 8, dtype=torch.uint8)
        label[ones] = 1
        if twos:
            label[twos] = 2
        write_case(tmp_path / name, ramp, label, Geometry.create((40, 8, 8), np.eye(4)), (0.0,), [])
    alone, crops = (
        CropDataset(Store(tmp_path), ["a", "b"], (4, 8, 8), length=160, follows=follows)
        for follows in (None, CropBefore(2, 1))
    )
    pairs = [crops[index] for index in range(160)]
    alone = [alone[index] for index in range(160)]
    assert all(torch.equal(one["image"], other["image"]) for one, other in zip(alone[::2], pairs[::2], strict=True))
    seen = set()
    for index, (leader, follower) in enumerate(zip(pairs[::2], pairs[1::2], strict=True)):
        wanted, _ = crops.wanted(2 * index)
        first, second = leader["image"].mean(), follower["image"].mean()
        kind = leader["name"] + follower["name"], wanted
        at = {("ab", 1): 12, ("ab", 2): 36, ("ba", 1): 5}.get(
            kind, first
        )  # in b the nearest piece, for want of class 2
        assert abs(second - at) < 3.1, "within the jitter of a crop, and its border"
        seen.add(kind)
    assert {("ab", 0), ("ab", 1), ("ab", 2), ("ba", 0), ("ba", 1)} <= seen


def test_scan_crops_lie_where_the_labelled_crops_lie_that_they_are_filled_with(tmp_path: Path) -> None:
    """Two devices, of whose three crops a step the last one has a partner: 0 to 5 are labelled, 4 and 5 have one."""
    ramp = torch.arange(40.0).view(1, 40, 1, 1).expand(1, 40, 8, 8).contiguous()  # its value says where a voxel is
    label = torch.zeros(40, 8, 8, dtype=torch.uint8)
    label[30:34] = 1
    write_case(tmp_path / "a", ramp, label, Geometry.create((40, 8, 8), np.eye(4)), (0.0,), [])
    larger = ramp.repeat_interleave(2, 1)  # the same place has the same value
    write_case(tmp_path / "scan", larger, None, Geometry.create((80, 8, 8), np.eye(4)), (0.0,), [])
    labelled = CropDataset(Store(tmp_path), ["a"], (4, 8, 8), length=60, foreground_fraction=0.5)
    place = PartnerPlace(labelled, batch=6, partners=2)
    scans = ScanCrops([StoredCase(tmp_path / "scan")], (4, 8, 8), length=20, place=place)
    for index in range(20):
        step, number = divmod(index, 2)
        ours, theirs = labelled[6 * step + 4 + number]["image"].mean(), scans[index]["image"].mean()
        assert abs(ours - theirs) < 2.1, "within the jitter of a crop"
    assert pickle.loads(pickle.dumps(place))(3).tolist() == place(3).tolist(), "workers get it, too"


def test_scan_crops_visit_every_scan_in_turn_and_need_no_label(tmp_path: Path) -> None:
    for name in "ab":
        image = torch.arange(240.0).reshape(1, 10, 6, 4)
        write_case(tmp_path / name, image, None, Geometry.create((10, 6, 4), np.eye(4)), (-1.0,), [])
    cases = [StoredCase(tmp_path / name) for name in "ab"]
    items = ScanCrops(cases, (4, 8, 4), length=20, seed=3)
    seen = [items[index] for index in range(20)]
    assert all(sorted(item["name"] for item in seen[start : start + 2]) == ["a", "b"] for start in range(0, 20, 2))
    assert all(item["image"].shape == (1, 4, 8, 4) for item in seen)
    assert all((item["image"][0, :, 0] == -1).all() for item in seen)  # padded where the scan is smaller
    again = ScanCrops(cases, (4, 8, 4), length=20, seed=3)[7]
    assert torch.equal(again["image"], seen[7]["image"])
    assert len({item["image"][0, 0, 1, 0].item() for item in seen}) > 3
    with pytest.raises(InputError, match="No unlabelled scan"):
        ScanCrops([], (4, 8, 4), length=1)
