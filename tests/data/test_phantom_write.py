"""Generated data sets on disk: read back through the same readers as real ones."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medcontext.data.formats import read_dataset
from medcontext.data.nifti import read_header, read_image, read_label
from medcontext.data.phantom import STRUCTURES, Phantom, draw, write, write_phantom
from medcontext.errors import InputError
from medcontext.files import read_json

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


@pytest.mark.parametrize(
    ("options", "message"),
    [
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
