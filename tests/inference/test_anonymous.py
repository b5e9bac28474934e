"""Cases under numbers, and the file that says which is which."""

from pathlib import Path

import numpy as np
import pytest

from medcontext.commands.predict import predict
from medcontext.errors import InputError
from medcontext.inference import predict as predicting
from medcontext.inference.anonymous import key_file
from medcontext.run import Run
from tests.inference.runs import level_run, levels_image, save


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return level_run(tmp_path / "run")


@pytest.mark.parametrize("existed", [False, True])
def test_what_failed_can_be_repeated(run: Run, tmp_path: Path, existed: bool) -> None:
    scan, output = tmp_path / "scans/ann.nii.gz", tmp_path / "out"
    save(scan, np.full((8, 8, 8), np.nan, np.float32))
    if existed:
        output.mkdir()
    for _ in range(2):
        with pytest.raises(InputError, match=r"not finite|NaN"):
            predict(run, scan, output, anonymous=True)
        assert not key_file(output).exists()
    save(scan, levels_image((8, 8, 8))[0])
    assert predict(run, scan, output, anonymous=True) == [output / "case_001.nii.gz"]
    assert "case_001,ann," in key_file(output).read_text()


def test_an_interrupted_one_keeps_the_key_of_what_it_has(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate("ab"):
        save(tmp_path / f"scans/{name}.nii.gz", levels_image((8, 8, 8), number)[0])
    read_image = predicting.read_image
    done: list[str] = []

    def interrupted(case, channels):  # type: ignore[no-untyped-def]
        if done:
            raise KeyboardInterrupt
        done.append(case.name)
        return read_image(case, channels)

    monkeypatch.setattr(predicting, "read_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict(run, tmp_path / "scans", tmp_path / "out", anonymous=True)
    monkeypatch.setattr(predicting, "read_image", read_image)
    with pytest.raises(InputError, match="has names of other cases"):
        predict(run, tmp_path / "scans", tmp_path / "out", anonymous=True)
    predict(run, tmp_path / "scans", tmp_path / "out", anonymous=True, resume=True)
    assert [line.split(",")[:2] for line in key_file(tmp_path / "out").read_text().splitlines()[1:]] == [
        ["case_001", "a"],
        ["case_002", "b"],
    ]
