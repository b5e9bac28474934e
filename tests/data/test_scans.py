"""Which scans files, wildcards and folders mean, and what the cases are called."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from medcontext.data.discovery.scans import find_scans
from medcontext.errors import InputError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def found(*inputs: Path, channels: Sequence[str] = ("CT",), image: Sequence[str] = ()) -> dict[str, list[str]]:
    cases = find_scans(inputs, channels, image).cases
    assert all(case.label is None for case in cases)
    return {case.name: [str(Path(*file.parts[-2:])) for file in case.images] for case in cases}


def refused(*inputs: Path, channels: Sequence[str] = ("CT",), image: Sequence[str] = ()) -> str:
    with pytest.raises(InputError) as error:
        find_scans(inputs, channels, image)
    return str(error.value)


PATIENTS = {"Pat 07": ["Pat 07/ct.nii.gz"], "Pat 08": ["Pat 08/ct.nii.gz"]}


@pytest.fixture
def nested(tmp_path: Path) -> Path:
    return touch(tmp_path / "nested", "Pat 07/ct.nii.gz", "Pat 08/ct.nii.gz", "Pat 08/notes.txt")


def test_files_called_alike_have_their_folders_names(nested: Path) -> None:
    assert found(nested) == PATIENTS
    assert found(nested / "*/ct.nii.gz") == PATIENTS
    assert found(nested / "Pat*") == PATIENTS
    assert found(nested / "**/*.nii.gz") == PATIENTS
    assert found(nested / "Pat 08", nested / "Pat 07/ct.nii.gz") == PATIENTS
    assert found(nested / "Pat 07/ct.nii.gz", nested / "Pat 08", nested) == PATIENTS, "each file once"


def test_files_have_their_own_names_where_these_differ(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.nii.gz", "y/deep/b.NII.GZ", "y/c.nii", "y/._c.nii")
    assert found(tmp_path) == {"a": ["x/a.nii.gz"], "b": ["deep/b.NII.GZ"], "c": ["y/c.nii"]}
    assert list(found(tmp_path / "x/a.nii.gz", tmp_path / "y/c.nii")) == ["a", "c"]
    assert list(found(tmp_path / "x/a.nii.gz")) == ["a"]


def test_names_that_some_share_begin_with_the_folders_that_tell_them_apart(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.nii.gz", "y/a.nii.gz", "y/b.nii.gz")
    assert found(tmp_path) == {"b": ["y/b.nii.gz"], "x_a": ["x/a.nii.gz"], "y_a": ["y/a.nii.gz"]}


def test_two_that_would_have_one_name_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a_b/ct.nii.gz", "a/b/ct.nii.gz", "c/ct.nii.gz")
    assert "a/b/ct.nii.gz and a_b/ct.nii.gz would both be the case 'a_b'; rename or remove one" in refused(tmp_path)


def test_what_is_no_image_is_passed_over_and_said(nested: Path) -> None:
    touch(nested, "Pat 07/seg.nii.gz", "Pat 09/scan.mha", "out/Pat 07.nii.gz", "out/probabilities/Pat 07.nii.gz")
    (nested / "out/dataset.json").write_text('{"predicted_by": {}}')
    assert found(nested) == PATIENTS
    said = " ".join(find_scans([nested], ["CT"]).remarks)
    for part in ("called like labels", "Pat 07/seg.nii.gz", "predictions", "nested/out", "Pat 09/scan.mha"):
        assert part in said
    assert len(found(nested / "Pat*/*.nii.gz")) == 3, "who names a file means it"
    touch(nested / "only", "p/seg.nii.gz")
    assert "no images to segment" in refused(nested / "only")


def test_labels_beside_scans_in_one_folder_are_passed_over_and_said(tmp_path: Path) -> None:
    touch(tmp_path / "a", *(f"s{n}_{kind}.nii.gz" for n in range(2) for kind in ("ct", "seg")))
    assert list(found(tmp_path / "a")) == ["s0_ct", "s1_ct"]
    (said,) = find_scans([tmp_path / "a"], ["CT"]).remarks
    assert "called like labels, 2 files: " in said
    assert f"{tmp_path}/a/s0_seg.nii.gz" in said
    assert list(found(tmp_path / "a/s0_seg.nii.gz")) == ["s0_seg"], "who names a file means it"
    assert list(found(tmp_path / "a", image=["*_seg.nii.gz"])) == ["s0", "s1"]
    touch(tmp_path / "b", *(f"p{n}_{kind}.nii.gz" for n in range(2) for kind in ("0000", "0001", "mask")))
    assert found(tmp_path / "b", channels=["x", "y"])["p1"] == ["b/p1_0000.nii.gz", "b/p1_0001.nii.gz"]
    touch(tmp_path / "c", "ROI 1.nii.gz", "ROI 2.nii.gz")
    assert list(found(tmp_path / "c")) == ["ROI 1", "ROI 2"], "all are called so: the word tells nothing"


def test_of_several_kinds_the_channel_says_which(nested: Path) -> None:
    touch(nested, "Pat 07/pet.nii.gz", "Pat 08/pet.nii.gz")
    assert found(nested) == PATIENTS
    assert "fit no pattern: Pat 07/pet.nii.gz, Pat 08/pet.nii.gz" in " ".join(find_scans([nested], ["CT"]).remarks)
    assert found(nested, channels=["MR"], image=["pet.nii.gz"])["Pat 08"] == ["Pat 08/pet.nii.gz"]
    message = refused(nested, channels=["MR"])
    assert "Several kinds of images" in message
    assert "--image 'ct.nii.gz'" in message
    assert "No file fits --image 'mr.nii.gz'" in refused(nested, image=["mr.nii.gz"])


def test_several_channels(tmp_path: Path) -> None:
    touch(tmp_path / "a", *(f"p{n}/{name}.nii.gz" for n in (1, 2) for name in ("flair", "t1")))
    both = {f"p{n}": [f"p{n}/t1.nii.gz", f"p{n}/flair.nii.gz"] for n in (1, 2)}
    assert found(tmp_path / "a", channels=["T1", "FLAIR"]) == both
    assert found(tmp_path / "a/*/*.nii.gz", channels=["T1", "FLAIR"]) == both
    touch(tmp_path / "b", *(f"p{n}/p{n}_000{c}.nii.gz" for n in (1, 2) for c in (0, 1)))
    assert found(tmp_path / "b", channels=["x", "y"])["p1"] == ["p1/p1_0000.nii.gz", "p1/p1_0001.nii.gz"]
    touch(tmp_path / "c", "p1/s1.nii.gz", "p1/s2.nii.gz", "p2/s1.nii.gz", "p2/s2.nii.gz")
    assert "Several kinds" in refused(tmp_path / "c", channels=["x", "y"])
    patterns = ["s2.nii.gz", "s1.nii.gz"]
    assert found(tmp_path / "c", channels=["x", "y"], image=patterns)["p1"] == ["p1/s2.nii.gz", "p1/s1.nii.gz"]
    assert "3 patterns for 2 channels (x, y)" in refused(tmp_path, channels=["x", "y"], image=["a", "b", "c"])
    (tmp_path / "a/p2/t1.nii.gz").unlink()
    assert "flair.nii.gz (2 times), t1.nii.gz (1 times)" in refused(tmp_path / "a", channels=["T1", "FLAIR"])
    message = refused(tmp_path / "a", channels=["T1", "FLAIR"], image=["t1.nii.gz", "flair.nii.gz"])
    assert "of some cases there are only " in message
    assert "p2/flair.nii.gz" in message


def test_nothing_there(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    assert "No NIfTI file or folder fits" in refused(tmp_path / "*/ct.nii.gz")
    assert "only notes.txt" in refused(tmp_path / "*.txt")
    assert "Input not found" in refused(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")
    assert "not a NIfTI file" in refused(tmp_path / "notes.txt", tmp_path / "notes.txt", image=["x"])
    touch(tmp_path, "scans [1]/p/a.nii.gz")
    assert list(found(tmp_path / "scans [1]")) == ["a"], "brackets that are there are no wildcard"
