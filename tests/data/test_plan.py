"""Settings and plans."""

import json
from dataclasses import replace
from typing import Any

import pytest

from medcontext.data.plan import Normalization, Plan, PrepareSettings
from medcontext.errors import InputError

PLAN = Plan(
    channels=("CT",),
    labels={"spleen": 500, "liver": 200},
    label_map={255: 0},
    spacing=(1.0, 1.0, 2.5),
    normalization=(Normalization("ct", -100.0, 250.0, 80.0, 40.0),),
    crop_foreground=False,
    reasons={"spacing": "given"},
)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spacing": "fine"}, "spacing is 'fine'"),
        ({"spacing": (1, 1)}, "three lengths"),
        ({"spacing": (1, 1, 0)}, "three lengths"),
        ({"spacing": (1, 1, float("nan"))}, "three lengths"),
        ({"normalization": "minmax"}, "allowed are auto, ct"),
        ({"normalization": "range"}, "needs an intensity_range"),
        ({"normalization": "ct", "intensity_range": (0, 1)}, "only used by"),
        ({"intensity_range": (250, -175)}, "the lowest value, then"),
        ({"label_map": {0: 1}}, "background is always 0"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PrepareSettings(**settings)


def test_values_are_sorted_and_start_with_the_background() -> None:
    assert PLAN.values == (0, 200, 500)
    assert replace(PLAN, labels={"background": 0, "a": 3}).values == (0, 3)


def test_json_round_trip_keeps_the_hash() -> None:
    back = Plan.from_dict(json.loads(json.dumps(PLAN.to_dict())))
    assert back == PLAN
    assert back.hash == PLAN.hash
    own = replace(PLAN, spacing=None)
    assert Plan.from_dict(json.loads(json.dumps(own.to_dict()))) == own


@pytest.mark.parametrize(
    "change",
    [
        {"spacing": (1.0, 1.0, 2.0)},
        {"spacing": None},
        {"label_map": {}},
        {"labels": {"liver": 200}},
        {"crop_foreground": True},
        {"normalization": (Normalization("ct", -100.0, 250.0, 80.0, 41.0),)},
    ],
)
def test_whatever_changes_voxels_changes_the_hash(change: dict[str, Any]) -> None:
    assert replace(PLAN, **change).hash != PLAN.hash


def test_plans_keep_their_hash_from_version_to_version() -> None:
    """Else prepared cases would be prepared again, and trained networks be refused."""
    assert PLAN.hash == "db18d97a43"
    plan = replace(PLAN, normalization=(Normalization("zscore_nonzero", inside=True),))
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    assert plan.hash != replace(PLAN, normalization=(Normalization("zscore", inside=True),)).hash


def test_reasons_do_not_change_the_hash() -> None:
    assert replace(PLAN, reasons={}).hash == PLAN.hash


def test_refuses_another_version_and_a_damaged_plan() -> None:
    with pytest.raises(InputError, match="version 99"):
        Plan.from_dict({**PLAN.to_dict(), "version": 99})
    with pytest.raises(InputError, match="damaged"):
        Plan.from_dict({**PLAN.to_dict(), "colour": "red"})
    values = PLAN.to_dict()
    del values["normalization"]
    with pytest.raises(InputError, match="damaged"):
        Plan.from_dict(values)
