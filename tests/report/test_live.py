"""The page of a training that goes on; what `medcontext train` leaves is written here by hand, and once for real."""

import json
import threading
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medcontext.cli import main
from medcontext.errors import InputError
from medcontext.report.live import live_case, live_page, read_watch, version
from medcontext.report.page import render
from medcontext.report.serve import make_server
from tests.report.browser import browser
from tests.report.evaluations import LEFT, RIGHT, make_training, write_log

SHAPE = (16, 16, 8)


def watch(run: Path, step: int, moved: int) -> None:
    """What a validation leaves: a case of two blocks, and predictions that are off by so many voxels."""
    label = np.zeros(SHAPE, np.int16)
    label[2:6, 4:12, 2:6], label[9:14, 4:12, 2:6] = LEFT, RIGHT
    image = np.where(label > 0, 1.0, 0.0).astype(np.float32)
    volumes = {
        "image": image,
        "label": label,
        "student": np.roll(label, moved, axis=0),
        "teacher": label,
        "masked": image * 0.5,
        "student_masked": label * 0,
    }
    folder = run / "watch" / "a"
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in volumes.items():
        nib.save(nib.Nifti1Image(array, np.eye(4)), folder / f"{name}.nii.gz")
    content = {
        "step": step,
        "cases": ["a"],
        "structures": {"left": [LEFT], "right": [RIGHT]},
        "panels": list(volumes),
    }
    (run / "watch" / "watch.json").write_text(json.dumps(content))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of 200 steps, half done, after an hour."""
    training = make_training(tmp_path / "run")
    training.facts.update(step=100, seconds=3600.0)
    training.write()
    settings = (tmp_path / "run" / "settings.yaml").read_text()
    (tmp_path / "run" / "settings.yaml").write_text(settings.replace("steps: 10000", "steps: 200"))
    return tmp_path / "run"


def test_before_the_first_validation_there_are_curves_and_no_cases(run: Path) -> None:
    page = live_page(run)
    assert page.live is not None
    assert (page.live["step"], page.live["steps"], page.live["left"]) == (100, 200, "1:00:00")
    assert "curve_train_loss" in page.curves
    assert not page.cases
    assert "first validation" in render(page)


def test_the_watched_cases_are_scored_on_their_grid(run: Path) -> None:
    watch(run, 100, moved=1)
    page = live_page(run)
    assert page.models == ["student", "teacher", "student, masked view"]
    (case,) = page.cases
    assert case.scores["left"] == pytest.approx([0.75, 1.0, 0.0])  # 4 voxels wide, off by one
    assert case.scores["right"] == pytest.approx([0.8, 1.0, 0.0])
    assert case.means == pytest.approx([0.775, 1.0, 0.0])
    assert case.packed is None, "the server hands it out"
    assert "image-2" in json.loads(live_case(run, 0))["volumes"], "the masked view has its own image"


def test_a_page_sees_by_the_version_that_it_is_out_of_date(run: Path) -> None:
    before = version(run)
    assert version(run) == before
    write_log(run, 1, [{"step": 101, "train/loss": 1.0}])
    logged = version(run)
    assert logged != before
    watch(run, 101, moved=1)
    assert version(run) != logged


def test_a_page_can_be_written_down(run: Path, tmp_path: Path) -> None:
    watch(run, 100, moved=1)
    assert main(["report", "--live", str(run), "--output", str(tmp_path / "now.html")]) == 0
    text = (tmp_path / "now.html").read_text(encoding="utf-8")
    assert 'id="case-0"' in text
    assert "data-follow" not in text, "nobody answers there"


def test_a_damaged_record_is_named(run: Path) -> None:
    watch(run, 100, moved=1)
    (run / "watch" / "watch.json").write_text("{}")
    with pytest.raises(InputError, match=r"watch\.json has no step"):
        read_watch(run)


def test_the_browser_follows_a_training_and_keeps_its_place(run: Path) -> None:
    watch(run, 100, moved=1)
    with (
        browser() as chromium,
        make_server(
            lambda: render(live_page(run)).replace("POLL = 10_000", "POLL = 200"),
            lambda index: live_case(run, index),
            version=lambda: version(run),
        ) as server,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        chromium.open(server.url)
        chromium.click("#views button", "coronal")
        before = chromium.text("here")
        assert "step 100 of 200" in chromium.text("live")
        assert "75.0" in chromium.text("scores")
        write_log(run, 1, [{"step": step, "train/loss": 1.0} for step in range(101, 151)])
        watch(run, 150, moved=0)
        chromium.wait(lambda: "step 150 of 200" in chromium.text("live"))
        chromium.wait(lambda: "75.0" not in chromium.text("scores"))
        pressed = "return document.querySelector('#views [aria-pressed=true]').textContent"
        assert chromium.run(pressed) == "coronal", "the page was not loaded anew"
        assert chromium.text("here").split(",")[0] == before.split(",")[0]
        assert chromium.errors() == []
        server.shutdown()
        server.server_close()
        chromium.wait(lambda: chromium.run("return document.getElementById('live').classList.contains('lost')"))
