"""What several tests share."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

REAL_DATA = Path(os.environ.get("MEDCONTEXT_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans; tests that need it are skipped where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real scans at {REAL_DATA}; set MEDCONTEXT_DATA to the folder that holds them")
    return REAL_DATA


@pytest.fixture(scope="session")
def shared_paper() -> Path:
    """The folder of the paper's tables and splits, beside that of the scans."""
    folder = REAL_DATA.parent / "paper"
    if not folder.is_dir():
        pytest.skip(f"no copy of the paper's tables and splits at {folder}")
    return folder


def write_blobs(folder: Path, cases: int = 8, shape: tuple[int, int, int] = (20, 24, 12)) -> Path:
    """A tiny Decathlon data set: two balls, one left and one right, alike but for their side; values with gaps."""
    rng = np.random.default_rng(0)
    entries = []
    for index in range(cases):
        label = np.zeros(shape, np.int16)
        grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
        for value, side in ((200, 0.25), (500, 0.75)):
            centre = np.array(shape) * (side, 0.5, 0.5) + rng.uniform(-1.5, 1.5, 3)
            label[((grid - centre) ** 2).sum(-1) < 10] = value
        image = (np.where(label > 0, 100.0, 0.0) + rng.normal(0, 10, shape)).astype(np.float32)
        affine = np.diag([1.0, 1.0, 2.0, 1.0])
        for name, array in (("imagesTr", image), ("labelsTr", label)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, affine), folder / name / f"ball_{index}.nii.gz")
        entries.append({key: f"./{key}sTr/ball_{index}.nii.gz" for key in ("image", "label")})
    manifest = {
        "name": "Balls",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "200": "left", "500": "right"},
        "numTraining": cases,
        "training": entries,
    }
    (folder / "dataset.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="session")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny data set for whole trainings; read only."""
    return write_blobs(tmp_path_factory.mktemp("data") / "balls")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Prepared cases go to a temporary cache, never to the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDCONTEXT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
