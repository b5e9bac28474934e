"""Whose part a scored case is, from the prediction to the page."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import medcontext as mc
from medcontext.cli import main
from medcontext.data.splits import Split
from medcontext.inference.parts import part_of
from tests.inference.runs import make_run
from tests.training.commands import arguments


def test_training_cases_are_known_by_their_content_and_test_cases_by_the_split(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", split=Split(("a",), ("b",), ("c",)))
    run = replace(run, facts=replace(run.facts, cases={"a": ("1", ""), "b": ("2", "")}))
    other = replace(run, split=Split(("b",), ("a",), ("c",)))
    assert part_of("a", "1", [run], {"c"}) == "training"
    assert part_of("renamed", "1", [run]) == "training"
    assert part_of("b", "2", [run]) == "validation"
    assert part_of("b", "2", [run, other]) == "training", "one network of the ensemble learnt from it"
    assert part_of("c", "3", [run, other], {"c"}) == "test"
    assert part_of("a", "3", [run]) == "unknown", "another scan under the name of a training case"


@pytest.mark.slow
def test_scores_on_training_cases_are_called_so_everywhere(balls: Path, tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    assert main(arguments(balls, run, "--steps=1", "--few_shot=2", "--method=none")) == 0
    trained = json.loads((run / "split.json").read_text())["train"]
    scores = {}
    for part in ("train", "test"):
        paths = mc.predict(run, balls, tmp_path / part, part=part)  # type: ignore[arg-type]
        record = json.loads((tmp_path / part / "dataset.json").read_text())["parts"]
        assert set(record.values()) == {"training" if part == "train" else "test"}
        assert mc.predict(run, balls, tmp_path / part, part=part, resume=True) == paths  # type: ignore[arg-type]
        capsys.readouterr()
        scores[part] = mc.evaluate(tmp_path / part, balls, tmp_path / f"{part}-scores", workers=1)
        said = "2 of 2 scored cases were trained on" in " ".join(capsys.readouterr().out.split())
        assert said == (part == "train")
        page = mc.report({part: scores[part]}, tmp_path / f"{part}.html", cases=["0"])
        assert page is not None
        text = page.read_text(encoding="utf-8")
        assert ('<p class="alarm">train: 2 of 2 scored cases were trained on' in text) == (part == "train")
        assert ("2 cases of 2 patients" in text) == (part == "train")
    mc.compare({"a": scores["train"], "b": scores["train"]}, tmp_path / "comparison")
    assert f"a: 2 of 2 scored cases were trained on ({', '.join(sorted(trained))})" in " ".join(
        capsys.readouterr().out.split()
    )
    assert len(json.loads((tmp_path / "comparison" / "comparison.json").read_text())["remarks"]) == 2


def test_whose_scan_it_is_reaches_the_comparison(balls: Path, tmp_path: Path) -> None:
    """Eight cases, of which two are one patient's follow-up: seven units."""
    names = sorted(path.name.removesuffix(".nii.gz") for path in (balls / "labelsTr").glob("*.nii.gz"))
    manifest = json.loads((balls / "dataset.json").read_text())
    cases = [
        {
            "name": name,
            "image": str(balls / "imagesTr" / f"{name}.nii.gz"),
            "label": str(balls / "labelsTr" / f"{name}.nii.gz"),
            "patient": "one" if name in names[:2] else f"of {name}",
        }
        for name in names
    ]
    channels = manifest.get("modality", manifest.get("channel_names", manifest.get("channels")))
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps({"name": "x", "channels": channels, "labels": manifest["labels"], "cases": cases}))
    scores = {
        name: mc.evaluate(balls / "labelsTr", listed, tmp_path / name, workers=1, overwrite=True) for name in "ab"
    }
    found = mc.compare(scores)
    assert {row["n"] for row in found["comparisons"] if row["structure"] == "mean"} == {len(names) - 1}


@pytest.mark.parametrize("wrong", [3, ["p"], None])
def test_a_patient_is_a_text(wrong: object, tmp_path: Path) -> None:
    case = {"name": "a", "image": "a.nii.gz", "label": "b.nii.gz", "patient": wrong}
    listed = tmp_path / "list.json"
    listed.write_text(
        json.dumps({"name": "x", "channels": ["MR"], "labels": {"background": 0, "x": 1}, "cases": [case]})
    )
    with pytest.raises(mc.InputError, match='"patient" must be a text'):
        mc.check(listed, workers=1)
