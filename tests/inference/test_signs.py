"""Signs are what their formulas say, in closed form."""

from pathlib import Path

import pytest
import torch

from medcontext.data.geometry import Geometry
from medcontext.data.store import quantiles
from medcontext.inference.signs import Noticed, signs_of
from tests.inference.runs import make_run


def probabilities(*voxels: tuple[float, ...]) -> torch.Tensor:
    """(K, 1, 1, n) from the classes' probabilities in each of n voxels."""
    return torch.tensor(voxels).T[:, None, None]


def test_of_structures(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")  # classes: background, liver 200, kidney 500, spleen 600
    found = dict(
        signs_of(run, probabilities((0.05, 0.95, 0, 0), (0.3, 0.6, 0.1, 0), (0.6, 0.25, 0.15, 0), (1.0, 0, 0, 0)))
    )
    assert list(found) == ["kidney", "liver", "spleen"], "as the plan names them"
    assert found["kidney"] is None
    assert found["spleen"] is None
    assert found["liver"] == pytest.approx((2 * 1.55 / (2 + 1.8), 1.55 / 2, 1 / 3))


def test_of_many_classes_even_the_likeliest_may_be_unlikely(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", labels={f"organ{value}": value for value in range(1, 14)})
    found = dict(signs_of(run, probabilities((*[0.07] * 3, 0.09, *[0.07] * 10))))
    assert found["organ3"] == pytest.approx((2 * 0.09 / 1.09, 0.09, 0.0))


def test_of_regions_each_has_its_own_threshold(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", labels={"edema": 1, "core": 2})
    run.facts.regions = {"whole": (1, 2), "core": (2,)}
    found = dict(signs_of(run, probabilities((0.95, 0.2), (0.6, 0.51))))
    assert found["whole"] == pytest.approx((2 * 1.55 / (2 + 1.55), 1.55 / 2, 1 / 2))
    assert found["core"] == pytest.approx((2 * 0.51 / (1 + 0.71), 0.51, 0.0))


def test_of_several_networks_the_mean_of_those_that_found_something(tmp_path: Path) -> None:
    run, noticed = make_run(tmp_path / "run"), Noticed()
    noticed.segmentation(run, probabilities((0.2, 0.8, 0, 0)))
    noticed.segmentation(run, probabilities((0.4, 0.6, 0, 0)))
    noticed.segmentation(run, probabilities((0.9, 0.1, 0, 0)))
    assert noticed.mean("liver") == pytest.approx(((1.6 / 1.8 + 1.2 / 1.6) / 2, 0.7, 0.0))
    assert noticed.mean("spleen") is None


def test_a_scan_is_noticed_as_the_network_sees_it() -> None:
    image, noticed = torch.arange(24.0).reshape(1, 2, 3, 4), Noticed()
    affine = torch.diag(torch.tensor([2.0, 3.0, 5.0, 1.0])).numpy()
    noticed.scan(image, Geometry.create((4, 6, 8), affine, (4.0, 6.0, 10.0)))
    assert noticed.extent == (8.0, 18.0, 40.0)
    assert (noticed.quantiles == quantiles(image)).all()
