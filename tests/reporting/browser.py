"""A real browser over a page: what it draws, logs and loads."""

import io
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb

PATIENCE = 60  # seconds, on a busy machine


class Browser:
    """Chromium without a window, its WebGL computed in software."""

    def __init__(self, width: int = 1280, height: int = 1000, phone: bool = False) -> None:
        webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
        chromium, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
        if not (chromium and driver):
            pytest.skip("no chromium and chromedriver here; Debian's packages chromium and chromium-driver have them")
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for option in (
            *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"),
            *("--use-angle=swiftshader", "--enable-unsafe-swiftshader", f"--window-size={width},{height}"),
        ):
            options.add_argument(option)
        if phone:
            metrics = {"width": width, "height": height, "pixelRatio": 2, "touch": True}
            options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))

    def open(self, page: Path | str) -> None:
        """Open a page and wait until its viewer has drawn."""
        self.driver.get(page if isinstance(page, str) else page.as_uri())
        self.wait(lambda: self.run("return document.getElementById('viewer').dataset.ready"))

    def run(self, script: str, *arguments: object) -> object:
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f"nothing came of it: {self.text('trouble')} {self.errors()}"
            time.sleep(0.05)

    def text(self, id: str) -> str:
        return str(self.run("return document.getElementById(arguments[0])?.textContent ?? ''", id))

    def shown(self) -> str:
        """The case that is drawn."""
        return str(self.run("return document.getElementById('viewer').dataset.shown"))

    def click(self, selector: str, text: str = "") -> None:
        """The element of a selector, with a text where several are alike."""
        self.run(
            "for (const e of document.querySelectorAll(arguments[0])) if (e.textContent.includes(arguments[1])) "
            "{ e.click(); return; } throw new Error('nothing to click')",
            selector,
            text,
        )

    def press(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def picture(self, panel: str) -> np.ndarray:
        """The pixels (rows, columns, 3) of a panel, `image`, `truth` or a model's position, 0 to 1."""
        canvas = self.driver.find_element("css selector", f'#panels [data-panel="{panel}"] canvas')
        self.run("arguments[0].scrollIntoView({block: 'center'})", canvas)  # only what the window shows is taken
        return matplotlib.image.imread(io.BytesIO(canvas.screenshot_as_png))[..., :3]

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]

    def loaded(self) -> list[str]:
        """Addresses asked for since the last call, but for those of data inside the page."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith(("data:", "blob:"))]


@contextmanager
def browser(**options: object) -> Iterator[Browser]:
    made = Browser(**options)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.driver.quit()


def share(picture: np.ndarray, colour: str, reach: float = 0.12) -> float:
    """Of the pixels that have a colour's hue, whatever lies beneath: near the line from grey to the colour."""
    target = np.array(to_rgb(colour))
    centred, axis = picture - picture.mean(-1, keepdims=True), target - target.mean()
    length = np.linalg.norm(axis)
    along = centred @ axis / length
    across = np.linalg.norm(centred - along[..., None] * axis / length, axis=-1)
    return float(((along > 0.25 * length) & (across < reach)).mean())
