"""What needs no data set, and no nnU-Net."""

import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import medcontext.integrations.nnunet as plugin
from medcontext.cli import main
from medcontext.errors import InputError


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_the_folder_is_printed_without_nnunet() -> None:
    code = (
        "import sys; sys.modules['nnunetv2'] = None; from medcontext.cli import main; main(['nnunet', 'path'])\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    files = {file.name for file in Path(done.stdout.strip()).glob("*.py")}
    assert files == {"__init__.py", "medcontext_trainers.py"}, "nnU-Net imports every file of the folder"


def test_without_nnunet_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "nnunetv2", None)
    assert main(["nnunet", "preprocess", "4"]) == 2
    assert "nnU-Net is not installed: pip install medcontext[nnunet]" in said(capsys)
    with pytest.raises(InputError, match=r"pip install medcontext\[nnunet\]"):
        _ = plugin.MedContextMixin


@pytest.mark.parametrize("version", ["2.6.2", "2.9"])
def test_another_nnunet_is_refused(
    version: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "nnunetv2", types.ModuleType("nnunetv2"))
    monkeypatch.setattr(plugin, "version", lambda _: version)
    assert main(["nnunet", "train", "4", "3d_fullres", "0"]) == 2
    assert f"nnU-Net {version} is installed; MedContext's trainers are for 2.8.x" in said(capsys)


@pytest.mark.parametrize("named", [(), ("-tr=nnUNetTrainerMedContextPaper",), ("-t", "nnUNetTrainerMine")])
def test_a_trainer_that_is_named_counts(named: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """As nnU-Net's own parser reads what it is given."""
    import argparse

    seen = []

    def entry() -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("words", nargs=3)
        parser.add_argument("-tr", default="nnUNetTrainer")
        seen.append(parser.parse_args().tr)

    module = types.ModuleType("nnunetv2.run.run_training")
    module.run_training_entry = entry  # type: ignore[attr-defined]
    for name in ("nnunetv2", "nnunetv2.run"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(plugin, "version", lambda _: "2.8.1")
    monkeypatch.setattr("medcontext.integrations.nnunet.command.dataset_name", str)
    monkeypatch.setattr(sys, "argv", ["medcontext"])
    for name in ("nnUNet_preprocessed", "nnUNet_results", "nnUNet_extTrainer"):
        monkeypatch.setenv(name, "nowhere")
    assert main(["nnunet", "train", "4", "3d_fullres", "0", *named]) == 0
    assert seen == [re.split("[= ]", " ".join(named))[-1] or "nnUNetTrainerMedContext"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["preproces", "1"], "invalid choice: 'preproces'"),
        ([], "required: path|preprocess|train"),
    ],
)
def test_wrong_words(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nnunet", *arguments]) == 2
    assert message in said(capsys)


def test_the_tested_version_is_one_that_is_taken() -> None:
    pinned = (Path(__file__).parents[2] / "constraints-nnunet.txt").read_text()
    assert re.search(r"^nnunetv2==(.*)$", pinned, re.MULTILINE)[1].startswith(plugin.SERIES)  # type: ignore[index]
