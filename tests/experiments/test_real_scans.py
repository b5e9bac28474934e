"""Table 4 on real scans, in one command, with what each data set needs."""

import csv
import json
from pathlib import Path

import pytest

from medcontext.cli import main
from medcontext.experiments.smoke import SMALL
from medcontext.settings import Settings

TINY = [f"{name}={value}" for name, value in SMALL["unetr"].items()]
TINY += ["accelerator=cpu", "workers=1", "batch_size=1", "validation_cases=0", "window.overlap=0"]


def write_split(file: Path, names: list[str]) -> Path:
    file.write_text(json.dumps({"train": names[:5], "validation": [], "test": names[5:6]}))
    return file


@pytest.mark.slow
def test_table_4_on_real_scans_with_a_split_and_a_spacing_for_each_data_set(shared_data: Path, tmp_path: Path) -> None:
    """Of what is there, the last scan is the test: the test parts are kept elsewhere. ACDC's spacing is not known."""
    hearts = sorted((shared_data / "ACDC" / "training").glob("patient*/patient*_frame01.nii.gz"))
    scans = sorted((shared_data / "BTCV" / "imagesTr").glob("img*.nii.gz"))
    cases = {
        name: [path.name.removesuffix(".nii.gz") for path in paths[:6]]
        for name, paths in (("acdc", hearts), ("btcv", scans))
    }
    splits = {name: write_split(tmp_path / f"{name}.json", names) for name, names in cases.items()}
    own = [f"{name}:split={file}" for name, file in splits.items()]
    own += ["acdc:prepare.spacing=original", "acdc:crop_size=[96,96,16]"]
    own += ["btcv:prepare.spacing=[5,5,6]", "btcv:crop_size=[48,48,32]"]
    command = ["reproduce", "table4", "--output", str(tmp_path / "out"), "--steps=2", "--only", "model=unetr"]
    command += ["--data", f"acdc={shared_data / 'ACDC'}", f"btcv={shared_data / 'BTCV'}", "--set", *own, *TINY]
    assert main(command) == 0
    with (tmp_path / "out" / "table4-model=unetr.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = {(row["row"], row["dataset"], row["runs"], row["steps"], row["few_shot"]) for row in rows}
    assert found == {
        (label, name, "1", "2", "5") for label in ("UNETR", "UNETR + MedContext") for name in ("acdc", "btcv")
    }
    assert all(0 <= float(row["ours"]) <= 100 for row in rows)
    spacings = {
        name: Settings.read(tmp_path / "out" / "cells" / f"{name}_unetr-paper-5cases-seed0" / "settings.yaml").prepare
        for name in splits
    }
    assert spacings["acdc"].spacing == "original"
    assert spacings["btcv"].spacing == (5.0, 5.0, 6.0)
