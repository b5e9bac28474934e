"""What do the second view and scans without labels bring at equal cost?

    python benchmarks/study.py acdc --data ACDC --work DIR --seeds 0 1 2 [--arms baseline medcontext ...]
        [--earlier benchmarks/results/study_acdc_....csv]

Five labelled scans, others without their labels, tests on patients that are neither. Every arm costs what the
baseline's steps cost, in processor time that is measured first, each arm beside the baseline (augmentation,
loading and losses included). A study goes on where it was killed: in a training, a prediction, an evaluation. At the
end a table, with every case in a CSV beside it, is written to benchmarks/results/. `development` cases are those that
settings were chosen on; what is reported are the others.
"""

import argparse
import csv
import json
from datetime import date
from pathlib import Path
from statistics import mean
from typing import Any

from study_arms import ARMS, PEERS
from study_data import COMMON, DEVICES, STUDIES
from study_earlier import Rows, read_rows
from study_work import Work


def collect(work: Work, arms: list[str], seeds: list[int]) -> Rows:
    """What is done."""
    rows: Rows = []
    for arm in arms:
        for seed in seeds:
            for turn in range(work.study.turns):
                place = work.place(arm, turn, seed)
                if not (place / "scores" / "summary.json").exists():
                    continue
                report = set(work.study.parts(work.names, turn).report)
                trained = work.trained(arm, turn, seed)
                runs = [json.loads(path.read_text()) for path in sorted(trained.glob("*/run.json"))]  # of retrain two
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


def average(rows: Rows, metric: str = "dsc", **where: str) -> float | None:
    """The mean over cases and structures; a structure absent in both label and prediction has no value."""
    values = [
        float(row[metric])
        for row in rows
        if all(row[key] == value for key, value in where.items()) and row[metric] not in ("", "nan")
    ]
    return mean(values) if values else None


def percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def table(rows: Rows, arms: list[str], seeds: list[int], part: str) -> str:
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


def report(options: argparse.Namespace, work: Work, rows: Rows, earlier: Rows) -> str:
    study = work.study
    compared = work.compared(options.arms, options.seeds, earlier)
    parts = [study.parts(work.names, turn) for turn in range(study.turns)]
    others = f"\n--earlier {' '.join(path.name for path in options.earlier)}" if options.earlier else ""
    written = work.folder / "costs.json"
    costs = json.loads(written.read_text()) if written.exists() else {}
    named = " ".join(f'"{arm}"' if " " in arm else arm for arm in options.arms)
    sizes = "; ".join(
        f"{len(p.train)} labelled, {len(p.rest)} without labels, {len(p.development)} to choose settings on, "
        f"{len(p.report)} reported"
        for p in parts
    )
    development = table(rows, options.arms, options.seeds, "development")
    return f"""# {study.title}

`python benchmarks/study.py {options.study} --data DATA --work DIR --seeds {" ".join(map(str, options.seeds))}
--arms {named}{others}`

Cases ({"each turn" if study.turns > 1 else "by patient"}): {sizes}.
All arms: {shown({**COMMON, **DEVICES[work.accelerator], **study.common})},
AdamW 1e-3 down a cosine, raw weights of the last step. Every arm costs the processor seconds
of {study.steps} baseline steps but where its name says otherwise. What a step with all views costs in those of the
baseline, measured: {", ".join(f"{key} {value:.2f}" for key, value in costs.items())}.
Minutes are those of the clock, beside other work. {"; ".join(trained_with(work, options.arms))}. {options.note}

## Reported cases

{table(rows, options.arms, options.seeds, "report")}

{compared}

## Cases to choose settings on

{development}

## Arms

{chr(10).join(f"- {arm}: {told(arm)}" for arm in options.arms)}
"""


def trained_with(work: Work, arms: list[str]) -> list[str]:
    """Hardware and versions of all trainings, as these recorded them."""
    made = set()
    for arm in arms:
        for done in sorted(work.place(arm, 0, 0).parent.glob("*/run/trained")):
            facts = json.loads(done.with_name("run.json").read_text())
            versions = (f"{name} {number}" for name, number in facts["versions"].items())
            made.add(", ".join([facts["hardware"], *versions]))
    return sorted(made)


def told(arm: str) -> str:
    if arm in PEERS:
        return PEERS[arm]
    if of := ARMS[arm].one_piece_of:
        return f"the trainings of {of}; `medcontext postprocess --by labels` before they predict"
    beside = " on top of all steps" if ARMS[arm].on_top else ", half of the cost"
    start = f", from a pretraining by {ARMS[arm].pretrain}{beside}" if ARMS[arm].pretrain else ""
    shares = {"development": "to choose settings on", "report": "that are reported"}
    more = "".join(f", with the images of the cases {shares[part]}, without labels" for part in ARMS[arm].more)
    return f"method {ARMS[arm].method} {shown(ARMS[arm].changes)}{start}{more}"


def shown(settings: dict[str, Any]) -> str:
    """Settings as options of `medcontext train`."""
    return " ".join(f"`--{name} {json.dumps(value).replace(' ', '')}`" for name, value in settings.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", choices=[*ARMS, *PEERS], default=["baseline", "retrain", "medcontext"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--accelerator", choices=DEVICES, default="cpu")
    parser.add_argument("--machine", default="cpu")
    parser.add_argument("--note", default="", help="of what else there is to know, for the report")
    parser.add_argument(
        "--earlier",
        nargs="+",
        type=Path,
        default=[],
        metavar="CSV",
        help="results of this study, of what is not made again",
    )
    parser.add_argument("--report", action="store_true", help="only collect what is done")
    options = parser.parse_args()
    work = Work(STUDIES[options.study], options.data, options.work, options.accelerator)
    others = read_rows(options.earlier)
    there = {(row["arm"], int(row["seed"])) for row in others}
    if not options.report:
        for seed in options.seeds:
            for arm in (arm for arm in options.arms if arm not in PEERS and (arm, seed) not in there):
                for turn in range(work.study.turns):
                    work.run(arm, turn, seed)
    rows = collect(work, options.arms, options.seeds)
    made = {(row["arm"], row["seed"]) for row in rows}
    asked = {(arm, str(seed)) for arm in options.arms for seed in options.seeds}
    earlier = [row for row in others if (row["arm"], row["seed"]) in asked - made]
    rows += earlier
    place = Path(__file__).parent / "results" / f"study_{options.study}_{options.machine}_{date.today().isoformat()}"
    text = report(options, work, rows, earlier)
    place.with_suffix(".md").write_text(text)
    with place.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    print(text)


if __name__ == "__main__":
    main()
