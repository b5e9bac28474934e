"""A folder of scans of one's own, and the dataset.json that is written for it."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import medcontext as mc
from medcontext.cli import main
from medcontext.data.formats import read_dataset
from medcontext.errors import InputError
from tests.data.scans import blobs, save
from tests.test_door import TINY

SHAPE = (20, 24, 16)
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
TRUTH = blobs(SHAPE, [(0.3, 0.5, 0.5), (0.7, 0.5, 0.5)], 0.2)
SMALL = (6, 6, 6)


def scan(path: Path, seed: int = 0, low: float = -900.0) -> Path:
    """A scan with the two balls of `TRUTH`."""
    noise = np.random.default_rng(seed).normal(0, 10, SHAPE)
    return save(path, (low + 100.0 * TRUTH + noise).astype(np.float32), AFFINE)


def image(path: Path, low: float = 0.0, channels: int = 1) -> Path:
    array = low + np.arange(6.0 * 6 * 6 * channels).reshape(*SMALL, channels)
    return save(path, (array[..., 0] if channels == 1 else array).astype(np.float32))


def label(path: Path, *values: int) -> Path:
    """Eight voxels of each value."""
    array = np.zeros(SMALL, np.uint8)
    for plane, value in enumerate(values or (1,)):
        array[plane, :2, :4] = value
    return save(path, array)


def mess(root: Path, labelled: int = 8, others: int = 30) -> Path:
    """What a hospital exports: a folder for each patient, the files in them called alike."""
    for number in range(1, labelled + others + 1):
        folder = root / f"Pat {number:02d}"
        scan(folder / "ct.nii.gz", number)
        if number <= labelled:
            save(folder / "seg.nii.gz", TRUTH, AFFINE)
    return root


def written(root: Path, **options: object) -> dict:
    return json.loads(mc.init(root, workers=1, **options).read_text())  # type: ignore[arg-type]


def refused(root: Path, **options: object) -> str:
    with pytest.raises(InputError) as error:
        mc.init(root, workers=1, **options)  # type: ignore[arg-type]
    assert not (root / "dataset.json").exists()
    return str(error.value)


def names(entries: list[dict]) -> list[str]:
    return [entry["name"] for entry in entries]


def test_from_a_mess_to_predictions(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = mess(tmp_path / "mess", labelled=8, others=30)
    (data / "Pat 01" / "._ct.nii.gz").write_text("of macOS")
    (data / "Pat 02" / "IM0001").write_text("DICOM")
    (data / "notes.txt").touch()
    assert main(["init", str(data), "--image", "ct.nii.gz", "--label", "seg.nii.gz", "--workers=1"]) == 0
    told = capsys.readouterr().out
    for part in (
        "CT, from the file names",
        "8: Pat 01, Pat 02",
        "30: Pat 09",
        "value_1 1 8 of 8",
        "hidden: Pat 01/._ct.nii.gz",
        "in other formats: Pat 02/IM0001",
        "Not scans: notes.txt",
        f"medcontext check {data}",
    ):
        assert part in " ".join(told.split()), part
    dataset = mc.check(data, workers=1).dataset
    assert (len(dataset.cases), len(dataset.unlabelled)) == (8, 30)
    assert dataset.structures == {"value_1": 1, "value_2": 2}
    settings = mc.Settings.preset(method="none", steps=2, few_shot=2, batch_size=1, workers=0, watch_cases=0, **TINY)
    run = mc.train(data, tmp_path / "run", settings, cache=tmp_path / "cache")
    paths = mc.predict(run, data, tmp_path / "predictions")
    assert set(np.unique(nib.load(paths[0]).dataobj)) <= {0, 1, 2}
    assert len(mc.evaluate(paths, data, tmp_path / "scores", workers=1).rows) == 2 * len(paths)


def test_the_volumes_are_those_of_the_voxels(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    mess(tmp_path, labelled=2, others=0)
    mc.init(tmp_path, labels=["liver", "spleen"], workers=1)
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    volume = float(np.sum(TRUTH == 1)) * 2 / 1000
    assert ["liver", "1", "2", "of", "2", f"{volume:.3g}"] in told


def test_it_asks_nothing_without_a_terminal(tmp_path: Path) -> None:
    data = mess(tmp_path / "a mess", labelled=2, others=1)
    command = [sys.executable, "-m", "medcontext.cli", "init", str(data), "--workers=1"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert f"medcontext check '{data}'" in done.stdout
    assert len(read_dataset(data).cases) == 2


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    mess(tmp_path, labelled=2, others=0)
    (tmp_path / "dataset.json").write_text("mine")
    assert main(["init", str(tmp_path)]) == 2
    assert "is there already, and init overwrites nothing" in capsys.readouterr().err
    assert (tmp_path / "dataset.json").read_text() == "mine"
    (tmp_path / "lists").mkdir()
    other = mc.init(tmp_path, output=tmp_path / "lists" / "other.json", workers=1)
    assert read_dataset(other).cases[0].images == (tmp_path / "lists" / "../Pat 01/ct.nii.gz",)


def test_where_nothing_can_be_written_is_said_before_the_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mess(tmp_path / "mess", labelled=2, others=0)
    with monkeypatch.context() as patch:
        patch.setattr("os.access", lambda *_: False)
        assert "cannot be written to; write the file elsewhere: --output" in refused(tmp_path / "mess")
    (tmp_path / "real" / "lists").mkdir(parents=True)
    (tmp_path / "lists").symlink_to(tmp_path / "real" / "lists")
    other = mc.init(tmp_path / "mess", output=tmp_path / "lists" / "mess.json", workers=1)
    assert len(read_dataset(other).cases) == 2


def test_one_image_under_two_names_is_to_be_corrected(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    mess(tmp_path, labelled=2, others=1)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "ct.nii.gz").symlink_to(tmp_path / "Pat 01" / "ct.nii.gz")
    mc.init(tmp_path, workers=1)
    told = " ".join(capsys.readouterr().out.split())
    assert "To be corrected in dataset.json: the cases 'Pat 01' and 'more' have the same image file" in told


def test_flat_files_are_told_by_their_endings(tmp_path: Path) -> None:
    for name in ("anna_1", "anna_2", "bob"):
        image(tmp_path / f"{name}_ct.nii.gz")
    label(tmp_path / "anna_1_seg.nii.gz", 4, 9)
    label(tmp_path / "anna_2_seg.nii.gz", 4)
    expected = {
        "name": tmp_path.name,
        "channels": ["CT"],
        "labels": {"background": 0, "vein": 4, "value_9": 9},
        "cases": [
            {"name": f"anna_{n}", "image": f"anna_{n}_ct.nii.gz", "label": f"anna_{n}_seg.nii.gz"} for n in (1, 2)
        ],
        "unlabelled": [{"name": "bob", "image": "bob_ct.nii.gz"}],
    }
    assert written(tmp_path, labels=["vein=4"]) == expected
    (tmp_path / "dataset.json").unlink()
    assert written(tmp_path, image="*_ct.nii.gz", label="*_seg.nii.gz", labels={"vein": 4}) == expected
    assert [case.name for case in read_dataset(tmp_path).unlabelled] == ["bob"]


@pytest.mark.parametrize(
    ("images", "labels", "pattern"),
    [
        ("imagesTr/{}.nii.gz", "labelsTr/{}.nii.gz", None),
        ("images/{}.nii", "segmentations/{}.nii.gz", None),
        ("imagesTr/{}_0000.nii.gz", "labelsTr/{}.nii.gz", None),
        ("{}.nii.gz", "{}_mask.nii.gz", None),
        ("CT/img{}.nii.gz", "Seg/label{}.nii.gz", None),
        ("scans/{}/ct.nii.gz", "labels/{}/seg.nii.gz", None),
        ("{}/images/volume.nii.gz", "{}/labels/volume.nii.gz", None),
        ("{}/{}.nii.gz", "{}/{}_seg.nii.gz", None),
        ("x/{}.nii.gz", "y/{}.nii.gz", ("x/*.nii.gz", "y/*.nii.gz")),
        ("x/p{}/a/first.nii.gz", "x/p{}/b/second.nii.gz", ("a/first.nii.gz", "b/second.nii.gz")),
        ("x/{}-a.nii.gz", "y/b-{}.nii.gz", ("*-a.nii.gz", "y/b-*")),
    ],
)
def test_layouts(tmp_path: Path, images: str, labels: str, pattern: tuple[str, str] | None) -> None:
    cases = ("07", "11", "12", "30")
    for name in cases:
        image(tmp_path / images.replace("{}", name))
        if name != "30":
            label(tmp_path / labels.replace("{}", name))
    found = written(tmp_path, **({} if pattern is None else {"image": pattern[0], "label": pattern[1]}))
    assert [entry["image"] for entry in found["cases"]] == [images.replace("{}", name) for name in cases[:3]]
    assert [entry["label"] for entry in found["cases"]] == [labels.replace("{}", name) for name in cases[:3]]
    assert [entry["image"] for entry in found["unlabelled"]] == [images.replace("{}", "30")]
    for name, entry in zip(cases, found["cases"] + found["unlabelled"], strict=True):
        assert name in entry["name"]
    assert len(read_dataset(tmp_path).cases) == 3


def test_decathlons_folders_with_scans_to_test_on(tmp_path: Path) -> None:
    for name in ("a", "b"):
        image(tmp_path / "imagesTr" / f"{name}.nii.gz", low=-1000)
        label(tmp_path / "labelsTr" / f"{name}.nii.gz")
    image(tmp_path / "imagesTs" / "c.nii.gz", low=-1000)
    with pytest.raises(InputError, match=f"let `medcontext init {tmp_path}` write one"):
        read_dataset(tmp_path)
    found = written(tmp_path)
    assert (names(found["cases"]), names(found["unlabelled"])) == (["a", "b"], ["c"])
    assert found["channels"] == ["CT"], "the intensities are Hounsfield units"


@pytest.mark.parametrize(
    ("form", "options", "channels"),
    [
        ("{case}/{channel}.nii.gz", {}, ["FLAIR", "T1"]),
        ("{case}/{case}_{channel}.nii.gz", {}, ["FLAIR", "T1"]),
        ("{case}/{channel}.nii.gz", {"image": ["t1.nii.gz", "flair.nii.gz"]}, ["T1", "FLAIR"]),
        ("{channel}/{case}.nii.gz", {"image": ["t1/*.nii.gz", "flair/*.nii.gz"]}, ["T1", "FLAIR"]),
        ("{case}_{channel}.nii.gz", {"channels": ["a", "b"]}, ["a", "b"]),
    ],
)
def test_several_channels(tmp_path: Path, form: str, options: dict, channels: list[str]) -> None:
    for case in ("p1", "p2", "p3"):
        for channel in ("t1", "flair"):
            image(tmp_path / form.format(case=case, channel=channel))
        if case != "p3":
            label(tmp_path / form.format(case=case, channel="seg"))
    found = written(tmp_path, **options)
    assert found["channels"] == channels
    first = [form.format(case="p1", channel=channel.lower()) for channel in channels]
    if "channels" not in options:
        assert found["cases"][0]["image"] == first
    assert (names(found["cases"]), names(found["unlabelled"])) == (["p1", "p2"], ["p3"])


def test_nnunets_channels_by_number(tmp_path: Path) -> None:
    for case in ("a", "b"):
        for channel in range(3):
            image(tmp_path / "imagesTr" / f"{case}_{channel:04d}.nii.gz")
        label(tmp_path / "labelsTr" / f"{case}.nii.gz")
    found = written(tmp_path)
    assert found["cases"][1]["image"] == [f"imagesTr/b_{channel:04d}.nii.gz" for channel in range(3)]
    assert names(found["cases"]) == ["a", "b"]
    assert found["channels"] == ["channel_0", "channel_1", "channel_2"]


def test_numbers_of_cases_are_no_channels(tmp_path: Path) -> None:
    for number in range(3):
        image(tmp_path / "imagesTr" / f"case_{number:04d}.nii.gz")
        label(tmp_path / "labelsTr" / f"case_{number:04d}.nii.gz")
    assert names(written(tmp_path)["cases"]) == ["case_0000", "case_0001", "case_0002"]


def test_what_is_left_out_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for case in ("p1", "p2", "p3"):
        for channel in ("t1", "flair"):
            image(tmp_path / case / f"{channel}.nii.gz")
        label(tmp_path / case / "seg.nii.gz")
    (tmp_path / "p3" / "flair.nii.gz").unlink()
    label(tmp_path / "p4" / "seg.nii.gz")
    image(tmp_path / "p1" / "t1_old.nii.gz")
    found = written(tmp_path)
    assert names(found["cases"]) == ["p1", "p2"]
    told = " ".join(capsys.readouterr().out.split())
    assert "a channel is missing; there are only p3/t1.nii.gz and p3/seg.nii.gz." in told
    assert "labels without an image: p4/seg.nii.gz." in told
    assert "fit no pattern: p1/t1_old.nii.gz." in told


def test_files_with_other_numbers_of_channels_are_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for case, channels in (("a", 2), ("b", 2), ("c", 1)):
        image(tmp_path / "images" / f"{case}.nii.gz", channels=channels)
        label(tmp_path / "labels" / f"{case}.nii.gz")
    found = written(tmp_path, channels=["T1", "T2"])
    assert names(found["cases"]) == ["a", "b"]
    assert "have not 2 channels: c (1)" in " ".join(capsys.readouterr().out.split())
    (tmp_path / "dataset.json").unlink()
    assert "hold 2 channels each, 3 expected" in refused(tmp_path, channels=["a", "b", "c"])


def test_a_damaged_label_is_named_and_left_for_check(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    mess(tmp_path, labelled=3, others=0)
    broken = tmp_path / "Pat 02" / "seg.nii.gz"
    broken.write_bytes(broken.read_bytes()[:60])
    assert names(written(tmp_path)["cases"]) == ["Pat 01", "Pat 02", "Pat 03"]
    told = " ".join(capsys.readouterr().out.split())
    assert (
        f"Listed, but to be corrected or taken out of the file before a training: Pat 02: Cannot read {broken}" in told
    )
    assert "value_1 1 2 of 3" in told


def test_two_images_for_a_case(tmp_path: Path) -> None:
    mess(tmp_path, labelled=3, others=0)
    scan(tmp_path / "Pat 03" / "ct (1).nii.gz")
    message = refused(tmp_path, image="ct*.nii.gz", label="seg.nii.gz")
    assert "1 case has more than one file for one pattern: Pat 03/ct (1).nii.gz and Pat 03/ct.nii.gz" in message
    assert "Give a pattern that one of them fits" in message


def test_several_scans_of_a_patient(tmp_path: Path) -> None:
    for person, dates in (("Pat 01", ("2019", "2020")), ("Pat 02", ("2021",))):
        for date in dates:
            image(tmp_path / person / date / "ct.nii.gz")
            label(tmp_path / person / date / "seg.nii.gz")
    cases = written(tmp_path)["cases"]
    assert names(cases) == ["Pat 01_2019", "Pat 01_2020", "Pat 02_2021"]
    assert [entry["patient"] for entry in cases] == ["Pat 01", "Pat 01", "Pat 02"]
    assert [case.owner for case in read_dataset(tmp_path).cases] == ["Pat 01", "Pat 01", "Pat 02"]


def test_names_that_come_back_begin_with_their_folders(tmp_path: Path) -> None:
    for site in ("berlin", "rom"):
        for case in ("a", "b"):
            image(tmp_path / site / "images" / f"{case}.nii.gz")
            label(tmp_path / site / "labels" / f"{case}.nii.gz")
    assert names(written(tmp_path)["cases"]) == ["berlin_a", "berlin_b", "rom_a", "rom_b"]


def test_scans_in_a_folder_beside_those_of_patients(tmp_path: Path) -> None:
    mess(tmp_path, labelled=2, others=0)
    for name in ("x", "y"):
        image(tmp_path / "more" / f"{name}.nii.gz")
    found = written(tmp_path)
    assert (names(found["cases"]), names(found["unlabelled"])) == (["Pat 01", "Pat 02"], ["x", "y"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image": "pet.nii.gz"}, ["No file fits the pattern 'pet.nii.gz'", "ct.nii.gz (2 times)"]),
        ({"label": "labels/*.nii.gz"}, ["No file fits the pattern 'labels/*.nii.gz'", "in quotes"]),
        ({"image": "*.nii.gz", "label": "*.nii.gz"}, ["fits the patterns", "that no file has in common"]),
        ({"image": "/ct.nii.gz"}, ["The pattern '/ct.nii.gz' cannot be used", "relative"]),
        ({"image": "ct.nii.gz", "channels": ["a", "b"]}, ["hold 1 channel each, 2 expected"]),
        ({"labels": ["a"]}, ["--labels has 1 names (a), the labels have 2 values: 1, 2"]),
        ({"labels": ["a=1", "b=x"]}, ["--labels has 'b=x'. Give --labels liver=1"]),
        ({"labels": ["a=1", "b=1"]}, ["'b' or the value 1 twice"]),
        ({"labels": {"a": 0}}, ["a structure has a whole number from 1"]),
        ({"output": "list.txt"}, ["must be a JSON file"]),
        ({"output": "none/list.json"}, ["the folder none is not there"]),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, options: dict, words: list[str]) -> None:
    mess(tmp_path, labelled=2, others=0)
    message = refused(tmp_path, **options)
    for word in words:
        assert word in message


def test_what_cannot_be_told_is_refused_with_the_option(tmp_path: Path) -> None:
    assert "not there; give a folder" in refused(tmp_path / "none")
    assert "No NIfTI files" in refused(tmp_path)
    (tmp_path / "a.dcm").touch()
    assert "It has a.dcm and such; convert scans to NIfTI first" in refused(tmp_path)
    for case in ("a", "b"):
        image(tmp_path / case / "first.nii.gz")
        image(tmp_path / case / "second.nii.gz")
    message = refused(tmp_path)
    assert "No label files are found" in message
    assert "first.nii.gz (2 times), second.nii.gz (2 times)" in message
    assert "--label seg.nii.gz" in message
    for case in ("a", "b"):
        label(tmp_path / case / "seg.nii.gz")
    assert "--image 'first.nii.gz' 'second.nii.gz'; else the one to use: --image 'first.nii.gz'" in refused(tmp_path)
    for case in ("a", "b"):
        label(tmp_path / case / "mask.nii.gz")
    assert "Several kinds of label files" in refused(tmp_path)
    assert names(written(tmp_path, image="second.nii.gz", label="mask.nii.gz")["cases"]) == ["a", "b"]


def test_labels_that_are_images_are_refused(tmp_path: Path) -> None:
    for case in ("a", "b"):
        image(tmp_path / case / "ct.nii.gz")
        save(tmp_path / case / "seg.nii.gz", np.arange(1000, dtype=np.int16).reshape(10, 10, 10))
    message = refused(tmp_path)
    assert "No label value is found in 2 label files (seg.nii.gz)" in message
    assert "holds 1000 different values, as an image does" in message


def test_a_pattern_of_images_that_takes_all_files_is_said(tmp_path: Path) -> None:
    said = refused(mess(tmp_path, labelled=2, others=1), image=["*.nii.gz"])
    assert "--image '*.nii.gz' takes all 5 files, and none is left for the labels" in said


def test_labels_that_belong_to_no_image(tmp_path: Path) -> None:
    image(tmp_path / "x" / "a.nii.gz")
    label(tmp_path / "y" / "b.nii.gz")
    label(tmp_path / "y" / "c.nii.gz")
    message = refused(tmp_path, image="x/*.nii.gz", label="y/*.nii.gz")
    assert "No label belongs to an image. Images: x/a.nii.gz; labels: y/b.nii.gz, y/c.nii.gz" in message


def test_an_official_data_set_needs_no_description(tmp_path: Path) -> None:
    image(tmp_path / "imagesTr" / "img0001.nii.gz")
    label(tmp_path / "labelsTr" / "label0001.nii.gz")
    assert "as it is distributed" in refused(tmp_path)
    assert names(written(tmp_path, image="imagesTr/*.nii.gz", label="labelsTr/*.nii.gz")["cases"]) == ["img0001"]


def test_the_documentations_commands_do_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    section = text[text.index("## A folder of scans of your own") :]
    commands, example = (re.search(rf"```{kind}\n(.*?)```", section, re.DOTALL)[1] for kind in ("sh", "json"))
    mess(tmp_path / "mess", labelled=2, others=7)
    monkeypatch.chdir(tmp_path)
    for line in commands.splitlines():
        assert main([*shlex.split(line)[1:], "--workers=1"]) == 0
    found, shown = json.loads(Path("mess/dataset.json").read_text()), json.loads(example)
    for key in ("name", "channels", "labels"):
        assert found[key] == shown[key]
    assert found["cases"][0].items() <= shown["cases"][0].items()
    Path("mess/dataset.json").write_text(example)
    dataset = read_dataset(Path("mess"))
    assert dataset.label_map == {3: 2, 255: 0}
    assert (dataset.cases[0].owner, dataset.unlabelled[0].images) == ("Pat 01", (Path("mess/Pat 09/ct.nii.gz"),))
