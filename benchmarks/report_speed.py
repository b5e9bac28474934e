"""How long does a report with many cases take to make, and to open in a browser?

    python benchmarks/report_speed.py --work DIR [--cases 40] [--size 128 128 96] [--machine NAME]

Generated scans with nine structures; two models whose predictions are the labels, moved. A browser without a window
opens the file from disk, with WebGL computed in software; opened is when the first case is drawn in all panels. The
table is written to benchmarks/results/.
"""

import argparse
import statistics
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import nibabel as nib
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the browser of the tests

from tests.reporting.browser import Browser, browser

from medcontext.commands.evaluate import evaluate
from medcontext.phantom import write_phantom
from medcontext.reporting.make import make_report

OPENINGS = 5


def models(data: Path, work: Path) -> list[str]:
    """Two evaluated models, off by one and by two voxels."""
    found = []
    for name, steps in (("far", 2), ("near", 1)):
        predictions = work / name / "predictions"
        predictions.mkdir(parents=True)
        for path in sorted((data / "labelsTr").iterdir()):
            label = nib.load(path)
            moved = np.roll(np.asanyarray(label.dataobj), steps, axis=0)
            nib.save(nib.Nifti1Image(moved, label.affine), predictions / path.name)
        evaluate(predictions, data, work / name / "scores")
        found.append(f"{name}={work / name / 'scores'}")
    return found


def opening(page: Path, chromium: Browser) -> tuple[float, float]:
    """Seconds from asking for the page until its first case is drawn, and from a click until the next is."""
    chromium.driver.get("about:blank")
    start = time.perf_counter()
    chromium.open(page)
    first = chromium.shown()
    opened = time.perf_counter() - start
    chromium.run("document.getElementById('viewer').scrollIntoView()")
    start = time.perf_counter()
    chromium.click("#next")
    chromium.wait(lambda: chromium.shown() not in ("", first))
    return opened, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="an empty folder")
    parser.add_argument("--cases", type=int, default=40)
    parser.add_argument("--size", type=int, nargs=3, default=[128, 128, 96])
    parser.add_argument("--machine", default="cpu")
    options = parser.parse_args()
    size = tuple(options.size)
    data = write_phantom(options.work / "data", cases=options.cases, size=size, spacing=(2.6, 2.6, 3.0))
    evaluated = models(data, options.work)
    start = time.perf_counter()
    page = make_report(evaluated, options.work / "report.html", cases=["all"])
    made = time.perf_counter() - start
    with browser() as chromium:
        times = [opening(page, chromium) for _ in range(OPENINGS)]
        chromes = chromium.driver.capabilities["browserVersion"]
    opened, turned = (sorted(column) for column in zip(*times, strict=True))
    text = f"""# A report with {options.cases} cases

`python benchmarks/report_speed.py --work DIR --cases {options.cases} --size {" ".join(map(str, size))}`

{__doc__.split(chr(10) * 2)[2].strip()}

| | |
|---|---|
| scans of | {" x ".join(map(str, size))} voxels, cropped to what is labelled |
| size of the page | {page.stat().st_size / 2**20:.1f} MiB |
| made in | {made:.1f} s |
| opened in | {statistics.median(opened):.2f} s (median of {OPENINGS}; {opened[0]:.2f} to {opened[-1]:.2f}) |
| next case in | {statistics.median(turned):.2f} s ({turned[0]:.2f} to {turned[-1]:.2f}) |

Chromium {chromes}, ipyniivue {version("ipyniivue")}, {options.machine}.
"""
    name = f"report_speed_{options.machine}_{date.today().isoformat()}.md"
    (Path(__file__).parent / "results" / name).write_text(text)
    print(text)


if __name__ == "__main__":
    main()
