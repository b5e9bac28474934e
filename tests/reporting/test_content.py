"""From evaluations to what is shown, where label values, seeds, patients and files are not as simple as they may be."""

import base64
import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medcontext.cli import main
from medcontext.commands.evaluate import evaluate
from medcontext.comparison.read import read_study
from medcontext.pictures.panel import differs
from medcontext.reporting.content import make_page, named_values, read_content, shown_case
from medcontext.reporting.make import mosaic_cases, read_case, write_figures
from medcontext.reporting.page import pack_case
from medcontext.reporting.result_tables import result_tables

SHAPE = (20, 24, 12)
ONE, TWO = (slice(3, 9), slice(4, 12), slice(3, 9)), (slice(11, 17), slice(4, 12), slice(3, 9))
Scans = dict[str, np.ndarray]


def label(one: int = 1, two: int = 2, moved: int = 0) -> np.ndarray:
    """Two blocks of these values."""
    array = np.zeros(SHAPE, np.int16)
    array[ONE], array[TWO] = one, two
    return np.roll(array, moved, axis=1)


def evaluation(folder: Path, labels: Scans, predictions: Scans, images: Scans | None = None, **options) -> Path:
    """Write and evaluate scans by case; images may have affines of their own (`name` to (array, affine))."""
    for part, scans in {"labels": labels, "predictions": predictions, "images": images or {}}.items():
        (folder / part).mkdir(parents=True)
        for name, scan in scans.items():
            array, affine = scan if isinstance(scan, tuple) else (scan, np.eye(4))
            nib.save(nib.Nifti1Image(array, affine), folder / part / f"{name}.nii.gz")
    where = {"images": folder / "images"} if images else {}
    evaluate(folder / "predictions", folder / "labels", folder / "scores", workers=1, **where, **options)
    return folder / "scores"


def arrays(content, name: str) -> dict[str, np.ndarray]:
    packed = json.loads(pack_case(read_case(content, name)))["volumes"]
    files = {key: gzip.decompress(base64.b64decode(text)) for key, text in packed.items()}
    return {key: np.asanyarray(nib.Nifti1Image.from_bytes(file).dataobj) for key, file in files.items()}


def test_values_of_one_structure_are_one_colour_and_no_error(tmp_path: Path) -> None:
    structures = {"kidneys": [1, 2]}
    scores = evaluation(tmp_path / "e", {"a": label()}, {"a": label(2, 1)}, structures=structures)
    content = read_content([str(scores)])
    assert content.values == {"kidneys": (1, 2)}
    shown = arrays(content, "a")
    np.testing.assert_array_equal(shown["truth"], shown["0"])
    assert shown_case(content, "a").scores == {"kidneys": [1.0]}
    assert not differs(label(2, 1), label(), structures).any()


def test_overlapping_regions_differ_where_one_of_them_does() -> None:
    regions = {"whole": [1, 2], "core": [2]}
    assert named_values(regions) == {"whole": (1,), "whole + core": (2,)}
    assert differs(label(2, 2), label(1, 2), regions).sum() == (label() == 1).sum()


def test_labels_of_different_values_are_not_drawn_over_each_other(tmp_path: Path) -> None:
    a = evaluation(tmp_path / "a", {"a": label()}, {"a": label()}, structures={"x": 1, "y": 2})
    b = evaluation(tmp_path / "b", {"a": label(6, 1)}, {"a": label(6, 1)}, structures={"x": 6, "y": 1})
    content = read_content([f"a={a}", f"b={b}"])
    assert not content.files
    page = make_page(content, [])
    assert "different label values" in dict(page.about)["cases"]


def test_an_evaluation_without_values_says_why_nothing_is_drawn(tmp_path: Path) -> None:
    scores = evaluation(tmp_path / "e", {"a": label()}, {"a": label()})
    summary = json.loads((scores / "summary.json").read_text())
    del summary["values"]
    (scores / "summary.json").write_text(json.dumps(summary))
    content = read_content([str(scores)])
    assert "evaluate again" in dict(make_page(content, []).about)["cases"]


def test_the_scores_of_cases_are_the_means_over_the_structures(arguments: list[str]) -> None:
    content = read_content(arguments)
    models, scores = content.study.models, content.scores
    assert len(scores) == 8
    for side, model in enumerate(models):
        rows = model.evaluations[0].rows
        values = [float(rows["ball_3", name]["dsc"]) for name in ("left", "right")]
        assert scores["ball_3"][side] == pytest.approx(sum(values) / 2)
    assert float(models[1].evaluations[0].rows["ball_3", "right"]["dsc"]) == 0, "missed, and counted"


def test_of_several_seeds_the_panel_has_the_score_of_what_it_shows(tmp_path: Path) -> None:
    labels = {"a": label(), "b": label()}
    first = evaluation(tmp_path / "0", labels, {"a": label(moved=2), "b": label()})
    second = evaluation(tmp_path / "1", labels, {"a": label(), "b": label()})
    content = read_content([f"m={first},{second}"])
    assert shown_case(content, "a").means == [0.75]
    assert content.scores["a"] == [0.875], "the table has the mean of the seeds"
    assert content.files["a"].predictions["m"] == tmp_path / "0" / "predictions" / "a.nii.gz"


def test_a_third_model_with_a_false_alarm_leaves_all_on_the_same_cases(tmp_path: Path) -> None:
    labels, structures = {"a": label(), "b": label(two=0)}, {"x": 1, "y": 2}
    exact = evaluation(tmp_path / "A", labels, {"a": label(), "b": label(two=0)}, structures=structures)
    moved = evaluation(tmp_path / "B", labels, {"a": label(moved=2), "b": label(two=0)}, structures=structures)
    ghost = evaluation(tmp_path / "C", labels, {"a": label(), "b": label()}, structures=structures)
    content = read_content([f"A={exact}", f"B={moved}", f"C={ghost}"])
    table = result_tables(content.study, content.comparisons)[0]
    for row in table.rows:
        means = [float(text) for text, _ in row.means]
        for mean, difference in zip(means[1:], row.differences, strict=True):
            assert float(difference.mean) == pytest.approx(mean - means[0], abs=0.11), row.structure
    assert [text for text, _ in table.rows[1].means] == ["100.0", "87.5", "50.0"]


def test_a_model_alone_has_the_mean_that_it_has_beside_another(tmp_path: Path) -> None:
    names = (*(f"patient001_frame0{frame}" for frame in (1, 2, 3)), "patient002_frame01")
    labels = dict.fromkeys(names, label())
    predictions = {name: label(moved=0 if name.startswith("patient001") else 4) for name in names}
    scores = evaluation(tmp_path / "e", labels, predictions)
    alone, beside = (
        result_tables(each.study, each.comparisons)[0].rows[0].means[0]
        for each in (read_content([str(scores)]), read_content([f"a={scores}", f"b={scores}"]))
    )
    assert alone[0] == beside[0] == "75.0"  # of two patients 100 and 50, not of four cases


def test_a_bad_image_takes_nothing_away_but_itself(tmp_path: Path) -> None:
    flipped = np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = SHAPE[0] - 1
    images = {"good": label().astype(np.float32), "flipped": (label().astype(np.float32), flipped)}
    images["holes"] = np.full(SHAPE, np.nan, np.float32)
    labels = dict.fromkeys(images, label())
    scores = evaluation(tmp_path / "e", labels, labels, images)
    content = read_content([str(scores)])
    assert arrays(content, "good")["image"].any()
    for name in ("flipped", "holes"):
        assert not arrays(content, name)["image"].any()
        assert arrays(content, name)["truth"].any()
        assert "without its image" in read_case(content, name).note
    assert [case.name for case in mosaic_cases(content)] == ["good"], "no label on an image that lies elsewhere"
    assert main(["report", str(scores), "--output", str(tmp_path / "a.html"), "--cases", "all"]) == 0
    assert "flipped: shown without its image" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_cases_without_any_structure_can_be_looked_at_too(tmp_path: Path) -> None:
    labels = {"ill": label(), "healthy": label(0, 0)}
    scores = evaluation(tmp_path / "e", labels, labels)
    content = read_content([str(scores)])
    assert "2 test cases of 2 patients" in make_page(content, []).subtitle
    for cases in (["all"], ["healthy", "healthy"]):
        assert main(["report", str(scores), "--output", str(tmp_path / f"{len(cases)}.html"), "--cases", *cases]) == 0


def test_models_of_nearly_one_name_have_figures_of_their_own(tmp_path: Path) -> None:
    labels = {"a": label(), "b": label()}
    scores = evaluation(tmp_path / "e", labels, {name: label(moved=1) for name in labels})
    names = ["first", "a b", "a_b", "A_b", "cost $3 or $\\frac$", "n" * 300, "seven", "eight"]
    paths = write_figures([f"{name}={scores}" for name in names], tmp_path / "figures")
    files = {path.name.lower() for path in paths}
    assert len(files) == len(paths) == len(list((tmp_path / "figures").iterdir()))
    assert sum(name.startswith("differences") for name in files) == 2 * (len(names) - 1)


def test_one_patient_has_no_interval_and_says_so(tmp_path: Path) -> None:
    scores = evaluation(tmp_path / "e", {"a": label()}, {"a": label(moved=1)})
    content = read_content([f"a={scores}", f"b={scores}"])
    page = make_page(content, [])
    assert page.tables[0].rows[0].differences[0].interval == "–"
    assert not any(best for _, best in page.tables[0].rows[0].means), "none is best where all are equal"
    assert "On this one patient" in page.conclusion[0]
    assert "there is no interval and no test" in page.conclusion[0]
    assert len(read_study([str(scores)], least=1).models) == 1
