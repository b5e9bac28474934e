"""Do the scans that `suggest` names help more than as many at random?

    python benchmarks/study.py acdc --data ACDC --work DIR --seeds 0 --arms medcontext
    python benchmarks/expected_dsc.py acdc --data ACDC --work DIR --seeds 0 --arms medcontext
    python benchmarks/suggested.py acdc --data ACDC --work DIR --seeds 0 1 2

The study's run with seed 0, calibrated, names five of its scans without labels (`--count`); these get their labels, or
as many drawn with each seed do, and MedContext is trained anew with all labelled scans and the others without labels,
for as many steps. A training goes on where it was killed.
"""

import argparse
import random
import sys
from datetime import date
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
from study_arms import ARMS
from study_data import STUDIES
from study_work import Work, alone

import medcontext as mc
from medcontext.files import read_json, write_json
from medcontext.inference.suggested_table import TABLE, read_suggested


def suggested(work: Work, count: int) -> list[str]:
    """The names of the scans to label."""
    place, output = work.place("medcontext", 0, 0), work.folder / f"suggested-{count}"
    if not (output / TABLE).is_file():
        listed = place / "rest.json"
        work.write_list(listed, dict.fromkeys(work.study.parts(work.names, 0).rest))
        alone(mc.suggest, place / "run", listed, output, count=count, device=work.accelerator)
    return [row.case for row in read_suggested(output)]


def train(work: Work, place: Path, new: list[str], seed: int) -> None:
    """Train with the study's labelled scans and new ones, predict what is reported, evaluate."""
    parts = work.study.parts(work.names, 0)
    chosen, split = sorted([*parts.train, *new]), place / "split.json"
    rest = [name for name in parts.rest if name not in new]
    place.mkdir(parents=True, exist_ok=True)
    few = {"few_shot": {str(len(chosen)): chosen}}
    write_json(split, {"train": chosen + rest, "validation": [], "test": parts.development + parts.report, **few})
    arm = ARMS["medcontext"]
    settings = work.settings(arm, 0, seed, steps=work.steps("medcontext"), split=split, few_shot=len(chosen))
    work.train(place / "run", settings, unlabelled=work.scans(arm, 0))
    work.predict(place / "run", place / "predictions", parts.report)
    work.evaluate(place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--count", type=int, default=5, help="how many scans get labels; 2 of the 7 of BTCV")
    parser.add_argument("--arms", nargs="+", choices=("random", "suggested"), default=["random", "suggested"])
    parser.add_argument("--machine", default="cpu")
    parser.add_argument("--report", action="store_true", help="write what is done to benchmarks/results/")
    options = parser.parse_args()
    work = Work(STUDIES[options.study], options.data, options.work)
    named, rest = suggested(work, options.count), sorted(work.study.parts(work.names, 0).rest)
    folder = work.folder / f"relabelled-{options.count}"
    done: dict[str, list[Path]] = {}
    chosen = []
    for arm in options.arms:
        for seed in options.seeds:
            place = folder / f"{arm}-{seed}"
            new = named if arm == "suggested" else random.Random(seed).sample(rest, options.count)
            if not (place / "scores" / "summary.json").is_file():
                if options.report:
                    continue
                train(work, place, new, seed)
            done.setdefault(arm, []).append(place / "scores")
            chosen.append(f"- {arm}, seed {seed}: {', '.join(new)}")
    if len(done) < 2:
        return
    mc.compare(done, folder / "comparison", overwrite=True)
    steps = read_json(work.place("medcontext", 0, 0) / "run" / "run.json")["step"]
    text = f"""# {options.count} scans that `suggest` names, or {options.count} at random

{work.study.title}. `python benchmarks/suggested.py {options.study} --data DATA --work DIR --seeds
{" ".join(map(str, options.seeds))} --count {options.count}`; {steps} steps each; {options.machine}.

{chr(10).join(chosen)}

{(folder / "comparison" / "comparison.md").read_text()}"""
    print(text)
    if options.report:
        name = f"suggested_{options.study}_{options.machine}_{date.today().isoformat()}.md"
        (Path(__file__).parent / "results" / name).write_text(text)


if __name__ == "__main__":
    main()
