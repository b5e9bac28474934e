"""Scans without labels: every source, and everything that is said of them before a training."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medcontext.data.cases import Dataset
from medcontext.data.formats import read_dataset
from medcontext.data.plan import PrepareSettings
from medcontext.data.planning import make_plan
from medcontext.data.prepare import prepare_dataset
from medcontext.data.splits import Split, make_split
from medcontext.data.store import QUANTILES
from medcontext.data.unlabelled import Scans, find_unlabelled, prepare_unlabelled
from medcontext.data.unlike import below_zero, distance, unlike
from medcontext.errors import InputError
from tests.data.scans import random_cases, save, write_dataset

SHAPE = (12, 14, 8)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return write_dataset(tmp_path / "data", random_cases(6, SHAPE))


def split_of(dataset: Dataset) -> Split:
    names = [case.name for case in dataset.cases]
    return Split(tuple(names[:2]), (names[2],), (names[3],), tuple(names[4:]))


def look(dataset: Dataset, sources: list[str], **options: bool) -> Scans:
    split = split_of(dataset)
    plan = make_plan(dataset, [case for case in dataset.cases if case.name in split.train], PrepareSettings())
    cache = dataset.root / "cache"
    labelled = prepare_dataset(dataset, split.train, plan, cache)
    found = find_unlabelled(sources, dataset, split.rest)
    return prepare_unlabelled(found, dataset, split, labelled, plan, cache=cache, **options)


def new_scans(folder: Path, count: int, shape: tuple[int, int, int] = SHAPE, channels: int = 1) -> Path:
    for name, (image, _) in random_cases(count, shape, seed=9).items():
        for channel in range(channels):
            save(folder / (f"{name}_{channel:04d}.nii.gz" if channels > 1 else f"{name}.nii.gz"), image + channel)
    return folder


def test_rest_takes_what_few_shot_leaves_out_and_reads_no_label(dataset: Dataset) -> None:
    for case in dataset.cases[4:]:
        case.label.write_bytes(b"not a label")
    scans = look(dataset, ["rest"])
    assert [case.name for case in scans.cases] == ["case04", "case05"]
    assert all(case.classes == () for case in scans.cases)
    assert not any((case.folder / "label.b2nd").exists() for case in scans.cases)
    assert scans.remarks() == []


def test_scans_of_one_name_in_two_lists_are_both_used(dataset: Dataset, tmp_path: Path) -> None:
    """Lists in one folder have its name as that of the data set, and name cases alike."""
    described = {"name": "site", "channels": list(dataset.channels), "labels": dataset.labels}
    for kind, seed in (("venous", 3), ("arterial", 4)):
        for name, (image, _) in random_cases(2, SHAPE, seed=seed).items():
            save(tmp_path / "site" / name / f"{kind}.nii.gz", image)
        scans = [{"name": f"case0{number}", "image": f"case0{number}/{kind}.nii.gz"} for number in range(2)]
        (tmp_path / "site" / f"{kind}.json").write_text(json.dumps({**described, "cases": [], "unlabelled": scans}))
    lists = [str(tmp_path / "site" / f"{kind}.json") for kind in ("venous", "arterial")]
    alone = [case.digest for source in lists for case in look(dataset, [source]).cases]
    found = look(dataset, lists)
    assert [case.name for case in found.cases] == ["case00", "case01"] * 2
    assert [case.digest for case in found.cases] == alone
    assert len({case.digest for case in found.cases}) == 4
    assert len({float(case.read_image().sum()) for case in found.cases}) == 4
    assert not found.doubled


def test_few_shot_names_the_rest(dataset: Dataset) -> None:
    whole, few = make_split(dataset), make_split(dataset, few_shot=2)
    assert sorted(few.train + few.rest) == sorted(whole.train)
    assert whole.rest == ()
    assert "rest" not in few.to_dict()


def test_folders_and_data_sets_of_every_layout(dataset: Dataset, tmp_path: Path) -> None:
    folder = new_scans(tmp_path / "more", 3)
    assert [len(each.dataset.cases) for each in find_unlabelled([str(folder)], dataset, ())] == [3]
    listed = tmp_path / "listed"
    image, label = next(iter(random_cases(1, SHAPE).values()))
    save(listed / "a.nii.gz", image), save(listed / "a_label.nii.gz", label), save(listed / "b.nii.gz", image)
    manifest = {"channels": ["MR"], "labels": {"left": 1}, "cases": [{"image": "a.nii.gz", "label": "a_label.nii.gz"}]}
    (listed / "list.json").write_text(json.dumps({**manifest, "unlabelled": ["b.nii.gz"]}))
    assert [case.name for case in find_unlabelled([str(listed / "list.json")], dataset, ())[0].dataset.cases] == ["b"]

    raw = tmp_path / "Dataset001_Raw"
    save(raw / "imagesTr/a_0000.nii.gz", image), save(raw / "labelsTr/a.nii.gz", label)
    save(raw / "imagesTs/t_0000.nii.gz", image), save(raw / "imagesUn/u_0000.nii.gz", image)
    manifest = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "left": 1, "right": 2}}
    (raw / "dataset.json").write_text(json.dumps({**manifest, "numTraining": 1, "file_ending": ".nii.gz"}))
    assert [case.name for case in find_unlabelled([str(raw)], dataset, ())[0].dataset.cases] == ["t", "u"]
    found = find_unlabelled([str(raw), str(folder), "rest"], dataset, ("case04",))
    assert [len(each.dataset.cases) for each in found] == [2, 3, 1]
    assert all(case.label is None for each in found for case in each.dataset.cases)


def test_several_channels(tmp_path: Path) -> None:
    cases = {name: (np.stack([image, image], -1), label) for name, (image, label) in random_cases(4, SHAPE).items()}
    dataset = write_dataset(tmp_path / "data", cases, channels=("T1", "T2"))
    folder = new_scans(tmp_path / "more", 2, channels=2)
    scans = look(dataset, [str(folder)])
    assert [case.shape[0] for case in scans.cases] == [2, 2]
    (folder / "case01_0001.nii.gz").unlink()
    with pytest.raises(InputError, match=r"case 'case01' has the channel files _0000, but _0000, _0001"):
        look(dataset, [str(folder)])


def test_scans_that_are_labelled_or_tested_are_told_by_their_content(dataset: Dataset, tmp_path: Path) -> None:
    folder = new_scans(tmp_path / "more", 1)
    for number, case in enumerate(dataset.cases[:4]):  # two training cases, the validation and the test case
        (folder / f"copy{number}.nii.gz").write_bytes(case.images[0].read_bytes())
    (folder / "twice.nii.gz").write_bytes((folder / "case00.nii.gz").read_bytes())
    scans = look(dataset, [str(folder)])
    assert [case.name for case in scans.cases] == ["case00", "copy2", "copy3"]
    assert (scans.labelled, scans.doubled) == (("copy0", "copy1"), ("twice",))
    assert (scans.validated, scans.tested) == (("copy2",), ("copy3",))
    said = " ".join(scans.remarks())
    assert "Left out, because training cases with a label have the same image: copy0, copy1." in said
    assert "The images, not the labels, of 1 test case take part in the training: copy3." in said
    assert scans.facts()["tested"] == ["copy3"]


def test_test_images_without_a_label_and_damaged_ones(dataset: Dataset, tmp_path: Path) -> None:
    """A split's test cases may lie in imagesTs; and a damaged one is no reason not to train."""
    folder = new_scans(tmp_path / "more", 1)
    tested, validated = dataset.cases[3], dataset.cases[2]
    (folder / "copy.nii.gz").write_bytes(tested.images[0].read_bytes())
    validated.images[0].write_bytes(validated.images[0].read_bytes()[:300])
    hidden = replace(tested, label=None)
    other = replace(dataset, cases=tuple(case for case in dataset.cases if case != tested), unlabelled=(hidden,))
    split = split_of(dataset)
    plan = make_plan(dataset, [case for case in dataset.cases if case.name in split.train], PrepareSettings())
    labelled = prepare_dataset(other, split.train, plan, tmp_path / "cache")
    scans = prepare_unlabelled(
        find_unlabelled([str(folder)], other, ()), other, split, labelled, plan, cache=tmp_path / "cache"
    )
    assert scans.tested == ("copy",)
    assert scans.unread == (validated.name,)
    assert f"Cannot be read, and so not be compared with these scans: {validated.name}." in scans.remarks()


def test_scans_of_equal_names_are_all_there(dataset: Dataset, tmp_path: Path) -> None:
    one = new_scans(tmp_path / "one", 2)
    two = tmp_path / "two"
    for name, (image, _) in random_cases(2, SHAPE, seed=4).items():
        save(two / f"{name}.nii.gz", image)
    scans = look(dataset, [str(one), str(two)])
    assert [entry[:2] for entry in scans.facts()["scans"]] == [
        [str(folder), name] for folder in (one, two) for name in ("case00", "case01")
    ]
    assert scans.facts()["scans"] != look(dataset, [str(two), str(one)]).facts()["scans"]


def test_labels_beside_scans_are_not_learnt_from(dataset: Dataset, tmp_path: Path) -> None:
    folder = new_scans(tmp_path / "flat", 2)
    for case in dataset.cases[:2]:
        assert case.label is not None
        shutil.copy(case.label, folder / f"{case.name}_seg.nii.gz")
    scans = look(dataset, [str(folder)])
    assert [case.name for case in scans.cases] == ["case00", "case01"]
    assert "called like labels, 2 files" in scans.remarks()[0]


def test_another_modality_is_pointed_out(dataset: Dataset, tmp_path: Path) -> None:
    folder = new_scans(tmp_path / "more", 2)
    rng = np.random.default_rng(0)
    save(folder / "other.nii.gz", rng.exponential(1.0, SHAPE).astype(np.float32) ** 3)
    scans = look(dataset, [str(folder)])
    assert [each.partition(" ")[0] for each in scans.unlike] == ["other"]
    assert "perhaps another modality: other" in scans.remarks()[-1]


def test_ct_among_mr_is_pointed_out_by_its_values_below_0(dataset: Dataset, tmp_path: Path) -> None:
    folder = new_scans(tmp_path / "more", 2)
    for path in (*folder.iterdir(), *(case.images[0] for case in dataset.cases)):
        image = nib.load(path).get_fdata(dtype=np.float32)
        save(path, image - image.min())
    image = nib.load(folder / "case00.nii.gz").get_fdata(dtype=np.float32)
    save(folder / "ct.nii.gz", image - 0.3 * image.max())  # prepared it is the same
    save(folder / "smooth.nii.gz", image - 0.05 * image.max())  # as interpolation leaves it
    scans = look(dataset, [str(folder)])
    assert len(scans.cases) == 4
    assert [each.partition(" (values down to -")[0] for each in scans.unlike] == ["ct"]


def test_ct_among_ct_is_not_pointed_out_and_of_several_channels_each_counts() -> None:
    def case(*extremes: tuple[float, float]) -> Any:
        return SimpleNamespace(extremes=np.array(extremes))

    metal, ct = case((-1024, 20000)), case((-1024, 1800))
    assert below_zero({"ct": ct}, [metal]) == {}, "the labelled one reaches as low"
    assert below_zero({"ct": ct}, [ct, case((0, 900))]) == {}
    swapped = {"swapped": case((0, 500), (-1000, 2000)), "same": case((-1000, 1500), (-3, 400))}
    assert below_zero(swapped, [case((-1024, 2000), (0, 700))]) == {"swapped": "values down to -1000"}


def test_a_brighter_voxel_or_much_air_is_not_another_modality() -> None:
    rng = np.random.default_rng(0)

    def quantiles(values: np.ndarray) -> np.ndarray:
        return np.quantile((values - values.mean()) / values.std(), QUANTILES)[None]

    tissue = rng.normal(0, 1, 20000)
    bright = tissue.copy()
    bright[:5] = 15
    assert unlike({"bright": quantiles(bright)}, [quantiles(tissue)]) == {}
    airy = [np.where(np.arange(20000) < 1000, rng.normal(5, 1, 20000), rng.normal(0, 0.01, 20000)) for _ in range(3)]
    assert unlike({"airy": quantiles(airy[0])}, [quantiles(each) for each in airy[1:]]) == {}
    assert unlike({"other": quantiles(rng.exponential(1, 20000) ** 3)}, [quantiles(tissue)]).keys() == {"other"}


def test_a_scan_without_content_is_pointed_out(dataset: Dataset, tmp_path: Path) -> None:
    folder = new_scans(tmp_path / "more", 2)
    save(folder / "empty.nii.gz", np.zeros(SHAPE, np.float32))
    assert [each.partition(" ")[0] for each in look(dataset, [str(folder)]).unlike] == ["empty"]


def test_of_scans_called_alike_each_is_looked_at(dataset: Dataset, tmp_path: Path) -> None:
    one, two = new_scans(tmp_path / "one", 1), tmp_path / "two"
    rng = np.random.default_rng(0)
    save(two / "case00.nii.gz", rng.exponential(1.0, SHAPE).astype(np.float32) ** 3)
    for sources in ([one, two], [two, one]):
        scans = look(dataset, [str(source) for source in sources])
        assert [each.partition(" ")[0] for each in scans.unlike] == [f"{two}/case00"]


def test_damaged_scans_are_listed_and_refused_or_left_out(dataset: Dataset, tmp_path: Path) -> None:
    folder = new_scans(tmp_path / "more", 3)
    for name in ("case00", "case02"):
        path = folder / f"{name}.nii.gz"
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(
        InputError, match=r"(?s)2 of 3 unlabelled scans cannot be used: .*case00.*case02.*--skip_damaged"
    ):
        look(dataset, [str(folder)])
    scans = look(dataset, [str(folder)], skip_damaged=True)
    assert [case.name for case in scans.cases] == ["case01"]
    assert len(scans.facts()["damaged"]) == 2
    assert "case02" in scans.remarks()[0]


def test_prepared_scans_are_used_again_until_their_file_changes(dataset: Dataset, tmp_path: Path) -> None:
    folder = new_scans(tmp_path / "more", 2)
    first = look(dataset, [str(folder)])
    stamps = [(case.folder / "case.json").stat().st_mtime_ns for case in first.cases]
    assert [(case.folder / "case.json").stat().st_mtime_ns for case in look(dataset, [str(folder)]).cases] == stamps
    image, _ = random_cases(1, SHAPE, seed=3)["case00"]
    save(folder / "case00.nii.gz", image)
    again = look(dataset, [str(folder)])
    assert [a.digest == b.digest for a, b in zip(first.cases, again.cases, strict=True)] == [False, True]


def test_what_cannot_be_is_refused_in_words(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it leaves none out"):
        find_unlabelled(["rest"], dataset, ())
    with pytest.raises(InputError, match="Input not found"):
        find_unlabelled([str(tmp_path / "nowhere")], dataset, ())
    other = write_dataset(tmp_path / "other", random_cases(2, SHAPE))
    manifest = {
        "channels": ["CT"],
        "labels": {"left": 1, "right": 2},
        "cases": [{"image": str(case.images[0]), "label": str(case.label)} for case in other.cases],
    }
    path = tmp_path / "other.json"
    path.write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="has the channels CT, the labelled scans have MR"):
        find_unlabelled([str(path)], dataset, ())
    path.write_text(json.dumps({**manifest, "channels": ["MR"]}))
    with pytest.raises(InputError, match=r"has no scans without labels.*give their folder, \S+images; or"):
        find_unlabelled([str(path)], dataset, ())
    entry = {"name": "more", "image": str(dataset.cases[0].images[0])}
    path.write_text(json.dumps({**manifest, "channels": ["MR"], "unlabelled": [entry]}))
    assert "the 2 labelled cases are not used" in find_unlabelled([str(path)], dataset, ())[0].passed
    copies = tmp_path / "copies"
    for case in dataset.cases[:2]:
        save(copies / case.images[0].name, random_cases(6, SHAPE)[case.name][0].astype(np.float32))
    with pytest.raises(InputError, match=r"No unlabelled scan is left .*: training cases with a label"):
        look(dataset, [str(copies)])


def test_a_full_disk_is_not_a_damaged_scan(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    folder = new_scans(tmp_path / "more", 2)
    look(replace(dataset), ["rest"])
    monkeypatch.setattr("medcontext.data.store._write", full)
    with pytest.raises(InputError, match=r"Cannot write the prepared case .*No space left on device"):
        look(dataset, [str(folder)], skip_damaged=True)


def test_a_folder_called_rest_is_not_taken_for_the_keyword(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_scans(tmp_path / "rest", 1)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"For that one write \./rest"):
        find_unlabelled(["rest"], dataset, ("case04",))
    assert len(find_unlabelled(["./rest"], dataset, ("case04",))[0].dataset.cases) == 1


def test_distance_is_how_far_intensities_would_have_to_move() -> None:
    one = np.linspace(0, 1, 21)[None]
    assert distance(one, one) == 0
    assert distance(one, one + 3) == pytest.approx(3)
    assert distance(np.concatenate([one, one]), np.concatenate([one, one + 2])) == pytest.approx(2)


def test_the_layouts_still_read_their_labelled_cases(tmp_path: Path) -> None:
    image, label = next(iter(random_cases(1, SHAPE).values()))
    save(tmp_path / "a.nii.gz", image), save(tmp_path / "a_label.nii.gz", label), save(tmp_path / "b.nii.gz", image)
    manifest = {"channels": ["MR"], "labels": {"left": 1, "right": 2}, "unlabelled": [{"image": "b.nii.gz"}]}
    entry = {"image": "a.nii.gz", "label": "a_label.nii.gz"}
    (tmp_path / "list.json").write_text(json.dumps({**manifest, "cases": [entry]}))
    dataset = read_dataset(tmp_path / "list.json")
    assert [[case.name for case in part] for part in (dataset.cases, dataset.unlabelled)] == [["a"], ["b"]]
