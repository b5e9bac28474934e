"""What to label next, beside the predictions of all."""

import base64
import json
import re
import shutil
from pathlib import Path

import pytest

from medcontext.cli import main
from medcontext.errors import InputError
from medcontext.inference.judge import read_expected
from medcontext.inference.suggested_table import SuggestedRow, read_suggested, suggested_csv
from medcontext.reporting.page import render
from medcontext.reporting.unscored import read_unscored
from medcontext.reporting.unscored_page import unscored_page
from tests.reporting.browser import browser

COUNT = 2


@pytest.fixture
def moved(suggested: Path, tmp_path: Path) -> Path:
    """A copy of what `suggest` wrote, to change; the case that is needed least is the first to label."""
    folder = Path(shutil.copytree(suggested, tmp_path / "moved"))
    last = read_unscored(folder / "predictions").cases[-1]
    assert last.expected
    row = SuggestedRow(last.case, "", last.expected[0], 2.54, 3, 0.5, "")
    rest = [each for each in read_suggested(folder) if each.case != last.case]
    (folder / "suggested.csv").write_text(suggested_csv([row, *rest][:COUNT]))
    return folder


def section(text: str) -> str:
    return text[text.index('<section id="suggested"') : text.index('<section id="expected"')]


def links(text: str) -> dict[str, str]:
    found = re.findall(r'<a download="(.+?)" href="data:text/plain;charset=utf-8;base64,(.+?)"', text)
    return {name: base64.b64decode(content).decode() for name, content in found}


def test_they_come_first_in_their_order_with_the_picture(moved: Path, tmp_path: Path) -> None:
    assert main(["report", f"--predictions={moved}", f"--output={tmp_path / 'a.html'}", "--cases=3"]) == 0
    inner = str(moved / "predictions")
    assert main(["report", f"--predictions={inner}", f"--output={tmp_path / 'b.html'}", "--cases=3"]) == 0
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert text == (tmp_path / "b.html").read_text(encoding="utf-8"), "either folder may be given"

    rows, means = read_suggested(moved), read_unscored(moved).cases
    order = [row.case for row in rows]
    assert order[0] == means[-1].case
    shown = section(text)
    assert re.findall(r'href="#case=(\w)"', shown) == order
    cells = re.findall(r"<td>(.*?)</td>", shown)
    assert cells[:3] == [f"{100 * rows[0].expected_dsc:.1f}", "3", "2.5"]  # type: ignore[operator]
    assert f"Label these {COUNT} of 8 scans" in shown
    picture = re.search(r'<img alt="([^"]+)" src="data:image/png;base64,([^"]+)"', shown)
    assert picture
    assert base64.b64decode(picture[2]) == (moved / "suggested.png").read_bytes()
    assert picture[1].endswith(f"{', '.join(order)}.")

    data = re.search(r'id="data">(.*?)</script>', text)
    assert data
    cases = json.loads(data[1])["cases"]
    rest = [row.case for row in means if row.case not in order]
    assert [case["name"] for case in cases] == [*order, rest[0]]
    assert cases[0]["remarks"].startswith("to label next, 1 of 2")
    assert "to label next" not in cases[2]["remarks"]


def test_both_tables_can_be_taken_along_as_they_lie_on_disk(suggested: Path) -> None:
    offered = links(render(unscored_page(read_unscored(suggested), [])))
    assert offered == {
        "suggested.csv": (suggested / "suggested.csv").read_text(),
        "expected.csv": (suggested / "predictions/expected.csv").read_text(),
    }


def test_a_picture_that_is_gone_is_said(moved: Path) -> None:
    (moved / "suggested.png").unlink()
    shown = section(render(unscored_page(read_unscored(moved), [])))
    assert "<img" not in shown
    assert "No picture: suggested.png is not beside suggested.csv" in shown


def test_a_list_of_other_predictions_is_refused(moved: Path) -> None:
    (row, other), table = read_suggested(moved), moved / "suggested.csv"
    for wrong, name in ((row._replace(case="z"), "z"), (row._replace(expected_dsc=0.123), row.case)):
        table.write_text(suggested_csv([wrong, other]))
        with pytest.raises(InputError, match=rf"is not of these predictions.*lacks 1 of its 2 cases.*DSC, {name}\."):
            read_unscored(moved / "predictions")
    table.write_text("case,mine\n")
    with pytest.raises(InputError, match=r"suggested\.csv is damaged"):
        read_unscored(moved)


def test_without_a_list_there_is_no_word_of_it(moved: Path) -> None:
    (moved / "suggested.csv").unlink()
    found = read_unscored(moved / "predictions")
    assert found.suggested is None
    assert list(found.files) == [row.case for row in found.cases]
    assert "To label next" not in render(unscored_page(found, []))
    with pytest.raises(InputError, match=r"it has no dataset\.json that says so, and no suggested\.csv"):
        read_unscored(moved)
    assert read_expected(moved / "predictions"), "nothing but the list is lacking"


@pytest.mark.slow
def test_on_a_phone_the_picture_fits_and_a_tap_shows_it_at_full_size(suggested: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main(["report", f"--predictions={suggested}", f"--output={page}", "--cases=1"]) == 0
    with browser(width=390, height=844, phone=True) as phone:
        phone.open(page)
        widths = "return [document.querySelector('.picture img').offsetWidth, document.documentElement.scrollWidth]"
        fits, whole = phone.run(widths)  # type: ignore[misc]
        assert fits < 390 == whole
        phone.click(".picture img")
        natural = phone.run("return document.querySelector('.picture img').naturalWidth")
        assert natural > 1000  # type: ignore[operator]
        assert phone.run(widths) == [natural, 390], "it scrolls in its own box"
        assert phone.errors() == []
