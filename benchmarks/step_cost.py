"""Time and peak memory of a MedContext training step over a plain one, side by side.

    python benchmarks/step_cost.py [--networks unetr swin_unetr] [--crop 96] [--device cuda] [--pairs 10]

A baseline step is network, Dice-CE, backward, AdamW, written here without the learner. A MedContext step is mask,
both views, teacher, losses, AdamW, EMA. Arithmetic floor of their ratio, with a backward pass as two forward
passes: (2 * (1 + 2) + 1) / (1 + 2) = 7/3.

Time: both arms live in one process and step in turns (A B, B A, ...), after one unmeasured step each. Medians of
wall-clock time, and on the CPU of processor time too, which other programs on the machine disturb less.
Memory: each arm takes one step alone in a fresh process, its AdamW state already there. On CUDA it is
`torch.cuda.max_memory_allocated`. On the CPU it is the same thing, the largest sum of bytes held from PyTorch's
allocator, from the profiler's record of every allocation and release. `--resident` puts beside it the growth of a
further process's resident memory (VmHWM), which adds code, oneDNN's own buffers and what malloc keeps.
Writes a table to `benchmarks/results/`.
"""

import argparse
import multiprocessing
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import date
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import TypeVar

import monai
import torch
from torch import nn

from medcontext.console import track
from medcontext.files import write_text
from medcontext.method import DiceCE, MedContext, TubeMask
from medcontext.networks import build_network

FLOOR, TIME_LIMIT, MEMORY_LIMIT = 7 / 3, 2.45, 1.15
CROPS = {"cuda": {}, "cpu": {"swin_unetr": 64}}  # elsewhere the published 96; a step of that one takes minutes
ARMS = ("baseline", "medcontext")
PRECISIONS = {"32": "float32", "bf16": "bfloat16 autocast"}
T = TypeVar("T")
Times = dict[str, list[tuple[float, float]]]  # of an arm, for every step: wall-clock and processor seconds


@dataclass(frozen=True)
class Setting:
    network: str
    crop: int
    patch: int
    batch: int
    classes: int
    device: str
    threads: int
    precision: str

    def label(self) -> str:
        return f"| {self.network} | {self.batch} x {self.crop}^3"

    def build(self) -> nn.Module:
        torch.manual_seed(0)
        crop = (self.crop,) * 3
        return build_network(self.network, in_channels=1, out_channels=self.classes, crop_size=crop).to(self.device)

    def draw(self) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (self.batch, 1, self.crop, self.crop, self.crop)
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(shape, generator=generator)
        label = torch.randint(0, self.classes, shape, generator=generator)
        return image.to(self.device), label.to(self.device)


class Arm:
    """A training loop's state, and one step of it."""

    def __init__(self, name: str, setting: Setting) -> None:
        self.image, self.label = setting.draw()
        self.autocast = torch.autocast(setting.device, torch.bfloat16, enabled=setting.precision == "bf16")
        self.network, self.loss = setting.build().train(), DiceCE()
        self.learner: MedContext | None = None
        parameters: Iterable[nn.Parameter] = self.network.parameters()
        if name == "medcontext":
            self.learner = MedContext(self.network, mask=TubeMask(setting.patch), total_steps=1000).train()
            parameters = self.learner.trainable_parameters()
        self.optimizer = torch.optim.AdamW(parameters, lr=1e-4)

    def step(self) -> None:
        with self.autocast:  # around all of it, as in a training by Lightning
            if self.learner is None:
                self.loss(self.network(self.image), self.label).backward()
            else:
                self.learner.backward(self.image, self.label)
            self.optimizer.step()
            self.optimizer.zero_grad()
            if self.learner is not None:
                self.learner.update_teacher()

    def allocate_optimizer(self) -> None:
        """Give AdamW its state, by a step along zero gradients, so that the next step is one of many."""
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def teacher_bytes(self) -> int:
        if self.learner is None:
            return 0
        return sum(tensor.nbytes for tensor in (*self.learner.teacher.parameters(), *self.learner.teacher.buffers()))


# --- time ---


def seconds(call: Callable[[], object], device: str) -> tuple[float, float]:
    """Wall-clock and processor time of a call."""
    if device == "cuda":
        torch.cuda.synchronize()
    wall, processor = time.perf_counter(), time.process_time()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - processor


def measure_time(setting: Setting, pairs: int) -> Times:
    """Both times of every measured step of both arms, and of the network's forward pass without gradients."""
    torch.set_num_threads(setting.threads)
    arms = {name: Arm(name, setting) for name in ARMS}
    for arm in arms.values():
        arm.step()
    times: Times = {name: [] for name in (*ARMS, "forward")}
    plain = arms["baseline"]
    for pair in track(range(pairs), f"{setting.network}, time"):
        for name in ARMS if pair % 2 == 0 else reversed(ARMS):
            times[name].append(seconds(arms[name].step, setting.device))
        with torch.no_grad(), plain.autocast:
            times["forward"].append(seconds(lambda: plain.network(plain.image), setting.device))
    return times


# --- memory ---


def measure_memory(name: str, setting: Setting) -> tuple[int, int]:
    """Peak bytes of tensors over one step, and bytes of the teacher."""
    torch.set_num_threads(setting.threads)
    if setting.device == "cuda":
        arm = Arm(name, setting)
        arm.allocate_optimizer()
        torch.cuda.reset_peak_memory_stats()
        arm.step()
        return torch.cuda.max_memory_allocated(), arm.teacher_bytes()
    # What is allocated outside the profile is invisible in it: the networks are built inside.
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        arm = Arm(name, setting)
        arm.allocate_optimizer()
        arm.step()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate(event.nbytes() for event in events)), arm.teacher_bytes()


def measure_resident(name: str, setting: Setting) -> int:
    """Growth of this process's resident memory (VmHWM), bytes, from before the network to after one step."""
    torch.set_num_threads(setting.threads)
    before = resident_peak()
    arm = Arm(name, setting)
    arm.allocate_optimizer()
    arm.step()
    return resident_peak() - before


def resident_peak() -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def in_fresh_process(measure: Callable[..., T], *arguments: object) -> T:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, arguments)


# --- report ---


def verdict(value: float, limit: float) -> str:
    return f"{value:.3f} ({'within' if value <= limit else 'MISSES'} {limit})"


def time_row(setting: Setting, times: Times, clock: int) -> str:
    """Clock 0 is the wall, 1 the processor."""
    plain, method, forward = ([step[clock] for step in times[name]] for name in (*ARMS, "forward"))
    ratios = [slow / fast for fast, slow in zip(plain, method, strict=True)]
    base = median(plain)
    return (
        f"{setting.label()} | {('wall', 'processor')[clock]} | {spread(plain)} | {spread(method)} | "
        f"{verdict(median(method) / base, TIME_LIMIT)} | {min(ratios):.2f} to {max(ratios):.2f} | {FLOOR:.3f} | "
        f"{2 + median(forward) / base:.3f} |"
    )


def spread(values: list[float]) -> str:
    digits = 2 if median(values) > 1 else 4
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def memory_row(setting: Setting, check_resident: bool) -> str:
    (base, _), (method, teacher) = (
        in_fresh_process(measure_memory, name, setting) for name in track(ARMS, f"{setting.network}, memory")
    )
    resident = "- | - | -"
    if check_resident:
        plain, ours = (
            in_fresh_process(measure_resident, name, setting) for name in track(ARMS, f"{setting.network}, resident")
        )
        resident = f"{plain / 1e6:.0f} | {ours / 1e6:.0f} | {(ours - teacher) / plain:.3f}"
    return (
        f"{setting.label()} | {teacher / 1e6:.0f} | {base / 1e6:.0f} | {method / 1e6:.0f} | "
        f"{verdict((method - teacher) / base, MEMORY_LIMIT)} | {(base + teacher) / base:.3f} | "
        f"{method / (base + teacher):.3f} | {resident} |"
    )


def run(setting: Setting, pairs: int, check_resident: bool, rows: dict[str, list[str]]) -> None:
    rows["settings"].append("- " + ", ".join(f"{key} {value}" for key, value in asdict(setting).items()))
    rows["memory"].append(memory_row(setting, check_resident))
    if pairs:
        times = measure_time(setting, pairs)
        rows["time"] += [time_row(setting, times, clock) for clock in ((0,) if setting.device == "cuda" else (0, 1))]


def report(rows: dict[str, list[str]], arguments: argparse.Namespace, load: list[str]) -> str:
    machine = torch.cuda.get_device_name() if arguments.device == "cuda" else f"{os.cpu_count()} cores"
    lines = [
        f"# Cost of a MedContext step ({arguments.machine}, {date.today().isoformat()})",
        "",
        f"Command: `{' '.join(['python benchmarks/step_cost.py', *sys.argv[1:]])}`",
        "",
        f"{machine}, Python {platform.python_version()}, torch {torch.__version__}, MONAI {monai.__version__}. "
        f"{PRECISIONS[arguments.precision]}, AdamW, {arguments.pairs} measured steps of each arm. "
        f"Load average before and after: {' and '.join(load)}. "
        "Every size is a batch of cubes of `crop` voxels an edge; MedContext with its defaults.",
        "",
        *rows["settings"],
        "",
        "## Time of a step, seconds: median (smallest to largest)",
        "",
        "The floor counts a backward pass as two forward passes. The last column is the floor here: two baseline steps "
        "and one measured forward pass without gradients, over a baseline step.",
        "",
        "| network | batch | clock | baseline | MedContext | ratio | ratios of pairs | floor | floor here |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
        *rows["time"],
        "",
        "## Peak memory of a step, MB (10^6 bytes)",
        "",
        "Ratio: (MedContext - teacher's weights) / baseline. Its floor, where a plain step is at its peak before any "
        "gradient is there: the first view's gradients, as large as the weights, are held during the second view. Of "
        "the sum: MedContext / (baseline + teacher's weights). Tensors: weights, gradients, AdamW's state, batch, "
        "activations and all that operators take from PyTorch's allocator. Resident: growth of the process, a check.",
        "",
        "| network | batch | teacher | baseline, tensors | MedContext, tensors | ratio | floor | of the sum | "
        "baseline, resident | MedContext, resident | ratio |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        *rows["memory"],
        "",
    ]
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--networks", nargs="+", default=["unetr", "swin_unetr"], choices=["swin_unetr", "unet", "unetr"]
    )
    parser.add_argument("--crop", type=int, help="edge in voxels; by default 96, for swin_unetr on a CPU 64")
    parser.add_argument("--patch", type=int, default=16, help="the mask's")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="memory at each, time at the first")
    parser.add_argument("--classes", type=int, default=14, help="13 organs and the background")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--precision", choices=PRECISIONS, default="32")
    parser.add_argument("--threads", type=int, default=1, help="of a CPU; one, so that other programs disturb less")
    parser.add_argument("--pairs", type=int, default=3, help="measured steps of each arm; 0 for memory alone")
    parser.add_argument("--resident", action="store_true", help="measure resident memory too (Linux)")
    parser.add_argument("--machine", help="its name in the result's file name")
    arguments = parser.parse_args()
    if arguments.device == "auto":
        arguments.device = "cuda" if torch.cuda.is_available() else "cpu"
    arguments.machine = arguments.machine or ("cuda" if arguments.device == "cuda" else f"cpu{os.cpu_count()}")
    arguments.machine += "_bf16" * (arguments.precision == "bf16")
    return arguments


def main() -> None:
    arguments = parse()
    rows: dict[str, list[str]] = {"settings": [], "time": [], "memory": []}
    load = [f"{os.getloadavg()[0]:.1f}"]
    # Seen by the fresh processes alone: their malloc gives every large block back, so that resident memory is in use.
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "1000000"
    for network in arguments.networks:
        crop = arguments.crop or CROPS[arguments.device].get(network, 96)
        for number, batch in enumerate(arguments.batch):
            setting = Setting(
                network,
                crop,
                arguments.patch,
                batch,
                arguments.classes,
                arguments.device,
                arguments.threads,
                arguments.precision,
            )
            run(setting, 0 if number else arguments.pairs, arguments.resident, rows)
    load.append(f"{os.getloadavg()[0]:.1f}")
    text = report(rows, arguments, load)
    path = Path(__file__).parent / "results" / f"step_cost_{arguments.machine}_{date.today().isoformat()}.md"
    path.parent.mkdir(exist_ok=True)
    write_text(path, text)
    print(text)


if __name__ == "__main__":
    main()
