"""Several networks, prepared alike or not: the mean of what each gives alone."""

from pathlib import Path

import numpy as np
import pytest
import torch

from medcontext.data.plan import Normalization
from medcontext.data.prepare import prepare_image
from medcontext.errors import InputError
from medcontext.inference.ensemble import load_members, segment
from medcontext.inference.signs import Noticed
from medcontext.run import Run, make_network
from tests.data.scans import affine_of
from tests.inference.runs import LEVELS, level_run, levels_image, make_run, nearest_level, random_run, save_networks

ZSCORE = Normalization("zscore")
AFFINE = affine_of("PIR", (1.0, 2.0, 1.5))


def alone(run: Run, image: np.ndarray, name: str = "last") -> torch.Tensor:
    scores = segment(image, AFFINE, load_members([run], [name]), probabilities=True)[1]
    assert scores is not None
    return scores


@pytest.fixture
def image() -> np.ndarray:
    return levels_image((11, 9, 12))[0][None]


def test_runs_with_one_plan_are_averaged(image: np.ndarray, tmp_path: Path) -> None:
    runs = [random_run(tmp_path / str(seed), seed, normalization=ZSCORE) for seed in range(3)]
    expected = torch.stack([alone(run, image) for run in runs]).mean(0)
    classes, scores = segment(image, AFFINE, load_members(runs), probabilities=True)
    assert scores is not None
    torch.testing.assert_close(scores, expected)
    assert torch.equal(classes, expected.argmax(0))
    assert torch.equal(segment(image, AFFINE, load_members(runs))[0].long(), classes)
    assert not torch.equal(classes, alone(runs[0], image).argmax(0))


def test_checkpoints_of_one_run_are_averaged(image: np.ndarray, tmp_path: Path) -> None:
    run = random_run(tmp_path / "run", normalization=ZSCORE)
    save_networks(run, make_network(run), name="best")
    expected = (alone(run, image) + alone(run, image, "best")) / 2
    _, scores = segment(image, AFFINE, load_members([run], ["last", "best"]), probabilities=True)
    torch.testing.assert_close(scores, expected)


@pytest.mark.parametrize("probabilities", [False, True])
def test_runs_with_different_plans_count_by_network(image: np.ndarray, probabilities: bool, tmp_path: Path) -> None:
    """Two networks at one spacing and one at another: each counts a third."""
    image[:, :, :3] = 0  # outside of the foreground box of two of them
    fine = [random_run(tmp_path / str(seed), seed, normalization=ZSCORE, crop_foreground=True) for seed in range(2)]
    coarse = random_run(tmp_path / "coarse", 5, normalization=ZSCORE, spacing=(3.0, 2.5, 2.0), crop_size=(6, 4, 8))
    expected = (alone(fine[0], image) + alone(fine[1], image) + alone(coarse, image)) / 3
    classes, scores = segment(image, AFFINE, load_members([fine[0], coarse, fine[1]]), probabilities)
    assert torch.equal(classes.long(), expected.argmax(0))
    if probabilities:
        assert scores is not None
        torch.testing.assert_close(scores, expected)
        torch.testing.assert_close(scores.sum(0), torch.ones(11, 9, 12))
    else:
        assert scores is None


def test_a_scan_is_noticed_as_the_first_network_sees_it(image: np.ndarray, tmp_path: Path) -> None:
    runs = [random_run(tmp_path / "0", normalization=ZSCORE), random_run(tmp_path / "1"), random_run(tmp_path / "2")]
    for first, *others in (runs, runs[::-1]):
        alone, together = Noticed(), Noticed()
        alone.scan(*prepare_image(image, AFFINE, first.plan))
        segment(image, AFFINE, load_members([first, *others]), noticed=together)
        np.testing.assert_array_equal(together.quantiles, alone.quantiles)
        assert together.extent == alone.extent


def test_labels_alone_are_those_of_the_probabilities(image: np.ndarray, tmp_path: Path) -> None:
    for name, facts in {
        "original": {},
        "resampled": {"spacing": (1.3, 0.7, 2.9)},
        "cropped": {"crop_foreground": True, "spacing": (2.0, 2.0, 2.0)},
    }.items():
        members = load_members([random_run(tmp_path / name, 3, normalization=ZSCORE, **facts)])
        alone, _ = segment(image, AFFINE, members)
        classes, scores = segment(image, AFFINE, members, probabilities=True)
        assert scores is not None
        assert torch.equal(alone.long(), classes)
        assert torch.equal(classes, scores.argmax(0))
        assert scores.dtype == torch.float32
        assert scores.is_contiguous()
        torch.testing.assert_close(scores.sum(0), torch.ones(11, 9, 12))


def test_probabilities_are_the_softmax_of_the_logits(tmp_path: Path) -> None:
    """In closed form: one convolution of one voxel, nothing resampled."""
    image, _ = levels_image((5, 9, 10))
    run = make_run(tmp_path / "run")
    save_networks(run, nearest_level(run, scale=1e-4))
    x, levels = image[None].astype(np.float64), np.reshape(LEVELS, (4, 1, 1, 1))
    logits = 1e-4 * (2 * levels * x - levels**2)
    expected = np.exp(logits) / np.exp(logits).sum(0)
    found = alone(run, image[None]).numpy()
    assert 0.1 < found.max(0).min() < 0.9
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_outside_of_the_foreground_box_is_background(tmp_path: Path) -> None:
    image, _ = levels_image((9, 8, 7))
    image[:3], image[:, 6:] = 0, 0
    run = make_run(tmp_path / "run", crop_foreground=True)
    save_networks(run, nearest_level(run, (-1e6, 5e5, 200.0, 300.0)))  # it takes 0 for a structure
    classes, scores = segment(image[None], AFFINE, load_members([run]), probabilities=True)
    assert scores is not None
    outside = np.zeros(image.shape, bool)
    outside[:3], outside[:, 6:] = True, True
    assert (classes.numpy()[outside] == 0).all()
    assert (scores[0].numpy()[outside] == 1).all()
    assert (classes.numpy()[~outside] > 0).all()


def test_the_padding_is_what_training_pads_with(tmp_path: Path) -> None:
    """A volume smaller than the window, through a network that sees its surroundings."""
    image, _ = levels_image((5, 4, 6))
    run = random_run(tmp_path / "run", normalization=ZSCORE, crop_size=(8, 8, 8))
    members = load_members([run], device="cpu")
    prepared, geometry = prepare_image(image[None], AFFINE, run.plan)
    padded = torch.full((1, 8, 8, 8), float(prepared.min()))
    starts = [(8 - n) // 2 for n in prepared.shape[1:]]
    inside = (slice(None), *(slice(s, s + n) for s, n in zip(starts, prepared.shape[1:], strict=True)))
    padded[inside] = prepared
    with torch.no_grad():
        expected = members[0].network(padded[None])[0].softmax(0)[inside]
    _, scores = segment(image[None], AFFINE, members, probabilities=True)
    torch.testing.assert_close(scores, geometry.probabilities_to_original(expected))


def test_student_and_teacher_differ(image: np.ndarray, tmp_path: Path) -> None:
    run = random_run(tmp_path / "run", normalization=ZSCORE)
    student, teacher = (load_members([run], weights=weights) for weights in ("student", "teacher"))  # type: ignore[arg-type]
    assert not torch.equal(segment(image, AFFINE, student)[0], segment(image, AFFINE, teacher)[0])


def test_the_window_is_each_runs_own_unless_given(tmp_path: Path) -> None:
    run = level_run(tmp_path / "run")
    text = (tmp_path / "run/settings.yaml").read_text()
    text = text.replace("overlap: 0.5", "overlap: 0.25").replace("mirror: false\n  batch", "mirror: true\n  batch")
    (tmp_path / "run/settings.yaml").write_text(text)
    from medcontext.run import read_run

    own = load_members([read_run(tmp_path / "run"), level_run(tmp_path / "other")])
    assert [(m.window.overlap, m.window.mirror) for m in own] == [(0.25, True), (0.5, False)]
    given = load_members([read_run(tmp_path / "run"), run][:1], overlap=0.0, mirror=False)
    assert [(m.window.overlap, m.window.mirror) for m in given] == [(0.0, False)]


def test_what_cannot_be_averaged_is_refused(tmp_path: Path) -> None:
    run = level_run(tmp_path / "run")
    with pytest.raises(InputError, match=r"cannot be averaged.*tumour"):
        load_members([run, level_run(tmp_path / "b", labels={"tumour": 500, "liver": 200, "spleen": 600})])
    with pytest.raises(InputError, match=r"cannot be averaged.*CT"):
        load_members([run, level_run(tmp_path / "c", channels=("CT",))])
    with pytest.raises(InputError, match="twice"):
        load_members([run, run])
    with pytest.raises(InputError, match="twice"):
        load_members([run], ["last", str(tmp_path / "run/../run/checkpoints/last.ckpt")])
    with pytest.raises(InputError, match="with 2 runs"):
        load_members([run, level_run(tmp_path / "d")], ["last", "some.ckpt"])
    with pytest.raises(InputError, match="No run"):
        load_members([])
    with pytest.raises(InputError, match=r"overlap must be at least 0 and below 1, got 1\.0"):
        load_members([run], overlap=1.0)


def test_labels_declared_in_another_order_are_the_same(image: np.ndarray, tmp_path: Path) -> None:
    runs = [level_run(tmp_path / "a"), level_run(tmp_path / "b", labels={"liver": 200, "spleen": 600, "kidney": 500})]
    assert torch.equal(segment(image, AFFINE, load_members(runs))[0], segment(image, AFFINE, load_members(runs[:1]))[0])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No GPU found; use --device cpu"):
        load_members([level_run(tmp_path / "run")], device="gpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_what_the_cpu_gives(image: np.ndarray, tmp_path: Path) -> None:
    run = random_run(tmp_path / "run", normalization=ZSCORE)
    on_cpu, on_gpu = (
        segment(image, AFFINE, load_members([run], device=device), probabilities=True)[1] for device in ("cpu", "gpu")
    )
    torch.testing.assert_close(on_cpu, on_gpu, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_diverged_network_is_refused(value: float, image: np.ndarray, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    network = nearest_level(run)
    with torch.no_grad():
        network.bias[2] = value  # type: ignore[index, operator]
    save_networks(run, network)
    with pytest.raises(InputError, match=r"last\.ckpt gives values that are not finite"):
        segment(image, AFFINE, load_members([run]))
