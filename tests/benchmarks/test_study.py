"""A study's folder: what is made once, goes on where it was killed, and is compared alike."""

import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.scans import random_cases, write_dataset

SHAPE = (16, 16, 8)


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")


@pytest.fixture
def work(tmp_path: Path) -> Iterator:
    from study_data import Study
    from study_work import Work, quietly

    small = {"crop_size": SHAPE, "prepare.spacing": "original", "network_args.channels": (4, 8), "batch_size": 2}
    small |= {"network_args.strides": (2,), "network_args.num_res_units": 0}
    patches, train = {"method.mask.patch_size": 8}, ("case00", "case01")
    study = Study("Blobs", 4, small, patches, train, counts=(2, 1))
    dataset = write_dataset(tmp_path / "data", random_cases(8, SHAPE))
    cases = [{"name": case.name, "image": str(case.images[0]), "label": str(case.label)} for case in dataset.cases]
    described = {"name": "Blobs", "channels": dataset.channels, "labels": dataset.labels, "cases": cases}
    (dataset.root / "dataset.json").write_text(json.dumps(described))
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "costs.json").write_text(json.dumps({"medcontext": 7 / 6}))
    yield Work(study, dataset.root, tmp_path / "work", call=quietly)
    for name in ("study", "study_arms", "study_data", "study_earlier", "study_pace", "study_work"):
        sys.modules.pop(name, None)


def noted(work, monkeypatch: pytest.MonkeyPatch, killed_after: int = 0) -> list[str]:
    """The names of what the study calls from now on, as it calls them."""
    made: list[str] = []
    call = work.call

    def note(function, *arguments, **options) -> None:
        made.append(function.__name__)
        call(function, *arguments, **options)
        if len(made) == killed_after:
            raise KeyboardInterrupt

    monkeypatch.setattr(work, "call", note)
    return made


@pytest.mark.slow
def test_a_study_goes_on_where_it_was_killed(work, monkeypatch: pytest.MonkeyPatch) -> None:
    made = noted(work, monkeypatch, killed_after=4)
    work.run("baseline", 0, 0)
    with pytest.raises(KeyboardInterrupt):
        work.run("medcontext", 0, 0)
    assert made == ["train", "predict", "evaluate", "train"]
    work.run("medcontext", 0, 0)
    work.run("medcontext", 0, 0)
    work.run("retrain", 0, 0)
    again = ["train", "predict", "train", "predict", "evaluate"]
    assert made[4:] == ["train", "predict", "evaluate", *again], "the training that was cut off after its last step"
    run = json.loads((work.place("medcontext", 0, 0) / "run" / "run.json").read_text())
    assert [name for _, name, _ in run["unlabelled"]["scans"]] == ["case02", "case03"]
    assert run["step"] == work.steps("medcontext") == round(4 / (0.25 + 0.75 * 7 / 6))
    scores = json.loads((work.place("retrain", 0, 0) / "scores" / "summary.json").read_text())
    assert [case["name"] for case in scores["cases"]] == ["case04", "case05", "case06", "case07"]
    text = work.compared(["baseline", "medcontext", "retrain"], [0], [])
    assert text.startswith("Seeds 0:")
    assert "On these 3 patients" in text


@pytest.mark.slow
def test_arms_are_compared_by_the_seeds_that_both_have(work, tmp_path: Path) -> None:
    from study import collect
    from study_earlier import read_rows

    work.run("baseline", 0, 0)
    rows = collect(work, ["baseline"], [0])
    assert work.reported("baseline", 0)
    copies = [
        {**row, "arm": arm, "seed": seed, "dsc": str(dsc)}
        for arm, seed, dsc in (("baseline", "1", 0.5), ("twice", "0", 0.6), ("thrice", "0", 0.7), ("thrice", "1", 0.7))
        for row in rows
        if row["structure"] != "mean"
    ]
    for name in ("one", "two"):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(copies)
    earlier = read_rows([tmp_path / "one.csv", tmp_path / "two.csv"])
    assert earlier == copies, "each once"
    other = (tmp_path / "two.csv").read_text().replace(",0.7,", ",0.8,")
    (tmp_path / "other.csv").write_text(other)
    with pytest.raises(SystemExit, match="another training of 'thrice' with seed 0"):
        read_rows([tmp_path / "one.csv", tmp_path / "other.csv"])
    text = work.compared(["baseline", "twice", "thrice"], [0, 1], earlier)
    first, second = (f"Seeds {part}" for part in text.split("Seeds ")[1:])
    assert first.startswith("Seeds 0:\n")
    assert "twice" in first
    assert "thrice" not in first
    assert second.startswith("Seeds 0, 1:\n")
    assert "Seed by seed" in second


@pytest.mark.slow
def test_a_training_on_labels_alone_serves_all_turns(work, monkeypatch: pytest.MonkeyPatch) -> None:
    made = noted(work, monkeypatch)
    work.study = replace(work.study, counts=(2, 0), tested=(slice(0, 2), slice(2, 4)))
    for turn in range(work.study.turns):
        work.run("baseline", turn, 0)
    assert made == ["train", "predict", "evaluate", "predict", "evaluate"]
    places = [work.place("baseline", turn, 0) / "predictions" for turn in range(work.study.turns)]
    tested = [{path.name for path in place.glob("*.nii.gz")} for place in places]
    assert tested == [{"case02.nii.gz", "case03.nii.gz"}, {"case04.nii.gz", "case05.nii.gz"}]


@pytest.mark.parametrize("name", ["btcv", "hippocampus_150_turns"])
def test_patients_are_tested_once_by_turns_and_never_take_part_then(name: str) -> None:
    from study_data import STUDIES

    study = STUDIES[name]
    names = sorted({*(study.train or ()), *(f"case{number:03}" for number in range(200))})
    turns = [study.parts(names, turn) for turn in range(study.turns)]
    assert all(not {*turn.train, *turn.rest} & {*turn.report} for turn in turns)
    tested = [name for turn in turns for name in turn.report]
    assert len(set(tested)) == len(tested)
    if name == "btcv":
        assert sorted([*tested, *turns[0].train]) == names
    else:
        assert [len(turn.rest) for turn in turns] == [150] * 5
        chosen_on = STUDIES["hippocampus"].parts(names, 0).development
        assert sorted([*tested, *turns[0].train, *chosen_on]) == names
