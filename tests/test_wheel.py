import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from medcontext.data.known import SPLITS

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_installs_and_carries_its_presets(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT)]
    built = subprocess.run(build, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    presets = (ROOT / "src" / "medcontext" / "presets").rglob("*.yaml")
    for preset in presets:
        assert str(preset.relative_to(ROOT / "src")) in names
    for split in SPLITS:
        assert f"medcontext/data/official_splits/{split}.json" in names
    assert "medcontext/experiments/paper.json" in names
    assert "medcontext/py.typed" in names

    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True)
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "import medcontext, medcontext.configuration as c\n"
        f"assert medcontext.__file__.startswith({str(site)!r})\n"
        "print(sorted(path.stem for path in c.PRESETS.rglob('*.yaml')))\n"
    )
    shown = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'paper'" in shown
    assert "'reference'" in shown
