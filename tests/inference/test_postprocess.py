"""Small components are dropped only where that helps on the validation cases."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medcontext.cli import main
from medcontext.commands.postprocess import postprocess
from medcontext.commands.predict import predict
from medcontext.data.cases import Case
from medcontext.data.nifti import image_digest, read_image
from medcontext.data.splits import Split
from medcontext.errors import InputError
from medcontext.inference.components import ALL, apply_steps
from medcontext.inference.postprocess import Parts, decide
from medcontext.reporting.trainings import methods_rows, read_training
from medcontext.run import Run, read_run
from medcontext.run.postprocessing import Together, read_postprocessing
from tests.inference.runs import level_run, nearest_level, read, save, save_networks

LEVEL = {0: 0.0, 200: 100.0, 500: 200.0, 600: 300.0}
SHAPE = (16, 12, 12)


def truth(seed: int) -> np.ndarray:
    """One liver (200), and two spleens (600), of which the smaller is as real as the larger."""
    label = np.zeros(SHAPE, np.int16)
    label[2:7, 2:7, 1 : 4 + seed] = 200
    label[10:14, 2:6, 2:6] = 600
    label[10:12, 8:10, 8:10] = 600
    return label


def scan(label: np.ndarray, spots: bool) -> np.ndarray:
    """An image that the network of `level_run` segments as the label, with spots of liver that are none."""
    image = np.vectorize(LEVEL.get)(label).astype(np.float32)
    if spots:
        image[2:4, 10, 10], image[15, 0, 0] = LEVEL[200], LEVEL[200]
    return image


@pytest.fixture
def data(tmp_path: Path) -> Path:
    entries = []
    for index, name in enumerate("abcd"):
        save(tmp_path / f"data/images/{name}.nii.gz", scan(truth(index), spots=True))
        save(tmp_path / f"data/labels/{name}.nii.gz", truth(index))
        entries.append({key: f"{key}s/{name}.nii.gz" for key in ("image", "label")})
    labels = {"background": 0, "kidney": 500, "liver": 200, "spleen": 600}
    manifest = {"name": "Spots", "channels": ["MR"], "labels": labels, "cases": entries}
    (tmp_path / "data/dataset.json").write_text(json.dumps(manifest))
    return tmp_path / "data"


def digests(data: Path, names: str) -> dict[str, tuple[str, str]]:
    """What a run notes of the cases that it reads."""
    images = {name: Case(name, (data / f"images/{name}.nii.gz",)) for name in names}
    return {name: (image_digest(read_image(case, ["MR"])[0]), "") for name, case in images.items()}


@pytest.fixture
def run(tmp_path: Path, data: Path) -> Run:
    made = level_run(tmp_path / "run", split=Split(("a",), ("b", "c"), ("d",)))
    made = replace(made, facts=replace(made.facts, cases=digests(data, "abc"), data=str(data)))
    made.write()
    return made


def test_what_helps_on_the_validation_cases_is_applied_by_predict(
    run: Run, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["postprocess", f"--run={run.folder}", "--device=cpu"]) == 0
    shown = capsys.readouterr().out
    assert "2 validation cases" in shown
    found = read_postprocessing(run.folder)
    assert found is not None
    assert found.cases == ("b", "c")
    assert set(found.steps) == {"liver"}, "both spleens are real; there is no kidney"
    liver = found.structures["liver"]
    assert liver.dice_after == pytest.approx(1)
    voxels = [int((truth(i) == 200).sum()) for i in (1, 2)]
    assert liver.dice_before == pytest.approx(np.mean([2 * n / (2 * n + 3) for n in voxels]))
    assert found.structures["spleen"].dice_before == found.structures["spleen"].dice_after == pytest.approx(1)
    assert found.structures["spleen"].tried["largest component"] < 1
    assert found.structures["kidney"].dice_before is None
    assert sorted(path.name for path in (run.folder / "postprocessing").glob("*.nii.gz")) == ["b.nii.gz", "c.nii.gz"]
    predict(run, data, tmp_path / "out")
    np.testing.assert_array_equal(read(tmp_path / "out/d.nii.gz"), truth(3))
    sentence = "Post-processing dropped components of liver in 1 case (0.003 ml in d); --postprocess false keeps them."
    assert sentence in " ".join(capsys.readouterr().out.split())
    predict(run, data, tmp_path / "out", part="all", resume=True)
    taken = json.loads((tmp_path / "out/dataset.json").read_text())["dropped_ml"]
    assert taken == {name: {"liver": 0.003} for name in "abcd"}
    predict(run, data, tmp_path / "plain", postprocess=False)
    assert "dropped" not in capsys.readouterr().out.rpartition("predicted")[2]
    assert (read(tmp_path / "plain/d.nii.gz") == 200).sum() == (truth(3) == 200).sum() + 3
    said = json.loads((tmp_path / "out/dataset.json").read_text())["predicted_by"]
    assert said["postprocessing"].keys() == {"liver"}
    assert "postprocessing" not in json.loads((tmp_path / "plain/dataset.json").read_text())["predicted_by"]
    with pytest.raises(InputError, match=r"postprocessing was .*liver.*, now None"):
        predict(run, data, tmp_path / "out", postprocess=False, resume=True)
    with pytest.raises(InputError, match=r"postprocessing was None.*--postprocess false, as it began"):
        predict(run, data, tmp_path / "plain", resume=True)
    rows = dict(methods_rows([read_training("m", said["networks"][0], said)]))
    assert rows["post-processing"] == [f"liver: {said['postprocessing']['liver']}"]


def test_again_it_goes_on_and_with_other_weights_it_begins_anew(run: Run, data: Path, tmp_path: Path, capsys) -> None:
    postprocess(run)
    folder = run.folder / "postprocessing"
    (folder / "c.nii.gz").unlink()
    (folder / ".tmp-7-c.nii.gz").touch()
    before = (folder / "b.nii.gz").stat()
    text = (run.folder / "postprocessing.json").read_text()
    postprocess(run, data)
    assert (folder / "b.nii.gz").stat() == before
    assert (run.folder / "postprocessing.json").read_text() == text
    save_networks(run, nearest_level(run, scale=2.0))  # trained on
    capsys.readouterr()
    predict(run, data, tmp_path / "out")
    assert "is not applied: it was found for other checkpoints" in capsys.readouterr().out
    assert (read(tmp_path / "out/d.nii.gz") == 200).sum() == (truth(3) == 200).sum() + 3
    postprocess(run)
    assert "made anew" in capsys.readouterr().out
    assert (folder / "b.nii.gz").stat().st_mtime_ns != before.st_mtime_ns
    predict(run, data, tmp_path / "new")
    np.testing.assert_array_equal(read(tmp_path / "new/d.nii.gz"), truth(3))


def test_it_is_not_applied_to_several_networks(run: Run, data: Path, tmp_path: Path, capsys) -> None:
    other = level_run(tmp_path / "other", split=run.split)
    predict([run, other], data / "images", tmp_path / "before")
    assert "not applied" not in capsys.readouterr().out
    postprocess(run)
    predict([run, other], data / "images", tmp_path / "out")
    assert "found for one network, not for several" in capsys.readouterr().out


def test_what_cannot_decide_is_refused(run: Run, data: Path, tmp_path: Path) -> None:
    bare = level_run(tmp_path / "bare", split=Split(("a",), (), ("b",)))
    with pytest.raises(InputError, match=r"has no validation cases, .* --by labels"):
        postprocess(bare, data)
    save(data / "images/c.nii.gz", scan(truth(2), spots=False))
    with pytest.raises(InputError, match=r"other scans than .* under the names c\."):
        postprocess(run)
    assert not (run.folder / "postprocessing.json").exists()
    (data / "images/c.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match="1 validation cases could not be predicted: case 'c'"):
        postprocess(run)
    (run.folder / "postprocessing.json").write_text('{"cases": []}')
    with pytest.raises(InputError, match=r"postprocessing\.json is damaged"):
        predict(run, data, tmp_path / "out")


def test_what_is_one_piece_in_the_labels_stays_one_whatever_the_checkpoint(
    run: Run, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = replace(run, split=Split(("a", "b"), (), ("c", "d")))
    run.write()
    assert main(["postprocess", f"--run={run.folder}", "--by=labels"]) == 0
    assert "2 training labels" in capsys.readouterr().out
    found = read_postprocessing(run.folder)
    assert found is not None
    assert found.cases == ("a", "b")
    assert {name: choice.pieces for name, choice in found.structures.items()} == {"kidney": 0, "liver": 1, "spleen": 2}
    assert found.steps == {"liver": Together(4.0)}, "the longest side of any liver, from voxel to voxel"
    assert not (run.folder / "postprocessing").exists(), "nothing is predicted"
    save_networks(run, nearest_level(run), name="best")
    for options in ({}, {"checkpoint": ["best"]}, {"weights": "teacher"}):
        output = tmp_path / "-".join(["out", *options])
        predict(run, data, output, **options)
        np.testing.assert_array_equal(read(output / "d.nii.gz"), truth(3))
    assert "is not applied" not in capsys.readouterr().out


def test_labels_decide_over_all_folds_and_not_beside_options_of_predictions(
    cross_validation: Path, run: Run, data: Path
) -> None:
    postprocess(cross_validation, data, by="labels")
    found = read_postprocessing(cross_validation)
    assert found is not None
    assert (sorted(found.cases), set(found.steps)) == (list("abcd"), {"liver"})
    with pytest.raises(InputError, match=r"Labels decide, and nothing is predicted\. Leave out --checkpoint"):
        postprocess(run, by="labels", weights="teacher")
    (data / "labels/a.nii.gz").unlink()
    with pytest.raises(InputError, match=r"a\.nii\.gz"):
        postprocess(run, by="labels")
    assert read_postprocessing(run.folder) is None


def test_another_scan_or_label_under_a_training_cases_name_is_refused(run: Run, data: Path) -> None:
    (image, _), ranks = run.facts.cases["a"], np.searchsorted([0, 200, 500, 600], truth(0)).astype(np.uint8)
    run.facts.cases["a"] = (image, image_digest(np.asfortranarray(ranks)))
    run.write()
    postprocess(run, by="labels")
    save(data / "labels/a.nii.gz", truth(1))
    with pytest.raises(InputError, match="another label under the name a than"):
        postprocess(run, by="labels")
    save(data / "images/a.nii.gz", scan(truth(2), spots=False))
    with pytest.raises(InputError, match="another scan under the name a than"):
        postprocess(run, by="labels")
    empty = level_run(data / "empty", split=Split(("a",), (), ()))
    with pytest.raises(InputError, match="notes no case that it was trained on"):
        postprocess(empty, data, by="labels")


def test_one_label_alone_does_not_say_that_a_structure_is_one_piece(run: Run, data: Path) -> None:
    run = replace(run, split=Split(("a", "b"), (), ("c", "d")))
    run.write()
    save(data / "labels/b.nii.gz", np.where(truth(1) == 200, 0, truth(1)))
    postprocess(run, by="labels")
    found = read_postprocessing(run.folder)
    assert found is not None
    assert (found.steps, found.structures["liver"].labels) == ({}, 1)


def test_networks_whose_labels_say_the_same_are_processed_together(
    run: Run, data: Path, tmp_path: Path, capsys
) -> None:
    run = replace(run, split=Split(("a", "b"), (), ("c", "d")))
    run.write()
    save_networks(run, nearest_level(run))
    other = level_run(tmp_path / "other", split=run.split)
    other = replace(other, facts=run.facts)
    other.write()
    for each in (run, other):
        postprocess(each, by="labels")
    predict([run, other], data / "images/d.nii.gz", tmp_path / "out")
    np.testing.assert_array_equal(read(tmp_path / "out/d.nii.gz"), truth(3))
    content = json.loads((other.folder / "postprocessing.json").read_text())
    content["structures"]["liver"]["within_mm"] = 100.0
    (other.folder / "postprocessing.json").write_text(json.dumps(content))
    capsys.readouterr()
    predict([run, other], data / "images/d.nii.gz", tmp_path / "differ")
    assert "differ in what is one piece" in " ".join(capsys.readouterr().out.split())
    content["structures"]["liver"]["within_mm"] = []
    (other.folder / "postprocessing.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"postprocessing\.json is damaged"):
        predict([run, other], data / "images/d.nii.gz", tmp_path / "damaged")
    postprocess(other, by="labels")
    assert read_postprocessing(other.folder) == read_postprocessing(run.folder), "a damaged file is replaced"
    with pytest.raises(InputError, match="by is one of validation, labels; got 'label'"):
        postprocess(run, by="label")  # type: ignore[arg-type]


def test_what_was_dropped_is_of_the_prediction_that_is_there(run: Run, data: Path, tmp_path: Path) -> None:
    postprocess(run)
    predict(run, data, tmp_path / "out")
    assert "dropped_ml" in json.loads((tmp_path / "out/dataset.json").read_text())
    (tmp_path / "out/d.nii.gz").unlink()
    save(data / "images/d.nii.gz", scan(truth(3), spots=False))
    predict(run, data, tmp_path / "out", resume=True, part="all")
    assert "d" not in json.loads((tmp_path / "out/dataset.json").read_text())["dropped_ml"]


def parts(sizes: list[float], right: list[float], whole: float, inner: list[float] | None = None) -> Parts:
    predicted, agreed, volumes = {"s": np.array(sizes)}, {"s": np.array(right)}, {"s": whole}
    if inner is not None:  # a region inside it, all of which is right
        predicted["in"] = agreed["in"] = np.array(inner)
        volumes["in"] = sum(inner)
    return Parts(np.array(sizes), predicted, agreed, volumes)


def test_of_equally_good_steps_the_one_that_drops_least() -> None:
    chosen = decide("s", [parts([1.0, 0.02], [1.0, 0.0], 1.0)])
    assert chosen.keep == 0.03
    assert chosen.tried["largest component"] == chosen.dice_after == 1


def test_a_false_alarm_that_goes_counts_as_right() -> None:
    chosen = decide("s", [parts([0.01], [0.0], 0.0), parts([1.0], [1.0], 1.0), parts([], [], 0.0)])
    assert (chosen.keep, chosen.dice_before, chosen.dice_after) == (0.03, 0.5, 1.0)


def test_no_region_inside_may_lose() -> None:
    assert decide("s", [parts([1.0, 0.02], [1.0, 0.0], 1.0, [0.5, 0.0])]).keep == 0.03
    assert decide("s", [parts([1.0, 0.02], [1.0, 0.0], 1.0, [0.5, 0.01])]).keep == "all"


def test_what_is_dropped_of_a_region_becomes_what_lies_around() -> None:
    regions = {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}
    line = np.array([2, 1, 4, 4, 1, 2, 1, 2, 0, 2, 4, 0]).reshape(12, 1, 1)

    def after(**steps: str) -> list[int]:
        return apply_steps(line, steps, regions, regions, np.ones(3)).ravel().tolist()  # type: ignore[arg-type]

    assert after(WT="largest") == [2, 1, 4, 4, 1, 2, 1, 2, 0, 0, 0, 0]
    assert after(TC="largest") == [2, 1, 4, 4, 1, 2, 2, 2, 0, 2, 2, 0]
    assert after(ET="largest") == [2, 1, 4, 4, 1, 2, 1, 2, 0, 2, 1, 0]
    assert after(WT="largest", TC="largest") == [2, 1, 4, 4, 1, 2, 2, 2, 0, 0, 0, 0]


def test_components_touch_at_corners_and_are_measured_in_ml() -> None:
    label = np.zeros((6, 4, 4), np.int16)
    label[0, 0, 0] = label[1, 1, 1] = label[4, 3, 3] = 7
    kept = apply_steps(label, {"s": 2.0}, {"s": (7,)}, {}, np.full(3, 10.0))
    assert kept[1, 1, 1] == kept[0, 0, 0] == 7
    assert kept[4, 3, 3] == 0
    assert label[4, 3, 3] == 7, "the label that was given stays as it is"


def test_what_a_network_tears_apart_stays_and_what_lies_far_goes() -> None:
    label = np.zeros((20, 8, 8), np.int16)
    label[0:5, 3, 3], label[7:9, 3, 3], label[12:16, 3, 3], label[18, 3, 3] = 7, 7, 7, 7
    left = apply_steps(label, {"s": Together(16.0)}, {"s": (7,)}, {}, np.array([2.0 + 1e-6, 1.0, 1.0]))
    assert np.flatnonzero(left[:, 3, 3]).tolist() == [0, 1, 2, 3, 4, 7, 8]
    left = apply_steps(label, {"s": Together(1.0)}, {"s": (7,)}, {}, np.ones(3))
    assert np.flatnonzero(left[:, 3, 3]).tolist() == [0, 1, 2, 3, 4], "the largest, however long"


@pytest.fixture
def cross_validation(tmp_path: Path, data: Path) -> Path:
    """Two folds, trained to the end, and what each predicted of the cases that it was not trained on."""
    folder = tmp_path / "cv"
    parts, networks = {}, []
    for fold, (train, held_out) in enumerate((("ab", "cd"), ("cd", "ab"))):
        made = level_run(folder / f"fold{fold}/run", split=Split(tuple(train), tuple(held_out), ()))
        save_networks(made, nearest_level(made, scale=1.0 + 0.01 * fold))
        seen = digests(data, "abcd")
        made = replace(made, facts=replace(made.facts, data=str(data), step=made.settings.steps, cases=seen))
        made.write()
        predict(made, [data / f"images/{name}.nii.gz" for name in held_out], tmp_path / f"held_out{fold}")
        record = json.loads((tmp_path / f"held_out{fold}/dataset.json").read_text())
        for name in held_out:
            save(folder / f"predictions/{name}.nii.gz", read(tmp_path / f"held_out{fold}/{name}.nii.gz"))
        networks += record["predicted_by"]["networks"]
        parts |= dict.fromkeys(held_out, "out of fold")
    record["predicted_by"]["networks"] = networks
    (folder / "predictions/dataset.json").write_text(json.dumps({**record, "parts": parts}))
    folds = [{"train": list("ab"), "val": list("cd")}, {"train": list("cd"), "val": list("ab")}]
    (folder / "splits_final.json").write_text(json.dumps(folds))
    return folder


def test_a_cross_validations_ensemble_gets_what_helps_out_of_fold(
    cross_validation: Path, data: Path, tmp_path: Path, capsys
) -> None:
    assert main(["postprocess", f"--run={cross_validation}", "--device=cpu"]) == 0
    assert "4 out-of-fold cases" in capsys.readouterr().out
    found = read_postprocessing(cross_validation)
    assert found is not None
    assert sorted(found.cases) == list("abcd")
    assert found.steps.keys() == {"liver"}
    predict(cross_validation, data / "images", tmp_path / "out")
    np.testing.assert_array_equal(read(tmp_path / "out/d.nii.gz"), truth(3))
    predict(cross_validation / "fold0/run", data / "images", tmp_path / "one")
    assert (read(tmp_path / "one/d.nii.gz") == 200).sum() == (truth(3) == 200).sum() + 3, "one fold is no ensemble"
    capsys.readouterr()
    predict(cross_validation, data / "images", tmp_path / "teachers", weights="teacher")
    assert "is not applied: it was found for other checkpoints, or for the other weights" in capsys.readouterr().out


def test_a_cross_validation_that_is_not_as_it_predicted_decides_nothing(cross_validation: Path) -> None:
    with pytest.raises(InputError, match="predictions are there already: of checkpoint last, by the student"):
        postprocess(cross_validation, checkpoint="best")
    (cross_validation / "predictions/c.nii.gz").unlink()
    with pytest.raises(InputError, match="lacks the predictions of c"):
        postprocess(cross_validation)
    fold = read_run(cross_validation / "fold1/run")
    save_networks(fold, nearest_level(fold, scale=2.0))  # trained on
    with pytest.raises(InputError, match="is not of the checkpoints that the folds have now"):
        postprocess(cross_validation)
    (cross_validation / "predictions/dataset.json").unlink()
    with pytest.raises(InputError, match="has no predictions of its folds yet"):
        postprocess(cross_validation)
    assert not (cross_validation / "postprocessing.json").exists()


def test_all_structures_together_come_first(run: Run, data: Path, tmp_path: Path) -> None:
    """Two stray pieces that touch: as one structure, a heart, they are not its largest component."""
    for index, name in enumerate("abcd"):
        label = np.zeros(SHAPE, np.int16)
        label[2:8, 2:8, 2 : 5 + index], label[8:12, 2:8, 2 : 5 + index] = 200, 600
        save(data / f"labels/{name}.nii.gz", label)
        image = scan(label, spots=False)
        image[1:3, 10:12, 10:12], image[3:5, 10:12, 10:12] = LEVEL[200], LEVEL[600]
        save(data / f"images/{name}.nii.gz", image)
    images = {name: Case(name, (data / f"images/{name}.nii.gz",)) for name in "abc"}
    cases = {name: (image_digest(read_image(case, ["MR"])[0]), "") for name, case in images.items()}
    replace(run, facts=replace(run.facts, cases=cases)).write()
    postprocess(run)
    found = read_postprocessing(run.folder)
    assert found is not None
    assert set(found.steps) == {ALL}, "nothing is left to do for each by itself"
    assert found.structures[ALL].dice_after == pytest.approx(1)
    predict(run, data, tmp_path / "out")
    np.testing.assert_array_equal(read(tmp_path / "out/d.nii.gz"), label)


def test_what_helps_all_together_may_not_cost_one() -> None:
    sizes, predicted = np.array([5.0, 1.0]), {ALL: np.array([5.0, 1.0]), "a": np.array([4.0, 0.1])}
    for right, keep in ((0.1, "all"), (0.0, "largest")):  # what of the smaller component is truly a's
        agreed = {ALL: np.array([5.0, right]), "a": np.array([4.0, right])}
        found = decide(ALL, [Parts(sizes, predicted, agreed, {ALL: 5.0 + right, "a": 4.0 + right})])
        assert found.keep == keep
