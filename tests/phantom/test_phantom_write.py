"""Generated data sets on disk: read back through the same readers as real ones."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from medcontext.data.formats import read_dataset
from medcontext.data.known import KNOWN
from medcontext.data.nifti import read_header, read_image, read_label
from medcontext.data.split_files import find_split
from medcontext.data.splits import make_split
from medcontext.errors import InputError
from medcontext.files import read_json
from medcontext.phantom import STRUCTURES, Phantom, draw, write, write_phantom
from medcontext.phantom.official import DRAWINGS

SIZE, SPACING = (24, 20, 18), (3.0, 4.0, 5.0)
LAYOUTS = ["decathlon", "nnunet", "list"]


def written(folder: Path, **options: Any) -> Path:
    return write_phantom(folder / "set", **{"cases": 2, "size": SIZE, "spacing": SPACING, "seed": 7, **options})


def ras(path: Path) -> np.ndarray:
    """The voxels turned to RAS by nibabel."""
    return np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_read_like_real_data(tmp_path: Path, layout: str, channels: int) -> None:
    root = written(tmp_path, layout=layout, channels=channels, test_cases=1, orientation="RAS")
    dataset = read_dataset(root)
    assert dataset.channels == (("CT",) if channels == 1 else ("T1", "T2"))
    assert dataset.structures == STRUCTURES
    assert [case.name for case in dataset.cases] == ["phantom_000", "phantom_001"]
    assert [case.name for case in dataset.unlabelled] == ["phantom_002"]
    settings = Phantom(size=SIZE, spacing=SPACING, channels=channels)
    for index, case in enumerate([*dataset.cases, *dataset.unlabelled]):
        image, label = draw(7, index, settings)
        found, affine = read_image(case, dataset.channels)
        np.testing.assert_array_equal(found, image)
        np.testing.assert_allclose(np.diag(affine)[:3], SPACING)
        truth = case.label or root / "labelsTs" / f"{case.name}.nii.gz"
        np.testing.assert_array_equal(read_label(truth)[0], label)


def test_files_are_named_as_each_layout_wants(tmp_path: Path) -> None:
    root = written(tmp_path, layout="nnunet", channels=2, cases=1)
    assert root == tmp_path / "set" / "Dataset999_Phantom"
    assert sorted(path.relative_to(root).as_posix() for path in root.rglob("*.*")) == [
        "dataset.json",
        "imagesTr/phantom_000_0000.nii.gz",
        "imagesTr/phantom_000_0001.nii.gz",
        "labelsTr/phantom_000.nii.gz",
    ]
    assert read_json(root / "dataset.json")["channel_names"] == {"0": "T1", "1": "T2"}
    root = written(tmp_path / "other", channels=2, cases=1, test_cases=1)
    manifest = read_json(root / "dataset.json")
    assert manifest["training"] == [
        {"image": "./imagesTr/phantom_000.nii.gz", "label": "./labelsTr/phantom_000.nii.gz"}
    ]
    assert manifest["labels"]["5"] == "liver"
    assert read_header(root / "imagesTs" / "phantom_001.nii.gz").shape == (*SIZE, 2)


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR", "SAL"])
def test_orientation_changes_the_file_and_not_the_patient(tmp_path: Path, orientation: str) -> None:
    root = written(tmp_path, cases=1, orientation=orientation, channels=2)
    paths = [root / folder / "phantom_000.nii.gz" for folder in ("imagesTr", "labelsTr")]
    image, label = draw(7, 0, Phantom(size=SIZE, spacing=SPACING, channels=2))
    for path in paths:
        assert "".join(nib.aff2axcodes(nib.load(path).affine)) == orientation
    np.testing.assert_array_equal(np.moveaxis(ras(paths[0]), -1, 0), image)
    np.testing.assert_array_equal(ras(paths[1]), label)
    canonical = nib.as_closest_canonical(nib.load(paths[1]))
    np.testing.assert_allclose(canonical.header.get_zooms(), SPACING)
    middle = canonical.affine @ [*(np.array(SIZE) - 1) / 2, 1]
    np.testing.assert_allclose(middle[:3], 0, atol=1e-5)


def test_liver_is_on_the_right_of_the_patient_in_scanner_coordinates(tmp_path: Path) -> None:
    root = written(tmp_path, cases=3, orientation="PIR")
    for path in sorted((root / "labelsTr").iterdir()):
        image = nib.load(path)
        label = np.asarray(image.dataobj)
        x, y, z = {}, {}, {}
        for name, value in STRUCTURES.items():
            index = np.argwhere(label == value).mean(axis=0)
            x[name], y[name], z[name] = nib.affines.apply_affine(image.affine, index)
        # NIfTI: x grows towards the patient's right in RAS+, y to the front, z to the head.
        assert x["liver"] > x["spleen"]
        assert x["right_kidney"] > x["left_kidney"]
        assert x["vena_cava"] > x["aorta"]
        assert y["stomach"] > y["left_kidney"]
        assert z["liver"] > z["right_kidney"]


def test_values_may_have_gaps_and_leave_structures_out(tmp_path: Path) -> None:
    values = {"liver": 600, "spleen": 200, "left_kidney": 500}
    root = written(tmp_path, cases=1, values=values, orientation="RAS")
    dataset = read_dataset(root)
    assert dataset.structures == {"spleen": 200, "left_kidney": 500, "liver": 600}
    assert dataset.cases[0].label is not None
    label, _ = read_label(dataset.cases[0].label)
    _, dense = draw(7, 0, Phantom(size=SIZE, spacing=SPACING))
    assert set(np.unique(label)) == {0, 200, 500, 600}
    for name, value in values.items():
        np.testing.assert_array_equal(label == value, dense == STRUCTURES[name])


def test_a_case_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    few, many = (written(tmp_path / name, cases=n) for name, n in (("few", 1), ("many", 3)))
    for folder in ("imagesTr", "labelsTr"):
        assert (ras(few / folder / "phantom_000.nii.gz") == ras(many / folder / "phantom_000.nii.gz")).all()


def test_an_interrupted_data_set_is_not_taken_for_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seed: int, index: int, settings: Phantom) -> Any:
        if index == 1:
            raise KeyboardInterrupt
        return draw(seed, index, settings)

    monkeypatch.setattr(write, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path)
    assert not (tmp_path / "set" / "dataset.json").exists()
    with pytest.raises(InputError, match=r"no dataset\.json"):
        read_dataset(tmp_path / "set")


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="not empty"):
        written(tmp_path)
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["mine.txt"]


def test_every_known_data_set_can_be_drawn() -> None:
    assert list(DRAWINGS) == list(KNOWN)


@pytest.mark.parametrize("layout", KNOWN)
def test_official_layouts_are_read_like_the_real_data(tmp_path: Path, layout: str) -> None:
    root = written(tmp_path, layout=layout, cases=6, test_cases=2, size=(32, 32, 16))
    dataset = read_dataset(root)
    assert (len(dataset.cases), dataset.unlabelled) == (8, ())
    channels = {"btcv": ("CT",), "acdc": ("MR cine",), "brats17": ("FLAIR", "T1w", "t1gd", "T2w")}
    assert dataset.channels == channels.get(layout, ("FLAIR", "T1", "T1ce", "T2"))
    values = {"btcv": range(1, 14), "acdc": (1, 2, 3), "brats17": (1, 2, 3), "brats21": (1, 2, 4)}[layout]
    assert list(dataset.structures.values()) == list(values)
    assert bool(dataset.regions) == (layout == "brats21")
    for case in dataset.cases:
        image, _ = read_image(case, dataset.channels)
        assert case.label is not None
        label, _ = read_label(case.label)
        assert image.shape == (len(dataset.channels), 32, 32, 16)
        missing = set(values) - set(np.unique(label))
        assert missing <= ({12, 13} if layout == "btcv" else set())  # the adrenal glands are smaller than a voxel here
        assert set(np.unique(label)) <= {0, *values}
    for few_shot in (5, None):
        split = make_split(dataset, file=root / "split.json", few_shot=few_shot)
        assert (len(split.train), len(split.test)) == (few_shot or 6, 2)
    if layout != "brats21":
        named = read_json(find_split(layout))
        assert set(split.train) <= set(named["train"])
        assert split.test == tuple(named["test"][:2])
        chosen = named.get("few_shot", {}).get("5")
        assert chosen is None or list(make_split(dataset, file=root / "split.json", few_shot=5).train) == chosen


def test_official_files_are_named_as_the_real_ones(tmp_path: Path) -> None:
    def files(layout: str) -> list[str]:
        root = written(tmp_path / layout, layout=layout, cases=1, test_cases=1)
        return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.*") if path.name != "split.json")

    assert files("btcv") == [
        "imagesTr/img0001.nii.gz",
        "imagesTr/img0006.nii.gz",
        "labelsTr/label0001.nii.gz",
        "labelsTr/label0006.nii.gz",
    ]
    assert files("acdc") == [
        f"training/{name.partition('_')[0]}/{name}{ending}.nii.gz"
        for name in ("patient001_frame12", "patient002_frame01")
        for ending in ("", "_gt")
    ]
    assert files("brats17") == [
        "dataset.json",
        *(f"{folder}/BRATS_{number}.nii.gz" for folder in ("imagesTr", "labelsTr") for number in ("001", "011")),
    ]
    assert files("brats21") == [
        f"BraTS2021_{number}/BraTS2021_{number}_{ending}.nii.gz"
        for number in ("00000", "00001")
        for ending in ("flair", "seg", "t1", "t1ce", "t2")
    ]


def test_a_whole_official_data_set_has_the_packaged_split(tmp_path: Path) -> None:
    dataset = read_dataset(written(tmp_path, layout="btcv", cases=18, test_cases=12, size=(16, 16, 16)))
    split = make_split(dataset, file="btcv", few_shot=5)
    assert (len(split.train), len(split.test)) == (5, 12)


def test_acdc_has_thick_slices_and_two_frames_of_one_heart(tmp_path: Path) -> None:
    root = written(tmp_path, layout="acdc", cases=7, size=(32, 32, 8), spacing=(5.0, 5.0, 25.0))
    stem = root / "training" / "patient001" / "patient001_frame"
    header = read_header(Path(f"{stem}12.nii.gz"))
    assert header.shape == (32, 32, 8)
    np.testing.assert_allclose(np.abs(np.diag(header.affine))[:3], (5, 5, 25))

    def overlap(first: Path, second: Path) -> float:
        one, other = read_label(first)[0] > 0, read_label(second)[0] > 0
        return float(2 * (one & other).sum() / (one.sum() + other.sum()))

    other = root / "training" / "patient004" / "patient004_frame15_gt.nii.gz"
    frames = Path(f"{stem}01_gt.nii.gz"), Path(f"{stem}12_gt.nii.gz")
    assert overlap(frames[1], other) + 0.1 < overlap(*frames) < 1


def test_tumours_are_nested_and_can_be_seen(tmp_path: Path) -> None:
    dataset = read_dataset(written(tmp_path, layout="brats21", cases=1, size=(48, 48, 32)))
    case = dataset.cases[0]
    assert case.label is not None
    label, _ = read_label(case.label)
    image, _ = read_image(case, dataset.channels)
    whole, core, enhancing = (np.isin(label, values) for values in dataset.regions.values())
    for inner, outer in ((enhancing, core), (core, whole)):
        assert 0 < inner.sum() < outer.sum()
        # None of the inner part touches what is outside of the outer one, but where that is thin.
        assert (binary_dilation(inner) & ~outer).sum() < 0.1 * inner.sum()
    bright = [image[2][label == value].mean() for value in (2, 1, 4)]  # contrasted T1
    assert bright[2] > max(bright[:2]) + 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "btvc"}, "did you mean 'btcv'"),
        ({"layout": "btcv", "channels": 1}, "has its own channels and values"),
        ({"layout": "acdc", "values": {"liver": 1}}, "has its own channels and values"),
        ({"layout": "btcv", "cases": 19}, "has 18 training and 12 test cases"),
        ({"layout": "btcv", "test_cases": 13}, "has 18 training and 12 test cases"),
        ({"layout": "acdc", "size": (32, 32, 3)}, "at least 4 slices"),
        ({"layout": "btcv", "size": (32, 32, 8)}, "size is"),
        ({"layout": "nnnet"}, "did you mean 'nnunet'"),
        ({"cases": 0}, "cases is 0"),
        ({"test_cases": -1}, "test_cases -1"),
        ({"orientation": "RAX"}, "orientation is 'RAX'"),
        ({"orientation": "RLS"}, "orientation is 'RLS'"),
        ({"orientation": "RA"}, "orientation is 'RA'"),
        ({"values": {"livr": 1}}, "did you mean 'liver'"),
        ({"values": {"liver": 0}}, "'liver' is 0"),
        ({"values": {"liver": 1.5}}, r"'liver' is 1\.5"),
        ({"values": {"liver": 2, "spleen": 2}}, "its own value"),
        ({"values": {}}, "at least one structure"),
        ({"values": "sparse"}, "'dense'"),
        ({"size": (64, 64, 4)}, "size is"),
        ({"channels": 9}, "channels is 9"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        written(tmp_path, **options)
    assert not list(tmp_path.rglob("*.*"))
