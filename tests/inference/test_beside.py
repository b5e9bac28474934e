"""Volumes, names and colours beside the predictions."""

import csv
from pathlib import Path

import numpy as np
import pytest

from medcontext.commands.evaluate import evaluate
from medcontext.commands.predict import predict
from medcontext.errors import InputError
from medcontext.inference.beside import write_colours
from medcontext.pictures.colours import COLOURS, colours_of
from tests.inference.runs import level_run, levels_image, save

AFFINE = np.diag([-2.0, 1.0, 5.0, 1.0])


def volumes(folder: Path) -> dict[tuple[str, str], float]:
    with (folder / "volumes.csv").open(encoding="utf-8") as file:
        return {(row["case"], row["structure"]): float(row["ml"]) for row in csv.DictReader(file)}


def test_volumes_of_all_cases_also_after_a_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, expected = level_run(tmp_path / "run"), {}
    for index in range(2):
        image, label = levels_image((9, 10, 6), index)
        save(tmp_path / f"images/c{index}.nii.gz", image, AFFINE)
        save(tmp_path / f"labels/c{index}.nii.gz", label.astype(np.int16), AFFINE)
        for name, value in run.plan.labels.items():
            expected[f"c{index}", name] = 0.01 * int((label == value).sum())
    image = tmp_path / "images/c1.nii.gz"
    whole = image.read_bytes()
    image.write_bytes(whole[:-100])
    with pytest.raises(InputError, match="1 of 2"):
        predict(run, tmp_path / "images", tmp_path / "out")
    assert volumes(tmp_path / "out") == pytest.approx({key: ml for key, ml in expected.items() if key[0] == "c0"})
    image.write_bytes(whole)
    predict(run, tmp_path / "images", tmp_path / "out", resume=True)
    assert volumes(tmp_path / "out") == pytest.approx(expected)
    capsys.readouterr()
    evaluate(tmp_path / "out", tmp_path / "labels", tmp_path / "scores", workers=1)
    assert "passed over" not in capsys.readouterr().out, "of what lies beside them"


def test_names_and_colours_for_other_programs(tmp_path: Path) -> None:
    write_colours(tmp_path, {"left kidney": 3, 'the "liver"': 1, "rest": 500})
    first, third, free = (" ".join(map(str, bytes.fromhex(COLOURS[index][1:]))) for index in (0, 2, 1))
    lines = (tmp_path / "labels.ctbl").read_text().splitlines()
    rows = [line for line in lines if not line.startswith("#")]
    assert rows == [
        "0 background 0 0 0 0",
        f'1 the_"liver" {first} 255',
        f"3 left_kidney {third} 255",
        f"500 rest {free} 255",
    ]
    described = [
        line.split(maxsplit=7) for line in (tmp_path / "labels.txt").read_text().splitlines() if line[0] != "#"
    ]
    assert described[0] == ["0", "0", "0", "0", "0", "0", "0", '"Clear Label"']
    assert described[1] == ["1", *first.split(), "1", "1", "1", "\"the 'liver'\""]
    assert [row[-1] for row in described[2:]] == ['"left kidney"', '"rest"']


def test_a_colour_does_not_depend_on_order_or_company() -> None:
    many = {f"s{value}": value for value in range(1, 15)}
    assert list(colours_of(many).values()) == list(COLOURS)
    some = {name: many[name] for name in ("s9", "s2", "s14")}
    assert colours_of(some) == {name: colours_of(many)[name] for name in some}
    gaps = colours_of({"spleen": 600, "liver": 200, "kidney": 500})
    assert gaps == {"spleen": COLOURS[2], "liver": COLOURS[0], "kidney": COLOURS[1]}
    assert len(colours_of({f"s{value}": value for value in range(1, 40)})) == 39
