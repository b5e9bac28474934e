"""What a network's signs are worth is learnt on cases that it was not trained on, and told with every prediction."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from medcontext.cli import main
from medcontext.commands.calibrate import calibrate
from medcontext.commands.predict import predict
from medcontext.data.cases import Case
from medcontext.data.nifti import read_image
from medcontext.data.splits import Split
from medcontext.errors import InputError
from medcontext.files import file_hash
from medcontext.inference import calibrate as looking
from medcontext.inference.judge import read_expected
from medcontext.run import FOLDS, Run
from medcontext.run.calibration import FILE, UNFINISHED, read_calibration
from medcontext.run.postprocessing import Choice, Postprocessing, write_postprocessing
from tests.inference.faint import NAMES, SCALE, faint_run, scan, write_data
from tests.inference.runs import nearest_level, save, save_networks


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


@pytest.fixture
def run(tmp_path: Path, data: Path) -> Run:
    return faint_run(tmp_path / "run", data, Split(("a", "b"), tuple("cdefg"), ("h",)))


def test_a_calibrated_run_says_what_to_expect(
    run: Run, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", f"--run={run.folder}", "--device=cpu"]) == 0
    assert "5 patients not trained on" in capsys.readouterr().out
    found = read_calibration(run.folder / FILE)
    assert found is not None
    assert found.rule is not None
    assert not (run.folder / UNFINISHED).exists()
    assert {row.case for row in found.observed} == set("cdefg")
    assert {row.structure for row in found.observed} == {"kidney", "liver", "spleen"}
    assert all(row.dsc == 0 for row in found.observed if row.structure == "kidney"), "false alarms"
    assert found.known.volumes["liver"] == pytest.approx((0.245,) * 7)
    assert found.known.volumes["kidney"] == (0,) * 7

    predict(run, data, tmp_path / "out")
    label = np.asarray(read_image(Case("h", (tmp_path / "out/h.nii.gz",)), ["MR"])[0][0])
    rows = {row.structure: row for row in read_expected(tmp_path / "out")}
    assert list(rows) == ["mean", "kidney", "liver", "spleen"]
    expected = rows["liver"].expected
    assert expected is not None
    true = 2 * ((label == 200) & (scan(7)[1] == 200)).sum() / ((label == 200).sum() + 245)
    assert expected[0] == pytest.approx(true, abs=0.12)
    assert expected[1] <= true <= expected[2]
    assert "likely bad" in rows["mean"].remarks, "the faintest of all"
    said = json.loads((tmp_path / "out/dataset.json").read_text())["predicted_by"]
    assert said["calibrated_on"] == 5
    predict(run, data, tmp_path / "without", expected=False)
    assert not (tmp_path / "without" / "expected.csv").exists()
    with pytest.raises(InputError, match="calibrated_on was 5, now None"):
        predict(run, data, tmp_path / "out", expected=False, resume=True)


def test_the_worst_come_first(run: Run, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calibrate(run)
    predict(run, data, tmp_path / "out", part="all")
    with (tmp_path / "out/expected.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["structure"] == "mean"]
    assert sorted(row["case"] for row in rows) == list(NAMES)
    assert rows[0]["case"] == "h", "the faintest of all"
    need = [(not row["remarks"], float(row["expected_dsc"])) for row in rows]
    assert need == sorted(need)
    assert "Look first at" in capsys.readouterr().out


@pytest.fixture
def seen(run: Run, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An item for each case that was predicted since a calibration was interrupted after the third of five."""
    seen: list[str] = []
    segment = looking.segment

    def counted(image: np.ndarray, *rest: object, **options: object) -> object:
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append("")
        return segment(image, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(looking, "segment", counted)
    with pytest.raises(KeyboardInterrupt):
        calibrate(run)
    assert not (run.folder / FILE).exists()
    assert (run.folder / UNFINISHED).exists()
    monkeypatch.setattr(looking, "segment", lambda *rest, **options: seen.append("") or segment(*rest, **options))
    seen.clear()
    return seen


def test_an_interrupted_calibration_goes_on(run: Run, seen: list[str]) -> None:
    calibrate(run)
    assert len(seen) == 2, "three of five were looked at before"
    resumed = (run.folder / FILE).read_text()
    calibrate(run)
    assert (run.folder / FILE).read_text() == resumed


def test_interrupted_on_other_data_it_begins_anew(run: Run, data: Path, seen: list[str]) -> None:
    other = write_data(data.parent / "other", "cdef")
    for name in "cd":
        save(other / f"images/{name}.nii.gz", scan(NAMES.index(name))[0] + 1)
    calibrate(run, on=other)
    assert len(seen) == 3, "of the three looked at before, e alone is the same"
    resumed = (run.folder / FILE).read_text()
    calibrate(run, on=other)
    assert (run.folder / FILE).read_text() == resumed


def test_a_label_that_changed_meanwhile_counts(run: Run, data: Path, seen: list[str]) -> None:
    save(data / "labels/d.nii.gz", np.where(scan(3)[1] == 200, 600, 0).astype(np.int16))
    calibrate(run)
    assert len(seen) == 3
    found = read_calibration(run.folder / FILE)
    assert found is not None
    assert [row.dsc for row in found.observed if (row.case, row.structure) == ("d", "liver")] == [0]


def test_of_other_weights_or_windows_it_says_nothing(
    run: Run, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calibrate(run)
    for index, other in enumerate(({"weights": "teacher"}, {"overlap": 0.75}, {"mirror": True})):
        predict(run, data, tmp_path / f"out{index}", **other)  # type: ignore[arg-type]
        assert "calibrated for other checkpoints, weights, overlap, mirroring or post" in capsys.readouterr().out
        assert not (tmp_path / f"out{index}/expected.csv").exists()
    save_networks(run, nearest_level(run, scale=2 * SCALE))  # trained on
    with pytest.raises(InputError, match=r"--expected needs what `medcontext calibrate` learns, but .* is calibrated"):
        predict(run, data, tmp_path / "out", expected=True)
    assert not (tmp_path / "out").exists()


def test_of_other_post_processing_it_says_nothing(
    run: Run, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calibrate(run)
    networks = (file_hash(run.checkpoint("last")),)
    choice = Choice(500.0, 0.5, 0.5, {})  # more ml than there are: no liver is left
    write_postprocessing(run.folder, Postprocessing(("c",), "student", networks, {"liver": choice}))
    predict(run, data, tmp_path / "changed")
    assert "Run `medcontext calibrate` again" in capsys.readouterr().out
    assert not (tmp_path / "changed/expected.csv").exists()
    predict(run, data, tmp_path / "without", postprocess=False)
    assert (tmp_path / "without/expected.csv").exists()
    calibrate(run)
    found = read_calibration(run.folder / FILE)
    assert found is not None
    assert all(row.dsc == 0 for row in found.observed if row.structure == "liver")
    predict(run, data, tmp_path / "again")
    assert (tmp_path / "again/expected.csv").exists()


def test_without_cases_it_knows_only_what_is_unlike(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = faint_run(tmp_path / "run", data, Split(("a", "b"), (), ("h",)))
    with pytest.raises(InputError, match="is not calibrated"):
        predict(run, data, tmp_path / "out", expected=True)
    calibrate(run)
    assert "no DSC can be expected" in capsys.readouterr().out
    predict(run, data, tmp_path / "out")
    rows = {row.structure: row for row in read_expected(tmp_path / "out")}
    assert rows["liver"].expected is None
    assert rows["liver"].signs is not None


def test_it_learns_from_another_data_set(data: Path, tmp_path: Path) -> None:
    run = faint_run(tmp_path / "run", data, Split(("a", "b"), (), ("h",)))
    calibrate(run, on=write_data(tmp_path / "other", "cdef"))
    found = read_calibration(run.folder / FILE)
    assert found is not None
    assert {row.case for row in found.observed} == set("cdef")
    with pytest.raises(InputError, match="was trained on the scan of case 'b'"):
        calibrate(run, on=write_data(tmp_path / "same", "bcd"))


def test_labels_that_mean_something_else_are_refused(data: Path, tmp_path: Path) -> None:
    run = faint_run(tmp_path / "run", data, Split(("a", "b"), (), ("h",)))
    other = write_data(tmp_path / "other", "cdef")
    described = json.loads((other / "dataset.json").read_text())
    for labels, channels, said in (
        ({"background": 0, "spleen": 200, "kidney": 500, "liver": 600}, ["MR"], "has the labels spleen 200"),
        ({"background": 0, "kidney": 500, "liver": 200, "spleen": 600}, ["CT"], "has the channels CT"),
    ):
        (other / "dataset.json").write_text(json.dumps(described | {"labels": labels, "channels": channels}))
        with pytest.raises(InputError, match=said):
            calibrate(run, on=other)
    assert not (run.folder / FILE).exists()


def test_scans_that_changed_are_refused(run: Run, data: Path) -> None:
    save(data / "images/a.nii.gz", scan(5)[0] + 1)
    with pytest.raises(InputError, match="has another scan under the name a than"):
        calibrate(run)
    with pytest.raises(InputError, match="has no labelled case a, b"):
        calibrate(run, data=write_data(data.parent / "other", "cdefg"))


def test_of_a_cross_validation_each_fold_is_asked_of_what_it_was_not_trained_on(data: Path, tmp_path: Path) -> None:
    root = tmp_path / "cv"
    folds = [Split(tuple("efgh"), tuple("abcd"), ()), Split(tuple("abcd"), tuple("efgh"), ())]
    for number, split in enumerate(folds):
        run = faint_run(root / f"fold{number}" / "run", data, split)
        save_networks(run, nearest_level(run, scale=SCALE * (1 + number)))
    (root / FOLDS).write_text(json.dumps([{"train": one.train, "val": one.validation} for one in folds]))
    calibrate(root)
    found = read_calibration(root / FILE)
    assert found is not None
    assert [row.case for row in found.observed if row.structure == "liver"] == list(NAMES)
    assert len(found.networks) == 2
    assert any(row.dsc for row in found.observed if row.structure == "liver")
    predict(root, write_data(tmp_path / "new", "h"), tmp_path / "out", part="all")
    assert read_expected(tmp_path / "out")[2].expected is not None
    choice = Choice(500.0, 0.5, 0.5, {})
    write_postprocessing(root, Postprocessing(tuple(NAMES), "student", found.networks, {"liver": choice}))
    calibrate(root)
    found = read_calibration(root / FILE)
    assert found is not None
    assert not any(row.dsc for row in found.observed if row.structure == "liver"), "as of the ensemble's predictions"


def test_a_damaged_file_is_named(run: Run, data: Path, tmp_path: Path) -> None:
    calibrate(run)
    content = json.loads((run.folder / FILE).read_text())
    content["rule"]["weights"] = "many"
    (run.folder / FILE).write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"calibration\.json is damaged: weights is 'many'"):
        predict(run, data, tmp_path / "out")
    shutil.rmtree(run.folder / "checkpoints")
    with pytest.raises(InputError, match=r"last\.ckpt"):
        calibrate(run)
