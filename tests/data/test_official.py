"""BTCV, ACDC and BraTS 2021 as they are distributed, and broken copies of them."""

from pathlib import Path

import pytest

from medcontext.data.cases import Dataset
from medcontext.data.formats import is_dataset, read_dataset, scan_dataset
from medcontext.data.splits import make_split
from medcontext.errors import InputError
from medcontext.evaluation.pairs import find_labels
from tests.data.test_formats import decathlon


def touched(root: Path, *files: str) -> Path:
    """A data set of empty files: reading a data set opens no image."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def btcv(root: Path, images: str = "imagesTr", labels: str = "labelsTr") -> Path:
    return touched(
        root, *(f"{images}/img000{n}.nii.gz" for n in (2, 1)), *(f"{labels}/label000{n}.nii.gz" for n in (1, 2))
    )


def acdc(root: Path, part: str = "training/", first: int = 1, labels: bool = True) -> Path:
    for number in (first, first + 1):
        stem = f"{part}patient{number:03d}/patient{number:03d}"
        touched(root, f"{stem}_4d.nii.gz", f"{part}patient{number:03d}/Info.cfg")
        for frame in ("01", "12"):
            touched(root, f"{stem}_frame{frame}.nii.gz", *([f"{stem}_frame{frame}_gt.nii.gz"] if labels else []))
    return root


def brats21(root: Path, labels: bool = True) -> Path:
    endings = ("t1", "t1ce", "t2", "flair", *(["seg"] if labels else []))
    names = ("BraTS2021_00002", "BraTS2021_00000")
    return touched(root, *(f"{name}/{name}_{ending}.nii.gz" for name in names for ending in endings))


def names(dataset: Dataset) -> tuple[list[str], list[str]]:
    return [case.name for case in dataset.cases], [case.name for case in dataset.unlabelled]


def refused(path: Path) -> str:
    with pytest.raises(InputError) as error:
        read_dataset(path)
    return str(error.value)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("imagesTr", "labelsTr"),
        ("RawData/Training/img", "RawData/Training/label"),
        ("Training/img", "Training/label"),
        ("img", "label"),
    ],
)
def test_btcv(tmp_path: Path, images: str, labels: str) -> None:
    dataset = read_dataset(btcv(tmp_path, images, labels))
    assert (dataset.name, dataset.root, dataset.channels) == ("BTCV", tmp_path, ("CT",))
    assert len(dataset.structures) == 13
    assert (dataset.labels["liver"], dataset.labels["left_adrenal_gland"]) == (6, 13)
    assert names(dataset) == (["img0001", "img0002"], [])
    assert dataset.cases[0].images == (tmp_path / images / "img0001.nii.gz",)
    assert dataset.cases[0].label == tmp_path / labels / "label0001.nii.gz"
    assert is_dataset(tmp_path)


def test_btcv_test_scans_have_labels_or_not(tmp_path: Path) -> None:
    touched(btcv(tmp_path), "imagesTs/img0061.nii.gz")
    assert names(read_dataset(tmp_path)) == (["img0001", "img0002"], ["img0061"])
    touched(tmp_path, "labelsTs/label0061.nii.gz")
    assert names(read_dataset(tmp_path)) == (["img0001", "img0002", "img0061"], [])


def test_broken_btcv(tmp_path: Path) -> None:
    root = btcv(tmp_path)
    (root / "labelsTr/label0002.nii.gz").unlink()
    touched(root, "labelsTr/label0009.nii.gz", "imagesTr/extra.nii.gz", "imagesTr/._img0001.nii.gz")
    message = refused(root)
    assert "case 'img0002' has no label labelsTr/label0002.nii.gz" in message
    assert "the label labelsTr/label0009.nii.gz has no image" in message
    assert "imagesTr/extra.nii.gz is not called like img0001.nii.gz" in message
    dataset, problems = scan_dataset(root)
    assert names(dataset) == (["img0001"], [])
    assert len(problems) == 3
    touched(root, "imagesTr/img0001.nii")
    assert "img0001.nii and img0001.nii.gz are the same; keep one" in refused(root)


def test_btcv_without_any_label(tmp_path: Path) -> None:
    message = refused(touched(tmp_path, "imagesTr/img0001.nii.gz"))
    assert "Data set" in message
    assert "case 'img0001' has no label labelsTr/label0001.nii.gz" in message


def test_a_dataset_json_wins(tmp_path: Path) -> None:
    assert read_dataset(btcv(decathlon(tmp_path))).name == "Liver"


def test_other_names_are_not_btcv(tmp_path: Path) -> None:
    touched(tmp_path, "imagesTr/img0001_0000.nii.gz", "labelsTr/img0001.nii.gz")
    assert "has imagesTr and labelsTr, but no dataset.json" in refused(tmp_path)
    assert not is_dataset(tmp_path)


@pytest.mark.parametrize("part", ["", "training/", "database/training/"])
def test_acdc(tmp_path: Path, part: str) -> None:
    dataset = read_dataset(acdc(tmp_path, part))
    assert (dataset.name, dataset.channels) == ("ACDC", ("MR cine",))
    assert dataset.structures == {"right_ventricle": 1, "myocardium": 2, "left_ventricle": 3}
    assert names(dataset)[0] == [f"patient00{n}_frame{frame}" for n in (1, 2) for frame in ("01", "12")]
    case = dataset.cases[1]
    assert case.images == (tmp_path / f"{part}patient001/patient001_frame12.nii.gz",)
    assert case.label == tmp_path / f"{part}patient001/patient001_frame12_gt.nii.gz"


@pytest.mark.parametrize("labels", [True, False])
def test_acdc_test_part_has_labels_or_not(tmp_path: Path, labels: bool) -> None:
    acdc(acdc(tmp_path), "testing/", 101, labels)
    labelled, unlabelled = names(read_dataset(tmp_path))
    assert (len(labelled), len(unlabelled)) == ((8, 0) if labels else (4, 4))
    alone = read_dataset(tmp_path / "testing")
    assert len(alone.cases if labels else alone.unlabelled) == 4


def test_broken_acdc(tmp_path: Path) -> None:
    root = acdc(acdc(tmp_path), "testing/", 101)
    (root / "training/patient001/patient001_frame12_gt.nii.gz").unlink()
    (root / "testing/patient101/patient101_frame12_gt.nii.gz").unlink()
    (root / "training/patient002/patient002_frame01.nii.gz").unlink()
    touched(root, "training/patient009/patient009_4d.nii.gz")
    message = refused(root)
    assert "case 'patient001_frame12' has no label patient001_frame12_gt.nii.gz" in message
    assert "case 'patient101_frame12' has no label" in message
    assert "the label training/patient002/patient002_frame01_gt.nii.gz has no image" in message
    assert "training/patient009 has no frame like patient009_frame01.nii.gz" in message


@pytest.mark.parametrize("part", ["", "training/"])
def test_other_patients_folders_are_not_acdc(tmp_path: Path, part: str) -> None:
    touched(tmp_path, *(f"{part}patient00{number}/{file}.nii.gz" for number in (1, 2) for file in ("ct", "seg")))
    assert not is_dataset(tmp_path)
    assert "of scans of your own `medcontext init" in refused(tmp_path)
    touched(tmp_path, f"{part}patient003/patient003_frame01.nii.gz")
    assert f"{part}patient001 has no frame like patient001_frame01.nii.gz" in refused(tmp_path)


def test_one_patient_under_two_names_stays_on_one_side(tmp_path: Path) -> None:
    root = acdc(tmp_path, first=73)
    for first in (75, 77, 79):
        acdc(root, first=first)
    dataset = read_dataset(root)
    for seed in range(20):
        split = make_split(dataset, seed=seed, validation_fraction=0.3, test_fraction=0.3)
        twins = ["patient074_frame01", "patient074_frame12", "patient076_frame01", "patient076_frame12"]
        parts = [part for part in (split.train, split.validation, split.test) if set(part) & set(twins)]
        assert len(parts) == 1
        assert set(twins) <= set(parts[0])


def test_brats21(tmp_path: Path) -> None:
    dataset = read_dataset(brats21(tmp_path))
    assert (dataset.name, dataset.channels) == ("BraTS21", ("FLAIR", "T1", "T1ce", "T2"))
    assert dataset.structures == {"necrotic_core": 1, "edema": 2, "enhancing_tumor": 4}
    assert list(dataset.regions.items()) == [("WT", (1, 2, 4)), ("TC", (1, 4)), ("ET", (4,))]
    assert names(dataset) == (["BraTS2021_00000", "BraTS2021_00002"], [])
    found = [image.name.removeprefix("BraTS2021_00000") for image in dataset.cases[0].images]
    assert found == ["_flair.nii.gz", "_t1.nii.gz", "_t1ce.nii.gz", "_t2.nii.gz"]
    assert dataset.cases[0].label == tmp_path / "BraTS2021_00000/BraTS2021_00000_seg.nii.gz"


def test_brats21_for_prediction_alone(tmp_path: Path) -> None:
    dataset = read_dataset(brats21(tmp_path, labels=False))
    assert names(dataset) == ([], ["BraTS2021_00000", "BraTS2021_00002"])
    with pytest.raises(InputError, match="has 0 patients with labels"):
        make_split(dataset)
    (tmp_path / "split.json").write_text('{"train": ["BraTS2021_00000"]}')
    with pytest.raises(InputError, match="it has no labelled case at all"):
        make_split(dataset, file=tmp_path / "split.json")


def test_broken_brats21(tmp_path: Path) -> None:
    root = brats21(tmp_path)
    (root / "BraTS2021_00000/BraTS2021_00000_seg.nii.gz").unlink()
    (root / "BraTS2021_00002/BraTS2021_00002_t2.nii.gz").unlink()
    message = refused(root)
    assert "case 'BraTS2021_00000' has no label BraTS2021_00000_seg.nii.gz" in message
    assert "case 'BraTS2021_00002': not found: image" in message
    assert "BraTS2021_00002_t2.nii.gz" in message


def test_uncompressed_files_are_read_too(tmp_path: Path) -> None:
    for file in sorted(brats21(tmp_path).rglob("*.gz")):
        file.rename(file.with_suffix(""))
    assert all(image.suffix == ".nii" for case in read_dataset(tmp_path).cases for image in case.images)


def test_the_folder_above_is_told_where_the_data_set_is(tmp_path: Path) -> None:
    brats21(tmp_path / "BraTS2021_Training_Data")
    assert f"but {tmp_path / 'BraTS2021_Training_Data'} looks like a data set; give that" in refused(tmp_path)


def test_real_acdc(shared_data: Path) -> None:
    dataset = read_dataset(shared_data / "ACDC")
    assert len(dataset.cases) == 160
    assert dataset.unlabelled == ()
    assert read_dataset(shared_data / "ACDC" / "training").structures == dataset.structures


def test_real_btcv(shared_data: Path) -> None:
    dataset = read_dataset(shared_data / "BTCV")
    assert (len(dataset.cases), dataset.unlabelled) == (18, ())
    assert dataset.cases[0].name == "img0005"


@pytest.mark.parametrize(("name", "training", "test"), [("acdc", 160, 40), ("btcv", 18, 12)])
def test_real_data_have_the_packaged_splits(
    shared_data: Path, name: str, training: int, test: int, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = read_dataset(shared_data / name.upper())
    split = make_split(dataset, file=name)
    assert sorted(split.train) == [case.name for case in dataset.cases]
    assert (len(split.train), len(split.test)) == (training, test)
    assert f"none of the {test} test cases of the split {name}" in " ".join(capsys.readouterr().out.split())
    assert len(make_split(dataset, file=name, few_shot=5).train) == 5


def test_scores_take_the_labels_of_the_data_set(tmp_path: Path) -> None:
    found = find_labels(acdc(tmp_path))
    assert isinstance(found, Dataset)
    assert len(found.cases) == 4


def test_scans_in_other_formats_are_remarked(tmp_path: Path) -> None:
    for name in ("imagesTr/img0001.nii.gz", "labelsTr/label0001.nii.gz", "imagesTr/img0002.mha", "notes.txt"):
        (tmp_path / "btcv" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "btcv" / name).touch()
    assert [remark.partition(". ")[0] for remark in read_dataset(tmp_path / "btcv").remarks] == [
        f"passed over in {tmp_path / 'btcv'}, where .nii.gz and .nii files are read: imagesTr/img0002.mha"
    ]
    patient = tmp_path / "acdc/training/patient001"
    patient.mkdir(parents=True)
    for name in ("_frame01.nii.gz", "_frame01_gt.nii.gz", "_4d.nii.gz", "_frame12.nrrd"):
        (patient / f"patient001{name}").touch()
    (patient / "Info.cfg").touch()
    (remark,) = read_dataset(tmp_path / "acdc").remarks
    assert "read: training/patient001/patient001_frame12.nrrd." in remark
