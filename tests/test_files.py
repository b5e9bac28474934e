"""JSON as other programs write it, and files that are written whole or not at all."""

import codecs
import json
from pathlib import Path

import pytest

from medcontext.errors import InputError
from medcontext.files import LOCK, atomic_path, locked, read_json, write_text

VALUE = {"name": "Herzkammer, große", "cases": [1, 2]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_every_encoding_that_json_may_have_is_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.json").write_bytes(json.dumps(VALUE, ensure_ascii=False).encode(encoding))
    assert read_json(tmp_path / "a.json") == VALUE


def test_a_mark_of_utf_16_from_the_other_end(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(codecs.BOM_UTF16_BE + json.dumps(VALUE).encode("utf-16-be"))
    assert read_json(tmp_path / "a.json") == VALUE


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{\n"a": 1,\n}', "Remove the comma at the end of line 2"),
        ('{"a": [1, 2,]\n}', "Remove the comma at the end of line 1"),
        ('{"image": "imagesTr\\a.nii.gz"}', "In paths write / instead of \\"),
        ('{"a" 1}', "Correct the file"),
        ("", "Correct the file"),
    ],
)
def test_what_is_no_json_is_refused_with_the_remedy(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError) as error:
        read_json(tmp_path / "a.json")
    assert words in str(error.value)
    assert f"{tmp_path / 'a.json'} is not valid JSON" in str(error.value)


def test_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(json.dumps(VALUE, ensure_ascii=False).encode("latin-1"))
    with pytest.raises(InputError, match="Save the file as UTF-8"):
        read_json(tmp_path / "a.json")


def test_two_writers_of_a_file_whose_processes_have_the_same_number(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.txt") as first, atomic_path(tmp_path / "a.txt") as second:  # as in two containers
        first.write_text("whole")
        second.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_a_name_that_is_not_utf8_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"The name m\\udcfcnster,0\.5 is not UTF-8\. Rename it"):
        write_text(tmp_path / "metrics.csv", "case,dsc\nm\udcfcnster,0.5\n")
    assert list(tmp_path.iterdir()) == []


def test_who_opened_a_lock_before_its_holder_removed_it_locks_the_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock is on an open file: the first ends after the second has opened its file, and before that locks it."""
    fcntl = pytest.importorskip("fcntl")
    first, flock = locked(tmp_path), fcntl.flock
    first.__enter__()

    def late(file: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        first.__exit__(None, None, None)
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(tmp_path):
        assert (tmp_path / LOCK).is_file()
        with pytest.raises(InputError, match="is at work"), locked(tmp_path):
            pass
    with locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())
