"""What a JSON file says of label values, patients and unlabelled scans holds for every command."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import medcontext as mc
from medcontext.data.formats import read_dataset
from medcontext.data.label_map import follow_in_training
from medcontext.data.plan import PrepareSettings
from medcontext.errors import InputError
from tests.conftest import write_blobs
from tests.test_door import TINY


def edit(data: Path, **changes: object) -> Path:
    manifest = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps(manifest | changes))
    return data


def relabel(path: Path, old: int, new: int) -> None:
    volume = nib.load(path)
    array = np.asanyarray(volume.dataobj).copy()
    array[array == old] = new
    nib.save(nib.Nifti1Image(array, volume.affine), path)


def label(data: Path, index: int) -> Path:
    return data / "labelsTr" / f"ball_{index}.nii.gz"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The left ball is 200, but 7 in two cases; the last two are one patient's, and one has a voxel of 9."""
    data = write_blobs(tmp_path / "data", cases=6)
    relabel(label(data, 0), 200, 7)
    relabel(label(data, 5), 200, 7)
    volume = nib.load(label(data, 3))
    array = np.asanyarray(volume.dataobj).copy()
    array[0, 0, 0] = 9
    nib.save(nib.Nifti1Image(array, volume.affine), label(data, 3))
    training = [
        {"image": f"imagesTr/ball_{n}.nii.gz", "label": f"labelsTr/ball_{n}.nii.gz"}
        | ({"patient": "one person"} if n > 3 else {})
        for n in range(6)
    ]
    return edit(data, training=training, label_map={"7": 200, "9": 0})


def settings(**more: object) -> mc.Settings:
    fixed = {"steps": 2, "batch_size": 1, "workers": 0, "validation_cases": 0, "watch_cases": 0}
    return mc.Settings.preset(method="none", **{**fixed, **TINY, **more})


def test_every_command_heeds_the_map(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    report = mc.check(data, workers=1)
    assert '"label_map" sends 7 to 200 in 2 cases; 9 to 0 in 1 case' in " ".join(capsys.readouterr().out.split())
    assert all(set(case.voxels or ()) == {0, 200, 500} for case in report.cases)
    store = mc.prepare(data, cache=tmp_path / "cache", workers=1)
    assert store.case(store.names[0]).classes == (1, 2)
    run = mc.train(data, tmp_path / "run", settings(), cache=tmp_path / "cache")
    assert run.plan.label_map == {7: 200, 9: 0}
    paths = mc.predict(run, data, tmp_path / "predictions", part="all")
    assert set(np.unique(nib.load(paths[0]).dataobj)) <= {0, 200, 500}
    for labels in (data, data / "labelsTr"):
        scores = mc.evaluate(paths, labels, tmp_path / "scores", workers=1, overwrite=True)
        assert scores.summary["label_map"] == {"7": 200, "9": 0}
        assert {row["structure"] for row in scores.rows} == {"left", "right"}
        voxels = {row["case"]: row["label_voxels"] for row in scores.rows if row["structure"] == "left"}
        assert all(voxels.values()), "ball_0 and ball_5 have theirs as 7"
    scores = mc.evaluate(paths, data, tmp_path / "scores", workers=1, overwrite=True)
    patients = {case["name"]: case["patient"] for case in scores.summary["cases"]}
    assert patients["ball_4"] == patients["ball_5"] == "one person"
    part = {name: kind for kind, names in run.split.to_dict().items() for name in names}
    assert part["ball_4"] == part["ball_5"]
    assert mc.compare({"a": [scores], "b": [scores]})
    page = mc.report({"a": [scores]}, tmp_path / "report.html", cases=["ball_0"])
    assert "Not as it should be" not in page.read_text()
    from medcontext.comparison.read import read_study
    from medcontext.reporting.content import case_files

    files = case_files(read_study({"a": [tmp_path / "scores"]}, least=1))
    assert set(np.unique(files["ball_0"].read_truth())) == {0, 200, 500}


def test_labels_are_scored_as_the_training_was_told_to_learn_them(data: Path, tmp_path: Path) -> None:
    """`--prepare.label_map` comes on top of the data set's own, and `evaluate` is told by the predictions."""
    chosen = replace(settings(), prepare=PrepareSettings(label_map={500: 200}))
    run = mc.train(data, tmp_path / "run", chosen, cache=tmp_path / "cache")
    assert run.plan.labels == {"left": 200}
    paths = mc.predict(run, data, tmp_path / "predictions", part="all")
    scores = mc.evaluate(paths, data, tmp_path / "scores", workers=1)
    assert scores.summary["label_map"] == {"7": 200, "9": 0, "500": 200}
    both = np.count_nonzero(np.asanyarray(nib.load(label(data, 0)).dataobj))
    rows = [row for row in scores.rows if row["case"] == "ball_0"]
    assert [(row["structure"], row["label_voxels"]) for row in rows] == [("left", both)]
    with pytest.raises(InputError, match="'right' is 500, which label_map sends to 200"):
        mc.evaluate(paths, data, tmp_path / "other", workers=1, structures={"right": 500})


def test_two_maps_that_contradict_are_refused() -> None:
    assert follow_in_training({7: 2, 8: 2}, {7: 2, 2: 1}) == {7: 1, 8: 1, 2: 1}
    with pytest.raises(InputError, match='label_map sends 7 to 3, and the data set\'s own "label_map" sends it to 2'):
        follow_in_training({7: 2}, {7: 3})


@pytest.mark.parametrize(
    ("label_map", "message"),
    [
        ([7], '"label_map" is [7]; give such as {"255": 0'),
        ({"seven": 200}, "has 'seven': 200"),
        ({"7": "left"}, "has '7': 'left'"),
        ({"0": 200}, "changes 0; the background is always 0"),
        ({"7": 3}, "label_map sends 7 to 3, which is not declared; declared are [0, 200, 500]"),
        ({"200": 0, "500": 0}, "leaves nothing but the background"),
    ],
)
def test_a_map_that_cannot_be_used_is_refused(data: Path, label_map: object, message: str) -> None:
    with pytest.raises(InputError) as error:
        read_dataset(edit(data, label_map=label_map))
    assert message in str(error.value)


def test_what_a_map_sends_away_is_no_structure(data: Path) -> None:
    assert read_dataset(edit(data, label_map={"200": 500})).structures == {"right": 500}


def test_check_sums_up_what_is_not_declared_and_says_what_to_do(data: Path, capsys: pytest.CaptureFixture) -> None:
    for index, value in enumerate((11, 12, 13)):
        relabel(label(data, index), 500, value)
    with pytest.raises(InputError):
        mc.check(edit(data, label_map={"9": 0}), workers=1)
    told = " ".join(capsys.readouterr().out.split())
    assert told.count("not declared") == 1
    assert "values 7, 11 to 13 are not declared, in 4 cases (declared: 0 background, 200 left, 500 right)" in told
    assert "Do first: find out what 7, 11, 12, 13 are." in told
    assert 'add "label_map": {"7": 0, "11": 0, "12": 0, "13": 0}' in told


def test_a_map_of_values_that_no_label_has_is_pointed_out(data: Path, capsys: pytest.CaptureFixture) -> None:
    mc.check(edit(data, label_map={"7": 200, "9": 0, "77": 0}), workers=1)
    assert '"label_map" changes 77, which no label has' in " ".join(capsys.readouterr().out.split())


def listing(data: Path, **changes: object) -> Path:
    """A list of "cases", which is written for medcontext alone."""
    manifest = json.loads((data / "dataset.json").read_text())
    manifest["cases"] = manifest.pop("training")
    (data / "dataset.json").write_text(json.dumps(manifest | changes))
    return data


def test_an_unknown_key_is_named(data: Path) -> None:
    listing(data)
    assert read_dataset(data).remarks == ()
    assert read_dataset(listing_with(data, _mine="a comment", description="of the data")).remarks == ()
    for key, near in (("unlabeled", "unlabelled"), ("lable_map", "label_map"), ("Labels", "labels")):
        with pytest.raises(InputError, match=f'has "{key}", which is not read; did you mean "{near}"'):
            read_dataset(listing_with(data, **{key: []}))
    cases = json.loads((data / "dataset.json").read_text())["cases"]
    with pytest.raises(InputError, match='"cases", 1 of them: "patients", which is not read; did you mean "patient"'):
        read_dataset(listing_with(data, cases=[cases[0] | {"patients": "x"}, *cases[1:]]))


def listing_with(data: Path, **more: object) -> Path:
    """Beside it, a list with other keys."""
    manifest = json.loads((data / "dataset.json").read_text())
    (data / "other.json").write_text(json.dumps(manifest | more))
    return data / "other.json"


def test_in_other_programs_files_an_unknown_key_is_a_remark(data: Path) -> None:
    entries = [{**entry, "fold": 0} for entry in json.loads((data / "dataset.json").read_text())["training"]]
    remarks = read_dataset(edit(data, training=entries, unlabeled=[])).remarks
    assert 'has "unlabeled", which is not read; did you mean "unlabelled"' in remarks[0]
    assert '"training", 6 of them: "fold", which is not read' in remarks[1]


def test_labels_of_scans_listed_as_unlabelled_are_said_not_to_be_read(data: Path) -> None:
    (data / "imagesTr" / "ball_9.nii.gz").write_bytes((data / "imagesTr" / "ball_1.nii.gz").read_bytes())
    dataset = read_dataset(edit(data, unlabelled=[{"image": "imagesTr/ball_9.nii.gz", "label": "labelsTr/x.nii.gz"}]))
    assert [(case.name, case.label) for case in dataset.unlabelled] == [("ball_9", None)]
    assert '"unlabelled": 1 of them have a "label", which is not read' in dataset.remarks[0]
