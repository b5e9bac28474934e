"""Room for the crops that worker processes hand over: they pass through /dev/shm, which is small in containers."""

import math
import shutil
from pathlib import Path

from medcontext.errors import InputError

FOLDER = Path("/dev/shm")
AHEAD = 2  # batches that each worker prepares ahead; PyTorch's default


def batch_bytes(crops: int, channels: int, crop_size: tuple[int, int, int]) -> int:
    """Bytes of a batch: float32 images, and class indices of at most two bytes a voxel.

    >>> batch_bytes(2, 1, (64, 64, 64))
    3145728
    """
    return crops * math.prod(crop_size) * (4 * channels + 2)


def free_bytes() -> float:
    """What is left of the shared memory; infinite where there is no such folder."""
    return shutil.disk_usage(FOLDER).free if FOLDER.is_dir() else math.inf


def fitting_workers(wanted: int, batch: int) -> int:
    """As many worker processes as there is shared memory for, at most those that are wanted.

    Args:
        wanted: processes.
        batch: bytes that a worker hands over at once.
    """
    return int(min(wanted, free_bytes() // (AHEAD * batch)))


def check_workers(workers: int, batch: int) -> None:
    """Refuse worker processes for which there is too little shared memory; they would be killed by the first batches.

    Raises:
        InputError: saying how much there is, how much is needed, and what to do.
    """
    if fitting_workers(workers, batch) < workers:
        needed, free = workers * AHEAD * batch / 2**20, free_bytes() / 2**20
        raise InputError(
            f"For {workers} workers, crops need {needed:.0f} MB of shared memory; {FOLDER} has {free:.1f} MB free. Use "
            f"--workers 0, fewer or smaller crops, or start the container with docker run "
            f"--shm-size={math.ceil(needed / 512) * 512 + 512}m."
        )
