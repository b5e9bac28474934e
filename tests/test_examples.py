import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_examples_run(example: Path) -> None:
    run = subprocess.run([sys.executable, str(example), "--steps", "10"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    losses = [float(value) for value in re.findall(r"  loss ([\d.]+)", run.stdout)]
    assert len(losses) == 10
    assert losses[-1] < losses[0]


def test_the_readmes_loop_is_the_examples_loop() -> None:
    """What the README shows is what runs."""
    readme = (ROOT / "README.md").read_text()
    loop = re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1]
    example = (ROOT / "examples" / "own_loop.py").read_text()
    for statement in ("optimizer.step()", "optimizer.zero_grad()", "learner.update_teacher()", "learner.backward("):
        assert statement in loop
        assert statement in example
