"""What a terminal shows: the text as it is, whatever it holds and whatever the terminal can show."""

import io
import sys

import pytest
from rich.console import Group
from rich.table import Table

from medcontext.cli import main
from medcontext.console import console, copied, errors, tolerate_any_text


@pytest.mark.parametrize("text", ["heart [v2]", "heart [/old]", "[bold]x", ":heart: 5", "a\\[b]\\"])
def test_brackets_and_colons_are_shown_as_they_are(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    console.print(text, soft_wrap=True)
    errors.print(text, soft_wrap=True)
    shown = capsys.readouterr()
    assert shown.out == shown.err == f"{text}\n"
    table = Table(text, title=text)
    table.add_row(text)
    console.print(table)
    assert capsys.readouterr().out.count(text) == 3


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_no_text_is_too_much_for_a_terminal(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    tolerate_any_text()
    console.print("86.2 ± 3, münster \udcfc, 心")
    sys.stdout.flush()
    shown = raw.getvalue().decode(encoding)
    assert "86.2" in shown
    assert "\\udcfc" in shown


def test_an_error_names_what_the_terminal_cannot_show(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--predictions", "m\udcfcnster [/old]", "--labels", "x", "--output", "y"]) == 2
    message = capfd.readouterr().err
    assert "Error: The name m\\udcfcnster [/old] is not UTF-8. Rename it" in message


def test_in_a_notebook_a_copy_goes_to_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    with copied(io.StringIO()) as copy:
        console.print("said")
        console.print(Group("a progress bar"))
    assert copy.file.getvalue() == "said\n"  # type: ignore[attr-defined]
