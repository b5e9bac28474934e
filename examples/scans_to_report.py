"""From scans to a report in Python: the baseline, MedContext with unlabelled scans, and what the difference is worth.

python examples/scans_to_report.py [--data DATASET] [--output results] [--steps 500]

Without --data it generates a small data set. Each step takes what the one before returned; in a notebook, run them cell
by cell.
"""

import argparse
import tempfile
from pathlib import Path

import medcontext as mc
from medcontext.phantom import write_phantom


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--output", type=Path, help="new or empty; default: a new temporary folder")
    parser.add_argument("--steps", type=int, default=500)
    options = parser.parse_args()
    output = options.output or Path(tempfile.mkdtemp(prefix="medcontext-"))
    data = options.data or write_phantom(
        output / "data", cases=8, test_cases=4, size=(32, 32, 32), spacing=(10, 10, 10)
    )

    mc.check(data)
    scores = {}
    for method, scans in {"none": [], "medcontext": ["rest", data]}.items():  # left out by few_shot, and imagesTs
        settings = mc.Settings.preset(
            method=method,
            steps=options.steps,
            few_shot=3,
            crop_size=(32, 32, 32),
            network_args={"channels": [8, 16, 32], "strides": [2, 2], "num_res_units": 0},
            **{"method.mask.patch_size": 8},
        )
        run = mc.train(data, output / method / "run", settings, unlabelled=scans, cache=output / "cache")
        paths = mc.predict(run, data, output / method / "predictions")
        scores[method] = mc.evaluate(paths, data, output / method / "scores")
    found = [row["dsc"] for row in scores["medcontext"].rows]  # pandas.DataFrame(scores["medcontext"].rows)
    print(f"{len(found)} scores, each of one case and structure")
    mc.compare(scores, output / "comparison")
    print(mc.report(scores, output / "report.html", cases=["0"]))  # with the extra `report`, cases=["all"]


if __name__ == "__main__":  # evaluate starts processes
    main()
