"""Room for the crops of worker processes."""

from pathlib import Path

import pytest

from medcontext.cli import main
from medcontext.errors import InputError
from medcontext.training import shared_memory
from medcontext.training.shared_memory import check_workers, fitting_workers
from tests.training.commands import arguments

MB = 2**20


def test_workers_have_room_for_the_batches_they_prepare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "free_bytes", lambda: 64.0 * MB)
    assert [fitting_workers(8, size * MB) for size in (1, 8, 16, 40)] == [8, 4, 2, 0]
    check_workers(4, 8 * MB)
    check_workers(0, 1000 * MB)
    with pytest.raises(InputError, match=r"For 5 workers.*80 MB.*64\.0 MB free.*--workers 0.*--shm-size=1024m"):
        check_workers(5, 8 * MB)


def test_a_training_refuses_before_it_reads_a_scan(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shared_memory, "free_bytes", lambda: 1000.0)
    monkeypatch.setattr("medcontext.training.fit.make_plan", lambda *_: pytest.fail("a scan was read"))
    assert main(arguments(balls, tmp_path / "run", "--workers=1")) == 2
    assert "For 1 workers, crops need" in capsys.readouterr().err


def test_a_folder_that_is_not_there_sets_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path / "nowhere")
    assert fitting_workers(8, 1000 * MB) == 8
