from pathlib import Path

import pytest

from medcontext.experiments import smoke
from medcontext.experiments.smoke import write_data


def test_of_two_processes_that_generate_the_same_scans_the_second_takes_those_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, write = tmp_path / "acdc", smoke.write_phantom

    def slow(folder: Path, **settings: object) -> None:
        write(folder, **settings)
        data.mkdir()
        (data / "of the first").touch()

    monkeypatch.setattr(smoke, "write_phantom", slow)
    write_data("acdc", data)
    assert [path.name for path in tmp_path.rglob("*")] == ["acdc", "of the first"]


def test_a_generation_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path, **settings: object) -> None:
        folder.mkdir()
        raise OSError("no space left")

    monkeypatch.setattr(smoke, "write_phantom", full)
    with pytest.raises(OSError, match="no space left"):
        write_data("acdc", tmp_path / "acdc")
    assert not list(tmp_path.iterdir())
