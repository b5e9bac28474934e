"""Many trainings of studies at once, on one GPU that a single small one leaves idle.

    python benchmarks/study_queue.py --data acdc=ACDC hippocampus=Task04_Hippocampus --work DIR --costs costs.json
        --jobs "acdc:baseline four times,medcontext four times:0 1 2" "hippocampus_unetr:pretraining mae:0 1 2" ...

Trains and predicts in the order of the jobs, one process on each processor; `study.py STUDY --accelerator gpu --work
DIR/STUDY` evaluates and reports. Costs of steps are those of `costs.json`, by study, because processes that share a GPU
cannot measure any. A job that was cut off by `--minutes` goes on with the next call. CUDA's MPS, started before by
`nvidia-cuda-mps-control -d`, lets small trainings use the GPU side by side and not by turns.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from study_arms import ARMS
from study_data import STUDIES
from study_work import Work, quietly

from medcontext.files import write_json

Job = tuple[str, str, int, int]
"""Study, arm or pretraining, turn, seed."""


def listed(jobs: list[str]) -> Iterator[Job]:
    """Those of `STUDY:ARM,ARM:SEED SEED`, seed by seed; a comma with a space after it is an arm's own."""
    for each in jobs:
        study, arms, seeds = each.split(":")
        for seed in map(int, seeds.split()):
            for arm in arms.replace(", ", "\0").split(","):
                for turn in range(STUDIES[study].turns):
                    yield study, arm.replace("\0", ", "), turn, seed


def work_of(options: argparse.Namespace, study: str) -> Work:
    kind = study.partition("_")[0]
    folder = options.work / study
    folder.mkdir(parents=True, exist_ok=True)
    work = Work(STUDIES[study], options.data[kind], folder, options.accelerator, quietly, options.work / "cache" / kind)
    if not (folder / "costs.json").exists():
        write_json(folder / "costs.json", json.loads(options.costs.read_text())[study])
    return work


def do(options: argparse.Namespace, job: Job) -> None:
    study, arm, turn, seed = job
    work = work_of(options, study)
    if arm in ARMS:
        work.make(arm, turn, seed)
    else:
        work.pretrain(arm.removeprefix("pretraining "), turn, seed)


def worker(options: argparse.Namespace, number: int, queue: Any) -> None:
    """Take jobs until there are none."""
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {processors[(options.first + number) % len(processors)]})  # nothing starts processes then
    import torch

    torch.set_num_threads(1)
    while (job := queue.get()) is not None:
        start = time.time()
        log = options.work / "logs" / ("-".join(map(str, job)).replace(" ", "_").replace(",", "") + ".txt")
        with log.open("a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            try:
                do(options, job)
                outcome = "done"
            except Exception:
                traceback.print_exc()
                outcome = "FAILED"
        print(f"{outcome} in {time.time() - start:.0f} s: {job}", flush=True)


def named(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    return name, Path(path).resolve()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", type=named, required=True, help="data sets by name")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--costs", type=Path, required=True)
    parser.add_argument("--jobs", nargs="+", required=True)
    parser.add_argument("--minutes", type=float, help="after which what is under way is cut off")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--first", type=int, default=0, help="processor, where another queue has those before")
    parser.add_argument("--accelerator", default="gpu")
    options = parser.parse_args()
    options.data, options.work = dict(options.data), options.work.resolve()
    (options.work / "logs").mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    workers = [context.Process(target=worker, args=(options, number, queue)) for number in range(options.processes)]
    for each in workers:
        each.start()
    for job in [*listed(options.jobs), *[None] * len(workers)]:
        queue.put(job)
    end = time.time() + 60 * options.minutes if options.minutes else None
    for each in workers:
        each.join(None if end is None else max(0, end - time.time()))
        each.kill()


if __name__ == "__main__":
    main()
