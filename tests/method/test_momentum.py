import math

import pytest

from medcontext.errors import InputError
from medcontext.method import Momentum, ReferenceMomentum


def test_the_cosine_goes_from_start_to_end() -> None:
    momentum = Momentum(0.9, 0.99, warmup=False)
    for step in (0, 25, 50, 100):
        expected = 0.99 - 0.09 * (1 + math.cos(math.pi * step / 100)) / 2
        assert momentum.at(step, 100) == pytest.approx(expected)
    assert momentum.at(500, 100) == 0.99


def test_the_warmup_follows_the_steps_done_and_then_ends() -> None:
    momentum = Momentum(warmup=True)
    assert [momentum.at(step, 10**6) for step in (0, 8, 90)] == [0.1, 0.5, 0.91]
    assert momentum.at(5000, 10**6) == pytest.approx(Momentum(warmup=False).at(5000, 10**6))


def test_the_reference_schedule_stays_near_zero() -> None:
    momentum = ReferenceMomentum(steps_per_epoch=18, warmup_epochs=50)
    values = [momentum.at(step, 10**5) for step in range(180)]
    # numpy.linspace(0, 0.996, 50 * 18), of which each epoch reads only the first 18 entries
    assert values[17] == pytest.approx(0.996 * 17 / 899)
    assert values[:18] == values[18:36]
    assert max(values) < 0.02


@pytest.mark.parametrize("wrong", [{"momentum": 1.2}, {"momentum_end": -0.1}, {"steps_per_epoch": 0}])
def test_values_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError):
        ReferenceMomentum(**wrong)
