"""What the command line does with errors that nobody expected where they came."""

from typing import Any

import pytest

from medcontext import cli


@pytest.mark.parametrize(
    "refusal", [MemoryError("Unable to allocate 1.5 GiB"), RuntimeError("std::bad_alloc"), OSError(12, "no memory")]
)
def test_a_lack_of_memory_anywhere_is_one_error(
    refusal: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any) -> None:
        raise refusal

    monkeypatch.setattr(cli, "command", refuse)
    if "no memory" in str(refusal):  # only what says so
        with pytest.raises(OSError, match="no memory"):
            cli.main([])
        return
    assert cli.main([]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("Error: Not enough memory")
    assert "fewer --workers" in shown


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cross-validate", "Interrupted. The same command goes on."),
        ("predict", "Interrupted. Go on with --resume."),
        ("report", "Interrupted."),
    ],
)
def test_what_is_stopped_says_how_it_goes_on(
    name: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "command", stop)
    assert cli.main([name, "--output", "x"]) == 130
    assert capsys.readouterr().err.strip() == said
