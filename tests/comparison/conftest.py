import json
from pathlib import Path

import pytest

from medcontext.evaluation.metrics import Score
from medcontext.evaluation.protocols import PROTOCOLS
from medcontext.evaluation.summary import make_rows, summarise, to_csv
from tests.comparison.evaluations import UNITS, Write


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write an evaluation: `write("a", {"case": [Score, ...]})` gives its folder."""

    def evaluation(name: str, cases: dict[str, list[Score]], protocol: str = "standard") -> str:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "metrics.csv").write_text(to_csv(make_rows(cases)))
        summary = {"protocol": PROTOCOLS[protocol].name, "units": UNITS, **summarise(cases)}
        (folder / "summary.json").write_text(json.dumps(summary))
        return str(folder)

    return evaluation
