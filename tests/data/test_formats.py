"""Data sets in each layout, and what is wrong with them."""

import json
from pathlib import Path
from typing import Any

import pytest

from medcontext.data.cases import Dataset
from medcontext.data.formats import read_dataset, scan_dataset
from medcontext.errors import InputError

LABELS = {"background": 0, "liver": 200, "spleen": 500}


def write(root: Path, manifest: Any, *files: str, name: str = "dataset.json") -> Path:
    """A data set of empty files: reading a data set opens no image."""
    root.mkdir(parents=True, exist_ok=True)
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    (root / name).write_text(json.dumps(manifest))
    return root


def decathlon(root: Path, count: int = 2, **changes: Any) -> Path:
    names = [f"liver_{number}.nii.gz" for number in range(count)]
    training = [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names]
    manifest = {
        "name": "Liver",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "500": "spleen", "200": "liver"},
        "training": training,
        "test": ["./imagesTs/liver_90.nii.gz"],
        **changes,
    }
    files = [f"{folder}/{name}" for folder in ("imagesTr", "labelsTr") for name in names]
    return write(root, manifest, *files, "imagesTs/liver_90.nii.gz")


def nnunet(root: Path, channels: int = 2, **changes: Any) -> Path:
    manifest = {
        "channel_names": {str(index): f"T{index}" for index in range(channels)},
        "labels": LABELS,
        "numTraining": 2,
        "file_ending": ".nii.gz",
        **changes,
    }
    images = [f"imagesTr/{case}_{index:04d}.nii.gz" for case in "ab" for index in range(channels)]
    tests = [f"imagesTs/z_{index:04d}.nii.gz" for index in range(channels)]
    return write(root, manifest, *images, "labelsTr/a.nii.gz", "labelsTr/b.nii.gz", *tests)


def listed(root: Path, cases: list[Any], *files: str, **changes: Any) -> Path:
    manifest = {"channels": ["CT"], "labels": LABELS, "cases": cases, **changes}
    return write(root, manifest, *files, name="list.json") / "list.json"


def refused(path: Path) -> str:
    with pytest.raises(InputError) as error:
        read_dataset(path)
    return str(error.value)


def names(dataset: Dataset) -> list[str]:
    return [case.name for case in dataset.cases]


def test_decathlon(tmp_path: Path) -> None:
    dataset = read_dataset(decathlon(tmp_path))
    assert dataset.name == "Liver"
    assert dataset.channels == ("CT",)
    assert dataset.labels == LABELS
    assert list(dataset.structures.items()) == [("liver", 200), ("spleen", 500)]
    assert names(dataset) == ["liver_0", "liver_1"]
    assert dataset.cases[1].images == (tmp_path / "imagesTr/liver_1.nii.gz",)
    assert dataset.cases[1].label == tmp_path / "labelsTr/liver_1.nii.gz"
    assert [(case.name, case.label) for case in dataset.unlabelled] == [("liver_90", None)]


def test_the_json_may_be_given_instead_of_the_folder(tmp_path: Path) -> None:
    assert read_dataset(decathlon(tmp_path) / "dataset.json") == read_dataset(tmp_path)


def test_nnunet(tmp_path: Path) -> None:
    root = nnunet(tmp_path / "Dataset001_Abdomen")
    (root / "imagesTr/._a_0000.nii.gz").touch()
    (root / "labelsTr/._a.nii.gz").touch()
    dataset = read_dataset(root)
    assert dataset.name == "Dataset001_Abdomen"
    assert dataset.channels == ("T0", "T1")
    assert names(dataset) == ["a", "b"]
    assert dataset.cases[0].images == (root / "imagesTr/a_0000.nii.gz", root / "imagesTr/a_0001.nii.gz")
    assert dataset.cases[0].label == root / "labelsTr/a.nii.gz"
    assert [case.name for case in dataset.unlabelled] == ["z"]
    assert len(dataset.unlabelled[0].images) == 2


def test_nnunet_with_files_mapped_explicitly(tmp_path: Path) -> None:
    mapping = {"first": {"images": ["elsewhere/x.nii.gz"], "label": "labelsTr/a.nii.gz"}}
    root = nnunet(tmp_path, channels=1, dataset=mapping)
    assert "case 'first': not found: image" in refused(root)
    write(root, json.loads((root / "dataset.json").read_text()), "elsewhere/x.nii.gz")
    dataset = read_dataset(root)
    assert names(dataset) == ["first"]
    assert dataset.cases[0].images == (root / "elsewhere/x.nii.gz",)


def test_nnunet_refusals(tmp_path: Path) -> None:
    assert 'got ".png"; medcontext reads' in refused(nnunet(tmp_path / "png", file_ending=".png"))
    root = nnunet(tmp_path / "set")
    (root / "imagesTr/a_0001.nii.gz").unlink()
    (root / "labelsTr/b.nii.gz").unlink()
    message = refused(root)
    assert "case 'a' has the channel files _0000, but _0000, _0001 are expected" in message
    assert "case 'b' has no label in labelsTr" in message
    (root / "imagesTr/plain.nii.gz").touch()
    assert "plain.nii.gz has no channel number" in refused(root)


def test_nnunet_label_without_image(tmp_path: Path) -> None:
    (nnunet(tmp_path) / "labelsTr/c.nii.gz").touch()
    assert "labelsTr/c.nii.gz has no image in imagesTr" in refused(tmp_path)


def test_plain_list(tmp_path: Path) -> None:
    cases = [
        {"image": "p1/ct.nii.gz", "label": "p1/seg.nii.gz", "name": "p1"},
        {"image": ["p2_0000.nii.gz", "p2_0001.nii.gz"], "label": str(tmp_path / "seg2.nii.gz")},
    ]
    files = ("p1/ct.nii.gz", "p1/seg.nii.gz", "p2_0000.nii.gz", "p2_0001.nii.gz", "seg2.nii.gz")
    dataset = read_dataset(listed(tmp_path, cases, *files))
    assert (dataset.name, dataset.root) == ("list", tmp_path)
    assert names(dataset) == ["p1", "p2"]
    assert dataset.cases[1].images == (tmp_path / "p2_0000.nii.gz", tmp_path / "p2_0001.nii.gz")
    assert dataset.cases[1].label == tmp_path / "seg2.nii.gz"


def test_hidden_files_in_a_list_are_left_out(tmp_path: Path) -> None:
    cases = [{"image": f"i/{name}", "label": f"l/{name}"} for name in ("._a.nii.gz", "a.nii.gz")]
    assert names(read_dataset(listed(tmp_path, cases, "i/a.nii.gz", "l/a.nii.gz"))) == ["a"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("a.nii.gz", 'got \'a.nii.gz\'; give {"image": ..., "label": ...}'),
        ({"label": "l.nii.gz"}, '"image" must be a path'),
        ({"image": [], "label": "l.nii.gz"}, '"image" must be a path'),
        ({"image": "a.nii.gz"}, "case 'a' has no \"label\""),
        ({"image": "a.nii.gz", "label": ["l.nii.gz"]}, '"label" must be one path'),
        ({"image": "a.nii.gz", "label": "l.nii.gz", "name": "../a"}, "must be usable as a file name"),
        *(
            ({"image": "a.nii.gz", "label": "l.nii.gz", "name": name}, "must be usable as a file name: at most 240")
            for name in ("", ".", "..", "a\0b", "a\nb", "a\x7f", "b\\a", "ä" * 121, 5, None)
        ),
        ({"image": "a\0.nii.gz", "label": "l.nii.gz"}, "'a\\x00.nii.gz' is no path"),
        ({"image": "a.nii.gz", "label": "l\0"}, "'l\\x00' is no path"),
        ({"image": f"{'a' * 300}.nii.gz", "label": "l.nii.gz", "name": "a"}, "case 'a': not found: image "),
        ({"image": "a.nii.gz", "label": "l" * 300}, "case 'a': not found: label "),
        ({"image": ["a.nii.gz", "./a.nii.gz"], "label": "l.nii.gz"}, "the same image file for two channels"),
    ],
)
def test_entries_that_cannot_be_used(tmp_path: Path, entry: Any, message: str) -> None:
    found = refused(listed(tmp_path, [entry], "a.nii.gz", "l.nii.gz"))
    assert message in found
    assert "list.json" in found or f"listed by a JSON file in {tmp_path}" in found


def test_names_of_any_language_are_taken_up_to_their_length(tmp_path: Path) -> None:
    cases = [{"image": f"{n}.nii.gz", "label": f"l{n}.nii.gz"} for n in range(3)]
    wanted = ["肝臓 1", "ä" * 120, ". . ."]
    file = listed(tmp_path, [{**case, "name": name} for case, name in zip(cases, wanted, strict=True)])
    write(tmp_path, {}, *(path for case in cases for path in case.values()), name="x.json")
    assert names(read_dataset(file)) == wanted


def test_missing_files_are_all_counted_and_the_first_listed(tmp_path: Path) -> None:
    root = decathlon(tmp_path, count=9)
    for number in range(1, 9):
        (root / f"labelsTr/liver_{number}.nii.gz").unlink()
    (root / "imagesTr/liver_1.nii.gz").unlink()
    message = refused(root)
    assert f"case 'liver_1': not found: image {root}/imagesTr/liver_1.nii.gz, label {root}/labelsTr/liver_1" in message
    assert "case 'liver_5': not found: label" in message
    assert "and 3 more" in message


def test_missing_test_images_are_reported(tmp_path: Path) -> None:
    (decathlon(tmp_path) / "imagesTs/liver_90.nii.gz").unlink()
    assert "case 'liver_90': not found: image" in refused(tmp_path)


def test_a_case_twice(tmp_path: Path) -> None:
    entry = {"image": "a.nii.gz", "label": "l.nii.gz"}
    files = ("a.nii.gz", "l.nii.gz", "sub/a.nii.gz")
    assert "the case 'a' occurs twice" in refused(listed(tmp_path, [entry, entry], *files))
    other = {"image": "sub/a.nii.gz", "label": "l.nii.gz"}
    assert "the case 'a' occurs twice" in refused(listed(tmp_path, [entry, other], *files))
    renamed = {"image": "sub/../a.nii.gz", "label": "l.nii.gz", "name": "b"}
    assert "the cases 'a' and 'b' have the same image file" in refused(listed(tmp_path, [entry, renamed], *files))
    (tmp_path / "link.nii.gz").symlink_to(tmp_path / "a.nii.gz")
    linked = {"image": "link.nii.gz", "label": "l.nii.gz"}
    assert "the cases 'a' and 'link' have the same image" in refused(listed(tmp_path, [entry, linked], *files))


def test_a_training_image_in_the_test_list(tmp_path: Path) -> None:
    root = decathlon(tmp_path, test=["./imagesTr/liver_1.nii.gz"])
    assert "the case 'liver_1' occurs twice" in refused(root)


def test_scanning_keeps_the_sound_cases_and_reports_the_rest(tmp_path: Path) -> None:
    root = decathlon(tmp_path, count=3)
    (root / "labelsTr/liver_1.nii.gz").unlink()
    dataset, problems = scan_dataset(root)
    assert names(dataset) == ["liver_0", "liver_2"]
    assert len(problems) == 1
    assert "liver_1" in problems[0]


def test_no_data_set(tmp_path: Path) -> None:
    assert "Data set not found" in refused(tmp_path / "none")
    message = refused(tmp_path)
    assert "There is no dataset.json" in message
    assert "Decathlon" in message
    assert "nnU-Net v2" in message
    assert "a JSON file" in message
    assert "BTCV" in message
    assert "ACDC" in message
    assert "BraTS 2021" in message
    (tmp_path / "a.nii.gz").touch()
    assert "a.nii.gz is not a data set" in refused(tmp_path / "a.nii.gz")


def test_images_and_labels_without_a_description_get_advice(tmp_path: Path) -> None:
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "labelsTr").mkdir()
    message = refused(tmp_path)
    assert "has imagesTr and labelsTr, but no dataset.json" in message
    assert f"let `medcontext init {tmp_path}` write one" in message


def test_the_decathlons_brain_tumours_keep_their_labels(tmp_path: Path) -> None:
    """What BraTS 2017's regions are is a preset's business; nothing is read into the file that it does not say."""
    labels = {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"}
    channels = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
    dataset = read_dataset(decathlon(tmp_path, name="BRATS", labels=labels, modality=channels))
    assert dataset.structures == {"edema": 1, "non-enhancing tumor": 2, "enhancing tumour": 3}
    assert dataset.channels == tuple(channels.values())
    assert dataset.regions == {}


def test_another_json_in_the_folder_is_suggested(tmp_path: Path) -> None:
    listed(tmp_path, [])
    assert "if one of list.json describes the data, give that file" in refused(tmp_path)


def test_no_cases(tmp_path: Path) -> None:
    assert "No labelled cases in" in refused(decathlon(tmp_path / "d", training=[], test=[]))
    assert "No labelled cases in" in refused(listed(tmp_path / "l", []))
    empty = write(tmp_path / "n", {"channel_names": {"0": "CT"}, "labels": LABELS, "file_ending": ".nii.gz"})
    assert "No labelled cases in" in refused(empty)


def test_json_that_describes_nothing(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{'a'}")
    assert "is not valid JSON" in refused(tmp_path)
    (tmp_path / "dataset.json").write_text("[]")
    assert "holds a list" in refused(tmp_path)
    (tmp_path / "dataset.json").write_text('{"channels": ["CT"], "labels": {"1": "liver", "1": "spleen"}}')
    assert "has the key '1' twice" in refused(tmp_path)


def test_a_validation_list_is_not_silently_mixed_in(tmp_path: Path) -> None:
    entry = {"image": "a.nii.gz", "label": "l.nii.gz"}
    message = refused(listed(tmp_path, [entry], "a.nii.gz", "l.nii.gz", validation=[entry]))
    assert "name the validation cases in a split file" in message


def test_hippocampus(shared_data: Path) -> None:
    dataset = read_dataset(shared_data / "Task04_Hippocampus")
    assert len(dataset.cases) == 200
    assert dataset.channels == ("MRI",)
    assert dataset.structures == {"Anterior": 1, "Posterior": 2}
    assert dataset.cases[0].name == "hippocampus_001"


@pytest.mark.parametrize("make", [decathlon, nnunet])
def test_another_number_of_cases_than_declared_is_remarked(tmp_path: Path, make: Any) -> None:
    assert read_dataset(make(tmp_path / "a", numTraining=2, numTest=1)).remarks == ()
    assert read_dataset(make(tmp_path / "b", numTraining="2", numTest=0)).remarks == ()
    training, test = read_dataset(make(tmp_path / "c", numTraining=41, numTest=20)).remarks
    assert f'{tmp_path / "c/dataset.json"} says "numTraining": 41, but 2 labelled cases are found' in training
    assert '"numTest": 20, but 1 unlabelled cases are found' in test
    (fewer,) = read_dataset(make(tmp_path / "d", numTraining=1)).remarks
    assert '"numTraining": 1, but 2' in fewer


def test_what_lies_in_nnunets_folders_and_is_not_read_is_remarked(tmp_path: Path) -> None:
    root = nnunet(tmp_path, channels=1)
    for name in ("imagesTr/c_0000.nii", "imagesTr/d_0000.mha", "labelsTr/c.nii", "imagesTs/y_0000.nrrd"):
        (root / name).touch()
    dataset = read_dataset(root)
    assert names(dataset) == ["a", "b"]
    assert [remark.partition(", where")[0] for remark in dataset.remarks] == [
        f"passed over in {root / folder}" for folder in ("imagesTs", "imagesTr", "labelsTr")
    ]
    assert "where .nii.gz files are read: c_0000.nii, d_0000.mha." in dataset.remarks[1]


def test_windows_paths_and_accents_find_their_files(tmp_path: Path) -> None:
    composed, decomposed = "M\u00fcller", "Mu\u0308ller"
    cases = [
        {"image": f"images\\{composed}.nii.gz", "label": f"labels\\{composed}.nii.gz"},
        {"image": ".\\images\\b.nii.gz", "label": "labels/b.nii.gz"},
    ]
    files = [f"{folder}/{name}.nii.gz" for folder in ("images", "labels") for name in (decomposed, "b")]
    dataset = read_dataset(listed(tmp_path, cases, *files))
    assert names(dataset) == [composed, "b"]
    assert dataset.cases[0].images == (tmp_path / f"images/{decomposed}.nii.gz",)
    assert dataset.cases[0].label == tmp_path / f"labels/{decomposed}.nii.gz"
    assert dataset.cases[1].images[0].is_file()
    missing = [{"image": "images\\none.nii.gz", "label": "labels\\b.nii.gz"}]
    assert f"case 'none': not found: image {tmp_path / 'images/none.nii.gz'}" in refused(listed(tmp_path, missing))
