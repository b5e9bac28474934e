"""The page of a training that goes on; what `medcontext train` leaves is written here by hand, and once for real."""

import json
import shutil
import threading
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medcontext.cli import main
from medcontext.errors import InputError
from medcontext.reporting.live import live_case, live_page, version
from medcontext.reporting.page import render
from medcontext.reporting.serve import make_server
from medcontext.run.watched import read_watched
from tests.reporting.browser import browser
from tests.reporting.evaluations import LEFT, RIGHT, make_training, write_log

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
    training.facts.step, training.facts.seconds = 100, 3600.0
    training.write()
    settings = (tmp_path / "run" / "settings.yaml").read_text()
    (tmp_path / "run" / "settings.yaml").write_text(settings.replace("steps: 10000", "steps: 200"))
    return tmp_path / "run"


def test_before_the_first_validation_there_are_curves_and_no_cases(run: Path) -> None:
    page = live_page(run)
    assert page.live is not None
    assert (page.live["step"], page.live["steps"]) == (100, 200)
    assert page.live["state"] == "Training: step 100 of 200, 1:00:00 left."
    assert "curve_train_loss" in page.curves
    assert not page.cases
    assert "first validation" in render(page)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"step": 200, "seconds": 90.0}, "Finished: 200 steps in 0:01:30."),
        ({"ended": "Stopped at step 100 of 200: no."}, "Stopped at step 100 of 200: no. It took 1:00:00."),
    ],
)
def test_a_training_that_has_ended_says_so(run: Path, facts: dict[str, object], said: str) -> None:
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | facts))
    page = live_page(run)
    assert page.live is not None
    assert page.live["state"] == said


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
        read_watched(run)


@pytest.mark.parametrize("name", ["teacher.nii.gz", "label.nii.gz"])
def test_a_damaged_case_does_not_end_the_page(run: Path, tmp_path: Path, name: str) -> None:
    watch(run, 100, moved=1)
    shutil.copytree(run / "watch" / "a", run / "watch" / "b")
    record = json.loads((run / "watch" / "watch.json").read_text())
    (run / "watch" / "watch.json").write_text(json.dumps(record | {"cases": ["a", "b"]}))
    (run / "watch" / "a" / name).write_bytes(b"half")
    page = live_page(run, embed=True)
    assert page.live is not None
    assert [case.name for case in page.cases] == ["b"]
    assert "a cannot be shown" in page.live["note"]
    assert name in page.live["note"]
    assert main(["report", "--live", str(run), "--output", str(tmp_path / "now.html")]) == 0
    assert [case.name for case in live_page(run).cases] == ["a", "b"], "served cases keep their places"
    assert render(live_page(run))


def test_a_damaged_image_takes_only_itself_away(run: Path) -> None:
    watch(run, 100, moved=1)
    (run / "watch" / "a" / "image.nii.gz").write_bytes(b"half")
    (case,) = live_page(run, embed=True).cases
    assert case.packed is not None
    assert "without its image" in json.loads(case.packed)["note"]


def test_a_prediction_of_another_shape_is_said(run: Path) -> None:
    watch(run, 100, moved=1)
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), run / "watch" / "a" / "teacher.nii.gz")
    page = live_page(run)
    assert page.live is not None
    assert "has shape (4, 4, 4)" in page.live["note"]


@pytest.mark.parametrize("name", ["out[/b]x.html", 245 * "a" + ".html"])
def test_any_name_of_a_file_will_do(run: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--live", str(run), "--output", str(tmp_path / name)]) == 0
    assert f"Written: {tmp_path / name}" in capsys.readouterr().out
    assert (tmp_path / name).is_file()


def test_a_name_that_is_too_long_is_one_sentence(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--live", str(run), "--output", str(run / ("[/b]" + 300 * "a" + ".html"))]) == 2
    told = capsys.readouterr().err
    assert "Error: Cannot use" in told
    assert "File name too long." in told


@pytest.mark.slow
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
        chromium.wait(lambda: "step 150 of 200" in chromium.text("live"))
        watch(run, 150, moved=0)  # after the page has seen the losses
        chromium.wait(lambda: "75.0" not in chromium.text("scores"))
        pressed = "return document.querySelector('#views [aria-pressed=true]').textContent"
        assert chromium.run(pressed) == "coronal", "the page was not loaded anew"
        assert chromium.text("here").split(",")[0] == before.split(",")[0]
        assert chromium.errors() == []
        server.shutdown()
        server.server_close()
        chromium.wait(lambda: chromium.run("return document.getElementById('live').classList.contains('lost')"))
