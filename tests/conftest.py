"""What several tests share."""

import os
from pathlib import Path

import pytest

REAL_DATA = Path(os.environ.get("MEDCONTEXT_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans; tests that need it are skipped where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real scans at {REAL_DATA}; set MEDCONTEXT_DATA to the folder that holds them")
    return REAL_DATA
