"""One figure of studies: DSC over cost for each arm, a point for each training, those of one seed joined.

python benchmarks/study_figure.py benchmarks/results/study_acdc_....csv [...] --output docs/evidence.png
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator
from study import average
from study_arms import ARMS, without_length
from study_data import STUDIES

# Okabe and Ito (2008), but for the last two, the first of which stands for their yellow.
COLOURS = ("#666666", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#A0522D", "#332288")


def curves(rows: Sequence[dict[str, str]]) -> dict[str, dict[str, dict[float, float]]]:
    """Of each kind of arm and seed, by its cost, the mean DSC in per cent on the reported cases; peers are left out."""
    found: dict[str, dict[str, dict[float, float]]] = {}
    made = {row["arm"] for row in rows}
    for arm in (arm for arm in ARMS if arm in made):
        for seed in sorted({row["seed"] for row in rows if row["arm"] == arm}):
            value = average(list(rows), arm=arm, seed=seed, part="report")
            if value is not None:
                seeds = found.setdefault(without_length(arm), {})
                seeds.setdefault(seed, {})[ARMS[arm].cost] = 100 * value
    return found


def draw(tables: Sequence[Path], output: Path, without: Sequence[str]) -> None:
    """A panel for each study."""
    figure = Figure(figsize=(5.8 * len(tables), 4.6), layout="constrained")
    panels = figure.subplots(1, len(tables), squeeze=False)[0]
    for panel, table in zip(panels, tables, strict=True):
        with table.open(newline="") as file:
            arms = {kind: seeds for kind, seeds in curves(list(csv.DictReader(file))).items() if kind not in without}
        if len(arms) > len(COLOURS):
            sys.exit(f"{table} has {len(arms)} kinds of arms, and there are {len(COLOURS)} colours.")
        name = next(name for name in STUDIES if table.name.startswith(f"study_{name}_"))
        for number, (colour, (arm, seeds)) in enumerate(zip(COLOURS, arms.items(), strict=False)):
            beside = 1 + 0.015 * (number - (len(arms) - 1) / 2)  # so that points of one cost do not hide one another
            for seed, by_cost in seeds.items():
                label = arm if seed == min(seeds) else None
                costs = [cost * beside for cost in by_cost]
                panel.plot(costs, list(by_cost.values()), "o-", color=colour, alpha=0.8, markersize=5, label=label)
        costs = sorted({cost for seeds in arms.values() for by_cost in seeds.values() for cost in by_cost})
        panel.xaxis.set_major_locator(FixedLocator(costs))
        panel.set_xticklabels([f"{round(cost * STUDIES[name].steps)}" for cost in costs])
        panel.set(title=STUDIES[name].title.split(",")[0], xlabel="cost in steps of the baseline", ylabel="DSC, %")
        panel.margins(x=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--without", nargs="+", default=[], help="kinds of arms that are not drawn")
    options = parser.parse_args()
    draw(options.tables, options.output, options.without)


if __name__ == "__main__":
    main()
