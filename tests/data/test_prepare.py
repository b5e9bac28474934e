"""Preparing whole data sets: the same code as prediction, resumable, nothing half written."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medcontext.console import console
from medcontext.data.cases import Case, Dataset
from medcontext.data.nifti import read_image, read_label
from medcontext.data.plan import Plan, PrepareSettings
from medcontext.data.planning import make_plan
from medcontext.data.prepare import (
    default_cache,
    prepare_dataset,
    prepare_image,
    preparing_remarks,
    print_plan,
    store_folder,
)
from medcontext.errors import InputError
from tests.data.scans import affine_of, random_cases, save, write_dataset

SHAPE = (20, 18, 12)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return write_dataset(tmp_path / "heads", random_cases(4, SHAPE), affine=affine_of("PIR", (1, 1, 2)))


def plan_of(dataset: Dataset, **settings: object) -> Plan:
    return make_plan(dataset, dataset.cases, PrepareSettings(**settings))  # type: ignore[arg-type]


def names_of(dataset: Dataset) -> list[str]:
    return [case.name for case in dataset.cases]


def written(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in root.glob("*/*")}


def test_stores_what_prepare_image_gives(dataset: Dataset, tmp_path: Path) -> None:
    plan = plan_of(dataset, spacing=(1.5, 1.0, 1.0))
    store = prepare_dataset(dataset, names_of(dataset), plan, tmp_path / "cache")
    assert store.names == tuple(names_of(dataset))
    assert store.plan == plan
    case = dataset.cases[0]
    image, affine = read_image(case, dataset.channels)
    expected, geometry = prepare_image(image, affine, plan)
    stored = store.case(case.name)
    assert torch.equal(stored.read()[0], expected)
    assert expected.dtype == torch.float32
    assert stored.geometry == geometry
    assert stored.shape[1:] == geometry.prepared_shape == (16, 20, 18)  # file axes P, I, R at 1, 1, 2 mm


def test_the_stored_label_goes_back_voxel_for_voxel(dataset: Dataset, tmp_path: Path) -> None:
    store = prepare_dataset(dataset, names_of(dataset)[:1], plan_of(dataset, spacing="original"), tmp_path / "cache")
    stored = store.case(names_of(dataset)[0])
    scores = torch.stack([stored.read()[1][0] == index for index in range(3)]).float()
    assert dataset.cases[0].label is not None
    label, _ = read_label(dataset.cases[0].label)
    np.testing.assert_array_equal(stored.geometry.to_original(scores), label)


def test_processes_give_the_same_as_one(dataset: Dataset, tmp_path: Path) -> None:
    plan = make_plan(dataset, dataset.cases, PrepareSettings(), workers=2)
    assert plan == plan_of(dataset)
    one = prepare_dataset(dataset, names_of(dataset), plan, tmp_path / "one")
    two = prepare_dataset(dataset, names_of(dataset), plan, tmp_path / "two", workers=2)
    assert two.names == one.names
    for name in one.names:
        for file in ("image.b2nd", "label.b2nd", "case.json"):
            assert (two.folders[name] / file).read_bytes() == (one.folders[name] / file).read_bytes()


def test_finished_cases_are_left_and_changed_ones_done_again(dataset: Dataset, tmp_path: Path) -> None:
    plan = plan_of(dataset)
    store = prepare_dataset(dataset, names_of(dataset)[:2], plan, tmp_path / "cache")
    root, (first, second) = store.root, names_of(dataset)[:2]
    held, before = store.case(second), written(root)
    values = held.read_image()
    prepare_dataset(dataset, names_of(dataset), plan, tmp_path / "cache")
    after = written(root)
    assert len(after) == 2 * len(before)
    assert {name: after[name] for name in before} == before
    changed = dataset.cases[1]
    image, affine = read_image(changed, dataset.channels)
    save(changed.images[0], image[0] * 2 + 50, affine)
    (store.folders[first] / "label.b2nd").unlink()  # a hole in the cache is mended too
    later = prepare_dataset(dataset, names_of(dataset), plan, tmp_path / "cache")
    again = written(root)
    redone = {name.split("/")[0] for name in again if again[name] != after.get(name)}
    assert redone == {later.folders[second].name, later.folders[first].name}
    assert later.folders[first] == store.folders[first]
    assert torch.equal(held.read_image(), values), "a training that reads the case keeps what it had"
    assert not torch.equal(later.case(second).read_image(), values)


def test_two_data_sets_of_one_name_do_not_mix(tmp_path: Path) -> None:
    plan_settings = {"spacing": "original", "normalization": "none"}
    first = write_dataset(tmp_path / "a" / "heads", random_cases(1, SHAPE))
    second = write_dataset(tmp_path / "b" / "heads", random_cases(1, SHAPE, seed=1))
    assert plan_of(first, **plan_settings).hash == plan_of(second, **plan_settings).hash
    plan = plan_of(first, **plan_settings)
    assert store_folder(first, plan, tmp_path) != store_folder(second, plan, tmp_path)
    odd = replace(first, name="../my heads")
    assert store_folder(odd, plan, tmp_path).parent == tmp_path


def test_a_bad_case_is_named_and_the_others_stay(dataset: Dataset, tmp_path: Path) -> None:
    plan = plan_of(dataset)
    bad = dataset.cases[2]
    assert bad.label is not None
    save(bad.label, np.full(SHAPE, 9, np.uint8), affine_of("PIR", (1, 1, 2)))
    with pytest.raises(InputError, match=rf"{bad.name}.*9 \({np.prod(SHAPE)} voxels\)"):
        prepare_dataset(dataset, names_of(dataset), plan, tmp_path / "cache")
    root = store_folder(dataset, plan, tmp_path / "cache")
    done = [json.loads(path.read_text())["sources"][0][0] for path in root.glob("*/case.json")]
    assert sorted(done) == [str(case.images[0]) for case in dataset.cases[:2]]
    with pytest.raises(InputError, match=bad.name):
        prepare_dataset(dataset, names_of(dataset), plan, tmp_path / "cache", workers=2)
    assert not list(root.glob(f"{bad.name}*"))


def test_label_map_reaches_the_store(dataset: Dataset, tmp_path: Path) -> None:
    extra = dataset.cases[0]
    assert extra.label is not None
    label, affine = read_label(extra.label)
    label[0] = 255
    save(extra.label, label, affine)
    with pytest.raises(InputError, match="255"):
        plan_of(dataset)
    plan = plan_of(dataset, label_map={255: 0, 2: 1})
    assert plan.labels == {"left": 1}
    store = prepare_dataset(dataset, names_of(dataset), plan, tmp_path / "cache")
    assert store.case(extra.name).classes == (1,)
    assert (store.case(extra.name).read()[1] == 1).sum() == np.isin(label, (1, 2)).sum()


def test_crops_to_the_non_zero_voxels(tmp_path: Path) -> None:
    image, label = np.zeros(SHAPE), np.zeros(SHAPE, np.uint8)
    image[5:15, 4:12, 3:9] = np.random.default_rng(0).normal(100, 5, (10, 8, 6))
    label[7:9, 6:9, 4:6] = 1
    dataset = write_dataset(tmp_path / "skull", {"a": (image, label)})
    plan = plan_of(dataset)
    assert plan.normalization[0].inside
    stored = prepare_dataset(dataset, ["a"], plan, tmp_path / "cache").case("a")
    assert stored.shape == (1, 10, 8, 6)
    assert stored.read()[0].mean() == pytest.approx(0, abs=1e-5)
    assert stored.background == (0.0,)
    scores = torch.stack([stored.read()[1][0] == index for index in range(3)]).float()
    np.testing.assert_array_equal(stored.geometry.to_original(scores), label)


def test_huge_anisotropy_and_an_empty_label(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=(40, 40, 2))
    cases = {"empty": (image, np.zeros(image.shape, np.uint8)), "full": (image, np.ones(image.shape, np.uint8))}
    dataset = write_dataset(tmp_path / "thick", cases, affine=np.diag([0.5, 0.5, 12, 1]))
    plan = plan_of(dataset)
    assert plan.spacing == (0.5, 0.5, 12)
    store = prepare_dataset(dataset, ["empty", "full"], plan_of(dataset, spacing=(1, 1, 1)), tmp_path / "cache")
    assert store.case("empty").classes == ()
    assert store.case("empty").shape == (1, 20, 20, 24)


def test_several_channels_stay_in_order(tmp_path: Path) -> None:
    image = np.stack([np.full(SHAPE, 10.0), np.full(SHAPE, 20.0)], axis=-1)
    dataset = write_dataset(tmp_path / "two", {"a": (image, np.ones(SHAPE, np.uint8))}, channels=("T1", "CT"))
    plan = plan_of(dataset, normalization="none")
    stored = prepare_dataset(dataset, ["a"], plan, tmp_path / "cache").case("a")
    assert stored.read()[0].mean((1, 2, 3)).tolist() == [10, 20]


def test_what_cannot_be_used_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    plan = plan_of(dataset)
    with pytest.raises(InputError, match="Unknown case 'case9'; did you mean"):
        prepare_dataset(dataset, ["case9"], plan, tmp_path / "cache")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Cannot write to the cache"):
        prepare_dataset(dataset, ["case00"], plan, tmp_path / "file")
    with pytest.raises(InputError, match="workers is 0"):
        prepare_dataset(dataset, ["case00"], plan, tmp_path / "cache", workers=0)
    gone = replace(dataset, cases=(Case("x", (tmp_path / "x.nii.gz",), tmp_path / "y.nii.gz"),))
    with pytest.raises(InputError, match=r"'x'.*x\.nii\.gz"):
        prepare_dataset(gone, ["x"], plan, tmp_path / "cache")


def test_killed_while_writing_then_run_again(dataset: Dataset, tmp_path: Path) -> None:
    """The process is killed between the image and the label of the second case."""
    plan = plan_of(dataset)
    (tmp_path / "plan.json").write_text(json.dumps(plan.to_dict()))
    script = f"""
        import os, signal
        from pathlib import Path, PosixPath
        from medcontext.data.cases import Case, Dataset
        from medcontext.data.plan import Plan
        from medcontext.data.prepare import prepare_dataset
        from medcontext.files import read_json
        import medcontext.data.store as store

        write = store._write

        def killed(path, array):
            if path.parent.name.startswith("case01-") and path.name == "label.b2nd":
                (path.parent / f".tmp-{{os.getpid()}}-label.b2nd").write_bytes(b"half")
                os.kill(os.getpid(), signal.SIGKILL)
            write(path, array)

        store._write = killed
        plan = Plan.from_dict(read_json(Path({str(tmp_path / "plan.json")!r})))
        prepare_dataset({dataset!r}, {names_of(dataset)!r}, plan, Path({str(tmp_path / "cache")!r}))
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    root = store_folder(dataset, plan, tmp_path / "cache")
    assert list(root.glob("case01-*/image.b2nd"))
    (first,) = root.glob("*/case.json")
    stamp = first.stat().st_mtime_ns
    for left in root.glob("*/.tmp-*"):
        os.utime(left, (time.time() - 7200, time.time() - 7200))
    store = prepare_dataset(dataset, names_of(dataset), plan, tmp_path / "cache")
    assert store.names == tuple(names_of(dataset))
    assert first.parent == store.folders["case00"]
    assert first.stat().st_mtime_ns == stamp
    assert not list(root.glob("*/.tmp-*"))
    clean = prepare_dataset(dataset, names_of(dataset), plan, tmp_path / "clean")
    for name in clean.names:
        assert torch.equal(store.case(name).read()[0], clean.case(name).read()[0])
        assert torch.equal(store.case(name).read()[1], clean.case(name).read()[1])


def test_cache_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEDCONTEXT_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("MEDCONTEXT_CACHE")
    assert default_cache() == Path.home() / ".cache" / "medcontext"


def test_the_plan_is_printed_with_its_reasons(dataset: Dataset) -> None:
    with console.capture() as capture:
        print_plan(plan_of(dataset, label_map={7: 0}))
    text = " ".join(capture.get().split())
    for part in ("spacing", "median", "zscore", "not CT", "left 1", "7 to 0"):
        assert part in text


def test_real_scans(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "Task04_Hippocampus"
    paths = sorted((root / "imagesTr").glob("[!.]*.nii.gz"))[:3]
    cases = tuple(Case(path.name[:-7], (path,), root / "labelsTr" / path.name) for path in paths)
    dataset = Dataset("hippocampus", root, ("MRI",), {"anterior": 1, "posterior": 2}, cases)
    store = prepare_dataset(dataset, names_of(dataset), plan_of(dataset), tmp_path)
    for case in cases:
        assert case.label is not None
        label, _ = read_label(case.label)
        stored = store.case(case.name)
        scores = torch.stack([stored.read()[1][0] == index for index in range(3)]).float()
        np.testing.assert_array_equal(stored.geometry.to_original(scores), label)
        assert torch.isfinite(stored.read()[0]).all()


def with_a_dot(root: Path, at: tuple[int, int, int] = (3, 3, 3)) -> Dataset:
    """Two cases with balls 1 and 2, the first with a single voxel 3."""
    cases = random_cases(2, (32, 32, 24))
    cases["case00"] = (cases["case00"][0], cases["case00"][1].copy())  # all have the same label
    cases["case00"][1][at] = 3
    return write_dataset(root / "dots", cases, labels={"left": 1, "right": 2, "dot": 3})


def remarks_of(dataset: Dataset, cache: Path, training: list[str], **settings: object) -> list[str]:
    plan = plan_of(dataset, **settings)
    store = prepare_dataset(dataset, names_of(dataset), plan, cache)
    return preparing_remarks(store, names_of(dataset), training, plan)


def test_a_structure_that_resampling_removes_is_remarked(tmp_path: Path) -> None:
    dataset = with_a_dot(tmp_path)
    lost, never = remarks_of(dataset, tmp_path / "cache", names_of(dataset), spacing=(3.0, 3.0, 3.0))
    assert "'dot' (3) is lost in preparing 1 of the 1 cases that have it, no voxel is left: case00." in lost
    assert "a spacing of 3 x 3 x 3 mm" in lost
    assert "'dot' (3) is in none of the 2 training cases as they are prepared: it cannot be learnt" in never
    assert remarks_of(dataset, tmp_path / "cache", names_of(dataset), spacing="original") == []


def test_a_structure_that_no_training_case_has_is_remarked(tmp_path: Path) -> None:
    dataset = with_a_dot(tmp_path)
    (never,) = remarks_of(dataset, tmp_path / "cache", ["case01"], spacing="original")
    assert "'dot' (3) is in none of the 1 training cases" in never


def test_labelled_voxels_that_are_cropped_away_are_remarked(tmp_path: Path) -> None:
    dataset = with_a_dot(tmp_path, at=(0, 3, 3))
    image, affine = read_image(dataset.cases[0], dataset.channels)
    image[0, :2] = 0
    save(dataset.cases[0].images[0], image[0], affine)
    lost, _, cropped = remarks_of(dataset, tmp_path / "cache", names_of(dataset), spacing="original")
    assert "or was cropped away" in lost
    assert "cropped away: case00 (1 voxels)." in cropped
    assert remarks_of(dataset, tmp_path / "cache", names_of(dataset), spacing="original", crop_foreground=False) == []


def test_cases_of_a_store_without_what_was_lost_are_prepared_anew(dataset: Dataset, tmp_path: Path) -> None:
    store = prepare_dataset(dataset, names_of(dataset)[:1], plan_of(dataset), tmp_path / "cache")
    record = store.folders[names_of(dataset)[0]] / "case.json"
    old = {key: value for key, value in json.loads(record.read_text()).items() if key not in ("lost", "outside")}
    record.write_text(json.dumps(old))
    prepare_dataset(dataset, names_of(dataset)[:1], plan_of(dataset), tmp_path / "cache")
    assert store.case(names_of(dataset)[0]).lost == ()


@pytest.mark.parametrize("kind", ["zscore", "zscore_nonzero", "none"])
def test_a_fill_value_is_refused_where_nothing_clips_it(dataset: Dataset, tmp_path: Path, kind: str) -> None:
    image, affine = read_image(dataset.cases[0], dataset.channels)
    image[0, :3] = -32768
    save(dataset.cases[0].images[0], image[0], affine)
    with pytest.raises(InputError, match=r"Case 'case00': channel MR has the fill value -32768 in 648 voxels"):
        prepare_dataset(dataset, names_of(dataset), plan_of(dataset, normalization=kind), tmp_path / "cache")
    for clipped in ({"normalization": "ct"}, {"intensity_range": (0.0, 250.0)}):
        store = prepare_dataset(dataset, names_of(dataset), plan_of(dataset, **clipped), tmp_path / "cache")
        assert store.case("case00").read_image().abs().max() < 10
