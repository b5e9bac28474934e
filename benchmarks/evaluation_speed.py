"""Time to score one abdominal CT scan of 512 x 512 x 147 voxels with 13 organs, beside other ways to do so.

    python benchmarks/evaluation_speed.py [--seed 0] [--repeats 3] [--skip medpy monai]

All score the same two arrays in memory, in one process and one run:
  medcontext  every column of metrics.csv: DSC, both HD95, voxel counts, volumes, status
  recipe      DSC, both HD95: each organ cropped to its own box, binary erosion, the `edt` package twice
  monai       compute_dice, compute_hausdorff_distance (percentile 95), organ by organ
  medpy       dc, hd95 on the whole volume, organ by organ
and their values are compared. The organs are ellipsoids and chains of them, placed and sized as in an adult, with
rough surfaces; the prediction is the same anatomy, each organ moved and roughened anew. The second part scatters 20
stray voxels per organ over the prediction, as networks trained on few scans do: boxes then span the whole scan.
Time is reported on the wall and as processor time, which other work on the machine disturbs less.
Writes a table to `benchmarks/results/`.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import edt
import numpy as np
import torch
from medpy.metric import binary
from monai.metrics import compute_dice, compute_hausdorff_distance
from scipy import ndimage

from medcontext.console import track
from medcontext.evaluation.metrics import score_case
from medcontext.files import write_text

SHAPE, SPACING = (512, 512, 147), (0.76, 0.76, 3.0)
LEVEL = 4.5  # seconds on two cores, for cropping and `edt`
STRAY = 20

Point = tuple[float, float, float]


def chain(start: Point, stop: Point, radii: Point, links: int) -> list[tuple[Point, Point]]:
    """Ellipsoids in a row: their centres and radii."""
    along = np.linspace(start, stop, links)
    return [((x, y, z), radii) for x, y, z in along.tolist()]


# Centres and radii in millimetres from the middle of the scan, towards left, back and head.
ORGANS: dict[str, list[tuple[Point, Point]]] = {
    "spleen": [((105, 45, 40), (28, 40, 50))],
    "right kidney": [((-62, 60, -20), (27, 27, 55))],
    "left kidney": [((62, 60, -10), (27, 27, 55))],
    "gallbladder": [((-50, -85, -10), (16, 18, 32))],
    "esophagus": chain((5, 30, 150), (12, 20, 80), (9, 9, 25), 4),
    "liver": [((-75, -5, 50), (75, 85, 75)), ((-10, -45, 60), (60, 40, 45))],
    "stomach": [((60, -25, 60), (42, 45, 50)), ((25, -50, 10), (40, 28, 30))],
    "aorta": chain((8, 62, -120), (8, 62, 150), (12, 12, 30), 10),
    "inferior vena cava": chain((-22, 48, -120), (-22, 48, 90), (13, 11, 30), 8),
    "portal and splenic veins": chain((-30, 10, 15), (70, 35, 35), (14, 7, 8), 9),
    "pancreas": chain((-25, 0, -10), (65, 35, 20), (19, 14, 17), 7),
    "right adrenal gland": [((-35, 45, 42), (5, 14, 16))],
    "left adrenal gland": [((38, 45, 38), (5, 14, 16))],
}
NAMES = {name: (value,) for value, name in enumerate(ORGANS, start=1)}


class Values(NamedTuple):
    """DSC and the two HD95 of each organ; None where the tool does not have it."""

    dsc: list[float]
    pooled: list[float] | None
    larger: list[float] | None


class Timing(NamedTuple):
    wall: float
    processor: float


# --- the scan ---


def draw_scan(rng: np.random.Generator, roughness: float, shift: float) -> np.ndarray:
    """Labels 1 to 13, each organ moved by `shift` millimetres at random, its radius varying by `roughness`."""
    scan = np.zeros(SHAPE, dtype=np.uint8, order="F")  # the order in which nibabel reads
    middle = np.array(SHAPE) / 2
    for value, parts in enumerate(ORGANS.values(), start=1):
        moved = rng.normal(0, shift, 3)
        centres = [(np.array(centre) + moved) / SPACING + middle for centre, _ in parts]
        radii = [np.array(radius) / SPACING for _, radius in parts]
        low = np.min([c - 1.5 * r for c, r in zip(centres, radii, strict=True)], axis=0)
        high = np.max([c + 1.5 * r for c, r in zip(centres, radii, strict=True)], axis=0)
        box = tuple(slice(max(0, int(a)), min(n, int(b) + 1)) for a, b, n in zip(low, high, SHAPE, strict=True))
        grid = np.ogrid[box]
        depth = np.min([ellipsoid(grid, c, r) for c, r in zip(centres, radii, strict=True)], axis=0)
        scan[box][depth + roughness * waves(rng, depth.shape) < 1] = value
    return scan


def ellipsoid(grid: list[np.ndarray], centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
    squares = (((axis - c) / r) ** 2 for axis, c, r in zip(grid, centre, radii, strict=True))
    return np.sqrt(sum(squares, start=np.zeros(1)))


def waves(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Smooth noise with a standard deviation of about 1 and a wavelength of some 15 millimetres."""
    coarse = rng.standard_normal([size // cell + 2 for size, cell in zip(shape, (20, 20, 5), strict=True)])
    return ndimage.zoom(coarse, [n / m for n, m in zip(shape, coarse.shape, strict=True)], order=1)


def scatter(rng: np.random.Generator, scan: np.ndarray, count: int) -> np.ndarray:
    scan = scan.copy(order="F")
    for value in range(1, len(ORGANS) + 1):
        scan[tuple(rng.integers(0, n, count) for n in SHAPE)] = value
    return scan


# --- the ways to score it ---


def medcontext(label: np.ndarray, prediction: np.ndarray) -> Values:
    scores = score_case(label, prediction, SPACING, NAMES)
    return Values([s.dsc for s in scores], [s.hd95_pooled for s in scores], [s.hd95_max for s in scores])


def recipe(label: np.ndarray, prediction: np.ndarray) -> Values:
    rows = []
    label, prediction, spacing = label.T, prediction.T, SPACING[::-1]  # along the memory, which find_objects needs
    for value in range(1, len(ORGANS) + 1):
        masks = label == value, prediction == value
        box = ndimage.find_objects((masks[0] | masks[1]).view(np.uint8))[0]
        first, second = (np.ascontiguousarray(mask[box]) for mask in masks)
        edges = first ^ ndimage.binary_erosion(first), second ^ ndimage.binary_erosion(second)
        forth = edt.edt(~edges[1], anisotropy=spacing)[edges[0]]
        back = edt.edt(~edges[0], anisotropy=spacing)[edges[1]]
        rows.append(
            (
                2 * (first & second).sum() / (first.sum() + second.sum()),
                np.percentile(np.concatenate([forth, back]), 95),
                max(np.percentile(forth, 95), np.percentile(back, 95)),
            )
        )
    dsc, pooled, larger = (list(map(float, column)) for column in zip(*rows, strict=True))
    return Values(dsc, pooled, larger)


def monai(label: np.ndarray, prediction: np.ndarray) -> Values:
    dsc, larger = [], []
    volumes = torch.from_numpy(prediction), torch.from_numpy(label)
    for value in range(1, len(ORGANS) + 1):
        masks = [(volume == value)[None, None].float() for volume in volumes]  # (1, 1, H, W, D)
        dsc.append(float(compute_dice(*masks)))
        distance = compute_hausdorff_distance(*masks, include_background=True, percentile=95, spacing=list(SPACING))
        larger.append(float(distance))
    return Values(dsc, None, larger)


def medpy(label: np.ndarray, prediction: np.ndarray) -> Values:
    dsc, pooled = [], []
    for value in track(range(1, len(ORGANS) + 1), "medpy"):
        masks = prediction == value, label == value
        dsc.append(float(binary.dc(*masks)))
        pooled.append(float(binary.hd95(*masks, voxelspacing=SPACING)))
    return Values(dsc, pooled, None)


# --- measure and report ---


def measure(call: Callable[[np.ndarray, np.ndarray], Values], *scan: np.ndarray) -> tuple[Values, Timing]:
    wall, processor = time.perf_counter(), time.process_time()
    values = call(*scan)
    return values, Timing(time.perf_counter() - wall, time.process_time() - processor)


def compare(label: np.ndarray, prediction: np.ndarray, plan: dict[str, int]) -> tuple[list[str], Values]:
    """Rows of a table, one for each way to score; `plan` says how often each is measured, the fastest counts."""
    ways = {"medcontext": medcontext, "recipe": recipe, "monai": monai, "medpy": medpy}
    ours: Values | None = None
    best: dict[str, Timing] = {}
    rows = []
    for name, repeats in plan.items():
        results = [measure(ways[name], label, prediction) for _ in range(repeats)]
        values, best[name] = results[0][0], min(timing for _, timing in results)
        ours = ours or values
        wall, processor = best[name]
        ratio = processor / best["medcontext"].processor
        rows.append(f"| {name} | {wall:.2f} | {processor:.2f} | {ratio:.1f} | {repeats} | {difference(ours, values)} |")
        print(rows[-1], flush=True)
    assert ours is not None
    return rows, ours


def difference(ours: Values, theirs: Values) -> str:
    """The largest difference over the organs, each metric the other has."""
    pairs = zip(Values._fields, ours, theirs, strict=True)
    worst = {
        name: np.abs(np.subtract(first, second)).max() for name, first, second in pairs if first and second is not None
    }
    return ", ".join(f"{name} {value:.1e}" for name, value in worst.items())


def processor_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.processor())


def organ_rows(values: Values, label: np.ndarray) -> list[str]:
    litres = np.bincount(label.ravel(order="K"), minlength=len(ORGANS) + 1) * np.prod(SPACING) / 1000
    columns = zip(NAMES, litres[1:], values.dsc, values.pooled or [], values.larger or [], strict=True)
    return [f"| {n} | {ml:.0f} | {100 * dsc:.1f} | {p:.2f} | {m:.2f} |" for n, ml, dsc, p, m in columns]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3, help="of medcontext and the recipe; the others run once")
    parser.add_argument("--skip", nargs="*", default=[], choices=["monai", "medpy"], help="the slow ones")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    load = [f"{os.getloadavg()[0]:.1f}"]
    rng = np.random.default_rng(options.seed)
    label, prediction = draw_scan(rng, 0.05, 0.0), draw_scan(rng, 0.08, 1.5)
    plan = {"medcontext": options.repeats, "recipe": options.repeats, "monai": 1, "medpy": 1}
    plan = {name: repeats for name, repeats in plan.items() if name not in options.skip}
    rows, values = compare(label, prediction, plan)
    load.append(f"{os.getloadavg()[0]:.1f}")
    strays = scatter(rng, prediction, STRAY)
    few = {name: 1 for name in plan if name != "medpy"}  # medpy always works on the whole volume
    stray_rows, _ = compare(label, strays, few)
    load.append(f"{os.getloadavg()[0]:.1f}")
    report(options, rows, stray_rows, organ_rows(values, label), load)


def report(options: argparse.Namespace, rows: list[str], strays: list[str], organs: list[str], load: list[str]) -> None:
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("medcontext", "numpy", "scipy", "edt", "monai", "medpy")
    )
    skipped = f" --skip {' '.join(options.skip)}" if options.skip else ""
    head = [
        "| | wall, s | processor, s | ratio | runs | largest difference to medcontext |",
        "|---|---|---|---|---|---|",
    ]
    text = [
        "# Scoring one 512 x 512 x 147 scan with 13 organs",
        "",
        f"`python benchmarks/evaluation_speed.py --seed {options.seed} --repeats {options.repeats}{skipped}`",
        "",
        f"{os.cpu_count()} cores, {processor_name()}; Python {platform.python_version()}, {packages}. "
        f"Load average before, between and after: {', '.join(load)} (other work ran when it is well above 1). "
        f"Level to reach: {LEVEL} s on two cores. The fastest run counts. Ratios are of processor time. "
        "medcontext and the recipe give both HD95 (`pooled`, `larger`), MONAI and medpy one each.",
        "",
        *head,
        *rows,
        "",
        f"With {STRAY} stray voxels per organ in the prediction:",
        "",
        *head,
        *strays,
        "",
        "| organ | ml | DSC % | HD95 pooled, mm | HD95 max, mm |",
        "|---|---|---|---|---|",
        *organs,
    ]
    name = f"evaluation_speed_cpu{os.cpu_count()}_{date.today():%Y-%m-%d}.md"
    options.output.mkdir(parents=True, exist_ok=True)
    write_text(options.output / name, "\n".join(text) + "\n")
    print(f"written: {options.output / name}")


if __name__ == "__main__":
    main()
