import pytest

from medcontext.errors import InputError
from medcontext.reporting.choice import choose_cases, rankings

SCORES = {"a": [0.5, 0.8], "b": [0.9, 0.6], "c": [0.2, 0.2], "d": [0.9, 0.9], "e": [0.7, 0.7]}


def test_orders_hold_only_what_their_name_says() -> None:
    orders = rankings(SCORES)
    assert orders["most improved"] == ["a"]
    assert orders["most worsened"] == ["b"]
    assert orders["worst"][0] == "c"
    assert orders["best"][0] == "d"


def test_one_model_has_a_worst_and_a_best() -> None:
    assert list(rankings({"a": [0.2], "b": [0.4]})) == ["worst", "best"]


def test_a_number_takes_from_every_order_in_turn_and_no_case_twice() -> None:
    assert choose_cases(SCORES, ["4"]) == ["a", "b", "c", "d"]
    assert sorted(choose_cases(SCORES, ["99"])) == list(SCORES)
    assert choose_cases(SCORES, ["0"]) == []
    assert choose_cases(SCORES, ["all"]) == list(SCORES)


def test_a_case_that_is_called_like_a_number_can_be_named() -> None:
    assert choose_cases({"12": [0.5], "13": [0.5]}, ["12"]) == ["12"]


def test_an_unknown_case_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match="did you mean 'ball_1'"):
        choose_cases({"ball_1": [0.5], "other": [0.5]}, ["bal_1"])


@pytest.mark.parametrize("number", ["-1", "2.5"])
def test_a_number_that_cannot_be_meant_is_refused(number: str) -> None:
    with pytest.raises(InputError, match="give a whole number"):
        choose_cases(SCORES, [number])
