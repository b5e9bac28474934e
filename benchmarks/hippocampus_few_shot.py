"""Does MedContext win on five hippocampus scans, also against a baseline that trains for the same time?

    python benchmarks/hippocampus_few_shot.py --data Task04_Hippocampus --work DIR [--arms ...] [--seeds 0 1 2]

Every arm is three commands: train, predict with the student's and with the teacher's (EMA) weights, evaluate. Arms
that are done are not run again; a killed one goes on from its last checkpoint. At the end one table is written to
benchmarks/results/, beside a CSV with every case.
"""

import argparse
import csv
import subprocess
import sys
from datetime import date
from importlib.metadata import version
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


def table(rows: list[dict[str, str]], arms: list[str], seeds: list[int]) -> str:
    lines = [
        f"| arm | weights | {' | '.join(f'seed {seed}' for seed in seeds)} | DSC % | HD95 pooled, mm |",
        f"|---|---|{'---|' * (len(seeds) + 2)}",
    ]
    for arm in arms:
        for weights, name in (("student", "raw"), ("teacher", "EMA")):
            by_seed = [average(rows, "dsc", arm=arm, weights=weights, seed=str(seed)) for seed in seeds]
            done = [value for value in by_seed if value is not None]
            if done:
                hd95 = average(rows, "hd95_pooled", arm=arm, weights=weights)
                cells = " | ".join("" if value is None else f"{100 * value:.2f}" for value in by_seed)
                lines.append(f"| {arm} | {name} | {cells} | {100 * mean(done):.2f} | {hd95:.2f} |")
    return "\n".join(lines)


def differences(rows: list[dict[str, str]], arms: list[str], seeds: list[int]) -> str:
    """MedContext against each other arm, with the same weights, on the same cases, seed by seed."""
    lines = ["| MedContext minus | weights | difference in DSC points, by seed | mean |", "|---|---|---|---|"]
    for arm in arms:
        for weights, name in (("student", "raw"), ("teacher", "EMA")):
            pairs = [
                (average(rows, "dsc", arm="medcontext", weights=weights, seed=str(seed)), other)
                for seed in seeds
                if (other := average(rows, "dsc", arm=arm, weights=weights, seed=str(seed))) is not None
            ]
            gains = [100 * (ours - other) for ours, other in pairs if ours is not None]
            if gains and arm != "medcontext":
                cells = ", ".join(f"{gain:+.2f}" for gain in gains)
                lines.append(f"| {arm} | {name} | {cells} | {mean(gains):+.2f} |")
    return "\n".join(lines)


def report(options: argparse.Namespace, rows: list[dict[str, str]]) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("medcontext", "torch", "monai", "lightning"))
    first = (options.arms[0], str(options.seeds[0]))
    cases = len({row["case"] for row in rows if (row["arm"], row["seed"]) == first})
    arms = "\n".join(f"- {arm}: `{' '.join(ARMS[arm])}`" for arm in options.arms)
    return f"""# Five hippocampus scans

`python benchmarks/hippocampus_few_shot.py --data Task04_Hippocampus --work DIR --arms ... --seeds 0 1 2`

Medical Segmentation Decathlon Task04, 5 training scans, {cases} test scans, both chosen by the seed. All arms:
`{" ".join(COMMON)} --steps {STEPS}`,
network `unet` (0.6 M parameters), AdamW with learning rate 0.001 down a cosine. The equal-cost baseline has
{EQUAL_COST} steps, because a MedContext step costs 7/3 of a baseline step (benchmarks/step_cost.py). DSC, in per cent,
is the mean over both structures and all test scans in the original geometry. {versions}; {options.machine}.
Every case is in the CSV beside this file.

{table(rows, options.arms, options.seeds)}

{differences(rows, options.arms, options.seeds)}

{arms}
"""


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
    place = Path(__file__).parent / "results" / f"hippocampus_few_shot_{options.machine}_{date.today().isoformat()}"
    text = report(options, rows)
    place.with_suffix(".md").write_text(text)
    with place.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(text)


if __name__ == "__main__":
    main()
