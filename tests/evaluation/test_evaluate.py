"""Folders in, files out, and one clear error for each folder that cannot be trusted."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import medcontext
from medcontext.commands.evaluate import evaluate
from medcontext.errors import InputError

AFFINE = np.diag([0.5, 2.0, 3.0, 1.0])
NAMES = {"background": 0, "left": 200, "right": 500}


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


def volume(*, left: int = 2, right: int = 2, shift: int = 0) -> np.ndarray:
    array = np.zeros((12, 10, 8), dtype=np.int16)
    array[2 + shift : 4 + shift, 2 : 2 + left, 2:5] = 200
    array[8:10, 2 : 2 + right, 2:5] = 500
    return array


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Three cases: a perfect one, one moved by a voxel, one whose `right` is missed; and a label without prediction."""
    predictions, labels = tmp_path / "predictions", tmp_path / "labels"
    for name in "abcd":
        save(labels / f"{name}.nii.gz", volume())
    save(predictions / "a.nii.gz", volume())
    save(predictions / "b.nii", volume(shift=1))
    save(predictions / "c.nii.gz", volume(right=0).astype(np.float32))
    (labels / "dataset.json").write_text(json.dumps({"labels": NAMES}))
    return predictions, labels, tmp_path / "scores"


def rows_of(output: Path) -> dict[tuple[str, str], dict[str, str]]:
    with (output / "metrics.csv").open() as file:
        return {(row["case"], row["structure"]): row for row in csv.DictReader(file)}


def refused(folders: tuple[Path, Path, Path], **options: Any) -> str:
    """The message, once it is sure that nothing was written."""
    with pytest.raises(InputError) as caught:
        evaluate(*folders, **{"workers": 1, **options})
    assert not folders[2].exists() or list(folders[2].iterdir()) == []
    return str(caught.value)


def test_the_files_hold_what_was_worked_out_by_hand(folders, capsys) -> None:
    predictions, _, output = folders
    summary = evaluate(*folders, workers=1).summary
    rows = rows_of(output)
    assert list(rows) == [(case, structure) for case in "abc" for structure in ("left", "right")]
    assert {float(rows["a", structure]["dsc"]) for structure in ("left", "right")} == {1.0}
    assert float(rows["b", "left"]["dsc"]) == 0.5
    assert float(rows["b", "left"]["hd95_pooled"]) == float(rows["b", "left"]["hd95_max"]) == 0.5
    assert rows["c", "right"]["status"] == "missed"
    assert float(rows["c", "right"]["hd95_max"]) == pytest.approx(np.sqrt(6**2 + 20**2 + 24**2))
    assert float(rows["a", "left"]["label_mm3"]) == 12 * 3
    assert summary == json.loads((output / "summary.json").read_text())
    assert summary["structures"]["left"]["dsc"]["mean"] == pytest.approx(2.5 / 3)
    assert summary["structures"]["right"]["missed"] == 1
    assert summary["mean"]["dsc"] == pytest.approx((2.5 / 3 + 2 / 3) / 2)
    assert summary["medcontext"] == medcontext.__version__
    assert (summary["protocol"], summary["units"]["hd95_max"]) == ("standard", "mm")
    assert summary["values"] == {"left": [200], "right": [500]}
    assert summary["predictions"] == str(predictions.resolve())
    assert summary["cases"][1]["prediction"] == str((predictions / "b.nii").resolve())
    assert summary["cases"][1]["spacing"] == [0.5, 2.0, 3.0]
    assert summary["labels_without_prediction"] == ["d"]
    printed = capsys.readouterr().out
    assert "1 labels without a prediction are not scored: d" in printed
    assert sorted(file.name for file in output.iterdir()) == ["metrics.csv", "summary.json"]


def test_of_a_folder_the_named_files_are_scored(folders, monkeypatch: pytest.MonkeyPatch) -> None:
    predictions, labels, output = folders
    monkeypatch.chdir(predictions.parent)
    files = [Path("predictions/c.nii.gz"), str(predictions / "a.nii.gz"), predictions / "../predictions/b.nii"]
    for number, named in ((1, files[1:2]), (2, files[:2]), (3, files)):
        scores = evaluate(named, labels, output.parent / str(number), workers=1)
        assert sorted({row["case"] for row in scores.rows}) == sorted({Path(path).name[0] for path in named})
    for other in ("typo.nii.gz", "a.dcm", "b.nii.gz"):
        assert f"Predictions not found: {predictions / other}. Give" in refused(
            ([predictions / "a.nii.gz", predictions / other], labels, output)  # type: ignore[arg-type]
        )
    lost = [predictions / "typo.nii.gz"]
    assert "not found" in refused((lost, labels, output))  # type: ignore[arg-type]
    elsewhere = [*files, labels / "a.nii.gz"]
    assert "must lie in one folder" in refused((elsewhere, labels, output))  # type: ignore[arg-type]


def test_the_legacy_protocol(folders) -> None:
    summary = evaluate(*folders, workers=1, protocol="legacy").summary
    rows = rows_of(folders[2])
    assert float(rows["b", "left"]["hd95_pooled"]) == 1.0
    assert float(rows["c", "right"]["hd95_max"]) == 0
    assert (summary["protocol"], summary["units"]["hd95_pooled"]) == ("legacy", "voxels")


def test_several_processes_write_the_same_files_in_the_same_order(folders) -> None:
    predictions, labels, output = folders
    for number in range(6):
        save(labels / f"m{number}.nii.gz", volume(left=number + 1))
        save(predictions / f"m{number}.nii.gz", volume(left=3))
    evaluate(predictions, labels, output, workers=1)
    evaluate(predictions, labels, output.parent / "parallel", workers=3)
    for name in ("metrics.csv", "summary.json"):
        assert (output / name).read_bytes() == (output.parent / "parallel" / name).read_bytes()


def test_spacing_comes_from_an_oblique_affine(folders) -> None:
    predictions, labels, output = folders
    angle = np.deg2rad(25)
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    for folder, array in ((labels, volume()), (predictions, volume(shift=1))):
        save(folder / "b.nii.gz", array, turned @ AFFINE)
    (predictions / "b.nii").unlink()
    summary = evaluate(*folders, workers=1).summary
    assert summary["cases"][1]["spacing"] == pytest.approx([0.5, 2.0, 3.0])
    assert float(rows_of(output)["b", "left"]["hd95_max"]) == pytest.approx(0.5)


@pytest.mark.parametrize("place", ["labels", "above", "predictions"])
def test_names_come_from_any_dataset_json(folders, place: str) -> None:
    predictions, labels, _ = folders
    manifest = labels / "dataset.json"
    manifest.rename({"labels": labels, "above": labels.parent, "predictions": predictions}[place] / "dataset.json")
    summary = evaluate(*folders, workers=1).summary
    assert list(summary["structures"]) == ["left", "right"]
    assert summary["structures_from"].endswith("dataset.json")


def test_without_names_values_are_names_and_absent_ones_are_filled_in(folders) -> None:
    predictions, labels, output = folders
    (labels / "dataset.json").unlink()
    extra = volume()
    extra[0, 0, 0] = 9
    save(predictions / "a.nii.gz", extra)
    summary = evaluate(*folders, workers=1).summary
    assert list(summary["structures"]) == ["9", "200", "500"]
    assert [rows_of(output)[case, "9"]["status"] for case in "abc"] == ["spurious", "absent", "absent"]
    assert (summary["structures"]["9"]["n"], summary["structures"]["9"]["absent"]) == (1, 2)


def test_the_user_may_name_structures_of_several_values(folders) -> None:
    summary = evaluate(*folders, workers=1, structures={"both": [200, 500], "left": 200}).summary
    assert summary["values"] == {"both": [200, 500], "left": [200]}
    assert float(rows_of(folders[2])["c", "both"]["dsc"]) == pytest.approx(2 * 12 / (12 + 24))


@pytest.mark.parametrize("value", [None, 1.5, True, 0, [], [1, None], "1"])
def test_what_is_no_value_is_refused(folders, value: Any) -> None:
    assert "'x' has" in refused(folders, structures={"x": value})


def test_a_structure_is_not_called_as_the_mean_of_all(folders) -> None:
    assert "a structure is called 'mean'" in refused(folders, structures={"mean": 200})


def test_a_data_set_gives_names_labels_and_images(folders, balls: Path) -> None:
    _, _, output = folders
    predictions = output.parent / "of_balls"
    predictions.mkdir()
    for name in ("ball_2", "ball_0"):
        source = balls / "labelsTr" / f"{name}.nii.gz"
        (predictions / source.name).write_bytes(source.read_bytes())
    summary = evaluate(predictions, balls, output, workers=1).summary
    assert list(summary["structures"]) == ["left", "right"]
    assert summary["mean"]["dsc"] == 1
    assert [case["name"] for case in summary["cases"]] == ["ball_0", "ball_2"]
    assert summary["cases"][0]["images"] == [str((balls / "imagesTr" / "ball_0.nii.gz").resolve())]
    assert len(summary["labels_without_prediction"]) == 6


def test_images_are_listed_whatever_the_channel_names(folders) -> None:
    images = folders[0].parent / "images"
    for name in ("a", "b_0000", "b_0001", "c_0000"):
        save(images / f"{name}.nii.gz", np.zeros((2, 2, 2), np.int16))
    summary = evaluate(*folders, workers=1, images=images).summary
    assert [[Path(image).name for image in case["images"]] for case in summary["cases"]] == [
        ["a.nii.gz"],
        ["b_0000.nii.gz", "b_0001.nii.gz"],
        ["c_0000.nii.gz"],
    ]
    (images / "a.nii.gz").unlink()
    assert "no image" in refused((*folders[:2], folders[2].parent / "again"), images=images)


def test_scores_are_replaced_only_when_asked(folders) -> None:
    evaluate(*folders, workers=1)
    with pytest.raises(InputError, match="--overwrite"):
        evaluate(*folders, workers=1)
    evaluate(*folders, workers=1, protocol="legacy", overwrite=True)
    assert json.loads((folders[2] / "summary.json").read_text())["protocol"] == "legacy"


def test_a_disk_that_fills_up_leaves_the_old_scores(folders, monkeypatch) -> None:
    evaluate(*folders, workers=1)
    before = {file.name: file.read_bytes() for file in folders[2].iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medcontext.evaluation.summary.write_json", full)
    with pytest.raises(OSError, match="No space"):
        evaluate(*folders, workers=1, protocol="legacy", overwrite=True)
    assert {file.name: file.read_bytes() for file in folders[2].iterdir()} == before


def change(path: Path, function: Callable[[np.ndarray], np.ndarray], affine: np.ndarray = AFFINE) -> None:
    save(path, function(np.asarray(nib.load(path).dataobj).copy()), affine)


def put(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def edit(array: np.ndarray) -> np.ndarray:
        array = array.astype(np.float32)
        array[0, 0, :2] = value
        return array

    return edit


@pytest.mark.parametrize("folder", [0, 1], ids=["prediction", "label"])
@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (put(7), ["not declared", "7 (2 voxels)", "[0, 200, 500]"]),
        (put(0.5), ["fractional", "0.5"]),
        (put(-1), ["negative"]),
        (put(np.nan), ["NaN"]),
        (lambda a: a[:-1], ["shapes", "(11, 10, 8)"]),
        (lambda a: np.stack([a, a], -1), ["2 volumes"]),
    ],
)
def test_voxels_that_cannot_be_trusted_are_refused(folders, folder: int, edit, words: list[str]) -> None:
    file = folders[folder] / "a.nii.gz"
    change(file, edit)
    message = refused(folders)
    assert str(file) in message
    for word in words:
        assert word in message


def test_another_affine_is_refused_and_rounding_is_not(folders) -> None:
    predictions = folders[0]
    save(predictions / "a.nii.gz", volume(), AFFINE + 1e-5)
    evaluate(*folders, workers=1)
    save(predictions / "a.nii.gz", volume(), np.diag([-0.5, 2.0, 3.0, 1.0]))
    message = refused((*folders[:2], folders[2].parent / "again"))
    assert "affine" in message
    assert str(predictions / "a.nii.gz") in message


def test_a_truncated_file_is_refused_in_several_processes_too(folders) -> None:
    file = folders[0] / "c.nii.gz"
    file.write_bytes(file.read_bytes()[:-20])
    assert str(file) in refused(folders, workers=2)


def test_a_prediction_without_a_label_is_refused(folders) -> None:
    save(folders[0] / "stray.nii.gz", volume())
    message = refused(folders)
    assert "stray" in message
    assert "a, b, c" in message


def test_names_that_contradict_each_other_are_refused(folders) -> None:
    predictions = folders[0]
    (predictions / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "Left": 500, "right": 200}}))
    message = refused(folders)
    assert "'left' is 200 in the first and 500 in the second" in message
    (predictions / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "left": 200, "liver": 500}}))
    assert "500 is 'right' in the first and 'liver' in the second" in refused(folders)
    evaluate(*folders, workers=1, structures={"left": 200, "right": 500})


def test_folders_without_cases_are_refused(folders) -> None:
    predictions, labels, output = folders
    empty = output.parent / "empty"
    (empty / "labelsTr").mkdir(parents=True)
    assert "No predictions" in refused((empty, labels, output))
    message = refused((predictions, empty, output))
    assert "No labels" in message
    assert "labelsTr" in message
    assert "not there" in refused((empty / "none", labels, output))
    assert "not found" in refused((predictions, empty / "none", output))
    assert "a file" in refused((predictions / "a.nii.gz", labels, output))
    assert "same folder" in refused((labels, labels, output))


def test_the_same_case_twice_is_refused(folders) -> None:
    save(folders[0] / "b.nii.gz", volume())
    message = refused(folders)
    assert "b.nii" in message
    assert "same case" in message


@pytest.mark.parametrize("structures", [{}, {"left": 0}, {"left": []}, {"left": [200, -1]}, {"left": True}])
def test_structures_that_mean_nothing_are_refused(folders, structures) -> None:
    assert "structures" in refused(folders, structures=structures)


def test_other_wrong_options(folders) -> None:
    assert "did you mean 'standard'" in refused(folders, protocol="standart")
    assert "workers" in refused(folders, workers=0)


def test_undeclared_images_and_all_background_are_refused(folders) -> None:
    labels = folders[1]
    (labels / "dataset.json").unlink()
    for name in "abc":
        for folder in folders[:2]:
            for file in folder.glob(f"{name}.nii*"):
                change(file, np.zeros_like)
    assert "background" in refused(folders)
    change(labels / "a.nii.gz", lambda a: np.arange(a.size, dtype=np.int16).reshape(a.shape))
    assert "different values" in refused(folders)


def test_a_real_data_set_against_itself(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "Task04_Hippocampus"
    if not root.is_dir():
        pytest.skip(f"{root} is absent")
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    for file in sorted((root / "labelsTr").glob("hippocampus_*.nii.gz"))[:4]:
        (predictions / file.name).symlink_to(file)
    summary = evaluate(predictions, root, tmp_path / "scores", workers=1).summary
    assert summary["mean"]["dsc"] == 1
    assert summary["mean"]["hd95_max"] == 0
    assert list(summary["structures"]) == ["Anterior", "Posterior"]


def test_a_label_without_orientation_is_scored_against_what_an_itk_tool_made_of_it(folders, capsys) -> None:
    predictions, labels, output = folders
    bare = nib.Nifti1Image(volume(), None)
    bare.header["pixdim"][1:4] = 0.5, 2, 3
    nib.save(bare, labels / "a.nii.gz")
    save(predictions / "a.nii.gz", volume(), np.diag([-0.5, -2, 3, 1]))
    evaluate(*folders, workers=1)
    assert rows_of(output)["a", "left"]["dsc"] == "1.0"
    told = capsys.readouterr().out
    assert "Warning: no orientation in the header" in told
    assert str(labels / "a.nii.gz") in told


def test_sizes_in_microns_give_distances_in_millimetres(folders) -> None:
    predictions, labels, output = folders
    for folder, array in ((predictions, volume(shift=1)), (labels, volume())):
        file = nib.Nifti1Image(array, np.diag([500.0, 2000, 3000, 1]))
        file.header.set_xyzt_units("micron")
        nib.save(file, folder / ("b.nii" if folder == predictions else "b.nii.gz"))
    summary = evaluate(*folders, workers=1).summary
    assert summary["cases"][1]["spacing"] == pytest.approx([0.5, 2, 3])
    assert float(rows_of(output)["b", "left"]["hd95_max"]) == pytest.approx(0.5)


def test_a_lost_voxel_size_is_refused(folders) -> None:
    file = nib.Nifti1Image(volume(), AFFINE)
    file.set_sform(AFFINE, 0)
    file.set_qform(AFFINE, 1)
    data = bytearray(file.to_bytes())
    data[76 + 12 : 76 + 16] = bytes(4)  # pixdim[3]
    (folders[1] / "b.nii.gz").unlink()
    (folders[1] / "b.nii").write_bytes(data)
    assert "b.nii has the voxel sizes (pixdim) 0.5x2x0" in refused(folders)


def test_predictions_that_are_not_read_are_named(folders, capsys) -> None:
    for name in ("d.mha", "e.nrrd", "dataset.json"):
        (folders[0] / name).touch()
    (folders[0] / "dataset.json").write_text(json.dumps({"labels": NAMES}))
    save(folders[0] / "probabilities/a.nii.gz", volume())
    evaluate(*folders, workers=1)
    assert f"Warning: passed over in {folders[0]}, where .nii.gz and .nii files are read: d.mha, e.nrrd." in (
        capsys.readouterr().out
    )


def test_names_with_accents_are_paired_however_they_are_written(folders) -> None:
    save(folders[0] / "Mu\u0308ller.nii.gz", volume())
    save(folders[1] / "M\u00fcller.nii.gz", volume())
    evaluate(*folders, workers=1)
    assert rows_of(folders[2])["M\u00fcller", "left"]["dsc"] == "1.0"
