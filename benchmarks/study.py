"""What do the second view and scans without labels bring at equal cost?

    python benchmarks/study.py acdc --data ACDC --work DIR --seeds 0 1 2 [--arms baseline medcontext ...]

Five labelled scans, others without their labels, tests on patients that are neither. Every arm costs what the
baseline's steps cost, in processor time that is measured first, for each arm by itself (augmentation, loading and
losses included). Every step of a study is a command that goes on where it was killed: train, predict, evaluate. At the
end a table, with every case in a CSV beside it, is written to benchmarks/results/. `development` cases are those that
settings were chosen on; what is reported are the others.
"""

import argparse
import csv
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import mean

from medcontext.data.formats import read_dataset
from medcontext.data.splits import patient
from medcontext.files import write_json

PROBE = (8, 40)  # steps of the two short trainings by whose difference a step's cost is measured
FIVE = ("patient001_frame12", "patient004_frame15", "patient005_frame01", "patient013_frame14", "patient043_frame07")


@dataclass(frozen=True)
class Arm:
    """One way to spend the hours.

    Args:
        options: of `medcontext train`.
        unlabelled: whether the scans without labels take part.
        cost: in units of the baseline's.
        all_labels: the scans without labels have theirs after all: the ceiling of what they can bring at this cost.
        retrain: half of the cost trains on the labels, the other half anew on these and on the first network's
            predictions of the scans without labels.
    """

    options: tuple[str, ...] = ()
    unlabelled: bool = False
    cost: float = 1.0
    retrain: bool = False
    all_labels: bool = False


NONE, OURS = ("--method", "none"), ("--method", "medcontext")
PAPER = ("--method", "paper", "--method.teacher.warmup", "true")
HALF = (*PAPER, "--method.share", "0.5", "--method.clean", "rest")
WHOLE, MASKED = ("--method", "mean_teacher"), (*OURS, "--method.unlabelled.view", "masked")
ARMS = {
    "baseline": Arm(NONE),
    "baseline twice": Arm(NONE, cost=2.0),
    "equation 4": Arm(PAPER),
    "equation 4, half": Arm((*OURS, "--method.share", "0.5", "--method.clean", "rest")),
    "labelled in labelled": Arm(
        (*OURS, "--method.fill", "labelled", "--method.share", "0.5", "--method.clean", "rest")
    ),
    "retrain": Arm(NONE, retrain=True),
    "all labels": Arm(NONE, all_labels=True),
    "mean teacher": Arm(WHOLE, unlabelled=True),
    "masked": Arm(MASKED, unlabelled=True),
    "masked, equation 2": Arm((*MASKED, "--method.unlabelled.target", "consistency"), unlabelled=True),
    "medcontext": Arm(OURS, unlabelled=True),
    "not kept open": Arm((*OURS, "--method.unlabelled.keep_open", "false"), unlabelled=True),
    "no start": Arm((*OURS, "--method.unlabelled.start", "0"), unlabelled=True),
    "clean pass": Arm((*OURS, "--method.unlabelled.clean", "all"), unlabelled=True),
    "every crop filled": Arm((*OURS, "--method.unlabelled.share", "1"), unlabelled=True),
    "every crop filled, both ways": Arm(
        (*OURS, "--method.unlabelled.share", "1", "--method.unlabelled.both", "true"), unlabelled=True
    ),
    "threshold 0.95": Arm((*OURS, "--method.unlabelled.threshold", "0.95"), unlabelled=True),
    "weight 1": Arm((*OURS, "--method.unlabelled.weight", "1"), unlabelled=True),
    "soft": Arm((*OURS, "--method.unlabelled.target", "soft"), unlabelled=True),
    "cubes": Arm((*OURS, "--method.mask.shape", "cube"), unlabelled=True),
    "momentum 0.999": Arm(
        (*OURS, "--method.teacher.momentum", "0.999", "--method.teacher.momentum_end", "0.999"), unlabelled=True
    ),
}


@dataclass(frozen=True)
class Parts:
    """Names of cases: with labels, without, to choose settings on, and to report."""

    train: list[str]
    rest: list[str]
    development: list[str]
    report: list[str]


@dataclass(frozen=True)
class Study:
    """One data set.

    Args:
        title: of the report.
        steps: of the baseline.
        common: options of all arms.
        masked: options of the arms that hide something.
        train: the labelled cases; None for the first five patients.
        counts: patients without labels, and to choose settings on; all others are reported.
        turns: the patients without labels are these parts by turns, and the others are tested, so that each is once.
    """

    title: str
    steps: int
    common: tuple[str, ...]
    masked: tuple[str, ...]
    train: tuple[str, ...] | None = None
    counts: tuple[int, int] = (0, 0)
    turns: int = 1

    def parts(self, names: list[str], turn: int) -> Parts:
        """Which case does what, by patient."""
        chosen = set(self.train or sorted(names)[:5])
        seen = {patient(name) for name in chosen}
        others = sorted({patient(name) for name in names} - seen)
        if self.turns > 1:
            groups = [others[turn :: self.turns], [], [p for i, p in enumerate(others) if i % self.turns != turn]]
        else:
            rest, development = self.counts
            groups = [others[:rest], others[rest : rest + development], others[rest + development :]]
        return Parts(sorted(chosen), *([name for name in names if patient(name) in set(group)] for group in groups))


PLAIN = ("--network_args.num_res_units", "0")  # half the cost of a step; thin organs need the residual units
STUDIES = {
    "acdc": Study(
        "Cardiac cine MRI, the training part of ACDC at half its in-plane resolution, 3 structures (the spacing is "
        "unknown: HD95 is in units of the header)",
        4000,
        (*PLAIN, "--prepare.spacing", "[2,2,1]", "--crop_size", "[96,96,8]"),
        ("--method.mask.patch_size", "16"),
        train=FIVE,
        counts=(25, 20),
    ),
    "btcv": Study(
        "Abdominal CT, the training part of BTCV at 4 mm, 13 organs",
        2500,
        ("--prepare.spacing", "[4,4,4]", "--prepare.intensity_range", "[-175,250]", "--crop_size", "[48,48,48]"),
        ("--method.mask.patch_size", "8"),
        train=("img0006", "img0007", "img0009", "img0010", "img0021"),
        turns=2,
    ),
    "hippocampus": Study(
        "Hippocampus MRI, Medical Segmentation Decathlon Task04, 2 structures",
        1000,
        (*PLAIN, "--crop_size", "[40,56,40]"),
        ("--method.mask.patch_size", "8"),
        counts=(110, 25),
    ),
}  # fmt: skip
COMMON = (
    "--batch_size",
    "2",
    "--validation_cases",
    "0",
    "--watch_cases",
    "0",
    "--workers",
    "0",
    "--accelerator",
    "cpu",
)


@dataclass
class Work:
    """A study's folder: `ARM/turn-SEED/...`, and what a step of each arm costs in `costs.json`."""

    study: Study
    data: Path
    folder: Path
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.names = sorted(case.name for case in read_dataset(self.data).cases)
        self.folder.mkdir(parents=True, exist_ok=True)

    def place(self, arm: str, turn: int, seed: int) -> Path:
        return self.folder / re.sub(r"[^a-z0-9]+", "_", arm) / f"{turn}-{seed}"

    def options(self, arm: Arm, turn: int, seed: int) -> list[str]:
        """Of `medcontext train`, but for data, output and steps."""
        parts = self.study.parts(self.names, turn)
        split = self.folder / f"split-{turn}.json"
        few = {str(len(parts.train)): parts.train}
        content = {"train": parts.train + parts.rest, "validation": [], "test": parts.development + parts.report}
        write_json(split, {**content, "few_shot": few})
        masked = () if arm.options[1] in ("none", "mean_teacher") else self.study.masked
        scans = ("--unlabelled", "rest") if arm.unlabelled else ()
        few_shot = () if arm.all_labels else ("--few_shot", str(len(parts.train)))
        method, more = arm.options[:2], arm.options[2:]
        return [
            *COMMON, *self.study.common, "--split", str(split), *few_shot, *scans,
            "--cache", str(self.folder / "cache"), "--seed", str(seed), *method, *masked, *more,
        ]  # fmt: skip

    def seconds(self, arm: Arm) -> float:
        """Processor seconds of one step, measured once: of two short trainings the difference."""
        costs = self.folder / "costs.json"
        known = json.loads(costs.read_text()) if costs.exists() else {}
        key = " ".join((*arm.options, str(arm.unlabelled)))
        if key not in known:
            used = []
            for steps in PROBE:
                with_scans = ("--method.unlabelled.start", "0") if arm.unlabelled else ()
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                output = self.folder / f"probe-{os.getpid()}"
                medcontext(
                    "train", "--data", self.data, "--output", output, "--steps", steps,
                    *self.options(arm, 0, 0), *with_scans,
                )  # fmt: skip
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                shutil.rmtree(output)
                used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
            known = json.loads(costs.read_text()) if costs.exists() else {}
            known[key] = (used[1] - used[0]) / (PROBE[1] - PROBE[0])
            write_json(costs, known)
        return known[key]

    def steps(self, arm: Arm) -> int:
        """As many as cost what the baseline's do; those before unlabelled scans join cost what a plain one does."""
        ratio = self.seconds(arm) / self.seconds(ARMS["baseline"])
        start = 0.0
        if arm.unlabelled:
            settings = subprocess.run(
                [sys.executable, "-m", "medcontext.cli", "train", "--data", ".", "--output", ".", *arm.options,
                 "--print_config"],
                check=True, capture_output=True, text=True,
            ).stdout  # fmt: skip
            start = float(re.search(r"unlabelled:\n(?:\s+.*\n)*?\s+start: ([\d.]+)", settings)[1])  # type: ignore[index]
        return round(self.study.steps * arm.cost / (start + (1 - start) * ratio))

    def run(self, name: str, turn: int, seed: int) -> None:
        """Train, predict, evaluate."""
        arm, place = ARMS[name], self.place(name, turn, seed)
        self.check_same(place, {"steps": self.study.steps, "options": self.options(arm, turn, seed)})
        if (place / "scores" / "summary.json").exists():
            return
        if arm.retrain:
            first, second = place / "first", place / "run"
            self.train(arm, first, turn, seed, self.study.steps // 2)
            listed = self.relabelled(first, place, turn)
            split = place / "split.json"
            chosen = [case["name"] for case in json.loads(listed.read_text())["cases"]]
            write_json(split, {"train": chosen, "validation": [], "test": []})
            few = ("--split", str(split), "--few_shot", str(len(chosen)))
            self.train(arm, second, turn, seed, self.study.steps // 2, listed, few)
        else:
            self.train(arm, place / "run", turn, seed, self.steps(arm))
        predictions = place / "predictions"
        parts = self.study.parts(self.names, turn)
        self.predict(place / "run", predictions, parts.development + parts.report)
        medcontext("evaluate", "--predictions", predictions, "--labels", self.data, "--output", place / "scores")

    def reported(self, name: str, turn: int, seed: int) -> Path | None:
        """The evaluation of the reported cases alone, of an arm that is done."""
        place = self.place(name, turn, seed)
        if not (place / "scores" / "summary.json").exists():
            return None
        scores = place / "reported" / "scores"
        if not (scores / "summary.json").exists():
            chosen = place / "reported" / "predictions"
            chosen.mkdir(parents=True, exist_ok=True)
            for case in self.study.parts(self.names, turn).report:
                (chosen / f"{case}.nii.gz").unlink(missing_ok=True)
                (chosen / f"{case}.nii.gz").symlink_to(place / "predictions" / f"{case}.nii.gz")
            medcontext("evaluate", "--predictions", chosen, "--labels", self.data, "--output", scores)
        return scores

    def compared(self, arms: list[str], seeds: list[int]) -> str:
        """`medcontext compare` of every arm with the first one, on the reported cases: its Markdown."""
        models = []
        for arm in arms:
            found = [self.reported(arm, turn, seed) for seed in seeds for turn in range(self.study.turns)]
            if done := [str(scores) for scores in found if scores]:
                models.append(f"{arm}={','.join(done)}")
        if len(models) < 2:
            return "Nothing to compare yet."
        output = self.folder / "comparison"
        medcontext("compare", *models, "--output", output, "--overwrite")
        return (output / "comparison.md").read_text()

    def check_same(self, place: Path, made: dict[str, object]) -> None:
        """Refuse to take what was made with other settings for this arm's."""
        record = place / "arm.json"
        if record.exists() and json.loads(record.read_text()) != made:
            sys.exit(f"{place} was made with other settings, see {record}; remove it, or give another --work.")
        place.mkdir(parents=True, exist_ok=True)
        write_json(record, made)

    def train(
        self, arm: Arm, run: Path, turn: int, seed: int, steps: int, data: Path | None = None, more: tuple = ()
    ) -> None:
        if not (run / "trained").exists():
            options = self.options(arm, turn, seed)
            medcontext(
                "train", "--data", data or self.data, "--output", run, "--resume", "--steps", steps, *options, *more
            )
            (run / "trained").touch()

    def predict(self, run: Path, output: Path, names: list[str]) -> None:
        """The named cases, by way of a list that has no other."""
        listed = run.parent / f"{output.name}.json"
        self.write_list(listed, dict.fromkeys(names))
        medcontext("predict", "--run", run, "--input", listed, "--part", "all", "--output", output, "--resume")

    def relabelled(self, run: Path, place: Path, turn: int) -> Path:
        """A list of the labelled cases and, with a network's predictions as their labels, the others."""
        parts = self.study.parts(self.names, turn)
        self.predict(run, place / "relabelled", parts.rest)
        labels = {name: place / "relabelled" / f"{name}.nii.gz" for name in parts.rest}
        listed = place / "relabelled.list.json"
        self.write_list(listed, {**dict.fromkeys(parts.train), **labels})
        return listed

    def write_list(self, path: Path, labels: dict[str, Path | None]) -> None:
        """A data set's JSON of these cases, with their own labels where no other is given."""
        dataset = read_dataset(self.data)
        cases = [
            {
                "name": case.name,
                "image": [str(image.resolve()) for image in case.images],
                "label": str((labels[case.name] or case.label).resolve()),  # type: ignore[union-attr]
            }
            for case in dataset.cases
            if case.name in labels
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"name": dataset.name, "channels": dataset.channels, "labels": dataset.labels, "cases": cases})


def medcontext(*arguments: object) -> None:
    command = [sys.executable, "-m", "medcontext.cli", *map(str, arguments)]
    print("$ medcontext", *command[3:], flush=True)
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def collect(work: Work, arms: list[str], seeds: list[int]) -> list[dict[str, str]]:
    """One row per arm, seed, case and structure of what is done."""
    rows = []
    for arm in arms:
        for seed in seeds:
            for turn in range(work.study.turns):
                place = work.place(arm, turn, seed)
                if not (place / "scores" / "summary.json").exists():
                    continue
                report = set(work.study.parts(work.names, turn).report)
                runs = [json.loads(path.read_text()) for path in sorted(place.glob("*/run.json"))]  # of retrain two
                steps = sum(facts["step"] for facts in runs)
                with (place / "scores" / "metrics.csv").open(newline="") as file:
                    rows += [
                        {
                            "arm": arm, "seed": str(seed), "turn": str(turn), "steps": str(steps),
                            "seconds": f"{sum(facts['seconds'] for facts in runs):.0f}",
                            "part": "report" if row["case"] in report else "development", **row,
                        }
                        for row in csv.DictReader(file)
                    ]  # fmt: skip
    return rows


def average(rows: list[dict[str, str]], metric: str = "dsc", **where: str) -> float | None:
    """The mean over cases and structures; a structure absent in both label and prediction has no value."""
    values = [
        float(row[metric])
        for row in rows
        if all(row[key] == value for key, value in where.items()) and row[metric] not in ("", "nan")
    ]
    return mean(values) if values else None


def percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def table(rows: list[dict[str, str]], arms: list[str], seeds: list[int], part: str) -> str:
    names = list(dict.fromkeys(row["structure"] for row in rows))
    lines = [
        f"| arm | steps | minutes | DSC % | {' | '.join(f'seed {seed}' for seed in seeds)} | {' | '.join(names)} |",
        f"|---|---|---|---|{'---|' * (len(seeds) + len(names))}",
    ]
    for arm in arms:
        mine = [row for row in rows if row["arm"] == arm and row["part"] == part]
        if mine:
            by_seed = [percent(average(mine, seed=str(seed))) for seed in seeds]
            each = [percent(average(mine, structure=name)) for name in names]
            minutes = mean({(r["seed"], r["turn"]): float(r["seconds"]) for r in mine}.values()) / 60
            cells = [mine[0]["steps"], f"{minutes:.0f}", percent(average(mine)), *by_seed, *each]
            lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def report(options: argparse.Namespace, work: Work, rows: list[dict[str, str]]) -> str:
    study = work.study
    compared = work.compared(options.arms, options.seeds)
    versions = ", ".join(f"{name} {version(name)}" for name in ("medcontext", "torch", "monai", "lightning"))
    parts = [study.parts(work.names, turn) for turn in range(study.turns)]
    costs = json.loads((work.folder / "costs.json").read_text())
    named = " ".join(f'"{arm}"' if " " in arm else arm for arm in options.arms)
    sizes = "; ".join(
        f"{len(p.train)} labelled, {len(p.rest)} without labels, {len(p.development)} to choose settings on, "
        f"{len(p.report)} reported"
        for p in parts
    )
    development = table(rows, options.arms, options.seeds, "development")
    return f"""# {study.title}

`python benchmarks/study.py {options.study} --data DATA --work DIR --seeds {" ".join(map(str, options.seeds))}
--arms {named}`

Cases ({"each turn" if study.turns > 1 else "by patient"}): {sizes}.
All arms: `{" ".join((*COMMON, *study.common))}`,
the default augmentation, AdamW 1e-3 down a cosine, raw weights of the last step. Every arm costs the processor seconds
of {study.steps} baseline steps but where its name says otherwise; those of one step with all views, measured:
{", ".join(f"`{key}` {value:.3f}" for key, value in costs.items())}.
Minutes are those of the clock, beside other work. {versions}; {options.machine}.

## Reported cases

{table(rows, options.arms, options.seeds, "report")}

{compared}

## Cases to choose settings on

{development}

## Arms

{chr(10).join(f"- {arm}: `{' '.join(ARMS[arm].options)}`" for arm in options.arms)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["baseline", "retrain", "medcontext"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--machine", default="cpu")
    parser.add_argument("--report", action="store_true", help="only collect what is done")
    options = parser.parse_args()
    work = Work(STUDIES[options.study], options.data, options.work)
    if not options.report:
        for seed in options.seeds:
            for arm in options.arms:
                for turn in range(work.study.turns):
                    work.run(arm, turn, seed)
    rows = collect(work, options.arms, options.seeds)
    place = Path(__file__).parent / "results" / f"study_{options.study}_{options.machine}_{date.today().isoformat()}"
    text = report(options, work, rows)
    place.with_suffix(".md").write_text(text)
    with place.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    print(text)


if __name__ == "__main__":
    main()
