"""Memory and speed of reading training crops from a store of 1,000 prepared cases.

    python benchmarks/loader_memory.py

Writes the cases (about 2.3 GB) into a temporary folder, reads 5,000 crops in this process, then 5,000 through a
DataLoader with 2 workers, and writes what it saw to `benchmarks/results/`.
"""

import argparse
import datetime
import os
import platform
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import blosc2
import numpy as np
import torch
from torch.utils.data import DataLoader

from medcontext.console import track
from medcontext.data.crops import CropDataset
from medcontext.data.geometry import Geometry
from medcontext.data.store import Store, write_case
from medcontext.files import write_text

SHAPE = (96, 96, 64)
CROP = (64, 64, 48)


def write_store(root: Path, cases: int) -> None:
    """Cases of 14 random classes and smooth noise, each different."""
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.normal(size=(1, *SHAPE)).astype(np.float32))
    image = torch.nn.functional.avg_pool3d(noise, 3, stride=1, padding=1)
    label = torch.from_numpy(rng.integers(0, 14, SHAPE, dtype=np.uint8))
    geometry = Geometry.create(SHAPE, np.eye(4))
    for number in track(range(cases), "writing the cases", total=cases):
        write_case(root / f"case{number:04d}", image + number, label, geometry, (0.0,), [])


def resident(process: str = "self") -> float:
    """Megabytes of memory in use by a process."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    return int(found[1]) / 1024 if found else 0.0


def children() -> list[str]:
    """Process numbers of this process's children."""
    task = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    return task.read_text().split()


def read(crops: int, dataset: CropDataset) -> Iterator[str]:
    """Rows of crops read, memory and speed, in this process."""
    start, since = time.perf_counter(), 0
    for index in range(crops):
        dataset[index]
        if index + 1 in (1, 10, 100, 500) or (index + 1) % 1000 == 0:
            now = time.perf_counter()
            yield f"| {index + 1} | {resident():.1f} | {(index + 1 - since) / (now - start):.0f} |"
            start, since = now, index + 1


def read_with_workers(dataset: CropDataset, workers: int) -> Iterator[str]:
    """Rows of crops read, largest memory of a worker and speed."""
    loader = DataLoader(dataset, batch_size=2, num_workers=workers)
    start, since = time.perf_counter(), 0
    for batch, _ in enumerate(loader, start=1):
        if batch * 2 in (100, 500) or (batch * 2) % 1000 == 0:
            now = time.perf_counter()
            largest = max(resident(child) for child in children())
            yield f"| {batch * 2} | {largest:.1f} | {(batch * 2 - since) / (now - start):.0f} |"
            start, since = now, batch * 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--crops", type=int, default=5000)
    parser.add_argument("--machine", default=f"cpu{os.cpu_count()}", help="its name in the result's file name")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_store(root, arguments.cases)
        size = sum(path.stat().st_size for path in root.glob("*/*")) / 1e6
        before = resident()
        start = time.perf_counter()
        store = Store(root)
        dataset = CropDataset(store, store.names, CROP, length=arguments.crops)
        opened = time.perf_counter() - start
        after = resident()
        one = list(track(read(arguments.crops, dataset), "reading"))
        two = list(track(read_with_workers(dataset, 2), "reading with 2 workers"))
    today = datetime.date.today().isoformat()
    volume = np.prod(SHAPE) * 5 / 1e6
    lines = [
        f"# Reading crops from {arguments.cases} prepared cases ({arguments.machine}, {today})",
        "",
        f"Command: `python benchmarks/loader_memory.py --cases {arguments.cases} --crops {arguments.crops}`",
        "",
        f"Cases of {SHAPE} voxels, {volume:.1f} MB each uncompressed (image and label), {size:.0f} MB on disk in "
        f"all; crops of {CROP}, half of them on a structure, 14 classes, seed 0. {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, torch {torch.__version__}, blosc2 {blosc2.__version__}.",
        "",
        f"Opening the store and the data set: {opened * 1000:.0f} ms, {before:.1f} MB before, {after:.1f} MB after.",
        "",
        "In one process:",
        "",
        "| crops read | resident memory, MB | crops a second since the row above |",
        "|---:|---:|---:|",
        *one,
        "",
        "Two DataLoader workers, batches of 2:",
        "",
        "| crops read | largest worker's resident memory, MB | crops a second since the row above |",
        "|---:|---:|---:|",
        *two,
        "",
    ]
    path = Path(__file__).parent / "results" / f"loader_memory_{arguments.machine}_{today}.md"
    path.parent.mkdir(exist_ok=True)
    write_text(path, "\n".join(lines))
    print(path.read_text())


if __name__ == "__main__":
    main()
