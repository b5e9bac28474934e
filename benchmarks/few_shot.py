"""Does MedContext win on five training scans, also against a baseline that trains for the same time?

    python benchmarks/few_shot.py hippocampus --data Task04_Hippocampus --work DIR [--arms ...] [--seeds 0 1 2]
    python benchmarks/few_shot.py btcv_unet --data BTCV --work DIR --seeds 0

Every arm is three commands: train, predict with the student's and with the teacher's (EMA) weights, evaluate. Arms
that are done are not run again; a killed one goes on from its last checkpoint. At the end one table is written to
benchmarks/results/, beside a CSV with every case.
"""

import argparse
import csv
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import mean

from medcontext.data.formats import read_dataset
from medcontext.data.splits import patient

ARMS = {
    "baseline": ["--method", "none"],
    "medcontext": [],
    "baseline, equal cost": ["--method", "none"],
    "medcontext, 7/3 steps": [],
    "no teacher warm-up (paper)": ["--method", "paper"],
    "patch 4": ["--method.mask.patch_size", "4"],
    "patch 8": ["--method.mask.patch_size", "8"],
    "patch 20 x 28": ["--method.mask.patch_size", "[20,28,40]"],
    "beta 2": ["--method.beta", "2"],
    "beta ramp-up 0.3": ["--method.ramp_up", "0.3"],
    "masked loss alone": ["--method.consistency", "none"],
    "consistency alone": ["--method.masked_loss", "false"],
}
LONGER = ("baseline, equal cost", "medcontext, 7/3 steps")
COST = 7 / 3  # of a MedContext step in baseline steps, see benchmarks/step_cost.py
CNN = ("--network", "unet")
UNETR = (
    "--network", "unetr", "--optimizer.lr", "0.0004", "--network_args.hidden_size", "192",
    "--network_args.mlp_dim", "768", "--network_args.num_heads", "6", "--network_args.feature_size", "8",
)  # fmt: skip
NETWORKS = (
    ("unet", CNN, "network `unet`, 0.6 M parameters"),
    ("unetr", UNETR, "network `unetr` of hidden size 192, 7 M parameters"),
)
STEPS = {"btcv_unet": 2000, "btcv_unetr": 8000, "acdc_unet": 1000, "acdc_unetr": 800}
PRECISION = {"btcv_unetr": ("--precision", "bf16")}  # 32-bit takes several times as long


@dataclass(frozen=True)
class Study:
    """One data set and network.

    Args:
        title: of the report.
        steps: of every arm but those of `LONGER`.
        common: options of all arms.
        patch: the mask's, in voxels of the prepared grid.
        train: the training cases; None draws five by the seed.
        test_patients: with `train`: so many of the other patients, in the order of their names, are the test cases.
    """

    title: str
    steps: int
    common: tuple[str, ...]
    patch: str
    train: tuple[str, ...] | None = None
    test_patients: int = 0

    def options(self, arm: str) -> list[str]:
        """Of `medcontext train`, but for data, output and seed."""
        given = ARMS[arm]
        method, rest = (given[:2], given[2:]) if given[:1] == ["--method"] else (["--method", "medcontext"], given)
        steps = round(self.steps * COST) if arm in LONGER else self.steps
        patch = [] if "none" in method else ["--method.mask.patch_size", self.patch]
        return [*self.common, "--steps", str(steps), *method, *patch, *rest]


STUDIES = {
    "hippocampus": Study(
        "Hippocampus MRI, Medical Segmentation Decathlon Task04, 2 structures; network `unet`, 0.6 M parameters",
        600,
        (*CNN, "--few_shot", "5", "--crop_size", "[40,56,40]"),
        patch="8",
    ),
    **{
        f"btcv_{name}": Study(
            f"Abdominal CT, the training part of BTCV at 4 mm, 13 organs; {text}",
            STEPS[f"btcv_{name}"],
            (
                *network, *PRECISION.get(f"btcv_{name}", ()),
                "--prepare.spacing", "[4,4,4]", "--prepare.intensity_range", "[-175,250]", "--crop_size", "[48,48,48]",
            ),
            patch="16",
            train=("img0006", "img0007", "img0009", "img0010", "img0021"),  # the paper's five
            test_patients=13,
        )
        for name, network, text in NETWORKS
    },
    **{
        f"acdc_{name}": Study(
            "Cardiac cine MRI, the training part of ACDC at half its in-plane resolution, 3 structures (the spacing is "
            f"unknown: HD95 is in units of the header); {text}",
            STEPS[f"acdc_{name}"],
            (*network, "--prepare.spacing", "[2,2,1]", "--crop_size", "[96,96,16]"),
            patch="[16,16,16]",
            train=(
                "patient001_frame12", "patient004_frame15", "patient005_frame01", "patient013_frame14",
                "patient043_frame07",
            ),  # the paper's five
            test_patients=30,
        )
        for name, network, text in NETWORKS
    },
}  # fmt: skip
COMMON = ("--batch_size", "1", "--validation_cases", "0")


def medcontext(*arguments: object) -> None:
    command = [sys.executable, "-m", "medcontext.cli", *map(str, arguments)]
    print("$ medcontext", *command[3:], flush=True)
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def folder_of(work: Path, arm: str, seed: int) -> Path:
    return work / f"{re.sub(r'[^a-z0-9]+', '_', arm)}-{seed}"


def write_split(study: Study, data: Path, work: Path) -> list[str]:
    """The options that say which cases train and which are tested."""
    if study.train is None:
        return []
    names = sorted(case.name for case in read_dataset(data).cases)
    seen = {patient(name) for name in study.train}
    others = sorted({patient(name) for name in names} - seen)[: study.test_patients]
    split = {"train": study.train, "validation": [], "test": [name for name in names if patient(name) in others]}
    work.mkdir(parents=True, exist_ok=True)
    (work / "split.json").write_text(json.dumps(split))
    return ["--split", str(work / "split.json")]


def run_arm(study: Study, data: Path, work: Path, arm: str, seed: int) -> None:
    folder = folder_of(work, arm, seed)
    run = folder / "run"
    if not (folder / "trained").exists():
        medcontext(
            "train", "--data", data, "--output", run, "--cache", work / "cache", "--resume",
            *COMMON, *study.options(arm), *write_split(study, data, work), "--seed", seed,
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
            folder = folder_of(work, arm, seed)
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
    study = STUDIES[options.study]
    versions = ", ".join(f"{name} {version(name)}" for name in ("medcontext", "torch", "monai", "lightning"))
    first = (options.arms[0], str(options.seeds[0]))
    cases = len({row["case"] for row in rows if (row["arm"], row["seed"]) == first})
    arms = "\n".join(f"- {arm}: `{' '.join(study.options(arm)[len(study.common) :])}`" for arm in options.arms)
    chosen = "drawn by the seed" if study.train is None else f"{', '.join(study.train)}"
    named = " ".join(f'"{arm}"' if " " in arm else arm for arm in options.arms)
    return f"""# {study.title}

`python benchmarks/few_shot.py {options.study} --data DATA --work DIR --seeds {" ".join(map(str, options.seeds))} --arms
{named}`

Five training scans ({chosen}), {cases} test scans for each seed.
All arms: `{" ".join((*COMMON, *study.common))}`, AdamW down a cosine.

The equal-cost baseline has 7/3 as many steps, because a MedContext step costs as much as 7/3 baseline steps
(benchmarks/step_cost.py). DSC, in per cent, is the mean over all structures and test scans in the original geometry;
raw weights are those of the last step, EMA their average, the teacher. Every case is in the CSV beside this file.
{versions}; {options.machine}.

{table(rows, options.arms, options.seeds)}

{differences(rows, options.arms, options.seeds)}

{structures(rows, options.arms)}

{arms}
"""


def structures(rows: list[dict[str, str]], arms: list[str]) -> str:
    """The mean DSC of each structure, raw weights."""
    names = list(dict.fromkeys(row["structure"] for row in rows))
    lines = [f"| DSC %, raw weights | {' | '.join(arms)} |", f"|---|{'---|' * len(arms)}"]
    for name in names:
        values = [average(rows, "dsc", arm=arm, weights="student", structure=name) for arm in arms]
        lines.append(f"| {name} | {' | '.join('' if v is None else f'{100 * v:.1f}' for v in values)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
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
                run_arm(STUDIES[options.study], options.data, options.work, arm, seed)
    rows = collect(options.work, options.arms, options.seeds)
    place = Path(__file__).parent / "results" / f"few_shot_{options.study}_{options.machine}_{date.today().isoformat()}"
    text = report(options, rows)
    place.with_suffix(".md").write_text(text)
    with place.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    print(text)


if __name__ == "__main__":
    main()
