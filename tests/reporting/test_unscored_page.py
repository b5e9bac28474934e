"""The page of predictions without labels."""

import base64
import gzip
import json
import re
import shutil
import threading
from pathlib import Path
from urllib.request import urlopen

import nibabel as nib
import numpy as np
import pytest

from medcontext.cli import main
from medcontext.pictures.colours import ERRORS, colours_of
from medcontext.reporting import niivue
from medcontext.reporting.page import pack_case, render
from medcontext.reporting.serve import make_server
from medcontext.reporting.unscored import read_unscored
from medcontext.reporting.unscored_page import read_case, unscored_page
from tests.reporting.browser import browser, share
from tests.reporting.conftest import Predicted


@pytest.fixture(scope="module")
def page(predicted: Predicted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("unscored") / "page.html"
    assert main(["report", "--predictions", str(predicted.folder), "--output", str(path), "--cases", "3"]) == 0
    return path


def embedded(page: Path, id: str) -> dict:
    text = page.read_text(encoding="utf-8")
    found = re.search(rf'<script type="application/json" id="{id}">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_all_cases_are_in_the_table_and_the_first_in_the_viewer(page: Path, predicted: Predicted) -> None:
    text, found = page.read_text(encoding="utf-8"), read_unscored(predicted.folder)
    order = [row.case for row in found.cases]
    table = text[text.index('<table class="expected"') :]
    assert re.findall(r'href="#case=(\w)"', table[: table.index("</table>")]) == order
    data = embedded(page, "data")
    assert [case["name"] for case in data["cases"]] == order[:3]
    assert data["truth"] is False
    assert ": 8 segmentations, not checked" in text
    assert str(predicted.data) in text
    assert "Trained on a, b, 2 of these 8 cases" in text
    assert "calibrated on 5 labelled cases" in text
    first = found.cases[0]
    assert first.expected
    assert f"<td>{100 * first.expected[0]:.1f}</td>" in table
    assert "likely bad" in table


def test_a_case_has_its_image_and_segmentation_and_what_is_expected(page: Path, predicted: Predicted) -> None:
    case, packed = embedded(page, "data")["cases"][0], embedded(page, "case-0")
    assert set(packed["volumes"]) == {"image", "0"}
    volume = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(packed["volumes"]["0"])))
    label = np.asanyarray(nib.load(predicted.folder / f"{case['name']}.nii.gz").dataobj)
    box = tuple(slice(*bounds) for bounds in packed["box"])
    np.testing.assert_array_equal(np.take([0, 200, 500, 600], np.asanyarray(volume.dataobj)), label[box])
    assert (np.asanyarray(volume.dataobj) > 0).sum() == (label > 0).sum(), "nothing is cropped away"
    rows = {row.structure: row for row in read_unscored(predicted.folder).rows if row.case == case["name"]}
    assert case["means"] == [rows["mean"].expected[0]]
    assert set(case["scores"]) == {"kidney", "liver", "spleen"}
    assert case["remarks"] == rows["mean"].remarks


def test_the_server_hands_out_every_case(predicted: Predicted) -> None:
    found = read_unscored(predicted.folder)
    names = list(found.files)
    with make_server(lambda: "", lambda index: pack_case(read_case(found, names[index]))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        answer = json.loads(urlopen(f"{server.url}case/7").read())
        server.shutdown()
    assert set(answer["volumes"]) == {"image", "0"}


def test_without_images_it_is_the_table_alone_and_needs_no_viewer(
    predicted: Predicted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(predicted.folder, tmp_path / "moved"))
    record = json.loads((folder / "dataset.json").read_text())
    record["predicted_by"]["input"] = str(tmp_path / "gone")
    (folder / "dataset.json").write_text(json.dumps(record))
    monkeypatch.setattr(niivue, "PACKAGE", "not_ipyniivue")
    assert main(["report", "--predictions", str(folder), "--output", str(tmp_path / "a.html")]) == 0
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert 'id="viewer"' not in text
    assert "No pictures, for the images are not found" in text
    assert "#case=" not in text[text.index('<table class="expected"') : text.index("</table>")]
    assert "0 cases in the viewer" in capsys.readouterr().out


def test_without_an_expected_dsc_the_remarks_are_there(predicted: Predicted, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(predicted.folder, tmp_path / "moved"))
    lines = [line.split(",") for line in (folder / "expected.csv").read_text().splitlines()]
    table = [lines[0], *([*line[:2], "", "", "", *line[5:]] for line in lines[1:])]
    (folder / "expected.csv").write_text("".join(",".join(line) + "\n" for line in table))
    text = render(unscored_page(read_unscored(folder), []))
    assert "No DSC can be expected" in text
    assert "<td>–</td>" in text
    assert "likely bad" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "a.html", "--cases", "z"], "Unknown case 'z'"),
        ([], "give --output report.html or --serve"),
        (["EVAL", "--output", "a.html"], "leave out evaluations"),
        (["--figures", "figures", "--output", "a.html"], "leave out evaluations and --figures"),
        (["--live", "RUN", "--output", "a.html"], "--live shows one training; leave out"),
    ],
)
def test_wrong_input_gets_one_clear_error(
    options: list[str],
    message: str,
    predicted: Predicted,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", *options, "--predictions", str(predicted.folder)]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_the_viewer_draws_structures_and_no_errors(page: Path) -> None:
    with browser() as chromium:
        chromium.open(page)
        assert chromium.errors() == []
        data = embedded(page, "data")
        assert chromium.shown() == data["cases"][0]["name"]
        colours = colours_of({"liver": 200, "kidney": 500, "spleen": 600})
        picture = chromium.picture("0")
        assert share(picture, colours["liver"]) > 0.01
        assert max(share(picture, colour) for colour in list(ERRORS.values())[:2]) < 0.001
        assert share(chromium.picture("image"), colours["liver"]) == 0
        assert "errors" not in chromium.text("overlays") + chromium.text("legend")
        assert "expected DSC" in chromium.text("scores")
        assert "likely bad" in chromium.text("remarks")
        chromium.press("e")
        chromium.click("#next")
        chromium.wait(lambda: chromium.shown() == data["cases"][1]["name"])
        assert chromium.errors() == []
