"""The report in a real browser. Colours are those of `pictures.colours`."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
import pytest

from medcontext.cli import main
from medcontext.pictures.colours import COLOURS, ERRORS
from medcontext.reporting.content import make_page, read_content, shown_case
from medcontext.reporting.make import read_case
from medcontext.reporting.page import pack_case, render
from medcontext.reporting.serve import make_server
from tests.conftest import write_blobs
from tests.reporting.browser import Browser, browser, share
from tests.reporting.evaluations import evaluate_moved
from tests.reporting.test_content import evaluation, label

MISSED, SPURIOUS, _ = ERRORS.values()
LEFT, RIGHT = COLOURS[:2]
UP, DOWN, NEXT, BEFORE = "\ue013", "\ue015", "\ue014", "\ue012"  # the arrow keys


@pytest.fixture(scope="module")
def page(evaluated: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    models = [f"{name}={folder}" for name, folder in evaluated.items()]
    assert main(["report", *models, "--output", str(path), "--cases", "all"]) == 0
    return path


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as made:
        yield made


@pytest.fixture
def opened(chromium: Browser, page: Path) -> Browser:
    chromium.driver.get("about:blank")
    chromium.open(page)
    look_at_viewer(chromium)
    return chromium


def look_at_viewer(chromium: Browser) -> None:
    """The keys are for what has the focus."""
    chromium.run("const v = document.getElementById('viewer'); v.scrollIntoView(); v.focus({preventScroll: true})")


def test_it_opens_without_an_error_and_without_a_network(chromium: Browser, page: Path) -> None:
    chromium.loaded(), chromium.errors()
    chromium.open(page)
    assert chromium.errors() == []
    assert chromium.loaded() == [page.as_uri()]


def test_every_panel_shows_what_it_is_called(opened: Browser) -> None:
    image, truth, far, near = (opened.picture(panel) for panel in ("image", "truth", "0", "1"))
    assert image.std() > 0.05, "not blank"
    assert np.ptp(image, axis=-1).max() < 0.3, "the image alone is grey, but for the letters"
    assert share(truth, LEFT) > 0.01
    assert share(truth, MISSED) == 0
    assert share(far, MISSED) > 0.005
    assert share(far, SPURIOUS) > 0.005
    assert share(near, MISSED) < share(far, MISSED), "near has fewer errors"


def test_errors_structures_or_neither_can_be_shown(opened: Browser) -> None:
    opened.click("#overlays button", "structures")
    assert share(opened.picture("0"), MISSED) == 0
    assert share(opened.picture("0"), LEFT) > 0.01
    opened.click("#overlays button", "none")
    assert share(opened.picture("0"), LEFT) == 0


def test_a_structure_that_is_switched_off_takes_its_errors_along(opened: Browser) -> None:
    opened.run("document.querySelectorAll('#legend input').forEach((box) => box.click())")
    for panel in ("truth", "0"):
        picture = opened.picture(panel)
        assert max(share(picture, LEFT), share(picture, RIGHT), share(picture, MISSED)) < 0.001


def where(chromium: Browser) -> tuple[tuple[int, ...], dict[str, str]]:
    """The voxel under the crosshair, and what each panel has there."""
    voxel, _, *names = re.split(r", intensity | · ", chromium.text("here"))
    return tuple(map(int, voxel.removeprefix("voxel ").split(", "))), dict(name.split(": ") for name in names)


def test_keys_move_through_slices_and_cases(opened: Browser) -> None:
    first, (start, _) = opened.shown(), where(opened)
    before = {panel: opened.picture(panel) for panel in ("image", "truth", "0", "1")}
    opened.press(UP, UP)
    assert where(opened)[0] == (start[0], start[1], start[2] + 2)
    for panel, picture in before.items():
        assert np.abs(opened.picture(panel) - picture).max() > 0.1, panel
    opened.press(DOWN)
    assert where(opened)[0] == (start[0], start[1], start[2] + 1)
    opened.press(NEXT)
    opened.wait(lambda: opened.shown() not in ("", first))
    opened.press(BEFORE)
    opened.wait(lambda: opened.shown() == first)
    opened.press(BEFORE)
    opened.wait(lambda: opened.shown() not in ("", first))  # from the first to the last
    opened.press("e")
    assert opened.run("return location.hash") == f"#case={opened.shown()}"


def test_outside_the_viewer_the_arrow_keys_scroll(opened: Browser) -> None:
    opened.run("document.activeElement.blur()")
    away = {"type": "mouseMoved", "x": 1, "y": 1}  # of where another test may have left the pointer
    opened.driver.execute_cdp_cmd("Input.dispatchMouseEvent", away)
    start, scrolled = where(opened)[0], opened.run("return scrollY")
    key = UP if scrolled else DOWN  # another test may have left it at the top

    def scrolls() -> bool:
        opened.press(key)  # again: a busy Chromium drops the scrolling of a key that it passes on
        return opened.run("return scrollY") != scrolled

    opened.wait(scrolls)
    assert where(opened)[0] == start


def test_keys_of_niivue_do_nothing(opened: Browser) -> None:
    mouse(opened, "truth", [(0.5, 0.5)], button="left")
    opened.run("document.querySelector('#panels [data-panel=truth] canvas').focus()")
    start, before = where(opened)[0], {panel: opened.picture(panel) for panel in ("image", "truth")}
    opened.press(*"hjklvcpm")
    assert where(opened)[0] == start
    for panel, picture in before.items():
        assert np.abs(opened.picture(panel) - picture).max() < 0.1, panel


def mouse(chromium: Browser, panel: str, path: list[tuple[float, float]], button: str) -> None:
    """Press at the first place of a panel (fractions of its sides), drag through the others, release."""
    x, y, width, height = chromium.run(  # type: ignore[misc]
        "const r = document.querySelector(`#panels [data-panel='${arguments[0]}'] canvas`).getBoundingClientRect();"
        "return [r.x, r.y, r.width, r.height]",
        panel,
    )
    places = [(x + right * width, y + down * height) for right, down in path]
    buttons = {"left": 1, "right": 2}[button]
    kinds = ["mousePressed", *["mouseMoved"] * (len(places) - 1), "mouseReleased"]
    for kind, (right, down) in zip(kinds, [*places, places[-1]], strict=True):
        event = {"type": kind, "x": right, "y": down, "button": button, "buttons": buttons, "clickCount": 1}
        chromium.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)


def test_a_drag_with_the_right_button_changes_the_contrast_of_every_panel(opened: Browser) -> None:
    def window() -> object:
        return opened.run("return ['low', 'high'].map((id) => document.getElementById(id).dataset.value)")

    opened.click("#overlays button", "none")
    before, pictures = window(), {panel: opened.picture(panel) for panel in ("image", "truth", "0", "1")}
    mouse(opened, "truth", [(0.3, 0.3), (0.4, 0.4), (0.5, 0.5)], button="right")
    opened.wait(lambda: window() != before)
    for panel, picture in pictures.items():
        assert np.abs(opened.picture(panel) - picture).mean() > 0.01, panel
    assert np.abs(opened.picture("0") - opened.picture("truth")).mean() < 0.01


def test_the_wheel_moves_through_slices_in_all_panels_at_once(opened: Browser) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    before = {panel: opened.picture(panel) for panel in ("image", "truth", "1")}
    start, scrolled = where(opened)[0], opened.run("return scrollY")
    canvas = opened.driver.find_element("css selector", '#panels [data-panel="truth"] canvas')
    ActionChains(opened.driver).scroll_from_origin(ScrollOrigin.from_element(canvas), 0, 100).perform()
    opened.wait(lambda: where(opened)[0] != start)
    assert where(opened)[0][:2] == start[:2]
    assert opened.run("return scrollY") == scrolled, "the page stays"
    for panel, picture in before.items():
        assert np.abs(opened.picture(panel) - picture).max() > 0.1, panel


@pytest.mark.parametrize("view", ["coronal", "sagittal", "all", "3D"])
def test_other_views_draw_something_else(opened: Browser, view: str) -> None:
    before = opened.picture("truth")
    opened.click("#views button", view)
    opened.press("e")
    opened.wait(lambda: sum(share(opened.picture("truth"), colour) for colour in (LEFT, RIGHT)) > 0.001)
    assert np.abs(opened.picture("truth") - before).max() > 0.2


def test_opacity_window_and_outlines_change_the_picture(opened: Browser) -> None:
    def slide(id: str, value: int) -> None:
        opened.run(
            "const e = document.getElementById(arguments[0]); e.value = arguments[1]; e.oninput({target: e})", id, value
        )

    before = opened.picture("truth")
    slide("opacity", 5)
    faint = opened.picture("truth")
    assert share(faint, LEFT) < share(before, LEFT) / 2
    opened.click("#outline")
    assert share(opened.picture("truth"), LEFT) > share(faint, LEFT)
    dark = opened.picture("image").mean()
    slide("high", 60)
    assert opened.picture("image").mean() > dark + 0.02


def test_a_panel_can_be_left_out_and_comes_back_at_the_same_place(opened: Browser) -> None:
    before = opened.picture("1")
    width = before.shape[1]
    opened.click('#shown input[data-panel="image"]')
    assert opened.picture("1").shape[1] > width
    opened.click('#shown input[data-panel="1"]')
    opened.press(UP)
    opened.click('#shown input[data-panel="image"]')
    opened.click('#shown input[data-panel="1"]')
    opened.wait(lambda: opened.picture("1").shape[1] == width and opened.picture("1").std() > 0.05)
    opened.press(DOWN)
    opened.wait(lambda: np.abs(opened.picture("1") - before).mean() < 0.02)


def test_a_point_or_a_name_leads_to_its_case(opened: Browser) -> None:
    click = "dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    opened.run(f"[...document.querySelectorAll('#figures svg a')].at(-1).{click}")
    opened.click("#rankings a", "ball_5")
    opened.wait(lambda: opened.shown() == "ball_5")
    assert opened.run("return location.hash") == "#case=ball_5"
    opened.run("location.hash = '#case=nobody'")
    opened.wait(lambda: "nobody is not in this page" in opened.text("trouble"))


def test_an_address_that_is_not_encoded_is_read_as_it_stands(chromium: Browser, page: Path) -> None:
    chromium.driver.get("about:blank")
    chromium.open(f"{page.as_uri()}#case=100%")
    assert chromium.errors() == []
    assert chromium.shown()
    chromium.run("location.hash = '#case=50%'")
    chromium.wait(lambda: "50% is not in this page" in chromium.text("trouble"))


def test_the_points_of_figures_are_no_tab_stops(opened: Browser) -> None:
    stops = "return [...document.querySelectorAll('svg a')].filter((a) => a.tabIndex >= 0).length"
    assert opened.run("return document.querySelectorAll('svg a').length > 0")
    assert opened.run(stops) == 0


def test_the_panel_with_the_focus_has_an_outline(opened: Browser) -> None:
    for _ in range(30):
        opened.press("\ue004")
        if opened.run("return document.activeElement.tagName") == "CANVAS":
            break
    style = "return getComputedStyle(document.activeElement.closest('figure')).outlineStyle"
    assert opened.run(style) == "solid"


def test_equal_scores_are_all_plain_and_the_better_one_is_bold(opened: Browser) -> None:
    opened.run("location.hash = '#case=ball_3'")
    opened.wait(lambda: opened.shown() == "ball_3")
    best = "return [...document.querySelectorAll('#scores tbody tr')].map((r) => r.querySelectorAll('.best').length)"
    assert opened.run(best) == [1, 1]
    opened.run(
        "const e = document.getElementById('data'), d = JSON.parse(e.textContent);"
        "for (const c of d.cases) c.scores.left = [0.5, 0.5]; e.textContent = JSON.stringify(d);"
        "document.getElementById('viewer').dispatchEvent(new Event('changed'))"
    )
    opened.wait(lambda: opened.run(best) == [0, 1])


def test_on_paper_everything_is_dark_on_white_and_all_metrics_are_there(opened: Browser) -> None:
    dark = {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    for theme in ("", "dark"):
        opened.run("document.documentElement.dataset.theme = arguments[0]", theme)
        opened.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
        ink = "return getComputedStyle(document.body).color"
        tables = "return [...document.querySelectorAll('[data-table]')].map((table) => table.offsetHeight > 0)"
        assert (opened.run(ink), opened.run(tables)) == ("rgb(26, 26, 26)", [True] * 3)
        opened.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


@pytest.mark.slow
def test_rankings_of_three_models_are_whole(chromium: Browser, evaluated: dict[str, Path], tmp_path: Path) -> None:
    far, near = evaluated.values()
    models = [f"the plain baseline={far}", f"MedContext, 40 % masked={near}", f"MedContext, 60 % masked={near}"]
    assert main(["report", *models, "--output", str(tmp_path / "a.html"), "--cases", "1"]) == 0
    chromium.open(tmp_path / "a.html")
    cut = (
        "return [...document.querySelectorAll('#rankings .scroll')].filter((e) => e.scrollWidth > e.clientWidth).length"
    )
    assert chromium.run("return document.querySelectorAll('#rankings .scroll').length > 1")
    assert chromium.run(cut) == 0


def test_the_metric_can_be_chosen(opened: Browser) -> None:
    opened.click("#metrics button", "HD95 max")
    shown = "return [...document.querySelectorAll('[data-table]')].filter((t) => !t.hidden).map((t) => t.dataset.table)"
    assert opened.run(shown) == ["hd95_max"]


def test_light_and_dark_follow_the_system_and_the_button(opened: Browser) -> None:
    def brightness() -> float:
        colour = str(opened.run("return getComputedStyle(document.body).backgroundColor"))
        return sum(map(int, re.findall(r"\d+", colour)[:3])) / 765

    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    opened.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    assert brightness() < 0.2
    opened.click("#theme")
    assert brightness() > 0.9
    opened.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert brightness() > 0.9, "what was chosen stays"


def test_missed_and_spurious_are_told_apart_in_3d(opened: Browser) -> None:
    opened.click("#views button", "3D")
    opened.wait(lambda: min(share(opened.picture("0"), colour) for colour in (MISSED, SPURIOUS)) > 0.002)


def test_tables_and_figures_can_be_taken_along(opened: Browser, tmp_path: Path) -> None:
    where = {"behavior": "allow", "downloadPath": str(tmp_path)}
    opened.driver.execute_cdp_cmd("Browser.setDownloadBehavior", where)
    for text in ("every score", "LaTeX"):
        opened.click("p.save a", text)
    opened.run("[...document.querySelectorAll('#figures .save')].at(-1).click()")
    opened.wait(lambda: {path.suffix for path in tmp_path.iterdir()} == {".csv", ".tex", ".svg"})
    svg = (tmp_path / "hd95_pooled.svg").read_text(encoding="utf-8")
    assert ElementTree.fromstring(svg).get("width", "").endswith("pt")
    assert "var(" not in svg
    assert "currentColor" not in svg
    assert (tmp_path / "table.tex").read_text().startswith("% ")
    assert opened.errors() == []


@pytest.mark.slow
def test_on_a_phone_a_wide_table_says_that_it_goes_on_and_keeps_its_first_column(page: Path) -> None:
    with browser(width=320, height=700, phone=True) as phone:
        phone.open(page)
        first = (
            "const place = document.querySelector('[data-table=dsc]'), cell = place.querySelector('tbody th');"
            "return [place.hasAttribute('data-more'), cell.getBoundingClientRect().left, "
            "place.querySelector('tbody td').getBoundingClientRect().left]"
        )
        more, name, number = phone.run(first)  # type: ignore[misc]
        assert more
        phone.run("document.querySelector('[data-table=dsc]').scrollLeft = 10000")
        phone.wait(lambda: not phone.run(first)[0])  # type: ignore[index]
        _, name_after, number_after = phone.run(first)  # type: ignore[misc]
        assert name_after == name
        assert number_after < number - 20


@pytest.mark.slow
def test_a_phone_shows_two_panels_side_by_side_and_nothing_sticks_out(page: Path) -> None:
    with browser(width=390, height=844, phone=True) as phone:
        phone.open(page)
        assert phone.run("return document.documentElement.scrollWidth") == 390
        tops = phone.run("return [...document.querySelectorAll('#panels figure')].map((f) => f.offsetTop)")
        assert tops[0] == tops[1] < tops[2]  # type: ignore[index]
        assert share(phone.picture("truth"), LEFT) > 0.01


def touch(phone: Browser, path: list[list[tuple[float, float]]]) -> None:
    """Put fingers down, move them from place to place, lift them."""
    for index, fingers in enumerate([*path, []]):
        kind = "touchEnd" if not fingers else "touchMove" if index else "touchStart"
        points = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(fingers)]
        phone.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


@pytest.mark.slow
def test_on_a_phone_a_swipe_scrolls_a_tap_moves_and_a_long_name_does_not_stick_out(page: Path, tmp_path: Path) -> None:
    html = page.read_text(encoding="utf-8").replace('"name": "ball_0"', f'"name": "{180 * "b"}"')
    (tmp_path / "long.html").write_text(html, encoding="utf-8")
    with browser(width=390, height=844, phone=True) as phone:
        phone.open(tmp_path / "long.html")
        assert phone.run("return document.documentElement.scrollWidth") == 390
        phone.run("document.getElementById('panels').scrollIntoView()")
        start, scrolled = where(phone)[0], phone.run("return scrollY")
        touch(phone, [[(60, 60)]])
        phone.wait(lambda: where(phone)[0] != start)
        assert where(phone)[0][2] == start[2]
        assert phone.run("return scrollY") == scrolled
        touch(phone, [[(60, 60 - step), (100, 100 + step)] for step in range(0, 40, 10)])
        phone.wait(lambda: where(phone)[0][2] != start[2])
        assert phone.run("return scrollY") == scrolled, "two fingers move through slices"
        touch(phone, [[(100, 150 - step)] for step in range(0, 100, 10)])
        phone.wait(lambda: phone.run("return scrollY") > scrolled)  # type: ignore[operator]
        assert phone.errors() == []


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set of 40 cases whose axes are exchanged and flipped, and its page."""
    folder = tmp_path_factory.mktemp("turned")
    data = write_blobs(folder / "data", cases=40)
    turn = np.array([[0, 0, -2.0, 11], [1.5, 0, 0, -20], [0, -1.0, 0, 40], [0, 0, 0, 1]])
    for path in data.rglob("*.nii.gz"):
        nib.save(nib.Nifti1Image(np.asanyarray(nib.load(path).dataobj), turn), path)
    scores = evaluate_moved(data, folder / "moved", 1)
    assert main(["report", str(scores), "--output", str(folder / "a.html"), "--cases", "all"]) == 0
    return data, folder / "a.html"


def test_what_is_under_the_crosshair_is_what_the_files_have_there(chromium: Browser, turned: tuple[Path, Path]) -> None:
    data, page = turned
    chromium.open(page)
    look_at_viewer(chromium)
    names = {0: "background", 200: "left", 500: "right"}
    seen = set()
    for view in ("axial", "coronal", "sagittal"):
        chromium.click("#views button", view)
        chromium.press("e")
        for key in (UP, UP, UP, DOWN, DOWN, DOWN, DOWN, DOWN, DOWN):
            voxel, found = where(chromium)
            label = np.asanyarray(nib.load(data / "labelsTr" / f"{chromium.shown()}.nii.gz").dataobj)
            assert found["Truth"] == names[int(label[voxel])]
            assert found["moved"] == names[int(np.roll(label, 1, axis=0)[voxel])]
            seen |= set(found.values())
            chromium.press(key)
    assert len(seen) > 1, "not background alone"


def test_of_forty_cases_only_the_one_that_is_shown_is_unpacked(chromium: Browser, turned: tuple[Path, Path]) -> None:
    chromium.driver.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument",
        {"source": "window.unpacked = 0; const own = atob; window.atob = (t) => { window.unpacked++; return own(t); }"},
    )
    chromium.open(turned[1])
    assert chromium.run("return document.querySelectorAll('#case option').length") == 40
    assert chromium.run("return unpacked") == 3, "image, truth and prediction of one case"


def test_a_served_page_reads_each_case_when_it_is_looked_at(
    chromium: Browser, arguments: list[str], evaluated: dict[str, Path]
) -> None:
    content = read_content(arguments)
    names = list(content.files)
    html = render(make_page(content, [shown_case(content, name) for name in names]))
    asked = []

    def case(index: int) -> str:
        asked.append(index)
        return pack_case(read_case(content, names[index]))

    with make_server(lambda: html, case) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        chromium.errors(), chromium.loaded()
        chromium.open(server.url)
        assert asked == [0]
        assert share(chromium.picture("truth"), LEFT) > 0.01
        assert chromium.errors() == []
        hidden = content.files[names[1]].predictions["far"]
        hidden.rename(hidden.with_suffix(".hidden"))
        chromium.click("#next")
        chromium.wait(lambda: "cannot be shown" in chromium.text("trouble"))
        hidden.with_suffix(".hidden").rename(hidden)
        assert hidden.name in chromium.text("trouble")
        chromium.click("#next")
        chromium.wait(lambda: chromium.shown() == names[2])
        assert chromium.text("trouble") == ""
        server.shutdown()


def test_a_case_without_its_image_says_so_and_is_shown(chromium: Browser, tmp_path: Path) -> None:
    labels = {"holes": label()}
    scores = evaluation(tmp_path / "e", labels, labels, {"holes": np.full(label().shape, np.nan, np.float32)})
    assert main(["report", str(scores), "--output", str(tmp_path / "a.html")]) == 0
    chromium.open(tmp_path / "a.html")
    assert "holes is shown without its image" in chromium.text("trouble")
    assert share(chromium.picture("truth"), LEFT) > 0.01
