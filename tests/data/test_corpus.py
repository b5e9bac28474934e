import shutil
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medcontext.data.corpus import Corpus, find_corpus, prepare_corpus
from medcontext.data.plan import PrepareSettings
from medcontext.data.planning import make_scan_plan
from medcontext.errors import InputError


def write_scan(path: Path, seed: int, low: float = 0.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).normal(100, 10, (8, 8, 6)).astype(np.float32)
    image[0] = low
    nib.save(nib.Nifti1Image(image, np.eye(4)), path)


def corpus(sources: Sequence[Path | str], held_out: float = 0.3, seed: int = 0) -> Corpus:
    found = find_corpus([str(source) for source in sources])
    cases = [case for source in found for case in source.dataset.cases]
    plan = make_scan_plan(found[0].dataset, cases, PrepareSettings(), 1)
    return prepare_corpus(found, plan, held_out=held_out, seed=seed)


def test_what_is_held_out_depends_on_the_scans_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on how their folder is written, nor on where it lies: a pretraining goes on by absolute paths."""
    for number in range(10):
        write_scan(tmp_path / "here" / "images" / f"s{number}.nii.gz", number)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    places = ("here/images", "here/images/", tmp_path / "here" / "images", "there/images")
    found = [corpus([place]).named(held_out=True) for place in places]
    assert len(found[0]) == 3
    assert found == found[:1] * len(found)
    assert {corpus([places[0]], seed=seed).named(held_out=True) for seed in range(3)} != {found[0]}


def test_scans_of_one_name_in_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for number in range(6):
        write_scan(tmp_path / "a" / "images" / f"s{number}.nii.gz", number)
        write_scan(tmp_path / "b" / "images" / f"s{number}.nii.gz", 10 + number)
    both = corpus([tmp_path / "a" / "images", tmp_path / "b" / "images"])
    assert len(set(both.names)) == 12
    assert {"images_1/s0", "images_2/s0"} <= set(both.names)
    assert len(both.named(held_out=True)) == len(both.cases(held_out=True)) == round(0.3 * 12)
    assert len(both.cases(held_out=False)) == 12 - round(0.3 * 12)


def test_scans_of_one_patient_are_held_out_together_and_equal_ones_count_once(tmp_path: Path) -> None:
    for number in range(1, 6):
        for frame in (1, 2):
            write_scan(tmp_path / "scans" / f"patient{number:03d}_frame{frame:02d}.nii.gz", 10 * number + frame)
    shutil.copy(tmp_path / "scans" / "patient001_frame01.nii.gz", tmp_path / "scans" / "zz_again.nii.gz")
    found = corpus([tmp_path / "scans"], held_out=0.4)
    away = {name.partition("_")[0] for name in found.named(held_out=True)}
    assert not away & {name.partition("_")[0] for name in found.named(held_out=False)}
    assert len(found.names) == 10
    assert len(found.scans.doubled) == 1
    assert corpus([tmp_path / "scans"], held_out=0).named(held_out=True) == ()
    with pytest.raises(InputError, match="to hold 5 out leaves none"):
        corpus([tmp_path / "scans"], held_out=0.95)


def test_labels_beside_scans_are_not_pretrained_on(tmp_path: Path) -> None:
    for number, name in enumerate(("a_ct", "b_ct", "a_seg", "b_seg")):
        write_scan(tmp_path / f"{name}.nii.gz", number)
    found = corpus([tmp_path])
    assert sorted(found.names) == ["a_ct", "b_ct"]
    assert "called like labels, 2 files" in found.scans.passed[0]


def test_ct_is_told_by_its_air_source_by_source(tmp_path: Path) -> None:
    for number in range(3):
        write_scan(tmp_path / "ct" / f"c{number}.nii.gz", number, low=-1000)
        write_scan(tmp_path / "mr" / f"m{number}.nii.gz", 10 + number)
    (ct,), (mr,) = (find_corpus([str(tmp_path / name)]) for name in ("ct", "mr"))
    assert (ct.dataset.channels, mr.dataset.channels) == (("CT",), ("image",))
    plan = make_scan_plan(ct.dataset, ct.dataset.cases, PrepareSettings(), 1)
    assert (plan.normalization[0].kind, plan.normalization[0].lower, plan.normalization[0].upper) == (
        "range",
        -175,
        250,
    )
    assert make_scan_plan(mr.dataset, mr.dataset.cases, PrepareSettings(), 1).normalization[0].kind == "zscore"
    with pytest.raises(InputError, match=r"has the channels image, where CT are expected.*--channels"):
        find_corpus([str(tmp_path / "ct"), str(tmp_path / "mr")])
    named = find_corpus([str(tmp_path / "ct"), str(tmp_path / "mr")], ["T1"])
    assert {source.dataset.channels for source in named} == {("T1",)}


def test_a_data_set_gives_its_training_part_and_folders_beside_it_all(balls: Path, tmp_path: Path) -> None:
    write_scan(tmp_path / "more" / "one.nii.gz", 1)
    sources = [str(balls), str(tmp_path / "more")]
    drawn, more = find_corpus(sources)
    assert (len(drawn.dataset.cases), len(more.dataset.cases)) == (5, 1)
    assert more.dataset.channels == drawn.dataset.channels == ("MRI",)
    assert "not its 3 validation and test cases" in drawn.passed
    assert all(case.label is None for case in drawn.dataset.cases)
    known, _ = find_corpus(sources, chosen={balls.resolve(): ("ball_6",)})
    assert [case.name for case in known.dataset.cases] == ["ball_6"]
    other, _ = find_corpus(sources, official="btcv")  # another data set's
    assert other.dataset.cases == drawn.dataset.cases
    kept, rest = find_corpus(sources, before=[(str(balls), "ball_3", "digest"), (str(balls), "ball_7", "digest")])
    assert [case.name for case in kept.dataset.cases] == ["ball_3", "ball_7"]
    assert [case.name for case in rest.dataset.cases] == []
    with pytest.raises(InputError, match="tells which cases of a data set are for training, and 0 of these"):
        find_corpus(sources[1:], split="mine.json")
    with pytest.raises(InputError, match="--fold 2 is of a data set with labels"):
        find_corpus(sources[1:], fold=2)
