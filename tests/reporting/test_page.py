"""The page as a file: what is in it, and what is not."""

import base64
import gzip
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medcontext.cli import main
from medcontext.reporting.niivue import niivue_script


class Reader(HTMLParser):
    """Collects scripts by their id, the text, and every address that a browser would load."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.scripts: dict[str, str] = {}
        self.addresses: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.addresses += [found[key] or "" for key in ("src", "srcset", "data", "poster") if key in found]
        self.addresses += [found["href"] or ""] if tag == "link" else []
        if tag in ("script", "style"):
            self.open.append(found.get("id") or f"{tag} {len(self.scripts)}")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style") and self.open:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open:
            self.scripts[self.open[-1]] = self.scripts.get(self.open[-1], "") + data
        else:
            self.text += data


@pytest.fixture(scope="module")
def page(evaluated: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Reader:
    path = tmp_path_factory.mktemp("page") / "report.html"
    models = [f"{name}={folder}" for name, folder in evaluated.items()]
    assert main(["report", *models, "--output", str(path), "--cases", "all"]) == 0
    return Reader(path.read_text(encoding="utf-8"))


def test_everything_is_inside(page: Reader) -> None:
    assert page.addresses == ["data:,"], "the empty icon alone"
    assert "window.niivue" in " ".join(page.scripts.values())


def test_the_viewer_has_the_labels_and_predictions_of_every_case(page: Reader, balls: Path) -> None:
    data = json.loads(page.scripts["data"])
    assert data["models"] == ["far", "near"]
    assert [value["name"] for value in data["values"]] == ["left", "right"]
    assert len(data["cases"]) == 8
    for index, case in enumerate(data["cases"]):
        packed = json.loads(page.scripts[f"case-{index}"])
        volume = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(packed["volumes"]["truth"])))
        label = np.asanyarray(nib.load(balls / "labelsTr" / f"{case['name']}.nii.gz").dataobj)
        box = tuple(slice(*bounds) for bounds in packed["box"])
        np.testing.assert_array_equal(np.take([0, 200, 500], np.asanyarray(volume.dataobj)), label[box])
        assert set(packed["volumes"]) == {"image", "truth", "0", "1"}
    missed = next(case for case in data["cases"] if case["name"] == "ball_3")
    assert missed["scores"]["right"][1] == 0


def test_the_first_words_are_the_result(page: Reader) -> None:
    assert page.text.index("On these 8 patients near is better than far") < page.text.index("Cases to look at")


def test_the_page_says_how_it_was_trained_and_scored(page: Reader) -> None:
    for expected in ("1 x NVIDIA H200", "2.00 GPU hours", "All settings of far", "network_args:", "8 of 8 cases"):
        assert expected in page.text, expected


def test_figures_are_readable_in_both_themes_and_lead_to_the_cases(page: Reader) -> None:
    figures = re.findall(r"<svg.*?</svg>", page.html, re.DOTALL)
    assert len(figures) >= 8
    for svg in figures:
        assert "currentColor" in svg
        assert "#1a1a1a" not in svg
    assert 'xlink:href="#case=ball_3"' in page.html
    ids = re.findall(r'\bid="([^"]+)"', "".join(figures))
    assert len(ids) == len(set(ids)), "no two parts of the page share a name"


def test_niivue_cannot_end_its_own_script() -> None:
    assert "</script" not in niivue_script()
