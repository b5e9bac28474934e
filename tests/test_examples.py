import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


TRAININGS = [
    pytest.param(path, marks=[] if path.name == "own_loop.py" else [pytest.mark.slow], id=path.name)
    for path in sorted((ROOT / "examples").glob("*.py"))
    if path.name != "scans_to_report.py"
]


def test_examples_fit_a_screen() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "examples").rglob("*.py")}
    assert max(lengths.values()) <= 60, lengths


@pytest.mark.parametrize("example", TRAININGS)
def test_examples_run(example: Path) -> None:
    run = subprocess.run([sys.executable, str(example), "--steps", "10"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    losses = [float(value) for value in re.findall(r"  loss ([\d.]+)", run.stdout)]
    assert len(losses) == 10
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_the_way_from_scans_to_a_report_runs(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "scans_to_report.py"), "--steps=4", f"--output={tmp_path}"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert (tmp_path / "comparison" / "comparison.csv").is_file()
    assert "scans without labels, from step 2 on" in run.stdout


def test_the_readmes_python_is_what_the_functions_take(balls: Path, tmp_path: Path, monkeypatch) -> None:
    """The README's way from scans to scores, with a tiny network and two steps."""
    readme = (ROOT / "README.md").read_text()
    code = next(block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "mc.train" in block)
    code = code.replace("steps=2000, few_shot=5", "steps=2, few_shot=2, batch_size=1, network_args=NETWORK")
    for name in ("RUN", "PREDICTIONS", "SCORES"):
        code = code.replace(f'"{name}"', repr(str(tmp_path / name)))
    code = code.replace('"DATASET"', repr(str(balls)))
    monkeypatch.setenv("MEDCONTEXT_CACHE", str(tmp_path / "cache"))
    known: dict[str, object] = {"NETWORK": {"channels": [4, 8], "strides": [2]}}
    exec(code, known)
    assert {row["case"] for row in known["scores"].rows} == {f"ball_{n}" for n in range(8)} & {
        path.name.removesuffix(".nii.gz") for path in (tmp_path / "PREDICTIONS").glob("*.nii.gz")
    }


def test_the_readmes_loop_is_the_examples_loop() -> None:
    """What the README shows is what runs."""
    readme = (ROOT / "README.md").read_text()
    loop = next(block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "learner" in block)
    example = (ROOT / "examples" / "own_loop.py").read_text()
    for statement in ("optimizer.step()", "optimizer.zero_grad()", "learner.update_teacher()", "learner.backward("):
        assert statement in loop
        assert statement in example
