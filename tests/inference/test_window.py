"""The sliding window against a direct implementation, at every size, and its memory."""

import itertools
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from medcontext.data.crops import cut, start_of
from medcontext.data.geometry import Geometry
from medcontext.data.store import StoredCase, write_case
from medcontext.inference.window import add_mirrored_, mirrorings, pad, predict_volume, softmax_
from medcontext.settings import WindowSettings

SIZES = [(8, 8, 8), (9, 8, 8), (13, 9, 8), (16, 17, 5), (3, 20, 5), (2, 2, 2), (20, 8, 1)]
CROP = (8, 8, 4)


@pytest.fixture
def network() -> nn.Module:
    """It sees its neighbours and the window's border, so that wrong places and wrong weights show."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv3d(2, 5, 3, padding=1), nn.PReLU(), nn.Conv3d(5, 3, 3, padding=1))
    return layers.eval()


def gaussian(size: tuple[int, ...]) -> np.ndarray:
    """Standard deviation an eighth of the window, weights from a thousandth to one (MONAI's)."""
    lines = [np.exp(-((np.arange(n) - (n - 1) / 2) ** 2) / (2 * (n / 8) ** 2)) for n in size]
    return np.maximum(np.einsum("i,j,k->ijk", *lines), 1e-3)


def blended(network: nn.Module, image: torch.Tensor, crop: tuple[int, ...], overlap: float) -> np.ndarray:
    """Every window's logits, weighted, summed and divided: written down from the definition."""
    size = image.shape[1:]
    starts = []
    for extent, window in zip(size, crop, strict=True):
        step = max(1, int(window * (1 - overlap)))
        starts.append(sorted({min(start, extent - window) for start in range(0, extent - window + step, step)}))
    weights = gaussian(crop)
    total, count = np.zeros((3, *size)), np.zeros(size)
    for start in itertools.product(*starts):
        place = tuple(slice(first, first + window) for first, window in zip(start, crop, strict=True))
        with torch.no_grad():
            logits = network(image[(slice(None), *place)][None])[0].numpy()
        total[(slice(None), *place)] += weights * logits
        count[place] += weights
    return total / count


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.7])
def test_windows_are_blended_as_defined(network: nn.Module, overlap: float) -> None:
    image = torch.randn(2, 13, 9, 8)
    found = predict_volume(network, image, CROP, WindowSettings(overlap), (0.0, 0.0))
    expected = torch.from_numpy(blended(network, image, CROP, overlap)).softmax(0).float()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mirror", [False, True])
def test_a_pointwise_network_gives_what_it_gives_on_the_whole_volume(size: tuple[int, int, int], mirror: bool) -> None:
    torch.manual_seed(1)
    pointwise = nn.Conv3d(2, 3, 1).eval()
    image = torch.randn(2, *size)
    with torch.no_grad():
        expected = pointwise(image[None])[0].softmax(0)
    for overlap in (0.0, 0.6):
        found = predict_volume(pointwise, image, (8, 7, 4), WindowSettings(overlap, mirror, 64), (5.0, -5.0))
        torch.testing.assert_close(found, expected)


def test_one_window_is_the_networks_own_answer(network: nn.Module) -> None:
    image = torch.randn(2, *CROP)
    with torch.no_grad():
        expected = network(image[None])[0].softmax(0)
    torch.testing.assert_close(predict_volume(network, image, CROP, WindowSettings(), (0.0, 0.0)), expected)


@pytest.mark.parametrize("size", [(5, 4, 3), (8, 3, 4), (1, 8, 2)])
def test_a_small_volume_is_padded_as_in_training(
    network: nn.Module, size: tuple[int, int, int], tmp_path: Path
) -> None:
    image, values = torch.randn(2, *size), (2.5, -1.5)
    geometry = Geometry.create(size, np.eye(4))
    write_case(tmp_path / "case", image, torch.zeros(size, dtype=torch.uint8), geometry, values, [])
    case = StoredCase(tmp_path / "case")
    trained, _ = cut(case, start_of(case, CROP, np.random.default_rng(0)), CROP)
    padded, inside = pad(image, CROP, values)
    torch.testing.assert_close(padded, trained, rtol=0, atol=0)
    torch.testing.assert_close(padded[inside], image, rtol=0, atol=0)
    with torch.no_grad():
        expected = network(trained[None])[0].softmax(0)[inside]
    torch.testing.assert_close(predict_volume(network, image, CROP, WindowSettings(), values), expected)


def test_mirroring_is_the_mean_of_the_eight_views(network: nn.Module) -> None:
    image = torch.randn(2, 10, 3, 7)
    plain = WindowSettings(0.5)
    views = []
    for axes in itertools.chain.from_iterable(itertools.combinations((1, 2, 3), n) for n in range(4)):
        views.append(predict_volume(network, image.flip(axes), (8, 3, 4), plain, (0.0, 0.0)).flip(axes))
    expected = torch.stack(views).mean(0)
    found = predict_volume(network, image, (8, 3, 4), WindowSettings(0.5, mirror=True), (0.0, 0.0))
    assert len(views) == 8
    assert not torch.allclose(found, views[0], atol=1e-3)
    torch.testing.assert_close(found, expected)


def test_windows_at_once_do_not_change_the_answer(network: nn.Module) -> None:
    image = torch.randn(2, 13, 11, 9)
    one, many = (predict_volume(network, image, CROP, WindowSettings(0.5, False, n), (0.0, 0.0)) for n in (1, 7))
    torch.testing.assert_close(one, many)
    again = predict_volume(network, image, CROP, WindowSettings(0.5, False, 7), (0.0, 0.0))
    assert torch.equal(many, again)


def test_deep_supervision_uses_the_first_output(network: nn.Module) -> None:
    class Several(nn.Module):
        def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
            full = network(image)
            return [full, full[..., ::2, ::2, ::2] * 100]

    image = torch.randn(2, *CROP)
    settings = WindowSettings()
    torch.testing.assert_close(
        predict_volume(Several(), image, CROP, settings, (0.0, 0.0)),
        predict_volume(network, image, CROP, settings, (0.0, 0.0)),
    )


def test_softmax_in_place_is_softmax() -> None:
    logits = torch.randn(14, 3, 4, 5) * 50
    logits[3, 0, 0, 0] = 1e4  # would overflow without subtracting the largest
    expected = logits.softmax(0)
    torch.testing.assert_close(softmax_(logits), expected)


def test_mirroring_back() -> None:
    view = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    for axes in mirrorings():
        total = torch.ones_like(view)
        add_mirrored_(total, view.flip(axes), axes)
        assert torch.equal(total, view + 1)


def test_memory_stays_near_two_copies_of_the_probabilities() -> None:
    """14 classes of a CT scan are gigabytes: one copy without mirroring, two with it (measured: 1.2 and 2.1)."""
    classes, size = 14, (96, 96, 80)
    copy = classes * np.prod(size) * 4 / 2**20  # 39 MiB; smaller blocks would be taken from memory freed before
    pointwise = nn.Conv3d(1, classes, 1).eval()
    image = torch.randn(1, *size)
    predict_volume(pointwise, image, (32, 32, 20), WindowSettings(0.0, False, 1), (0.0,))  # whatever is allocated once
    plain = _peak(lambda: predict_volume(pointwise, image, (32, 32, 20), WindowSettings(0.0, False, 1), (0.0,)))
    mirrored = _peak(lambda: predict_volume(pointwise, image, (32, 32, 20), WindowSettings(0.0, True, 1), (0.0,)))
    assert plain < 2 * copy
    assert mirrored < 3 * copy


def _peak(work) -> float:  # type: ignore[no-untyped-def]
    """How far the resident memory rises meanwhile, in MiB."""

    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

    before, highest, done = resident(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.is_set():
            highest = max(highest, resident())
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    result = work()
    highest = max(highest, resident())
    done.set()
    watcher.join()
    del result
    return highest - before
