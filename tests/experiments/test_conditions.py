"""What a cell is trained with is what its row says."""

import re
from pathlib import Path
from typing import Any

import pytest

from medcontext.errors import InputError
from medcontext.experiments.cells import make_cell
from medcontext.experiments.conditions import Conditions, cell_settings, check_rows
from medcontext.experiments.tables import Variant, get_grid
from medcontext.settings import Settings

ROW = Variant("btcv", "unetr", True)


def settings(*given: str, variant: Variant = ROW, **more: Any) -> Settings:
    return cell_settings(variant, 0, Conditions({}, Path(), settings=given, **more))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("seed=5", "--set cannot change seed: --seeds is meant for it."),
        ("few_shot=3", "--set cannot change few_shot: --few_shot is meant for it."),
        ("method=none", "--set cannot change method: --method is meant for it"),
        ("network=unet", "--only model="),
        ("preset=acdc_unetr", "--set cannot change preset"),
        ("config=my.yaml", "--set cannot change config"),
        ("regions={}", "--set cannot change regions"),
        ("acdc:seed=5", "--seeds is meant for it"),
        ("method.masking=true", "--set cannot change method.masking, which tells the tables' rows apart: --method"),
        ("method.mask.ratio=0.7", "--set cannot change method.mask.ratio, which tells"),
        ('method.mask={"ratio": 0.7}', "--set cannot change method.mask, which tells"),
        ("method.masked_loss=false", "tells the tables' rows apart"),
        ("method.consistency=none", "tells the tables' rows apart"),
        ("method.target=student", "tells the tables' rows apart"),
        ("steps", "--set takes SETTING=VALUE or DATASET:SETTING=VALUE, got 'steps'"),
        (":steps=3", "got ':steps=3'"),
        ("btvc:steps=3", "Unknown data set of --set 'btvc'; did you mean 'btcv'"),
    ],
)
def test_settings_that_would_make_a_table_false_are_refused(given: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Conditions({}, Path(), settings=(given,))


@pytest.mark.parametrize("given", ["see=5", "few=3", "method.mask.rat=0.7"])
def test_a_shortened_name_is_no_way_around(given: str) -> None:
    with pytest.raises(InputError, match="Unknown option"):
        settings(given)


def test_a_method_that_hides_nothing_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("name: mine\nmasking: false\n")
    for method in ("none", str(own)):
        with pytest.raises(InputError, match="hides nothing: rows with MedContext would be the baseline"):
            Conditions({}, Path(), method=method)


@pytest.mark.parametrize(
    ("table", "lacking", "message"),
    [
        ("table7", "consistency: none", "The row 'CL' needs a consistency"),
        ("table7", "masked_loss: false", "The row 'MSL' needs masked_loss: true"),
        ("table9", "target: student", "The row 'UNETR, teacher' needs target: teacher"),
    ],
)
def test_a_method_that_lacks_what_a_row_has_is_refused(tmp_path: Path, table: str, lacking: str, message: str) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text(f"name: mine\n{lacking}\n")
    with pytest.raises(InputError, match=message):
        check_rows(get_grid(table).entries, str(own))
    check_rows(get_grid("table1").entries, str(own))
    check_rows(get_grid(table).entries, "reference")


def test_steps_are_given_once() -> None:
    with pytest.raises(InputError, match=r"--steps and --set steps=\.\.\. are both given"):
        Conditions({}, Path(), steps=3, settings=("acdc:steps=4",))


def test_settings_are_for_all_data_sets_or_for_one() -> None:
    given = ("acdc:prepare.spacing=original", "optimizer.lr=0.5", "btcv:optimizer.lr=0.25", "acdc:steps=3")
    btcv = settings(*given)
    acdc = settings(*given, variant=Variant("acdc", "unetr", False))
    assert (btcv.optimizer.lr, btcv.prepare.spacing, btcv.steps) == (0.25, (1.5, 1.5, 2.0), 90_000)
    assert (acdc.optimizer.lr, acdc.prepare.spacing, acdc.steps) == (0.5, "original", 3)


def test_settings_of_the_method_that_no_row_varies_can_be_given() -> None:
    assert settings("method.mask.space=tokens", "method.beta=0.3").method.beta == 0.3


def test_a_split_file_and_the_output_mean_the_same_wherever_one_is(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "own.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    here, there = settings("btcv:split=own.json"), settings(f"split={tmp_path / 'own.json'}")
    assert here.split == there.split == str(tmp_path / "own.json")
    assert settings().split == "btcv"
    one, other = (make_cell(ROW, 0, Conditions({}, output)) for output in (Path("out"), tmp_path / "out"))
    assert one == other
