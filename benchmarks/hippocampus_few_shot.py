"""Does MedContext win on five hippocampus scans, also against a baseline that trains for the same time?

    python benchmarks/hippocampus_few_shot.py --data Task04_Hippocampus --work DIR [--arms ...] [--seeds 0 1 2]

Every arm is three commands: train, predict with the student's and with the teacher's (EMA) weights, evaluate. Arms
that are done are not run again; a killed one goes on from its last checkpoint. At the end one table is written to
benchmarks/results/, beside a CSV with every case.
"""

import argparse
import csv
import json
import subprocess
import sys
from datetime import date
from pathlib import Path
from statistics import mean

STEPS = 600
EQUAL_COST = round(STEPS * 7 / 3)  # the arithmetic cost of a MedContext step in baseline steps
COMMON = ["--few_shot", "5", "--batch_size", "1", "--crop_size", "[40,56,40]", "--validation_cases", "0"]
MEDCONTEXT = ["--method", "medcontext", "--method.mask.patch_size", "8"]

ARMS = {
    "baseline": ["--method", "none"],
    "medcontext": MEDCONTEXT,
    "baseline, equal cost": ["--method", "none", "--steps", str(EQUAL_COST)],
    "no teacher warm-up (paper)": ["--method", "paper", "--method.mask.patch_size", "8"],
    "patch 4": [*MEDCONTEXT, "--method.mask.patch_size", "4"],
    "patch 20 x 28": [*MEDCONTEXT, "--method.mask.patch_size", "[20,28,40]"],
    "beta 2": [*MEDCONTEXT, "--method.beta", "2"],
    "beta ramp-up 0.3": [*MEDCONTEXT, "--method.ramp_up", "0.3"],
    "masked loss alone": [*MEDCONTEXT, "--method.consistency", "none"],
    "consistency alone": [*MEDCONTEXT, "--method.masked_loss", "false"],
}


def medcontext(*arguments: object) -> None:
    command = [sys.executable, "-m", "medcontext.cli", *map(str, arguments)]
    print("$ medcontext", *command[3:], flush=True)
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def run_arm(data: Path, work: Path, arm: str, seed: int) -> None:
    folder = work / f"{arm.replace(' ', '_').replace(',', '')}-{seed}"
    run = folder / "run"
    if not (folder / "trained").exists():
        medcontext(
            "train", "--data", data, "--output", run, "--cache", work / "cache", "--resume",
            *COMMON, "--steps", STEPS, *ARMS[arm], "--seed", seed,
        )  # fmt: skip
        (folder / "trained").touch()
    for weights in ("student", "teacher"):
        predictions, scores = folder / f"predictions-{weights}", folder / f"scores-{weights}"
        if not (scores / "summary.json").exists():
            source = ("--run", run, "--input", data, "--weights", weights)
            medcontext("predict", *source, "--output", predictions, "--resume")
            medcontext("evaluate", "--predictions", predictions, "--labels", data, "--output", scores)


def collect(work: Path, arms: list[str], seeds: list[int]) -> list[dict[str, str]]:
    """One row per arm, seed, weights, case and structure."""
    rows = []
    for arm in arms:
        for seed in seeds:
            folder = work / f"{arm.replace(' ', '_').replace(',', '')}-{seed}"
            for weights in ("student", "teacher"):
                table = folder / f"scores-{weights}" / "metrics.csv"
                if table.exists():
                    with table.open(newline="") as file:
                        found = csv.DictReader(file)
                        rows += [{"arm": arm, "seed": str(seed), "weights": weights, **row} for row in found]
    return rows


def average(rows: list[dict[str, str]], metric: str, **where: str) -> float | None:
    """The mean over cases and structures; a structure absent in both label and prediction has no value."""
    values = [
        float(row[metric])
        for row in rows
        if all(row[key] == value for key, value in where.items()) and row[metric] not in ("", "nan")
    ]
    return mean(values) if values else None


def table(rows: list[dict[str, str]], arms: list[str], seeds: list[int], work: Path) -> str:
    lines = [
        f"| arm | weights | {' | '.join(f'DSC % seed {seed}' for seed in seeds)} | DSC % | HD95 mm (pooled) | s/run |",
        f"|---|---|{'---|' * (len(seeds) + 3)}",
    ]
    for arm in arms:
        seconds = [
            json.loads(path.read_text()).get("seconds", 0)
            for seed in seeds
            if (path := work / f"{arm.replace(' ', '_').replace(',', '')}-{seed}" / "run" / "run.json").exists()
        ]
        for weights in ("student", "teacher"):
            by_seed = [average(rows, "dsc", arm=arm, weights=weights, seed=str(seed)) for seed in seeds]
            done = [value for value in by_seed if value is not None]
            if not done:
                continue
            hd95 = average(rows, "hd95_pooled", arm=arm, weights=weights)
            cells = " | ".join("" if value is None else f"{100 * value:.2f}" for value in by_seed)
            name = "EMA" if weights == "teacher" else "raw"
            lines.append(
                f"| {arm} | {name} | {cells} | **{100 * mean(done):.2f}** | {hd95:.2f} | {mean(seconds):.0f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS)[:3])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--machine", default="cpu")
    parser.add_argument("--report", action="store_true", help="only collect what is done")
    options = parser.parse_args()
    if not options.report:
        for seed in options.seeds:
            for arm in options.arms:
                run_arm(options.data, options.work, arm, seed)
    rows = collect(options.work, options.arms, options.seeds)
    results = Path(__file__).parent / "results"
    name = f"hippocampus_few_shot_{options.machine}_{date.today().isoformat()}"
    text = table(rows, options.arms, options.seeds, options.work)
    (results / f"{name}.md").write_text(text + "\n")
    with (results / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(text)


if __name__ == "__main__":
    main()
